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
points are not; the estimator here is conservative for them (docs/trust.md has both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fatescal.base.types import Array

Outcome = Literal["confirmed", "not confirmed", "cannot tell"]

SHIFT = 0.25  # of a mean, in posterior sd: more makes a posterior wrong
RATIO = 1.25  # of two sd: more, or less than 1 / RATIO, makes a posterior wrong
ERROR_GREEN, ERROR_RED = 0.005, 0.05  # of confirming a wrong posterior, of refusing a right one
USELESS = 2.5  # sd of log weights: densities wrong by a factor 12, beyond what any reweighting repairs
NOTHING = 5.0  # below the median of log weights: less need not be told apart
LEAST_FOR_K = 100  # members: their largest fifth, 20, are the fewest a Pareto tail is fitted to with any use
LEAST_MEMBERS = 4
ALIKE = 0.5  # range of log weights below which no tail is looked for
RIDGES = 10.0 ** np.arange(-8, 3)  # variance of the residuals over that of the quadratic's coefficients
INDEPENDENT_DRAWS = 2000  # that thinned chains are worth at most
MOST_MORE = 10_000  # members: a larger need is named as out of reach


@dataclass(frozen=True, eq=False)
class RerunVerdict:
    """What the model's own runs of the posterior ensemble say about the emulated posterior.

    Attributes
    ----------
    outcome : str
        `confirmed`, `not confirmed` or `cannot tell`.
    parameter : P names
    shift, shift_error : (P) arrays
        Of the mean by reweighting, in sd of the emulated posterior, and its standard error.
    ratio, ratio_error : (P) arrays
        Of the reweighted sd to the emulated one, and its standard error.
    unreached : (P) array
        sd of all draws over the sd that those as central as the members tell: far above 1 where it rests on a
        few far draws.
    weights : (J) array
        Importance weights, sum 1.
    log_weight_sd : float
    k : float
        Pareto k-hat; NaN below 100 members, -inf where all weights agree.
    more : int
        Members that must be added before the verdict can be expected; 0 if it stands.
    distrusted : names
        Parameters that are wrong (`not confirmed`) or undecided (`cannot tell`).
    """

    outcome: Outcome
    parameter: tuple[str, ...]
    shift: Array
    shift_error: Array
    ratio: Array
    ratio_error: Array
    unreached: Array
    weights: Array
    log_weight_sd: float
    k: float
    more: int
    distrusted: tuple[str, ...]

    @property
    def effective_size(self) -> float:
        """How many equally weighted members the ensemble is worth, 1 / sum w^2."""
        return float(1 / np.sum(self.weights**2))

    @property
    def k_limit(self) -> float:
        """The k-hat above which weighted means of this many exchangeable draws are unreliable (Vehtari
        et al. 2024).
        """
        return float(min(1 - 1 / np.log10(len(self.weights)), 0.7)) if len(self.weights) >= 25 else np.nan

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, with the parameters to distrust."""
        n, names = len(self.weights), ", ".join(self.distrusted)
        if self.outcome == "confirmed":
            return (
                f"the model confirms the emulated posterior: by {n} runs its means are right within {SHIFT} sd and its "
                f"sd within {RATIO - 1:.0%} (largest correction {self._worst})"
            )
        if self.outcome == "not confirmed":
            return f"the model does NOT confirm the emulated posterior: distrust {names} (by {n} runs: {self._worst})"
        need = f"about {self.more} more would" if self.more < MOST_MORE else f"nor would {MOST_MORE} more"
        return (
            f"{n} members cannot tell whether the emulated posterior is right, {need}; until then do not rely on "
            f"{names} (by {n} runs: {self._worst})"
        )

    @property
    def details(self) -> str:
        """The numbers behind the verdict, for the log."""
        k = "" if np.isnan(self.k) else f", k-hat {self.k:.2f} (limit {self.k_limit:.2f})"
        n = len(self.weights)
        return (
            f"sd of log weights {self.log_weight_sd:.2f}, effective size {self.effective_size:.0f} of {n}{k}"
        )

    @property
    def _worst(self) -> str:
        """The largest correction of a mean and of an sd, with their errors."""
        if not len(self.shift) or np.isnan(self.shift).any():
            return "no estimate"
        p, q = int(np.argmax(np.abs(self.shift))), int(np.argmax(np.abs(np.log(self.ratio))))
        return (
            f"mean of {self.parameter[p]} {self.shift[p]:+.2f} +- {self.shift_error[p]:.2f} sd, "
            f"sd of {self.parameter[q]} times {self.ratio[q]:.2f} +- {self.ratio_error[q]:.2f}"
        )


def judge_rerun(log_weights: Array, u: Array, draws: Array, parameter: Sequence[str]) -> RerunVerdict:
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
    centred = log_weights - log_weights.max(initial=-np.inf)
    weights = np.exp(centred) / max(np.exp(centred).sum(), 1e-300)
    sd = float(log_weights.std(ddof=1)) if len(log_weights) > 1 else np.nan
    unknown = np.full(len(names), np.nan)
    if len(log_weights) < LEAST_MEMBERS:
        more = 15 - len(log_weights)
        return RerunVerdict(
            "cannot tell",
            names,
            unknown,
            unknown,
            unknown,
            unknown,
            unknown,
            weights,
            sd,
            np.nan,
            more,
            names,
        )
    # a member where the model says "impossible" weighs nothing, but would rule a fit to logarithms
    bounded = np.maximum(log_weights, np.median(log_weights) - NOTHING)
    estimate = _moments(log_weights, bounded, u, draws)
    unreached = _unreached(u, draws)
    suspect = ~(unreached < RATIO) | _alone(bounded, u, draws)
    spread = 0.5 * float(np.diff(np.quantile(log_weights, [0.16, 0.84]))[0])
    outcome, which, more = _decide(len(log_weights), spread, *estimate, suspect)
    distrusted = tuple(name for name, listed in zip(names, which, strict=True) if listed)
    return RerunVerdict(
        outcome, names, *estimate, unreached, weights, sd, _pareto_k(log_weights), more, distrusted
    )


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
