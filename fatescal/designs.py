"""Designs: where the members of the first ensemble lie, in the coordinates u."""

from __future__ import annotations

import numpy as np

from fatescal.randoms import stream
from fatescal.records import Array

SOBOL_BITS = 30


def first_ensemble(design: str | None, seed: int, n_members: int, n_parameters: int) -> Array:
    """Return the coordinates (J, P) of the first ensemble, each standard normal.

    Parameters
    ----------
    design : {None, "lhs", "sobol"}
        None draws the members independently; `lhs` is a Latin hypercube (McKay et al., 1979), `sobol` a
        scrambled Sobol sequence (Owen, 1998), both mapped by the inverse normal distribution function.
    seed : int
        `run.seed` of the config.
    """
    if design is None:
        members = range(1, n_members + 1)
        return np.array([stream(seed, "prior", j).standard_normal(n_parameters) for j in members])
    from scipy.special import ndtri
    from scipy.stats import qmc

    rng = stream(seed, "design")
    if design == "lhs":
        return ndtri(qmc.LatinHypercube(n_parameters, rng=rng).random(n_members))
    sobol = qmc.Sobol(n_parameters, bits=SOBOL_BITS, rng=rng)
    points = sobol.random_base2((n_members - 1).bit_length())[:n_members]
    return ndtri(points + 0.5 ** (SOBOL_BITS + 1))  # the middle of the cell: a point at 0 would lie at -inf
