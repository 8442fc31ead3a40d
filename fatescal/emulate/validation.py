"""The gate: an emulator is sampled only if it predicts held-out runs near the optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fatescal.emulate.gp import explained, processes
from fatescal.emulate.training import near_optimum, nearest_rows, rows_needed, twins
from fatescal.protocols import Emulator
from fatescal.records import Array, Observations, Surrogate, TrainingSet, Validation

MIN_Q2 = 0.9
COVERAGE = (0.88, 0.99)  # of 95 % intervals
MAX_POSTERIOR_SD = 0.5  # of Phi: exp(0.5) is the error of a posterior density one can live with


def validate(
    emulator: Emulator, surrogate: Surrogate, training: TrainingSet, obs: Observations
) -> Validation:
    """Judge the surrogate by predicting each run near the optimum without it and its near twins.

    Parameters
    ----------
    emulator : Emulator
        The one that fitted `surrogate`.
    training : TrainingSet
        What it was fitted to.

    Notes
    -----
    - Q^2 of Phi must exceed 0.9. Truth is Phi of the run itself, so the compression is judged with the
      process. Runs near the optimum spread over 10 in Phi, so 0.9 asks for an error of about 0.7.
    - The 95 % intervals of the latent outputs must cover 88..99 % of them, give or take two standard errors
      of that share: a dozen runs all inside their intervals prove nothing.
    - There must be at least max(10, 2 P) runs near the optimum. Where there are fewer, the nearest ones are
      judged all the same, so that the numbers can be reported.
    """
    phi, n_parameters = obs.misfit(training.predictions), training.u.shape[1]
    near = nearest_rows(phi, n_parameters)
    mean, variance = processes(surrogate).hold_out(surrogate.latent, twins(training.u, near))
    predicted, sd = emulator.misfit(surrogate, obs, mean, variance)
    inside = np.abs(surrogate.latent[near] - mean) < 1.959964 * np.sqrt(variance)
    return _judge(
        Validation(
            misfit=phi[near],
            predicted=predicted,
            sd=sd,
            q2=float(explained(phi[near], predicted)),
            coverage=float(inside.mean()),
            n_near=int(near_optimum(phi).sum()),
        ),
        n_predictions=inside.size,
        n_parameters=n_parameters,
    )


def posterior_uncertainty(
    emulator: Emulator, surrogate: Surrogate, obs: Observations, draws: Array
) -> float:
    """Return the median of the emulator's sd of Phi over posterior `draws` (S, P)."""
    _, sd = emulator.misfit(surrogate, obs, *emulator.predict(surrogate, draws))
    return float(np.median(sd))


def judge_posterior(validation: Validation, posterior_sd: float) -> Validation:
    """Return the validation completed by `posterior_uncertainty`, the one criterion that needs draws."""
    failed = [] if validation.passed else [validation.verdict]
    if not posterior_sd < MAX_POSTERIOR_SD:
        failed.append(
            f"median emulator sd of Phi over the posterior is {posterior_sd:.2f}, must be below {MAX_POSTERIOR_SD}"
        )
    return replace(validation, posterior_sd=posterior_sd, **_verdict(failed))


def _judge(validation: Validation, n_predictions: int, n_parameters: int) -> Validation:
    failed = []
    needed = rows_needed(n_parameters)
    if validation.n_near < needed:
        failed.append(f"{validation.n_near} runs near the optimum (Phi - Phi_min < 10), needed are {needed}")
    if not validation.q2 > MIN_Q2:
        failed.append(f"hold-out Q2 of Phi near the optimum is {validation.q2:.3f}, must exceed {MIN_Q2}")
    low, high = (
        edge + sign * 2.0 * np.sqrt(edge * (1.0 - edge) / n_predictions)
        for edge, sign in zip(COVERAGE, (-1, 1), strict=True)
    )
    if not low <= validation.coverage <= high:
        failed.append(
            f"95 % intervals cover {validation.coverage:.1%} of {n_predictions} held-out outputs, "
            f"must be {low:.1%} to {min(high, 1.0):.1%}"
        )
    return replace(validation, **_verdict(failed))


def _verdict(failed: list[str]) -> dict[str, bool | str]:
    return {"passed": not failed, "verdict": "; ".join(failed) or "the emulator predicts held-out runs"}
