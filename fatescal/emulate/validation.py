"""The gate: an emulator is sampled only if it predicts held-out runs near the optimum."""

from __future__ import annotations

import numpy as np

from fatescal.emulate.hold_out import explained
from fatescal.emulate.process import processes
from fatescal.emulate.training import NEAR, near_optimum, nearest_rows, rows_needed, twins
from fatescal.protocols import Emulator
from fatescal.records import Array, Observations, Surrogate, TrainingSet, Validation

MIN_Q2 = 0.9
COVERAGE = (0.88, 0.99)  # of 95 % intervals
MAX_POSTERIOR_SD = 0.5  # of Phi: exp(0.5) is the error of a posterior density one can live with


def validate(
    emulator: Emulator,
    surrogate: Surrogate,
    training: TrainingSet,
    obs: Observations,
    draws: Array | None = None,
) -> Validation:
    """Judge the surrogate by predicting each run near the optimum without it and its near twins.

    Parameters
    ----------
    emulator : Emulator
        The one that fitted `surrogate`.
    training : TrainingSet
        What it was fitted to.
    draws : (S, P) array, optional
        Draws of the emulated posterior; with them the emulator's own sd of Phi is judged too.

    Notes
    -----
    - Q^2 of Phi must exceed 0.9. Truth is Phi of the run itself, so the compression is judged with the
      process. Runs near the optimum spread over 10 in Phi, so 0.9 asks for an error of about 0.7.
    - The 95 % intervals of the latent outputs must cover 88..99 % of them, give or take two standard errors
      of that share: a dozen runs all inside their intervals prove nothing.
    - There must be at least max(10, 2 P) runs near the optimum. Where there are fewer, the best ones are
      judged all the same, so that the numbers can be reported.
    """
    phi, n_parameters = obs.misfit(training.predictions), training.u.shape[1]
    near = nearest_rows(phi, n_parameters)
    mean, variance = processes(surrogate).hold_out(surrogate.latent, twins(training.u, near))
    predicted, sd = emulator.misfit(surrogate, obs, mean, variance)
    compressed, _ = emulator.misfit(surrogate, obs, surrogate.latent[near], np.zeros_like(mean))
    sd = np.hypot(sd, np.sqrt(np.mean((phi[near] - compressed) ** 2)))  # what the compression adds
    inside = np.abs(surrogate.latent[near] - mean) < 1.959964 * np.sqrt(variance)
    q2, coverage = float(explained(phi[near], predicted)), float(inside.mean())
    n_near, needed = int(near_optimum(phi).sum()), rows_needed(n_parameters)
    low, high = _coverage_bounds(inside.size)

    failed = []
    if n_near < needed:
        failed.append(f"{n_near} runs near the optimum (Phi - Phi_min < {NEAR:g}), needed are {needed}")
    if not q2 > MIN_Q2:
        failed.append(f"hold-out Q2 of Phi near the optimum is {q2:.3f}, must exceed {MIN_Q2}")
    if not low <= coverage <= high:
        failed.append(
            f"95 % intervals cover {coverage:.1%} of {inside.size} held-out outputs, "
            f"must be {low:.1%} to {high:.1%}"
        )
    posterior_sd = np.nan
    if draws is not None:
        posterior_sd = posterior_uncertainty(emulator, surrogate, obs, draws)
        if not posterior_sd < MAX_POSTERIOR_SD:
            failed.append(
                f"the emulator's median sd of Phi over the posterior is {posterior_sd:.2f}, "
                f"must be below {MAX_POSTERIOR_SD}"
            )
    passed = (
        f"{n_near} runs near the optimum, hold-out Q2 of Phi {q2:.4f}, 95 % intervals cover {coverage:.1%}"
    )
    if draws is not None:
        passed += f", median sd of Phi over the posterior {posterior_sd:.3f}"
    return Validation(
        misfit=phi[near],
        predicted=predicted,
        sd=sd,
        q2=q2,
        coverage=coverage,
        n_near=n_near,
        posterior_sd=posterior_sd,
        passed=not failed,
        verdict="; ".join(failed) or passed,
    )


def posterior_uncertainty(emulator: Emulator, surrogate: Surrogate, obs: Observations, draws: Array) -> float:
    """Return the median of the emulator's sd of Phi over posterior `draws` (S, P)."""
    _, sd = emulator.misfit(surrogate, obs, *emulator.predict(surrogate, draws))
    return float(np.median(sd))


def _coverage_bounds(n: int) -> tuple[float, float]:
    """Return 88 % less and 99 % plus two binomial standard errors of the share of `n` predictions."""
    low, high = (
        c + sign * 2.0 * np.sqrt(c * (1.0 - c) / n) for c, sign in zip(COVERAGE, (-1, 1), strict=True)
    )
    return float(low), float(min(high, 1.0))
