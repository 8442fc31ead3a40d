"""Does the model confirm the emulated posterior? The verdict of the posterior ensemble that was run again.

At each member both log likelihoods are known, the model's and the emulator's. Their difference is the
logarithm of an importance weight. Reweighted by it, the draws of the emulated posterior have the true mean
and sd of each parameter. The verdict compares these with the emulated ones, with the sampling error of few
members in view (`difference_estimator.py`).

Pareto k-hat is reported from 100 members on and decides nothing. It knows no scale, and of 31 harmless
weights it is noise between 0 and 1 (Vehtari et al. 2024). It is meant for exchangeable draws, which support
points are not; no harm was seen with three parameters and 5 seeds (docs/trust.md has both).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fatescal.base.types import Array, LogLikelihood
from fatescal.diagnostics.difference_estimator import corrected_moments
from fatescal.diagnostics.importance_weights import (
    divergence,
    effective_number,
    mixture_log_weights,
    normalised,
    pareto_k,
    relative_density,
)
from fatescal.diagnostics.tolerances import LEAST_MEMBERS, MOST_MORE, RATIO, SHIFT, Outcome
from fatescal.storage.records import Verdict

ERROR_GREEN, ERROR_RED = 0.005, 0.05  # of confirming a wrong posterior, of refusing a right one
USELESS = 2.5  # sd of log weights: densities wrong by a factor 12, beyond what any reweighting repairs
NOTHING = 5.0  # below the median of log weights: less need not be distinguished
OUTSIDE = 0.1  # relative density below which a member of another round tells nothing of this posterior
ENOUGH_MEMBERS = 15  # that usually settle a smooth case (docs/trust.md)


def not_sampled(parameter: Sequence[str], reason: str) -> Verdict:
    """Return the verdict of a round whose emulator was refused."""
    unknown = np.full(len(parameter), np.nan)
    return _verdict(
        "not sampled",
        parameter,
        [unknown] * 5,
        np.ones(len(parameter), dtype=bool),
        np.empty(0),
        reason=reason,
    )


def _verdict(
    outcome: Outcome,
    parameter: Sequence[str],
    estimates: Sequence[Array],
    distrust: Array,
    weights: Array,
    **more: Any,
) -> Verdict:
    """Return a verdict of one round alone: nothing is pooled yet."""
    shift, shift_error, ratio, ratio_error, unreached = estimates
    unknown = np.full(len(parameter), np.nan)
    return Verdict(
        outcome=outcome, parameter=np.array(parameter, dtype=np.str_),
        shift=shift, shift_error=shift_error, ratio=ratio, ratio_error=ratio_error, unreached=unreached,
        distrust=distrust, weights=weights,
        pooled_weights=np.empty(0), pooled_shift=unknown, pooled_ratio=unknown, **more,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Round:
    """A round's emulated posterior and its members that ran.

    Attributes
    ----------
    u : (J, P)
        The members.
    misfit : (J)
        Their Phi, by the model.
    draws : (N, P)
        Of the emulated posterior.
    log_likelihood : function u (M, P) -> (M)
        The emulated one, that the chains saw.
    log_evidence : float
        Its log Z.
    """

    u: Array
    misfit: Array
    draws: Array
    log_likelihood: LogLikelihood
    log_evidence: float


def judge_rounds(
    rounds: Sequence[Round], parameter: Sequence[str], left_out: Callable[[], Sequence[Array]] | None = None
) -> Verdict:
    """Return the verdict of the last of some rounds, and what all of them show together.

    Pooled, the members of all rounds are weighted as one sample of the mixture of the emulated posteriors,
    which stays right whatever an emulator has learnt from.

    Parameters
    ----------
    rounds : sequence of Round
    parameter : P names
    left_out : function, optional
        Called where the last round's own members cannot tell; returns for each round before the last the log
        likelihood (J_s) of the last round's emulator at that round's members, each predicted without itself.
    """
    last = rounds[-1]
    own = -last.misfit - last.log_likelihood(last.u)
    pooled = [one for one in rounds if len(one.u)]
    if not pooled:
        return judge_rerun(own, last.u, last.draws, parameter)
    u = np.concatenate([one.u for one in pooled])
    misfit = np.concatenate([one.misfit for one in pooled])
    emulated = np.array([one.log_likelihood(u) for one in pooled])
    log_evidence, sizes = [one.log_evidence for one in pooled], [len(one.u) for one in pooled]
    verdict = judge_rerun(own, last.u, last.draws, parameter)
    if verdict.outcome == "cannot tell" and left_out is not None and len(last.u) >= LEAST_MEMBERS:
        unseen = np.concatenate([*left_out(), -last.misfit - own])
        relative = relative_density(emulated, log_evidence, sizes)
        together = judge_rerun(-misfit - unseen, u, last.draws, parameter, relative)
        verdict = _surer(verdict, together)
    log_weights = mixture_log_weights(misfit, emulated, log_evidence, sizes)
    weights = normalised(log_weights)
    centre, scale = last.draws.mean(axis=0), np.maximum(last.draws.std(axis=0), np.finfo(float).tiny)
    mean = weights @ u
    return replace(
        verdict,
        pooled_weights=weights,
        pooled_shift=(mean - centre) / scale,
        pooled_ratio=np.sqrt(weights @ (u - mean) ** 2) / scale,
        pooled_k=pareto_k(log_weights),
        distance=divergence(rounds[-2].draws, last.draws) if len(rounds) > 1 else np.nan,
    )


def _surer(own: Verdict, together: Verdict) -> Verdict:
    """Return the verdict of all members where they confirm, or lack fewer than a round's own."""
    nearer = together.outcome == "cannot tell" and together.more < own.more
    if together.outcome != "confirmed" and not nearer:
        return own
    return replace(together, weights=own.weights, log_weight_sd=own.log_weight_sd, k=own.k)


