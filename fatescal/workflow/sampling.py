"""Chains on the emulated posterior, in blocks that are checkpoints, and the ensemble taken from them.

Chain blocks are on root only.
"""

from __future__ import annotations

import logging
from dataclasses import fields

import numpy as np

from fatescal.base.errors import RunFailed
from fatescal.base.random_streams import stream
from fatescal.base.types import Array, LogLikelihood
from fatescal.config import DRAWS
from fatescal.diagnostics.convergence import diagnose
from fatescal.sample.log_evidence import evidence
from fatescal.sample.tempered_run import LEAST_ROUNDS, advance, end_states, warm_up
from fatescal.sample.thinning import representative
from fatescal.storage.chain_records import ChainBlock, TemperedState
from fatescal.storage.records import Posterior
from fatescal.workflow.calibration_run import CalibrationRun

log = logging.getLogger(__name__)
TUNING = 6  # rounds of tuning before chains that are to converge
BLOCK = 500  # kept steps between two looks at R-hat; each block is a checkpoint


def begin_sampling(
    run: CalibrationRun, round_: int, log_likelihood: LogLikelihood, learnt_at: Array, trusted: bool
) -> list[ChainBlock | None]:
    """Return the first block of kept steps (on root), after a warm-up that is short where the emulator is
    refused already.

    Modes are looked for from the runs `learnt_at` (N, P) that fit best.
    """
    problem, key = run.problem, f"warm-up-{round_:02d}"
    settings = problem.sampling

    def tuned() -> ChainBlock:
        return warm_up(
            stream(problem.seed, key),
            log_likelihood,
            len(problem.space.names),
            n_runs=settings.runs,
            n_walkers=settings.walkers,
            levels=settings.levels,
            n_rounds=TUNING if trusted else LEAST_ROUNDS,
            starts=learnt_at,
            map=run.comm.parallel_map,
        )

    inputs = [f"surrogate-{round_:02d}", f"validation-{round_:02d}-rows"]
    states = end_states(run.store.once_together(key, ChainBlock, tuned, inputs))
    return [_block(run, f"chains-{round_:02d}-000", states, log_likelihood, key)]


def sample(
    run: CalibrationRun, round_: int, log_likelihood: LogLikelihood, blocks: list[ChainBlock | None]
) -> None:
    """Append blocks of kept steps (on root) to the first ones until they converge.

    Raises
    ------
    RunFailed
        If they have not converged after `sample.max_steps`.
    """
    comm, settings, names = run.comm, run.problem.sampling, run.problem.space.names
    while True:
        key = f"chains-{round_:02d}-{len(blocks) - 1:03d}"
        diagnosis = comm.on_root(lambda: diagnose(_cold(blocks), names, rhat=settings.rhat, ess=settings.ess))
        n_steps = BLOCK * len(blocks)
        log.info("%s: %d steps: %s", key, n_steps, diagnosis.summary)
        if diagnosis.converged:
            return
        if n_steps >= settings.max_steps:
            not_converged = RunFailed(
                f"the chains have not converged after {n_steps} steps: {'; '.join(diagnosis.reasons)}. "
                "Try: raise sample.max_steps and start the same command again; it goes on from here"
            )
            comm.agree(not_converged)
        states = comm.on_root(lambda: end_states(_held(blocks[-1])))
        blocks.append(_block(run, f"chains-{round_:02d}-{len(blocks):03d}", states, log_likelihood, key))


def _block(
    run: CalibrationRun, key: str, states: list[TemperedState], log_likelihood: LogLikelihood, before: str
) -> ChainBlock | None:
    """Return (on root) the next block of all runs, one run a task."""

    def row(r: int) -> dict[str, Array]:
        block = advance(stream(run.problem.seed, key, r), states[r], log_likelihood, BLOCK)
        return {f.name: getattr(block, f.name)[0] for f in fields(ChainBlock)}

    return run.store.once_rows(
        key, ChainBlock, len(states), lambda: run.comm.parallel_for(row, len(states)), [before]
    )


def _held(block: ChainBlock | None) -> ChainBlock:
    assert block is not None, "chain blocks are on root only"
    return block


def _cold(blocks: list[ChainBlock | None]) -> Array:
    """Return the cold draws (R, S, W, P) of all blocks; on root."""
    return np.concatenate([_held(block).u for block in blocks], axis=1)


def thinned(blocks: list[ChainBlock | None]) -> Array:
    """Return evenly thinned draws (N, P) of all runs, N at most `DRAWS`; on root."""
    pooled = _cold(blocks)
    pooled = pooled.reshape(-1, pooled.shape[-1])
    return pooled[:: -(-len(pooled) // DRAWS)]


def condense(run: CalibrationRun, chains: list[ChainBlock | None]) -> Posterior:
    """Return the posterior: thinned draws, and among them the representative few to run again; on root."""
    space = run.problem.space
    draws = thinned(chains)
    draws_theta = space.theta(draws)
    u = draws[representative(draws, run.problem.n_posterior - 1)]
    return Posterior(
        u=u,
        theta=space.theta(u),
        parameter=np.array(space.names),
        draws_u=draws,
        draws_theta=draws_theta,
        draws_following=space.following(draws_theta),
        log_evidence=evidence([_held(block) for block in chains]).log_z,
    )
