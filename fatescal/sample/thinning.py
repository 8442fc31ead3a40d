"""Choose the few posterior draws that are worth a model run: support points (Mak & Joseph 2018)."""

from __future__ import annotations

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array

CANDIDATES = 4000  # more draws are first thinned evenly: the cost is that number squared
PASSES = 20  # of exchange; it ends by itself after a few


def representative(draws: Array, n: int) -> Array:
    """Return the indices (n,) of the draws whose ensemble is closest to all draws in energy distance.

    Greedily, then by exchanging one point at a time for the draw that lowers the energy distance most, until
    none does. Mean and sd of the chosen are several times closer to those of the draws than a random
    choice's. Distances are between standardised draws, so units don't matter.

    Parameters
    ----------
    draws : (M, P)
        Posterior draws in the order of the chains; above 4000 every (M/4000)-th is a candidate.
    n : int
        How many to choose, all different draws.

    Raises
    ------
    BadInput
        If there are fewer than n different draws.

    References
    ----------
    Mak & Joseph 2018, doi:10.1214/17-AOS1629, over candidates instead of their continuous search.

    >>> representative(np.arange(9.0)[:, None], 3)
    array([1, 4, 7])
    """
    even = np.unique(np.linspace(0, len(draws) - 1, min(CANDIDATES, len(draws))).round().astype(int))
    # a chain repeats its state after each refusal: copies count in the target, but are no candidates
    _, first = np.unique(draws[even], axis=0, return_index=True)
    if n > len(first):
        raise BadInput(
            f"posterior.members is {n}",
            expected=f"at most the {len(first)} different draws of the chains",
            hint="raise sample.max_steps or lower posterior.members",
        )
    target = _standardise(draws[even])
    candidates = np.sort(first)
    points = target[candidates]
    attraction = np.array([_distances(target, x).mean() for x in points])
    return np.sort(even[candidates[_support_points(points, attraction, n)]])


def _standardise(draws: Array) -> Array:
    """Return `draws` with mean 0 and sd 1; a constant column becomes 0."""
    sd = draws.std(axis=0)
    return (draws - draws.mean(axis=0)) / np.where(sd > 0, sd, 1.0)


def _distances(points: Array, x: Array) -> Array:
    """Return the Euclidean distances (M,) of `points` (M, P) to `x` (P)."""
    difference = points - x
    return np.sqrt(np.einsum("mp,mp->m", difference, difference))


def _support_points(points: Array, attraction: Array, n: int) -> Array:
    """Return n indices minimising (2/n) sum_j attraction_j - (1/n^2) sum_jk |x_j - x_k| by local search.

    `attraction` (M,) is each point's mean distance to the target. The energy with one point x free is
    that point's attraction(x) - (1/n) sum_k |x - x_k| over the n - 1 others, times 2/n.
    """
    repulsion = np.zeros(len(points))  # summed distance to the chosen
    free = np.ones(len(points), bool)

    def add(size: int) -> int:
        best = int(np.argmin(np.where(free, attraction - repulsion / size, np.inf)))
        free[best] = False
        repulsion[:] += _distances(points, points[best])
        return best

    def remove(old: int) -> None:
        free[old] = True
        repulsion[:] -= _distances(points, points[old])

    chosen = [add(size) for size in range(1, n + 1)]
    for _ in range(PASSES):
        before = list(chosen)
        for j, old in enumerate(before):
            remove(old)
            chosen[j] = add(n)
        if chosen == before:
            break
    return np.array(chosen)
