"""Run one of the R independent tempered runs for a block of steps, and warm all of them up together.

The unit of parallel work is one block of one run; nothing here knows on which rank it is done. Every
outcome is a `ChainBlock`, so the warm-up is checkpointed and continued like any other block:

    block = warm_up(rng, log_likelihood, n_parameters, map=map)
    while not converged:
        block = stack([advance(rng, state, log_likelihood, 500) for state in end_states(block)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from functools import partial

import numpy as np

from fatescal.protocols import LogLikelihood, Map
from fatescal.records import Array, ChainBlock, TemperedState
from fatescal.sample.ladder import Levels, check_levels, first_ladder, retune
from fatescal.sample.local_move import adapt, evaluate, initial_scale
from fatescal.sample.tempering import step

FIRST_ROUND = 32  # steps of the first round of ladder tuning; each round doubles
PRIOR_DRAWS = 128  # behind the first guess of the ladder


def start(
    rng: np.random.Generator,
    log_likelihood: LogLikelihood,
    beta: Array,
    n_parameters: int,
    n_walkers: int,
) -> TemperedState:
    """Return a run at its start: independent prior draws at every level of the ladder `beta` (T,)."""
    u = rng.standard_normal((len(beta), n_walkers, n_parameters))
    prior_log_likelihood = evaluate(log_likelihood, u)
    return TemperedState(
        u=u,
        log_likelihood=prior_log_likelihood,
        beta=beta,
        scale=initial_scale(beta, float(prior_log_likelihood.std()), n_parameters),
        from_prior=np.zeros(u.shape[:2], bool),
    )


def advance(
    rng: np.random.Generator,
    state: TemperedState,
    log_likelihood: LogLikelihood,
    n_steps: int,
    *,
    adapting: bool = False,
) -> ChainBlock:
    """Return `n_steps` of one run (R = 1) from `state`; its end is `end_states(block)[0]`.

    Pure: the same `rng` state gives the same bits, and two blocks of n steps with one generator are
    one block of 2n. Temperatures never change within a block. Proposals do only when `adapting`, which
    begins anew with every block: of a gain that went on falling over all rounds too little is left to
    follow the ladder to a posterior sd of 1/1000.
    """
    n_levels, n_walkers, n_parameters = state.u.shape
    u = np.empty((n_steps, n_walkers, n_parameters))
    log_likelihoods = np.empty((n_steps, n_levels, n_walkers))
    acceptance = np.zeros((n_levels, n_walkers))
    rejection = np.zeros((n_levels - 1, n_walkers))
    round_trips = 0
    for s in range(n_steps):
        state, info = step(rng, state, log_likelihood)
        if adapting:
            state = replace(state, scale=adapt(state.scale, info.moved, s))
        u[s] = state.u[-1]
        log_likelihoods[s] = state.log_likelihood
        acceptance += info.moved.acceptance
        rejection += info.rejection
        round_trips += info.round_trips
    one_run = {
        "u": u,
        "log_likelihood": log_likelihoods,
        "accepted": acceptance.mean(axis=1) / n_steps,
        "rejected": rejection.mean(axis=1) / n_steps,
        "round_trips": round_trips,
        "beta": state.beta,
        "end_u": state.u,
        "end_log_likelihood": state.log_likelihood,
        "end_scale": state.scale,
        "end_from_prior": state.from_prior,
        "end_steps": state.steps,
    }
    return ChainBlock(**{name: np.asarray(value)[None] for name, value in one_run.items()})


def stack(blocks: Sequence[ChainBlock]) -> ChainBlock:
    """Return the blocks of several runs as one block, runs in the order given."""
    return ChainBlock(
        **{f.name: np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(ChainBlock)}
    )


def end_states(block: ChainBlock) -> list[TemperedState]:
    """Return where each run of `block` ended, to start the next block from."""
    return [
        TemperedState(
            u=block.end_u[r],
            log_likelihood=block.end_log_likelihood[r],
            beta=block.beta[r],
            scale=block.end_scale[r],
            from_prior=block.end_from_prior[r],
            steps=int(block.end_steps[r]),
        )
        for r in range(len(block.u))
    ]


def relevel(state: TemperedState, beta: Array) -> TemperedState:
    """Return `state` on a new ladder `beta`: each level takes over from the old level nearest to it."""
    nearest = np.rint(np.interp(beta, state.beta, np.arange(len(state.beta)))).astype(int)
    return replace(
        state,
        u=state.u[nearest],
        log_likelihood=state.log_likelihood[nearest],
        beta=beta,
        scale=state.scale[nearest],
        from_prior=np.zeros((len(beta), state.u.shape[1]), bool),  # copies have no history of their own
    )


def serially(task: Callable, items: Iterable) -> list:
    """Return [task(item) ...], the `Map` of a single process."""
    return [task(item) for item in items]


def _adapt_run(
    log_likelihood: LogLikelihood, n_steps: int, run: tuple[np.random.Generator, TemperedState]
) -> ChainBlock:
    return advance(*run, log_likelihood, n_steps, adapting=True)


def tune(
    rng: np.random.Generator,
    states: Sequence[TemperedState],
    log_likelihood: LogLikelihood,
    *,
    levels: Levels = "auto",
    n_rounds: int = 6,
    map: Map = serially,
) -> ChainBlock:
    """Return the last of `n_rounds` rounds of tuning: a common ladder, proposals of each run's own.

    All runs take part in every round, and the mean of their rejections places the next ladder: R times
    the information of a pilot run, and no rank idles while a pilot runs. Runs share temperatures,
    never states, so R-hat over them keeps its meaning. The last round keeps the ladder fixed.
    """
    for i_round in range(n_rounds):
        task = partial(_adapt_run, log_likelihood, FIRST_ROUND * 2**i_round)
        block = stack(map(task, list(zip(rng.spawn(len(states)), states, strict=True))))
        states = end_states(block)
        if i_round < n_rounds - 1:
            beta = retune(block.beta[0], block.rejected.mean(axis=0), levels)
            states = [relevel(state, beta) for state in states]
    return block


def warm_up(
    rng: np.random.Generator,
    log_likelihood: LogLikelihood,
    n_parameters: int,
    *,
    n_runs: int = 4,
    n_walkers: int = 4,
    levels: Levels = "auto",
    n_rounds: int = 6,
    map: Map = serially,
) -> ChainBlock:
    """Start `n_runs` independent runs from the prior and tune them; nothing adapts after its end.

    Parameters
    ----------
    log_likelihood : function u (M, P) -> log L (M)
        Prior of u is N(0, I).
    levels : int or "auto"
        Temperatures, both ends counted; "auto" finds about twice the barrier.
    n_rounds : int
        Rounds of 32, 64, 128 ... steps; six are 2016 steps.
    map : Map
        Spreads the runs of a round; all callers must get the whole list back.

    Returns
    -------
    ChainBlock
        The last round, whose `end_states` the sampling begins with. Its draws were made while adapting and
        are not part of the posterior.

    Raises
    ------
    BadInput
        If `levels` is below 2.
    """
    check_levels(levels)
    prior_draws = rng.standard_normal((1, PRIOR_DRAWS, n_parameters))
    beta = first_ladder(evaluate(log_likelihood, prior_draws), levels)
    states = [start(run_rng, log_likelihood, beta, n_parameters, n_walkers) for run_rng in rng.spawn(n_runs)]
    return tune(rng, states, log_likelihood, levels=levels, n_rounds=n_rounds, map=map)
