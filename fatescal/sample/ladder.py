"""Place the temperatures where swaps between all neighbours are equally likely (Syed et al. 2022, sec. 5).

The communication barrier Lambda(beta) is the cumulative rejection rate of swaps from 0 up to beta. Its
total depends on the problem only: about 2 Lambda intervals of equal Lambda make round trips cheapest.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array

Levels = int | Literal["auto"]

FIRST_LEVELS = 8  # where "auto" starts, before anything is known of the barrier


def check_levels(levels: Levels) -> None:
    """Raise `BadInput` unless `levels` is "auto" or at least the two ends of a ladder.

    >>> check_levels(1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    fatescal.base.errors.BadInput: sample.levels is too small. Expected "auto" or an integer ...
    """
    if levels != "auto" and levels < 2:
        raise BadInput(
            "sample.levels is too small", expected='"auto" or an integer of at least 2', got=levels
        )


def first_ladder(prior_log_likelihood: Array, levels: Levels) -> Array:
    """Return temperatures (T,) to start tuning from: 0, then geometric up to 1.

    The first step away from the prior is 1/sd of the log-likelihood under the prior, at which swaps
    with beta = 0 are neither certain nor hopeless.

    >>> first_ladder(np.array([-100.0, 100.0]), 4)
    array([0.  , 0.01, 0.1 , 1.  ])
    """
    n_levels = FIRST_LEVELS if levels == "auto" else levels
    spread = max(float(np.std(prior_log_likelihood)), 2.0)  # above 1, so that the ladder rises
    lowest = 1 / spread if n_levels > 2 else 1.0
    return np.concatenate([[0.0], np.geomspace(lowest, 1.0, n_levels - 1)])


def barrier(rejection: Array) -> Array:
    """Return Lambda (T,) at each temperature from the mean rejections (T-1,) between neighbours.

    Lambda of an interval is its rejection r where r is small. At the r = 0.5 of a ladder of 2 Lambda
    intervals the plain sum of r is 8 % low, so the curvature is taken out: with Gaussian log-likelihoods
    of sd s on both sides of a gap d in beta, the rejection is erf(d s / 2) (Atchade et al. 2011,
    doi:10.1007/s11222-010-9192-1) and the barrier d s / sqrt(pi). r counts as at most 0.999: of levels
    further apart than that no more is known than that they are far apart.

    >>> barrier(np.array([0.01, 0.5])).round(3)
    array([0.   , 0.01 , 0.548])
    """
    from scipy.special import erfinv

    interval = 2 / np.sqrt(np.pi) * erfinv(np.minimum(rejection, 0.999))
    return np.concatenate([[0.0], np.cumsum(interval)])


def optimal_levels(total_barrier: float) -> int:
    """Return the number of levels that spans `total_barrier` with about 2 Lambda intervals.

    >>> optimal_levels(2.3), optimal_levels(0.0)
    (6, 2)
    """
    return max(round(2 * total_barrier), 1) + 1


def retune(beta: Array, rejection: Array, levels: Levels) -> Array:
    """Return a ladder with equal Lambda between neighbours, monotone cubic between the known points.

    Parameters
    ----------
    beta : (T,)
        The ladder `rejection` was measured on.
    rejection : (T-1,)
        Mean swap rejections.
    levels : int or "auto"
        Length of the new ladder; "auto" takes `optimal_levels`.

    >>> retune(np.array([0.0, 0.1, 1.0]), np.array([0.5, 0.5]), 3)
    array([0. , 0.1, 1. ])
    """
    from scipy.interpolate import PchipInterpolator

    # a flat likelihood is never rejected: the floor keeps Lambda invertible and spaces its ladder evenly
    known = barrier(np.maximum(rejection, 1e-6))
    n_levels = optimal_levels(known[-1]) if levels == "auto" else levels
    tuned = PchipInterpolator(known, beta)(np.linspace(0.0, known[-1], n_levels))
    tuned[[0, -1]] = 0.0, 1.0
    return tuned
