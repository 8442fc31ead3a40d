"""The gate: an emulator is sampled only if it predicts held-out runs near the optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array
from fatescal.emulate.base import Emulator
from fatescal.emulate.fit import RESOLUTION
from fatescal.emulate.hold_out import calibration, explained
from fatescal.emulate.training import (
    near_limit,
    near_optimum,
    nearest_rows,
    principal_axes,
    rows_needed,
    twins,
)
from fatescal.storage.records import Observations, Surrogate, TrainingSet, Validation

MIN_Q2 = 0.9
COVERAGE = (0.88, 0.99)  # of 95 % intervals
SCALE = 2.0  # mean squared standardised error, or its inverse: variances wrong by more are refused
HALVES_ERROR = 0.01  # of refusing right variances because the halves of the held-out runs differ by chance
MAX_POSTERIOR_SD = 0.5  # of Phi: exp(0.5) is the error of a posterior density one can live with
MAX_SHARE = {1.0: 0.05, 2.0: 0.01}  # of the posterior draws whose sd of Phi exceeds the key
MAX_TAIL_SD = 2.0  # of Phi, 99 % quantile over the posterior
# shift of a mean (sd) and ratio of sd by the draws whose sd of Phi exceeds 1: what the verdict tolerates
MAX_INFLUENCE = (0.25, 1.25)
COLLAPSED = 0.35  # sd of the runs over that of the posterior, in the narrowest direction
RANK = 1e-6  # prior sd: runs that differ by less do not differ


@dataclass(frozen=True)
class Criterion:
    """One number of the gate, the sentence that tells it, and whether it is met."""

    met: bool
    sentence: str


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
    - The variances must be right within a factor 2: `scale_of_variances`.
    - There must be at least max(10, 2 P) runs near the optimum. Where there are fewer, the best ones are
      judged all the same, so that the numbers can be reported.
    - The runs must spread in every direction (`independent_directions`), and over the posterior (`collapse`).
    - Over the posterior the sd of Phi is judged by its median and by its tail (`ignorance`).
    """
    phi, n_parameters = obs.misfit(training.predictions), training.u.shape[1]
    near = nearest_rows(phi, n_parameters)
    mean, variance = emulator.conditioned(surrogate).hold_out(surrogate.latent, twins(training.u, near))
    predicted, sd = emulator.misfit(surrogate, obs, mean, variance)
    compressed, _ = emulator.misfit(surrogate, obs, surrogate.latent[near], np.zeros_like(mean))
    sd = np.hypot(sd, np.sqrt(np.mean((phi[near] - compressed) ** 2)))  # what the compression adds
    inside = np.abs(surrogate.latent[near] - mean) < 1.959964 * np.sqrt(variance)
    q2, coverage = float(explained(phi[near], predicted)), float(inside.mean())
    n_near, needed = int(near_optimum(phi, n_parameters).sum()), rows_needed(n_parameters)
    low, high = _coverage_bounds(inside.size)
    criteria = [
        *independent_directions(training.u),
        Criterion(
            n_near >= needed,
            f"{n_near} runs near the optimum (Phi - Phi_min < {near_limit(n_parameters):.3g}), needed are {needed}",
        ),
        Criterion(q2 > MIN_Q2, f"hold-out Q2 of Phi near the optimum is {q2:.3f}, must exceed {MIN_Q2}"),
        Criterion(
            low <= coverage <= high,
            f"95 % intervals cover {coverage:.1%} of {inside.size} held-out outputs, must be {low:.1%} to {high:.1%}",
        ),
        *scale_of_variances(*emulator.left_out(surrogate, near, mean, variance)),
    ]
    posterior_sd = tail_sd = beyond_1 = beyond_2 = np.nan
    if draws is not None:
        sd_phi = sd_over(emulator, surrogate, obs, draws)
        posterior_sd, tail_sd = (float(q) for q in np.quantile(sd_phi, [0.5, 0.99]))
        beyond_1, beyond_2 = (float(np.mean(sd_phi > limit)) for limit in MAX_SHARE)
        criteria += [*collapse(training.u, draws), *ignorance(sd_phi, draws)]
    failed = [c.sentence for c in criteria if not c.met]
    passed = (
        f"{n_near} runs near the optimum, hold-out Q2 of Phi {q2:.4f}, 95 % intervals cover {coverage:.1%}"
    )
    if draws is not None:
        passed += (
            f", uncertainty of Phi over the posterior {posterior_sd:.3f} (median), {tail_sd:.2f} (99 % quantile), above 1 in "
            f"{beyond_1:.1%}"
        )
    return Validation(
        misfit=phi[near], predicted=predicted, sd=sd, q2=q2, coverage=coverage, n_near=n_near,
        posterior_sd=posterior_sd, tail_sd=tail_sd, beyond_1=beyond_1, beyond_2=beyond_2,
        passed=not failed, verdict="; ".join(failed) or passed,
    )  # fmt: skip


