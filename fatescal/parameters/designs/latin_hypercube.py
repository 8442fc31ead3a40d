"""A Latin hypercube of the prior."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from fatescal.base.random_streams import stream
from fatescal.base.types import Array
from fatescal.parameters.designs.base import Design
from fatescal.parameters.space import ParameterSpace


class LatinHypercube(Design):
    """A Latin hypercube (McKay et al., 1979): of equally probable strata each holds one member."""

    kind: Literal["lhs"] = "lhs"
    """Latin hypercube of the prior"""

    of_prior: ClassVar = True
    example: ClassVar = {"kind": "lhs"}

    def ensemble(self, space: ParameterSpace, n_members: int, seed: int, folder: Path) -> Array:
        from scipy.special import ndtri
        from scipy.stats import qmc

        return ndtri(qmc.LatinHypercube(len(space.names), rng=stream(seed, "design")).random(n_members))
