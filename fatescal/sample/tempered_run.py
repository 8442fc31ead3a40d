"""Run one of the R independent tempered runs for a block of steps, and warm all of them up together.

The unit of parallel work is one block of one run; nothing here knows on which rank it is done. Every
outcome is a `ChainBlock`, so the warm-up is checkpointed and continued like any other block:

    block = warm_up(rng, log_likelihood, n_parameters, map=map)
    while not converged:
        block = stack([advance(rng, state, log_likelihood, 500) for state in end_states(block)])

The path has two legs that meet at the posterior: levels towards the prior (`tempering`), which find its
modes, and levels towards a normal fitted to its draws (`reference`), which mix fast where it is nearly
normal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from fatescal.base.types import Array, LogLikelihood, Map
from fatescal.sample.ladder import Levels, barrier, check_levels, first_ladder, retune
from fatescal.sample.local_move import OPTIMAL_STEP, Moved, adapt, evaluate, initial_scale
from fatescal.sample.reference import GOOD_REFERENCE, Reference, reference_step
from fatescal.sample.tempering import step
from fatescal.storage.chain_records import ChainBlock, TemperedState

FIRST_ROUND = 32  # steps of the first round of ladder tuning; each round doubles
LEAST_ROUNDS = 4  # before the tuning may end
LEARNING_FROM = 2  # round whose draws are the first to improve a reference that is known
PRIOR_DRAWS = 128  # behind the first guess of the ladder
PRIOR_EVERY = 5  # steps for one of the prior's leg, where the reference's leg mixes well
MOST_REFERENCE_LEVELS = 6
AGREED = 0.2  # posterior sd between the means of the runs at which the tuning may end


def start(
    rng: np.random.Generator,
    log_likelihood: LogLikelihood,
    beta: Array,
    n_parameters: int,
    n_walkers: int,
) -> TemperedState:
    """Return a run at its start: independent prior draws at every level of the ladder `beta` (T,).

    Until draws of the posterior are there to fit it to, the reference is the prior.
    """
    u = rng.standard_normal((len(beta), n_walkers, n_parameters))
    prior_log_likelihood = evaluate(log_likelihood, u)
    scale = initial_scale(beta, float(prior_log_likelihood.std()), n_parameters)
    return TemperedState(
        u=u,
        log_likelihood=prior_log_likelihood,
        beta=beta,
        scale=scale,
        from_prior=np.zeros(u.shape[:2], bool),
        reference_mean=np.zeros(n_parameters),
        reference_factor=np.eye(n_parameters),
        reference_beta=np.zeros(1),
        reference_u=u[:1],
        reference_log_likelihood=prior_log_likelihood[:1],
        reference_scale=scale[-1:],
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

    Pure: the same `rng` state gives the same bits, and two blocks of n steps with one generator are one block
    of 2n. Temperatures and reference never change within a block. Proposals do only when `adapting`, which
    begins anew with every block: of a gain that went on falling over all rounds too little is left to follow
    the ladder to a posterior sd of 1/1000.
    """
    n_levels, n_walkers, n_parameters = state.u.shape
    n_reference = len(state.reference_beta)
    reference = Reference(state.reference_mean, state.reference_factor)
    u = np.empty((n_steps, n_walkers, n_parameters))
    log_likelihoods = np.empty((n_steps, n_levels, n_walkers))
    weights = np.empty((n_steps, n_reference, n_walkers))
    acceptance = np.zeros((n_levels, n_walkers))
    rejection = np.zeros((n_levels - 1, n_walkers))
    reference_rejection = np.zeros((n_reference, n_walkers))
    round_trips = n_prior = 0
    for s in range(n_steps):
        if state.steps % state.prior_every == 0:
            state, info = step(rng, state, log_likelihood)
            if adapting:
                state = replace(state, scale=adapt(state.scale, info.moved, s))
            acceptance += info.moved.acceptance
            rejection += info.rejection
            round_trips += info.round_trips
            n_prior += 1
        else:
            state = replace(state, steps=state.steps + 1)
        state, moved = reference_step(rng, state, reference, log_likelihood)
        if adapting and n_reference > 1:
            between = Moved(
                state.reference_u, state.reference_log_likelihood, moved.noise[:-1], moved.acceptance[:-1]
            )
            state = replace(state, reference_scale=adapt(state.reference_scale, between, s))
        u[s] = state.u[-1]
        log_likelihoods[s] = state.log_likelihood
        weights[s] = moved.weight
        reference_rejection += moved.rejection
    n_prior = max(n_prior, 1)
    one_run = {
        "u": u,
        "log_likelihood": log_likelihoods,
        "accepted": acceptance.mean(axis=1) / n_prior,
        "rejected": rejection.mean(axis=1) / n_prior,
        "reference_rejected": reference_rejection.mean(axis=1) / n_steps,
        "reference_weight": weights,
        "round_trips": round_trips,
        **{_kept(f.name): getattr(state, f.name) for f in fields(TemperedState)},
    }
    return ChainBlock(**{name: np.asarray(value)[None] for name, value in one_run.items()})


def _kept(name: str) -> str:
    """Return the name in a block of what a state holds at its end; ladders do not change within it."""
    return name if name in ("beta", "reference_beta") else f"end_{name}"


def stack(blocks: Sequence[ChainBlock]) -> ChainBlock:
    """Return the blocks of several runs as one block, runs in the order given."""
    return ChainBlock(
        **{f.name: np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(ChainBlock)}
    )