def scale_of_variances(truth: Array, mean: Array, variance: Array) -> list[Criterion]:
    """Judge predictive variances (G, K) by errors of held-out predictions.

    The mean squared standardised error must lie within a factor 2 of 1. As the fit has scaled its variances
    by these very errors, they are also scaled by one half of the runs and judged by the other: whatever makes
    the halves differ by more than chance (an F test, with at most three independent outputs for a run) will
    make new runs differ too.
    """
    from scipy.stats import f

    rounding = (RESOLUTION * truth.std(axis=0)) ** 2  # of an exact emulator, the errors are rounding alone
    error2 = (truth - mean) ** 2 + rounding
    error = float(np.mean(error2 / (variance + rounding)))
    even = np.arange(len(truth)) % 2 == 0
    across = 0.0
    for a, b in ((even, ~even), (~even, even)):
        wanted = variance[b] * calibration(truth[a], mean[a], variance[a]) + rounding
        across = max(across, float(np.mean(error2[b] / wanted)))
    freedom = len(truth) // 2 * min(truth.shape[1], 3)
    limit = SCALE * float(f.isf(HALVES_ERROR, freedom, freedom))
    return [
        Criterion(
            1 / SCALE < error < SCALE,
            f"the emulator's variances are wrong: the mean squared standardised error of left-out runs is {error:.2f}, must be "
            f"{1 / SCALE:g} to {SCALE:g}",
        ),
        Criterion(
            across < limit,
            f"the emulator's variances, scaled by one half of the left-out runs, do not fit the other half: mean squared "
            f"standardised error {across:.1f}, must be below {limit:.1f}",
        ),
    ]


def independent_directions(u: Array) -> list[Criterion]:
    """Judge whether the runs `u` (N, P) differ in every direction."""
    spread = np.linalg.svd(u - u.mean(axis=0), compute_uv=False) / np.sqrt(len(u))
    n = int(np.sum(spread > RANK))
    sentence = f"the training runs are collapsed: they differ in {n} independent directions, there are {u.shape[1]} parameters"
    return [Criterion(n == u.shape[1], sentence)]


def collapse(u: Array, draws: Array) -> list[Criterion]:
    """Judge whether the runs `u` (N, P) spread over the posterior `draws` (S, P), in its narrowest
    direction too.
    """
    axes, sd = principal_axes(draws)
    runs = (u - u.mean(axis=0)) @ axes / np.maximum(sd, RANK)
    narrowest = (
        float(np.linalg.svd(runs, compute_uv=False)[-1] / np.sqrt(len(u))) if len(u) > u.shape[1] else 0.0
    )
    sentence = (
        f"the training runs are collapsed: in one direction they spread over {narrowest:.2f} of the posterior's width, must be "
        f"at least {COLLAPSED}; the emulator extrapolates"
    )
    return [Criterion(narrowest >= COLLAPSED, sentence)]


def ignorance(sd_phi: Array, draws: Array) -> list[Criterion]:
    """Judge the emulator's sd of Phi (S) over the posterior `draws` (S, P): median, tail, and what the tail
    does.

    One draw in a hundred where the emulator knows nothing can carry the sd of a parameter, which the median
    does not see.
    """
    median, tail = np.quantile(sd_phi, [0.5, 0.99])
    criteria = [
        Criterion(
            bool(median < MAX_POSTERIOR_SD),
            f"the emulator's median sd of Phi over the posterior is {median:.2f}, must be below {MAX_POSTERIOR_SD}",
        ),
        Criterion(
            bool(tail < MAX_TAIL_SD),
            f"the 99 % quantile of the emulator's sd of Phi over the posterior is {tail:.2f}, must be below {MAX_TAIL_SD:g}",
        ),
    ]
    for limit, most in MAX_SHARE.items():
        share = float(np.mean(sd_phi > limit))
        sentence = f"the emulator's sd of Phi exceeds {limit:g} in {share:.1%} of the posterior, must be at most {most:.0%}"
        criteria.append(Criterion(share <= most, sentence))
    known = draws[sd_phi <= 1.0]
    if 0 < len(known) < len(draws):
        sd = np.maximum(known.std(axis=0), np.finfo(float).tiny)
        shift = float(np.max(np.abs(draws.mean(axis=0) - known.mean(axis=0)) / sd))
        ratio = float(np.max(draws.std(axis=0) / sd))
        sentence = (
            f"the {1 - len(known) / len(draws):.2%} of the posterior where the emulator's sd of Phi exceeds 1 change a mean by "
            f"{shift:.2f} sd and an sd by the factor {ratio:.2f}, must be at most {MAX_INFLUENCE[0]} and {MAX_INFLUENCE[1]}"
        )
        criteria.append(Criterion(shift <= MAX_INFLUENCE[0] and ratio <= MAX_INFLUENCE[1], sentence))
    return criteria


def sd_over(emulator: Emulator, surrogate: Surrogate, obs: Observations, draws: Array) -> Array:
    """Return the emulator's sd of Phi (S) at posterior `draws` (S, P)."""
    return emulator.misfit(surrogate, obs, *emulator.predict(surrogate, draws))[1]


def _coverage_bounds(n: int) -> tuple[float, float]:
    """Return 88 % less and 99 % plus two binomial standard errors of the share of `n` predictions."""
    low, high = (
        c + sign * 2.0 * np.sqrt(c * (1.0 - c) / n) for c, sign in zip(COVERAGE, (-1, 1), strict=True)
    )
    return float(low), float(min(high, 1.0))