def judge_rerun(
    log_weights: Array, u: Array, draws: Array, parameter: Sequence[str], relative: Array | None = None
) -> Verdict:
    """Return the verdict of members that were run again.

    Parameters
    ----------
    log_weights : (J,)
        True minus emulated log likelihood of the members, -Phi - log L_emulated; constants don't matter.
        Failed members left out.
    u : (J, P)
        The members: random draws of the emulated posterior, or support points of them.
    draws : (N, P)
        Draws of the emulated posterior, from which the members were taken.
    parameter : P names
    relative : (J,), optional
        Density of the emulated posterior over that of the distribution which the members are a sample of,
        where that is another one.

    Raises
    ------
    ValueError
        If a value is not finite, or shapes disagree.

    References
    ----------
    Vehtari et al. 2024, JMLR 25(72): k-hat. Cochran 1977, Sampling Techniques, section 7: difference
    estimator.
    """
    log_weights, names = np.asarray(log_weights, float), tuple(parameter)
    if not (np.isfinite(log_weights).all() and np.isfinite(u).all() and np.isfinite(draws).all()):
        raise ValueError("log weights, members and draws must be finite: leave failed members out")
    if u.shape != (len(log_weights), len(names)) or draws.shape[1:] != (len(names),):
        raise ValueError(
            f"{len(log_weights)} log weights, members {u.shape}, draws {draws.shape}, {len(names)} names"
        )
    weights = normalised(log_weights)
    sd = float(log_weights.std(ddof=1)) if len(log_weights) > 1 else np.nan
    unknown = np.full(len(names), np.nan)
    if len(log_weights) < LEAST_MEMBERS:
        more = ENOUGH_MEMBERS - len(log_weights)
        all_ = np.ones(len(names), dtype=bool)
        return _verdict(
            "cannot tell", names, [unknown] * 5, all_, weights, log_weight_sd=sd, more=more, n_judged=len(u)
        )
    relative = np.ones(len(u)) if relative is None else relative
    n, inside = effective_number(relative), relative > OUTSIDE
    # a member where the model says "impossible" has no weight, but would rule a fit to logarithms
    bounded = np.maximum(log_weights, np.median(log_weights[inside]) - NOTHING)
    estimate = corrected_moments(log_weights, bounded, u, draws, relative, inside)
    unreached = unreached_ratio(u[inside], draws)
    suspect = ~(unreached < RATIO) | _wrong_alone(bounded[inside], u[inside], draws)
    spread = 0.5 * float(np.diff(np.quantile(log_weights[inside], [0.16, 0.84]))[0])
    outcome, which, more = _decide(n, spread, *estimate, suspect)
    return _verdict(
        outcome, names, [*estimate, unreached], which, weights,
        log_weight_sd=sd, k=pareto_k(log_weights), more=more, n_judged=len(u),
    )  # fmt: skip


