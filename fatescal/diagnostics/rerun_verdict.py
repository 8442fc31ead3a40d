"""Does the model confirm the emulated posterior? The verdict of the posterior ensemble that was run again.

At each member both log likelihoods are known, the model's and the emulator's. Their difference is the
logarithm of an importance weight. Reweighted by it, the draws of the emulated posterior have the true mean
and sd of each parameter. The verdict compares these with the emulated ones, with the sampling error of few
members in view.

A plain weighted mean of few members is too noisy to decide (15 members see a shift of half an sd as 0.5 +-
0.2). So a quadratic of the log weights is fitted first (kernel ridge, chosen by leave-one-out error) and
reweights all draws; the members then only correct what the quadratic leaves, each predicted without itself.
This is the difference estimator of survey sampling: unbiased whatever the quadratic, its error is that of the
left-out residuals. Where log weights are smooth, 15 members settle what would take 500; where they are not,
the error says so.

Pareto k-hat is reported from 100 members on and decides nothing. It knows no scale, and of 31 harmless
weights it is noise between 0 and 1 (Vehtari et al. 2024). It is meant for exchangeable draws, which support
points are not; no harm was seen with three parameters and 5 seeds (docs/trust.md has both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from fatescal.base.types import Array, LogLikelihood
from fatescal.storage.records import Verdict

Outcome = Literal["confirmed", "not confirmed", "cannot tell", "not sampled"]

SHIFT = 0.25  # of a mean, in posterior sd: more makes a posterior wrong
RATIO = 1.25  # of two sd: more, or less than 1 / RATIO, makes a posterior wrong
ERROR_GREEN, ERROR_RED = 0.005, 0.05  # of confirming a wrong posterior, of refusing a right one
USELESS = 2.5  # sd of log weights: densities wrong by a factor 12, beyond what any reweighting repairs
NOTHING = 5.0  # below the median of log weights: less need not be told apart
LEAST_FOR_K = 100  # members: their largest fifth, 20, are the fewest a Pareto tail is fitted to with any use
LEAST_MEMBERS = 4
ENOUGH_MEMBERS = 15  # that usually settle a smooth case (docs/trust.md)
ALIKE = 0.5  # range of log weights below which no tail is looked for
RIDGES = 10.0 ** np.arange(-8, 3)  # variance of the residuals over that of the quadratic's coefficients
INDEPENDENT_DRAWS = 2000  # that thinned chains are worth at most
MOST_MORE = 10_000  # members: a larger need is named as out of reach


def k_limit(n: int) -> float:
    """Return the k-hat above which weighted means of `n` exchangeable draws are unreliable (Vehtari et al.
    2024); NaN below 25.
    """
    return float(min(1 - 1 / np.log10(n), 0.7)) if n >= 25 else np.nan


def sentence(verdict: Verdict) -> str:
    """Return the verdict in one sentence, with the parameters to distrust."""
    n, names = len(verdict.weights), ", ".join(verdict.distrusted)
    if verdict.outcome == "not sampled":
        return f"no posterior was sampled: {verdict.reason}"
    if verdict.outcome == "confirmed":
        return (
            f"the model confirms the emulated posterior: by {n} runs its means are right within {SHIFT} sd and "
            f"its sd within {RATIO - 1:.0%} (largest correction {_worst(verdict)})"
        )
    if verdict.outcome == "not confirmed":
        return (
            f"the model does NOT confirm the emulated posterior: distrust {names} "
            f"(by {n} runs: {_worst(verdict)})"
        )
    need = f"about {verdict.more} more would" if verdict.more < MOST_MORE else f"nor would {MOST_MORE} more"
    return (
        f"{n} members cannot tell whether the emulated posterior is right, {need}; until then do not rely on "
        f"{names} (by {n} runs: {_worst(verdict)})"
    )


def details(verdict: Verdict) -> str:
    """Return the numbers behind the verdict, for the log."""
    n = len(verdict.weights)
    k = "" if np.isnan(verdict.k) else f", k-hat {verdict.k:.2f} (limit {k_limit(n):.2f})"
    pooled = ""
    if len(verdict.pooled_weights) > n:
        pooled = (
            f"; of all rounds {verdict.pooled_size:.0f} of {len(verdict.pooled_weights)}, "
            f"KL divergence from the round before {verdict.distance:.2g}"
        )
    return (
        f"sd of log weights {verdict.log_weight_sd:.2f}, effective size {verdict.effective_size:.0f} of "
        f"{n}{k}{pooled}"
    )


def advice(verdict: Verdict, n_rounds: int) -> str:
    """Return what to do about a run that ended with a verdict which is not `confirmed`, after `n_rounds` of
    refinement allowed.
    """
    more_rounds = f"emulate.rounds: {n_rounds + 2} (each round adds runs to those that are there)"
    n = len(verdict.weights)
    if verdict.outcome == "not sampled":
        return (
            f"more members or iterations, {more_rounds}, emulate.target: misfit, or (at your own risk) "
            "emulate.force: true"
        )
    if n < LEAST_MEMBERS:
        return f"posterior.members: {n + verdict.more + 1}, so few members can confirm nothing"
    if verdict.outcome == "cannot tell" and n <= verdict.more < MOST_MORE / 10:
        return f"posterior.members: {n + verdict.more + 1}, or {more_rounds}"
    return f"{more_rounds}, or more posterior.members"


def _worst(verdict: Verdict) -> str:
    """Return the largest correction of a mean and of an sd, with their errors."""
    v = verdict
    if not len(v.shift) or np.isnan(v.shift).any():
        return "no estimate"
    p, q = int(np.argmax(np.abs(v.shift))), int(np.argmax(np.abs(np.log(v.ratio))))
    return (
        f"mean of {v.parameter[p]} {v.shift[p]:+.2f} +- {v.shift_error[p]:.2f} sd, "
        f"sd of {v.parameter[q]} times {v.ratio[q]:.2f} +- {v.ratio_error[q]:.2f}"
    )


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


def judge_rounds(rounds: Sequence[Round], parameter: Sequence[str]) -> Verdict:
    """Return the verdict of the last of some rounds, and what all of them tell together.

    The last round is judged by its own members: its emulator has learnt from those of the rounds before, and
    reproduces them. Pooled, the members of all rounds are weighted as one sample of the mixture of the
    emulated posteriors, which stays right whatever an emulator has learnt from.
    """
    last = rounds[-1]
    verdict = judge_rerun(-last.misfit - last.log_likelihood(last.u), last.u, last.draws, parameter)
    pooled = [one for one in rounds if len(one.u)]
    if not pooled:
        return verdict
    u = np.concatenate([one.u for one in pooled])
    log_weights = mixture_log_weights(
        np.concatenate([one.misfit for one in pooled]),
        [one.log_likelihood(u) for one in pooled],
        [one.log_evidence for one in pooled],
        [len(one.u) for one in pooled],
    )
    weights = _normalised(log_weights)
    centre, scale = last.draws.mean(axis=0), np.maximum(last.draws.std(axis=0), np.finfo(float).tiny)
    mean = weights @ u
    return replace(
        verdict,
        pooled_weights=weights,
        pooled_shift=(mean - centre) / scale,
        pooled_ratio=np.sqrt(weights @ (u - mean) ** 2) / scale,
        pooled_k=_pareto_k(log_weights),
        distance=divergence(rounds[-2].draws, last.draws) if len(rounds) > 1 else np.nan,
    )


def divergence(before: Array, after: Array) -> float:
    """Return the Kullback-Leibler divergence of draws `after` (N, P) from `before` (M, P), taken as normal.

    >>> x = np.random.default_rng(0).standard_normal((1000, 1))
    >>> round(divergence(x, x), 9), round(divergence(x, x + x.std(ddof=1)), 3)
    (0.0, 0.5)
    """
    old, new = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (before, after))
    difference = after.mean(axis=0) - before.mean(axis=0)
    solved = np.linalg.solve(old, np.column_stack([new, difference]))
    log_ratio = np.linalg.slogdet(old)[1] - np.linalg.slogdet(new)[1]
    trace = np.trace(solved[:, :-1]) - len(old)
    return float(0.5 * (trace + difference @ solved[:, -1] + log_ratio))


def _normalised(log_weights: Array) -> Array:
    """Return weights of sum 1."""
    weights = np.exp(log_weights - log_weights.max(initial=-np.inf))
    return weights / max(weights.sum(), 1e-300)


def judge_rerun(log_weights: Array, u: Array, draws: Array, parameter: Sequence[str]) -> Verdict:
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
    weights = _normalised(log_weights)
    sd = float(log_weights.std(ddof=1)) if len(log_weights) > 1 else np.nan
    unknown = np.full(len(names), np.nan)
    if len(log_weights) < LEAST_MEMBERS:
        more = ENOUGH_MEMBERS - len(log_weights)
        all_ = np.ones(len(names), dtype=bool)
        return _verdict("cannot tell", names, [unknown] * 5, all_, weights, log_weight_sd=sd, more=more)
    # a member where the model says "impossible" weighs nothing, but would rule a fit to logarithms
    bounded = np.maximum(log_weights, np.median(log_weights) - NOTHING)
    estimate = _moments(log_weights, bounded, u, draws)
    unreached = _unreached(u, draws)
    suspect = ~(unreached < RATIO) | _alone(bounded, u, draws)
    spread = 0.5 * float(np.diff(np.quantile(log_weights, [0.16, 0.84]))[0])
    outcome, which, more = _decide(len(log_weights), spread, *estimate, suspect)
    return _verdict(
        outcome, names, [*estimate, unreached], which, weights,
        log_weight_sd=sd, k=_pareto_k(log_weights), more=more,
    )  # fmt: skip


def mixture_log_weights(
    misfit: Array,
    emulated: Sequence[Array] | Array,
    log_evidence: Sequence[float] | Array,
    sizes: Sequence[int],
) -> Array:
    """Return log weights (J) of the members of all rounds together, as one sample of the mixture of their
    posteriors.

    Round s drew `sizes[s]` members from its emulated posterior N(u; 0, I) L_s(u) / Z_s. With shares a_s of
    all members, log w = -Phi - log sum_s a_s L_s / Z_s; the prior cancels. A member that one round drew where
    it should not have is rare in the mixture of others, so that no weight is larger than the true density
    over a_s times that of any round.

    Parameters
    ----------
    misfit : (J)
        Phi of the members of all rounds, from the model.
    emulated : (S, J)
        Log likelihood of each round's emulator at all members, not at its own alone.
    log_evidence : (S)
        log Z_s of each round, from its tempered chains.
    sizes : S int
        Members of each round, sum J.

    References
    ----------
    Veach & Guibas 1995, doi:10.1145/218380.218498 (balance heuristic); Cornuet et al. 2012,
    doi:10.1111/j.1467-9469.2011.00756.x.

    >>> mixture_log_weights(np.array([2.0, 1.0]), [[-2.0, -1.0], [-2.0, -1.0]], [-3.0, -3.0], [1, 1]).tolist()
    [-3.0, -3.0]
    """
    from scipy.special import logsumexp

    emulated, count = np.asarray(emulated, float), np.asarray(sizes, float)
    if emulated.shape != (len(count), len(misfit)) or count.sum() != len(misfit):
        raise ValueError(
            f"{emulated.shape} likelihoods do not go with {sizes} members, {len(misfit)} misfits"
        )
    shares = np.log(count / count.sum()) - np.asarray(log_evidence, float)
    return -np.asarray(misfit, float) - logsumexp(emulated + shares[:, None], axis=0)


def _decide(
    n: int, spread: float, shift: Array, shift_error: Array, ratio: Array, ratio_error: Array, suspect: Array
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


def _alone(log_weights: Array, u: Array, draws: Array) -> Array:
    """Return the mask (P) of parameters whose own parabola of the log weights says that they are wrong.

    Few members miss the far tail that the weights of a too narrow posterior are largest in, and a quadratic
    of many parameters is shrunk to nothing; one parameter's parabola a + b z + c z^2 needs neither: the
    normal true posterior has the sd (1 - 2 c)^(-1/2) and the mean b / (1 - 2 c). All are fitted at once where
    members are many enough.
    """
    n, p = u.shape
    z = (u - draws.mean(axis=0)) / np.maximum(draws.std(axis=0), np.finfo(float).tiny)
    ones, squares = np.ones((n, 1)), z**2
    if n >= 2 * (2 * p + 1):
        sets = [np.hstack([ones, z, squares])]
    else:
        sets = [np.hstack([ones, z[:, [i]], squares[:, [i]]]) for i in range(p)]
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


def _moments(log_weights: Array, bounded: Array, u: Array, draws: Array) -> tuple[Array, Array, Array, Array]:
    """Return shifts of the means with errors, and ratios of the sd with errors (P each), by the
    difference estimator.
    """
    mean, sd = draws.mean(axis=0), np.maximum(draws.std(axis=0), np.finfo(float).tiny)
    z, all_z = (u - mean) / sd, (draws - mean) / sd
    whiten = _whitener(all_z)
    fitted, left_out = _quadratic(bounded, z @ whiten, all_z @ whiten)
    top = fitted.max()
    scale = np.exp(fitted - top).mean()
    smooth = np.exp(fitted - top) / scale  # (N) mean 1
    with np.errstate(over="ignore"):
        rest = (np.exp(log_weights - top) - np.exp(left_out - top)) / scale  # (J)
    if not np.isfinite(rest).all():
        nothing, unknown = np.zeros_like(mean), np.full_like(mean, np.inf)
        return nothing, unknown, nothing + 1.0, unknown
    total = max(1.0 + rest.mean(), 0.1)
    shift = (smooth @ all_z / len(smooth) + rest @ z / len(z)) / total
    square = smooth @ (all_z - shift) ** 2 / len(smooth) + rest @ (z - shift) ** 2 / len(z)
    square = np.maximum(square / total, 0.01)
    ratio = np.sqrt(square)
    shift_error = _error(rest, z - shift, smooth, all_z - shift) / total
    square_error = _error(rest, (z - shift) ** 2 - square, smooth, (all_z - shift) ** 2 - square) / total
    return shift, shift_error, ratio, 0.5 * square_error / ratio


def _error(rest: Array, of_members: Array, smooth: Array, of_draws: Array) -> Array:
    """Return the standard error (P) of a corrected mean: that of the members' part and that of the draws'
    part.

    Products of few members are skewed, and their own spread is then too small an error: the product of the
    spreads is the least that counts. The draws' part is the change that the fitted weights bring about.
    """
    own = (rest[:, None] * of_members).std(axis=0, ddof=1)
    apart = rest.std(ddof=1) * of_draws.std(axis=0)
    drawn = ((smooth - 1.0)[:, None] * of_draws).std(axis=0) / np.sqrt(min(len(smooth), INDEPENDENT_DRAWS))
    return np.hypot(np.maximum(own, apart) / np.sqrt(len(rest)), drawn)


def _whitener(z: Array) -> Array:
    """Return the matrix (P, P) that makes columns of `z @ matrix` uncorrelated, of unit variance."""
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(z, rowvar=False)))
    return axes / np.sqrt(np.maximum(values, 1e-9 * values.max()))


def _quadratic(y: Array, x: Array, new: Array) -> tuple[Array, Array]:
    """Return predictions of `y` (J) at `new` (N, P), and of each of `y` by all others, by ridge regression.

    Candidates are a constant and four quadratics; another one than the constant must lower the sum of squared
    leave-one-out errors by a tenth.
    """
    n = len(y)
    left_out = y - (y - y.mean()) * n / (n - 1.0)
    least, best = np.sum((y - left_out) ** 2), None
    centre = np.eye(n) - 1.0 / n
    for kernel in (_linear, _isotropic, _additive, _full):
        of_rows = kernel(x, x)
        values, axes = np.linalg.eigh(centre @ of_rows @ centre)
        axes = centre @ axes  # a constant is unknown: ones are the null space
        values = np.maximum(values, 0.0)
        for ridge in RIDGES * max(values.mean(), 1e-12):
            inverse = 1.0 / (values + ridge)
            weights = axes @ (inverse * (axes.T @ y))
            error = weights / ((axes**2) @ inverse)
            if error @ error < 0.9 * least:
                least, left_out = error @ error, y - error
                best = kernel, weights, np.mean(y - of_rows @ weights - ridge * weights)
    if best is None:
        return np.full(len(new), y.mean()), left_out
    kernel, weights, constant = best
    return constant + kernel(new, x) @ weights, left_out


def _linear(a: Array, b: Array) -> Array:
    return a @ b.T


def _isotropic(a: Array, b: Array) -> Array:
    """Kernel of x and (|x|^2 - P) / sqrt(2 P)."""
    n = a.shape[1]
    return a @ b.T + np.outer(np.sum(a**2, axis=1) - n, np.sum(b**2, axis=1) - n) / (2.0 * n)


def _additive(a: Array, b: Array) -> Array:
    """Kernel of x and (x^2 - 1) / sqrt(2), each parameter for itself."""
    return a @ b.T + 0.5 * (a**2 - 1.0) @ (b**2 - 1.0).T


def _full(a: Array, b: Array) -> Array:
    """Kernel of x and (x x' - I) / sqrt(2)."""
    product, squares = a @ b.T, np.add.outer(np.sum(a**2, axis=1), np.sum(b**2, axis=1))
    return product + 0.5 * (product**2 - squares + a.shape[1])


def _unreached(u: Array, draws: Array) -> Array:
    """Return the sd (P) of the draws over what those no farther out than the members tell, as if normal.

    A mode or a tail that holds less of the draws than one in J is no member's, but may carry the sd: of 15
    members a tail of 3 % has none twice out of three times. Distances are Mahalanobis, scaled by the inner
    half.
    """
    from scipy.stats import chi2

    n = draws.shape[1]
    inner, centre = draws, np.median(draws, axis=0)
    for _ in range(
        3
    ):  # concentration steps: mean and covariance of the inner half (Rousseeuw & Van Driessen 1999)
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


def _pareto_k(log_weights: Array) -> float:
    """Return k-hat of the weights; NaN for few of them, -inf where they agree."""
    from arviz_stats.base import array_stats

    if len(log_weights) < LEAST_FOR_K:
        return np.nan
    return -np.inf if np.ptp(log_weights) < ALIKE else float(array_stats.psislw(-log_weights)[1])
