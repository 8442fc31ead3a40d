"""One step of non-reversible parallel tempering; pure (Syed et al. 2022).

Level t samples pi_t(u) ~ N(u; 0, I) L(u)^beta_t with 0 = beta_0 < ... < beta_{T-1} = 1. A step moves every
walker at its own level, then offers swaps between neighbouring levels: even pairs on even steps, odd
pairs on odd ones. The W walkers of a level each belong to a column of their own, one per walker;
states are swapped within a column only, so columns are independent chains given the fixed ladder.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fatescal.base.types import Array, LogLikelihood
from fatescal.sample.local_move import Moved, move
from fatescal.storage.chain_records import TemperedState


class Swapped(NamedTuple):
    """The outcome of one round of swaps."""

    source: Array  # (T, W), the level each state came from
    rejection: Array  # (T-1, W), probability that a swap of the pair (t, t+1) is refused


class StepInfo(NamedTuple):
    """What only adaptation, ladder and log need of one step."""

    moved: Moved
    rejection: Array  # (T-1, W)
    round_trips: int  # arrivals at beta = 1 from beta = 0


def swap(rng: np.random.Generator, log_likelihood: Array, beta: Array, parity: int) -> Swapped:
    """Offer swaps to the pairs (t, t+1) with t % 2 == `parity`, in all columns.

    The swap probability min{1, exp[(beta_{t+1} - beta_t) (l_t - l_{t+1})]} is returned for *all* pairs,
    tried or not: averaged, it is a better estimate of the rejection rate than counting refusals.

    Parameters
    ----------
    log_likelihood : (T, W)
    beta : (T,)

    A state at beta = 0 that fits better than the one at beta = 1 always goes up:

    >>> rng = np.random.default_rng(0)
    >>> swap(rng, np.array([[-1.0], [-9.0]]), np.array([0.0, 1.0]), 0).source.ravel()
    array([1, 0])
    """
    n_levels, n_walkers = log_likelihood.shape
    gap = (beta[1:] - beta[:-1])[:, None]
    acceptance = np.exp(np.minimum(gap * (log_likelihood[:-1] - log_likelihood[1:]), 0.0))
    swapped = rng.random(acceptance.shape) < acceptance
    swapped[1 - parity :: 2] = False
    source = np.arange(n_levels).repeat(n_walkers).reshape(n_levels, n_walkers)
    source[:-1] += swapped
    source[1:] -= swapped
    return Swapped(source, 1.0 - acceptance)


def arrivals(from_prior: Array) -> int:
    """Count the states now at beta = 1 that come from beta = 0, and mark both ends (T, W) in place."""
    from_prior[0] = True
    count = int(np.count_nonzero(from_prior[-1]))
    from_prior[-1] = False
    return count


def step(
    rng: np.random.Generator, state: TemperedState, log_likelihood: LogLikelihood
) -> tuple[TemperedState, StepInfo]:
    """Return the state after one local move and one round of swaps, and what happened.

    `log_likelihood` is called once, with all T*W proposals. The state holds everything the next
    step needs beside `rng`; the parity of the swaps is that of its count of these steps.
    """
    moved = move(rng, state.u, state.log_likelihood, state.beta, state.scale, log_likelihood)
    parity = state.steps // state.prior_every % 2
    source, rejection = swap(rng, moved.log_likelihood, state.beta, parity)
    column = np.arange(source.shape[1])
    from_prior = state.from_prior[source, column]
    round_trips = arrivals(from_prior)
    after = replace(
        state,
        u=moved.u[source, column],
        log_likelihood=moved.log_likelihood[source, column],
        from_prior=from_prior,
        steps=state.steps + 1,
    )
    return after, StepInfo(moved, rejection, round_trips)
