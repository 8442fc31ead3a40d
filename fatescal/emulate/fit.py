"""Fit of Gaussian processes by restricted likelihood: a correlation that all outputs share, or one near it
for each.

Length scales that rest on all outputs let many runs be predicted fast. Where runs are few an output's own are
better: they are drawn to the shared ones by a normal prior of their logarithms (`NEAR_SHARED`), without which
they learn the noise. Outputs below the noise share one of their own: they are rough, and the smooth outputs'
nugget would have them emulated as if they were not.

scikit-learn's regressor knows no trend, and its fit took ten times as long (320 rows, 6 parameters)
because its gradient builds an N x N x P array; its kernels are the tests' reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from fatescal.base.types import Array, Map
from fatescal.emulate.gaussian_process import Fitted, Process
from fatescal.emulate.kernels import (
    JOINT,
    PAIRS,
    SQRT5,
    GPSpec,
    correlate,
    matern,
    trend,
    warp_slopes,
    warped,
)

LENGTH = (0.05, 50.0)  # bounds of a length scale, in prior standard deviations of a parameter
NUGGET = (1e-8, 1e2)  # bounds of nugget variance / process variance; the lower one keeps A well-conditioned
RESOLUTION = 1e-9  # of an output's spread: what a trend leaves below it is rounding
EVERY = slice(None)
ENOUGH = 1e-6  # relative change of the likelihood at which a search ends
FASTEST, MOST_BENT = 1.0, 0.9  # bounds of a warp: of its rate, of its bend
WEIGHT = (np.exp(-12.0), np.exp(6.0))  # bounds of a weight of the kernel, before their sum is made 1
# Mean and sd of the normal priors of log length scales, log nugget ratio, rates and bends of warps, log
# weights of a parameter and of a pair. A pair's is 400 times smaller at first: most pairs do nothing.
PRIOR = {
    "length": (np.log(2.0), 1.0),
    "nugget": (np.log(1e-4), 3.0),
    "rate": (0.4, 0.2),
    "bend": (0.0, 0.1),
    "own": (0.0, 3.0),
    "pair": (-6.0, 3.0),
}
# sd of an output's own about the shared ones
NEAR_SHARED = {"length": 0.5, "nugget": 1.0, "rate": 0.1, "bend": 0.1, "own": 1.0, "pair": 1.0}


def in_order(task: Callable, items: Iterable) -> list:
    """Return the results of `task` for all items: the map of one rank."""
    return [task(item) for item in items]


def layout(form: GPSpec, n_parameters: int) -> list[str]:
    """Return what each number of a correlation is: log length scales, log nugget ratio, warps, log weights.

    >>> layout(GPSpec(PAIRS, 0), 2)
    ['length', 'length', 'nugget', 'rate', 'rate', 'bend', 'bend', 'own', 'own', 'pair']
    """
    n_weights = form.n_weights(n_parameters)
    names = ["length"] * n_parameters + ["nugget"] + ["rate"] * n_parameters + ["bend"] * n_parameters
    return names + (["own"] * n_parameters + ["pair"] * (n_weights - n_parameters) if n_weights else [])


@lru_cache(maxsize=4)
def _pairs(n: int) -> tuple[Array, Array]:
    return np.tril_indices(n, -1)


def _pair_differences(x: Array) -> Array:
    i, j = _pairs(len(x))
    return SQRT5 * (x.T[:, i] - x.T[:, j])


@dataclass(frozen=True)
class Contrast:
    """The restricted likelihood at one correlation: its negative value and what its gradient is made of."""

    value: float
    inner: Array  # (N, N): the derivative of the value by the correlations is half its entry

    @classmethod
    def of(cls, a: Array, f: Array, basis: Array, shares: Array) -> Contrast:
        """Evaluate at `a` (N, N; lower triangle) for outputs `f` (N, K) weighed by `shares` (K)."""
        from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular

        n, p = basis.shape
        lower = cholesky(a, lower=True, check_finite=False)
        w, upper = np.linalg.qr(solve_triangular(lower, basis, lower=True, check_finite=False))
        w = solve_triangular(lower, w, lower=True, trans=1, check_finite=False)
        weights = cho_solve((lower, True), f, check_finite=False) - w @ (w.T @ f)
        variance = np.sum(f * weights, axis=0) / (n - p) + np.finfo(float).tiny
        value = 0.5 * (n - p) * float(shares @ np.log(variance))
        value += np.sum(np.log(np.diag(lower))) + np.sum(np.log(np.abs(np.diag(upper))))
        inverse, _ = lapack.dpotri(lower, lower=1)  # its lower triangle, in a third of the time of a solution
        return cls(float(value), inverse - w @ w.T - (weights * (shares / variance)) @ weights.T)


def restricted_likelihood(
    parameters: Array,
    u: Array,
    f: Array,
    basis: Array,
    form: GPSpec,
    shares: Array,
    centre: Array,
    sd: Array,
) -> tuple[float, Array]:
    """Return the negative restricted log-likelihood, process variances profiled out, and its gradient.

    Parameters
    ----------
    parameters : (S) array
        As `layout` says. Weights of the kernel count by their share of their sum.
    u, f, basis : (N, P), (N, K), (N, p) arrays
        Inputs, outputs and trend basis.
    form : GPSpec
    shares : (K) array
        Weights of the outputs' likelihoods, sum 1.
    centre, sd : (S) arrays
        Of the normal prior of the parameters; sd infinite: none.

    Notes
    -----
    Rasmussen & Williams (2006) eqs 2.45 and 5.9, with Q for the inverse covariance; constants left out.
    Symmetric matrices are handled by their pairs of rows.
    """
    n, n_parameters = u.shape
    edges = [n_parameters, n_parameters + 1, 3 * n_parameters + 1]
    log_length, log_nugget, warp, log_weights = np.split(parameters, edges)
    warp = warp.reshape(2, -1)
    length, nugget = np.exp(log_length)[:, None], float(np.exp(log_nugget[0]))
    weights = np.exp(log_weights) / max(np.exp(log_weights).sum(), np.finfo(float).tiny)
    i, j = _pairs(n)
    difference = _pair_differences(warped(u, warp))
    r = np.abs(difference) / length
    correlation, share = correlate(r, form.kernel, weights)
    a = np.diag(np.full(n, 1.0 + nugget))
    a[i, j] = correlation
    contrast = Contrast.of(a, f, basis, shares)
    inner = contrast.inner[i, j]
    q = np.sqrt(np.sum(r * r, axis=0)) if form.kernel == JOINT else r
    by_length = r * r * (1.0 + q) / (3.0 + 3.0 * q + q * q) * share * inner
    gradient = [np.sum(by_length, axis=1), [0.5 * nugget * np.trace(contrast.inner)]]
    if form.warped:
        apart = np.where(difference == 0.0, np.inf, difference)
        gradient += [-np.sum(by_length * _pair_differences(s) / apart, axis=1) for s in warp_slopes(u, warp)]
    else:
        gradient.append(np.zeros(2 * n_parameters))
    if form.kernel == PAIRS:
        single = matern(r)
        products = (single * inner) @ single.T
        terms = np.concatenate([single @ inner, products[np.triu_indices(n_parameters, 1)]])
        gradient.append(weights * (terms - correlation @ inner))
    away = (parameters - centre) / sd
    return contrast.value + 0.5 * float(away @ away), np.concatenate(gradient) + away / sd


def bounds(form: GPSpec, n_parameters: int) -> list[tuple[float, float]]:
    """Return the bounds (S) of what `layout` names."""
    rate, bend = ((0.0, FASTEST), (-MOST_BENT, MOST_BENT)) if form.warped else ((0.0, 0.0), (0.0, 0.0))
    weight = tuple(np.log(WEIGHT))
    length, nugget = tuple(np.log(LENGTH)), tuple(np.log(NUGGET))
    each = {"length": length, "nugget": nugget, "rate": rate, "bend": bend, "own": weight, "pair": weight}
    return [each[name] for name in layout(form, n_parameters)]


def most_likely(u: Array, f: Array, form: GPSpec, starts: Array, centre: Array, sd: Array) -> Array:
    """Return the correlation of `f` (N, K) as `layout` says (S).

    Outputs weigh by the square root of what the trend leaves of their sum of squares: equal weights would let
    the many small ones, half of them rounding of the model, decide. Of the searches from `starts` (n, S) the
    best end wins; `centre` and `sd` (S) are those of the prior.
    """
    from scipy.optimize import minimize

    basis = trend(u, form.degree)
    residual = f - basis @ np.linalg.lstsq(basis, f, rcond=None)[0]
    scale = np.maximum(residual.std(axis=0), RESOLUTION * f.std(axis=0) + np.finfo(float).tiny)
    arguments = (u, residual / scale, basis, form, scale / scale.sum(), centre, sd)
    within = bounds(form, u.shape[1])
    ends = [
        minimize(
            restricted_likelihood,
            start,
            arguments,
            jac=True,
            method="L-BFGS-B",
            bounds=within,
            options={"ftol": ENOUGH},
        )
        for start in starts
    ]
    return min(ends, key=lambda end: end.fun).x


def fit_correlations(u: Array, f: Array, own: Array, form: GPSpec, starts: Array) -> Array:
    """Return `most_likely` (K, S) of the columns of `f` (N, K).

    Shared by all; or, where the mask `own` (K) has any, each of these its own and the others one together.
    """
    names = layout(form, u.shape[1])
    centre, sd = np.array([PRIOR[name] for name in names]).T
    shared = most_likely(u, f, form, starts, centre, sd)
    correlations = np.tile(shared, (f.shape[1], 1))
    if not own.any():
        return correlations
    near = np.array([NEAR_SHARED[name] for name in names])
    for k in np.flatnonzero(own):
        correlations[k] = most_likely(u, f[:, [k]], form, shared[None], shared, near)
    if not own.all():
        near[names.index("nugget")] = PRIOR["nugget"][1]
        correlations[~own] = most_likely(u, f[:, ~own], form, shared[None], shared, near)
    return correlations


def fit_outputs(
    rng: np.random.Generator,
    u: Array,
    outputs: Array,
    forms: Sequence[GPSpec],
    map: Map,
    rows: Array | slice = EVERY,
    own: Array | None = None,
) -> list[Fitted]:
    """Return for each form what fits the columns of `outputs` (N, K), those of the mask `own` (K) with a
    correlation each.

    One task of `map` for each form; correlations are found from `rows` alone.

    Each search starts from one fixed and one random point. On outputs of a smooth test model (320 runs, six
    parameters) three very different starts reached the same maximum, so that more seem to buy only time.
    """
    n_parameters = u.shape[1]
    low, high = np.full(n_parameters + 1, np.log(0.3)), np.full(n_parameters + 1, np.log(10.0))
    low[-1], high[-1] = np.log(1e-6), np.log(1e-2)
    points = np.stack([0.5 * (low + high), rng.uniform(low, high)])
    own = np.zeros(outputs.shape[1], dtype=bool) if own is None else own
    tasks = [(form, _starts(form, points)) for form in forms]
    found = map(partial(_fit_task, u[rows], outputs[rows], own), tasks)
    return [scaled(each, u, outputs, form) for each, form in zip(found, forms, strict=True)]


def _starts(form: GPSpec, points: Array) -> Array:
    """Return starts (n, S): lengths and nugget ratio at `points` (n, P + 1), all else where its prior is."""
    rest = layout(form, points.shape[1] - 1)[points.shape[1] :]
    centre = [PRIOR[name][0] if name != "rate" or form.warped else 0.0 for name in rest]
    return np.hstack([points, np.tile(centre, (len(points), 1))])


def _fit_task(u: Array, f: Array, own: Array, task: tuple[GPSpec, Array]) -> Array:
    return fit_correlations(u, f, own, *task)


def scaled(correlations: Array, u: Array, outputs: Array, form: GPSpec) -> Fitted:
    """Return `correlations` (K, S) of `fit_correlations` with the process variances most likely then."""
    n_parameters = u.shape[1]
    edges = [n_parameters, n_parameters + 1, 3 * n_parameters + 1]
    log_length, log_nugget, warp, log_weights = np.split(correlations, edges, axis=1)
    ratio, weights = np.exp(log_nugget), np.exp(log_weights)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    unit = Fitted(
        np.hstack([np.exp(log_length), np.ones_like(ratio), ratio]), warp.reshape(len(warp), 2, -1), weights
    )
    process = Process.condition(unit, u, outputs, form)
    variance = np.sum(outputs * process.weights, axis=0) / (len(u) - trend(u[:1], form.degree).shape[1])
    variance = np.maximum(variance, (RESOLUTION * outputs.std(axis=0)) ** 2 + np.finfo(float).tiny)[:, None]
    return replace(unit, hyperparameters=np.hstack([np.exp(log_length), variance, variance * ratio]))


def refit(fitted: Fitted, u: Array, outputs: Array, form: GPSpec, own: Array, rows: Array) -> Fitted:
    """Return what fits the `rows` of `outputs` (N, K), searched from what was `fitted` to others."""
    found = fit_correlations(u[rows], outputs[rows], own, form, _start_at(fitted)[None])
    return scaled(found, u[rows], outputs[rows], form)


def _start_at(fitted: Fitted) -> Array:
    """Return the mean (S) over outputs of the correlations of what was `fitted`, as `layout` says."""
    *lengths, variance, nugget = fitted.hyperparameters.T
    floor = WEIGHT[0]
    warp = fitted.warp.reshape(len(variance), -1)
    logs = [np.log([*lengths, nugget / variance]), warp.T, np.log(np.maximum(fitted.weights, floor)).T]
    return np.vstack(logs).mean(axis=1)