def end_states(block: ChainBlock) -> list[TemperedState]:
    """Return where each run of `block` ended, to start the next block from."""
    names = [f.name for f in fields(TemperedState)]

    def end(r: int) -> dict[str, Any]:
        values = {name: getattr(block, _kept(name))[r] for name in names}
        return {name: int(x) if x.ndim == 0 else x for name, x in values.items()}

    return [TemperedState(**end(r)) for r in range(len(block.u))]


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


def refer(state: TemperedState, reference: Reference, beta: Array) -> TemperedState:
    """Return `state` with another reference and levels `beta` (V) towards it, which start from its posterior
    walkers.
    """
    n_levels = len(beta)
    return replace(
        state,
        reference_mean=reference.mean,
        reference_factor=reference.factor,
        reference_beta=beta,
        reference_u=np.repeat(state.u[-1:], n_levels, axis=0),
        reference_log_likelihood=np.repeat(state.log_likelihood[-1:], n_levels, axis=0),
        reference_scale=np.repeat(state.scale[-1:], n_levels, axis=0),
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
    reference: Reference | None = None,
    map: Map = serially,
) -> ChainBlock:
    """Return the last of at most `n_rounds` rounds of tuning: common ladders and reference, proposals of each
    run.

    All runs take part in every round, and the mean of their rejections places the next ladders: R times the
    information of a pilot run, and no rank idles while a pilot runs. Runs share temperatures and reference,
    never states, so R-hat over them keeps its meaning. The last round keeps both fixed. The tuning ends early
    when the runs agree about the posterior and the reference is near it.
    """
    for i_round in range(n_rounds):
        task = partial(_adapt_run, log_likelihood, FIRST_ROUND * 2**i_round)
        block = stack(map(task, list(zip(rng.spawn(len(states)), states, strict=True))))
        states = end_states(block)
        if i_round == n_rounds - 1 or (i_round >= LEAST_ROUNDS - 1 and settled(block)):
            break
        beta = retune(block.beta[0], block.rejected.mean(axis=0), levels)
        if reference is None or i_round >= LEARNING_FROM:
            draws = _second_half(block)
            reference = Reference.fit(draws.reshape(-1, draws.shape[-1]), reference)
        towards = _towards_reference(block)
        every = _prior_every(block)
        states = [
            replace(refer(relevel(state, beta), reference, towards), prior_every=every) for state in states
        ]
    return replace(block, end_prior_every=np.full(len(block.u), _prior_every(block)))


def _prior_every(block: ChainBlock) -> int:
    return PRIOR_EVERY if _total_barrier(block) < GOOD_REFERENCE else 1


def _second_half(block: ChainBlock) -> Array:
    """Return the cold draws (R, S/2 W, P) of the later steps of a round."""
    u = block.u[:, block.u.shape[1] // 2 :]
    return u.reshape(len(u), -1, u.shape[-1])


def _towards_reference(block: ChainBlock) -> Array:
    """Return the levels (V) from the reference to the posterior, from a round's rejections."""
    rejection = np.maximum(block.reference_rejected.mean(axis=0), 1e-6)
    ladder = retune(np.append(block.reference_beta[0], 1.0), rejection, "auto")
    n_levels = min(max(len(ladder) - 1, 1), MOST_REFERENCE_LEVELS)
    return retune(np.append(block.reference_beta[0], 1.0), rejection, n_levels + 1)[:-1]


def _total_barrier(block: ChainBlock) -> float:
    return float(barrier(block.reference_rejected.mean(axis=0))[-1])


def settled(block: ChainBlock) -> bool:
    """Tell whether a round's runs agree about every mean, and its reference reached the posterior."""
    draws = _second_half(block)
    means, sd = draws.mean(axis=1), draws.std(axis=1).mean(axis=0)
    agreed = bool(np.all(np.ptp(means, axis=0) < AGREED * 2 * np.maximum(sd, 1e-300)))
    return agreed and _total_barrier(block) < GOOD_REFERENCE


def warm_up(
    rng: np.random.Generator,
    log_likelihood: LogLikelihood,
    n_parameters: int,
    *,
    n_runs: int = 4,
    n_walkers: int = 4,
    levels: Levels = "auto",
    n_rounds: int = 6,
    starts: Array | None = None,
    map: Map = serially,
) -> ChainBlock:
    """Start `n_runs` independent runs from the prior and tune them; nothing adapts after its end.

    Parameters
    ----------
    log_likelihood : function u (M, P) -> log L (M)
        Prior of u is N(0, I).
    levels : int or "auto"
        Temperatures of the prior's leg, both ends counted; "auto" finds about twice the barrier.
    n_rounds : int
        Rounds of 32, 64, 128 ... steps, at most; six are 2016 steps.
    starts : (N, P) array, optional
        Points near which a mode may be. The first reference is the normal at the highest one found from the
        best of them; without any it is the prior.
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
    reference = None
    if starts is not None:
        reference = Reference.at_mode(log_likelihood, starts)
        scale = OPTIMAL_STEP / np.sqrt(n_parameters) * reference.factor
        states = [
            refer(
                replace(state, scale=np.concatenate([state.scale[:-1], scale[None]])), reference, np.zeros(1)
            )
            for state in states
        ]
    return tune(rng, states, log_likelihood, levels=levels, n_rounds=n_rounds, reference=reference, map=map)