def _decide(
    n: float,
    spread: float,
    shift: Array,
    shift_error: Array,
    ratio: Array,
    ratio_error: Array,
    suspect: Array,
) -> tuple[Outcome, Array, int]:
    """Return the outcome, the mask (P) of parameters to distrust, and the members still missing.

    Every correction has a tolerance, an estimate and an error. Green: all lie inside with their one-sided
    error, and none is suspect. Red: one lies outside with its error, counted for the largest of 2 P.
    """
    from scipy.stats import chi2, t

    size = np.abs(np.stack([shift / SHIFT, np.log(ratio) / np.log(RATIO)]))
    error = np.stack([shift_error / SHIFT, ratio_error / ratio / np.log(RATIO)])
    inside = t.isf(ERROR_GREEN, n - 1) * error
    wrong = (size - t.isf(ERROR_RED / size.size / 2, n - 1) * error > 1).any(axis=0)
    if spread * np.sqrt((n - 1) / chi2.isf(ERROR_RED, n - 1)) > USELESS:
        wrong |= size.max(axis=0) >= min(1.0, size.max())
    if wrong.any():
        return "not confirmed", wrong, 0
    open_ = suspect | (size + inside >= 1).any(axis=0)
    if not open_.any():
        return "confirmed", open_, 0
    # The error falls with the root of the number; an estimate at the tolerance never settles
    margin = np.where(size + inside >= 1, np.abs(1 - size), np.inf)
    factor = np.max((inside / np.maximum(margin, 1e-3)) ** 2)
    more = max(n * (factor - 1), n if suspect.any() else 1)
    return "cannot tell", open_, int(np.ceil(min(more, MOST_MORE)))


def _wrong_alone(log_weights: Array, u: Array, draws: Array) -> Array:
    """Return the mask (P) of parameters whose own parabola of the log weights says that they are wrong.

    Few members miss the far tail that the weights of a too narrow posterior are largest in, and a quadratic
    of many parameters is shrunk to nothing; one parameter's parabola a + b z + c z^2 needs neither: the
    normal true posterior has the sd (1 - 2 c)^(-1/2) and the mean b / (1 - 2 c). Where members are many
    enough, a fit of all parabolas at once must say so, too: it sees through what the other parameters do,
    but of correlated parameters its slopes are uncertain.
    """
    n, p = u.shape
    z = (u - draws.mean(axis=0)) / np.maximum(draws.std(axis=0), np.finfo(float).tiny)
    ones, squares = np.ones((n, 1)), z**2
    wrong = _beyond([np.hstack([ones, z[:, [i]], squares[:, [i]]]) for i in range(p)], log_weights)
    if n >= 2 * (2 * p + 1):
        wrong &= _beyond([np.hstack([ones, z, squares])], log_weights)
    return wrong


def _beyond(sets: Sequence[Array], log_weights: Array) -> Array:
    """Return the mask (P) of parabolas beyond the tolerances; each of `sets` (J, 1 + 2 p) is fitted alone."""
    fits = [_least_squares(x, log_weights) for x in sets]
    (b, c), (error_b, error_c) = (
        np.concatenate([fit[k][1:].reshape(2, -1) for fit in fits], axis=1) for k in (0, 1)
    )
    widths = 1 / np.sqrt(1 - 2 * np.clip([c - error_c, c + error_c], -10, 0.45))
    shift = (np.abs(b) + error_b) / (1 - 2 * np.clip(c, -10, 0.45))
    return (shift > SHIFT) | (np.abs(np.log(widths)).max(axis=0) > np.log(RATIO))


def _least_squares(x: Array, y: Array) -> tuple[Array, Array]:
    """Return coefficients of the columns of `x` and their standard errors."""
    inverse = np.linalg.pinv(x.T @ x)
    coefficients = inverse @ x.T @ y
    variance = np.sum((y - x @ coefficients) ** 2) / max(len(y) - x.shape[1], 1)
    return coefficients, np.sqrt(variance * np.diag(inverse))


def unreached_ratio(u: Array, draws: Array) -> Array:
    """Return the sd (P) of the draws over that of a normal with the draws no farther out than the members.

    A mode or a tail that holds less of the draws than one in J is no member's, but may carry the sd: of 15
    members a tail of 3 % has none twice out of three times. Distances are Mahalanobis, scaled by the inner
    half.
    """
    from scipy.stats import chi2

    n = draws.shape[1]
    inner, centre = draws, np.median(draws, axis=0)
    # concentration steps: mean and covariance of the inner half (Rousseeuw & Van Driessen 1999)
    for _ in range(3):
        white = _whitener_about(inner, centre)
        distance = np.sum(((draws - centre) @ white) ** 2, axis=1)
        inner = draws[distance <= np.median(distance)]
        centre = inner.mean(axis=0)
    reach = np.quantile(np.sum(((u - centre) @ white) ** 2, axis=1), 1 - 1 / len(u))
    within = draws[distance <= reach]
    if len(within) < 10 * n:
        return np.full(n, np.inf)
    share = len(within) / len(draws)
    shrunk = (
        chi2.cdf(chi2.ppf(share, n), n + 2) / share if share < 1 else 1.0
    )  # variance of a truncated normal
    return draws.std(axis=0) / np.maximum(within.std(axis=0) / np.sqrt(shrunk), np.finfo(float).tiny)


def _whitener_about(draws: Array, centre: Array) -> Array:
    away = draws - centre
    values, axes = np.linalg.eigh(away.T @ away / len(away))
    return axes / np.sqrt(np.maximum(values, 1e-9 * values.max()))
