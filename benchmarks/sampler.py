"""Effective draws for each CPU second, of the tempered runs and of peers, on the emulator of finished runs.

    python benchmarks/sampler.py RUN [RUN ...]

All sample the same emulated posterior on one core. `fatescal` warms up and samples as a run does, until its
own criteria hold. `emcee` (its stretch move, and its mixture of differential evolution moves; 2 P + 8
walkers, at least 32) starts from draws of that posterior, and its burn-in is not counted; `nautilus` explores
by nested sampling. Peers that are not installed (`pip install emcee nautilus-sampler`) are left out. The
effective number is that of the worst parameter: bulk ESS of ArviZ for fatescal, steps times walkers over the
longest autocorrelation time for emcee, Kish's number for nautilus.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import process_time

import numpy as np
from scipy.special import ndtri

import fatescal
from fatescal.base.types import Array, LogLikelihood
from fatescal.diagnostics.convergence import diagnose
from fatescal.sample.tempered_run import advance, end_states, stack, warm_up

BLOCK, MOST_BLOCKS = 500, 20
PEER_STEPS = 4000
NAUTILUS_CALLS = 300_000


class Counted:
    """A log-likelihood that counts the points it is asked for."""

    def __init__(self, log_likelihood: LogLikelihood) -> None:
        self.log_likelihood, self.points = log_likelihood, 0

    def __call__(self, u: Array) -> Array:
        self.points += len(u)
        return self.log_likelihood(u)

    def posterior(self, u: Array) -> Array:
        """Return the log posterior density (M) but for a constant."""
        return self(u) - 0.5 * np.sum(u * u, axis=1)


def tempered(log_likelihood: LogLikelihood, names: list[str], learnt_at: Array) -> Array:
    """Print what the tempered runs do, of an emulator learnt at runs (R, P); return their draws (N, P)."""
    counted, rng = Counted(log_likelihood), np.random.default_rng(0)
    begin = process_time()
    block = warm_up(rng, counted, len(names), starts=learnt_at)
    warm, points = process_time() - begin, counted.points
    begin, blocks = process_time(), []
    for _ in range(MOST_BLOCKS):
        states = end_states(blocks[-1] if blocks else block)
        blocks.append(
            stack(
                [advance(r, s, counted, BLOCK) for r, s in zip(rng.spawn(len(states)), states, strict=True)]
            )
        )
        draws = np.concatenate([b.u for b in blocks], axis=1)
        diagnosis = diagnose(draws, names, rhat=1.01, ess=400)
        if diagnosis.converged:
            break
    sampling = process_time() - begin
    ess = float(np.min(diagnosis.ess_bulk))
    print(
        f"  fatescal: {ess:.0f} effective draws in {sampling:.1f} s after {warm:.1f} s of warm-up "
        f"({points} + {counted.points - points} points): {ess / sampling:.1f} / s, "
        f"{ess / (sampling + warm):.1f} / s with the warm-up; "
        f"{1000 * ess / (counted.points - points):.2f} for 1000 points"
    )
    return draws.reshape(-1, len(names))


def emcee(log_likelihood: LogLikelihood, draws: Array, mixed: bool) -> None:
    """Print what emcee does from draws (N, P) of the posterior."""
    import emcee as peer

    counted, rng = Counted(log_likelihood), np.random.default_rng(1)
    n = draws.shape[1]
    n_walkers = max(2 * n + 8, 32)
    moves = [(peer.moves.DEMove(), 0.8), (peer.moves.DESnookerMove(), 0.2)] if mixed else None
    sampler = peer.EnsembleSampler(n_walkers, n, counted.posterior, vectorize=True, moves=moves)
    begin = process_time()
    sampler.run_mcmc(draws[rng.choice(len(draws), n_walkers, replace=False)], PEER_STEPS)
    seconds = process_time() - begin
    ess = PEER_STEPS * n_walkers / float(np.max(sampler.get_autocorr_time(tol=0)))
    print(
        f"  emcee ({'differential evolution' if mixed else 'stretch'}): {ess:.0f} effective draws in "
        f"{seconds:.1f} s: {ess / seconds:.1f} / s; {1000 * ess / counted.points:.2f} for 1000 points"
    )


def nautilus(log_likelihood: LogLikelihood, n_parameters: int) -> None:
    """Print what nautilus does, with the prior as its unit cube."""
    from nautilus import Sampler

    counted = Counted(log_likelihood)
    sampler = Sampler(lambda cube: ndtri(np.clip(cube, 1e-12, 1 - 1e-12)), counted, n_dim=n_parameters,
                      vectorized=True, pass_dict=False, seed=0)  # fmt: skip
    begin = process_time()
    sampler.run(n_eff=2000, n_like_max=NAUTILUS_CALLS)
    seconds = process_time() - begin
    print(
        f"  nautilus: {sampler.n_eff:.0f} effective draws in {seconds:.1f} s ({counted.points} points): "
        f"{sampler.n_eff / seconds:.1f} / s; {1000 * sampler.n_eff / counted.points:.2f} for 1000 points"
    )


def attempt(peer: Callable[[], None]) -> None:
    """Call a peer; say so where it is not installed."""
    try:
        peer()
    except ModuleNotFoundError as error:
        print(f"  {error}")


def race(directory: str) -> None:
    """Race on the emulator of a finished run."""
    results = fatescal.open(directory).results
    emulator, surrogate = results.emulator, results.surrogate
    observations = results.observations.select(results.rows("calibration"))
    log_likelihood = emulator.log_likelihood(surrogate, observations)
    n_runs, n_parameters = surrogate.u.shape
    print(f"{directory}: {n_parameters} parameters, {n_runs} runs, {surrogate.description}")
    draws = tempered(log_likelihood, results.parameter, surrogate.u)
    attempt(lambda: emcee(log_likelihood, draws, mixed=False))
    attempt(lambda: emcee(log_likelihood, draws, mixed=True))
    attempt(lambda: nautilus(log_likelihood, n_parameters))


if __name__ == "__main__":
    for run in sys.argv[1:]:
        race(run)
