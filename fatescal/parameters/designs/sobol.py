"""A scrambled Sobol sequence of the prior."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from fatescal.base.random_streams import stream
from fatescal.base.types import Array
from fatescal.parameters.designs.base import Design
from fatescal.parameters.space import ParameterSpace

BITS = 30


class SobolSequence(Design):
    """A scrambled Sobol sequence (Owen, 1998), mapped by the inverse normal distribution function."""

    kind: Literal["sobol"] = "sobol"
    """scrambled Sobol sequence of the prior"""

    of_prior: ClassVar = True
    example: ClassVar = {"kind": "sobol"}

    def ensemble(self, space: ParameterSpace, n_members: int, seed: int, folder: Path) -> Array:
        return sobol_points(len(space.names), n_members, seed)


def sobol_points(n_parameters: int, n_members: int, seed: int) -> Array:
    """Return the first J points (J, P) of a scrambled Sobol sequence, as standard normal coordinates."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    sobol = qmc.Sobol(n_parameters, bits=BITS, rng=stream(seed, "design"))
    points = sobol.random_base2((n_members - 1).bit_length())[:n_members]
    return ndtri(points + 0.5 ** (BITS + 1))  # the middle of the cell: a point at 0 would lie at -inf
