"""Fit of Gaussian processes by restricted likelihood: a correlation that all outputs share, or one near it
for each.

Length scales that rest on all outputs let many runs be predicted fast. Where runs are few an output's own are
better: they are drawn to the shared ones by a normal prior of their logarithms (`NEAR_SHARED`), without which
they learn the noise: CLM-FATES (28 runs of six parameters / 16 of two) is predicted 0.137 / 0.31 noise sd
wrong with a shared correlation (the product, unbent), 0.139 / 0.27 with one for each, 0.132 / 0.29 with one
near the shared; by the joint distance, bent, 0.145 / 0.26 with a shared one and 0.139 / 0.23 with one near
it.

scikit-learn's regressor knows no trend, and its fit took ten times as long (320 rows, 6 parameters)
because its gradient builds an N x N x P array; its kernels are the tests' reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from fatescal.base.types import Array, Map
from fatescal.emulate.gaussian_process import Fitted, Process
from fatescal.emulate.kernels import JOINT, GPSpec, matern, pair_differences, trend

LENGTH = (0.05, 50.0)  # bounds of a length scale, in prior standard deviations of a parameter
NUGGET = (1e-8, 1e2)  # bounds of nugget variance / process variance; the lower one keeps A well-conditioned
RESOLUTION = 1e-9  # of an output's spread: what a trend leaves below it is rounding
EVERY = slice(None)
WARP_SD, MOST_WARP = 0.5, 0.9  # prior sd and bound of a warp; monotone below 1
NEAR_SHARED = (0.5, 1.0, 0.25)  # prior sd of an output's own log length scales, log nugget ratio and warps


def in_order(task: Callable, items: Iterable) -> list:
    """Return the results of `task` for all items: the map of one rank."""
    return [task(item) for item in items]


def restricted_likelihood(
    log_parameters: Array,
    distances: Array,
    f: Array,
    basis: Array,
    kernel: str,
    shares: Array | None = None,
    slopes: Array | None = None,
) -> tuple[float, Array]:
    """Return the negative restricted log-likelihood, process variances profiled out, and its gradient.

    Parameters
    ----------
    log_parameters : (P + 1) array
        Logarithms of the length scales and of the nugget ratio.
    distances : (P, N (N - 1) / 2) array
        Of the inputs, from `pair_distances`: all symmetric matrices are handled by their pairs.
    f, basis : (N, K) or (N), (N, p) arrays
        Outputs and trend basis.
    shares : (K) array, optional
        Weights of the outputs' likelihoods, sum 1; equal where not given.
    slopes : (P, N (N - 1) / 2) array, optional
        Derivatives of the logarithms of `distances` by a further parameter each, whose gradient (P) then
        follows.

    Notes
    -----
    Rasmussen & Williams (2006) eqs 2.45 and 5.9, with Q for the inverse covariance; constants left out.
    """
    from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular

    n, p = basis.shape
    f = f.reshape(n, -1)
    shares = np.full(f.shape[1], 1.0 / f.shape[1]) if shares is None else shares
    i, j = np.tril_indices(n, -1)
    length, nugget = np.exp(log_parameters[:-1]), np.exp(log_parameters[-1])
    r = distances / length[:, None]
    correlation = matern(r, kernel)
    a = np.diag(np.full(n, 1.0 + nugget))
    a[i, j] = correlation
    lower = cholesky(a, lower=True, check_finite=False)
    w, upper = np.linalg.qr(solve_triangular(lower, basis, lower=True, check_finite=False))
    w = solve_triangular(lower, w, lower=True, trans=1, check_finite=False)
    weights = cho_solve((lower, True), f, check_finite=False) - w @ (w.T @ f)
    variance = np.sum(f * weights, axis=0) / (n - p) + np.finfo(float).tiny
    value = 0.5 * (n - p) * float(shares @ np.log(variance))
    value += np.sum(np.log(np.diag(lower))) + np.sum(np.log(np.abs(np.diag(upper))))

    inverse, _ = lapack.dpotri(lower, lower=1)  # its lower triangle, in a third of the time of a solution
    inner = inverse - w @ w.T - (weights * (shares / variance)) @ weights.T
    shared = inner[i, j] * correlation
    q = np.sqrt(np.sum(r * r, axis=0)) if kernel == JOINT else r
    by_pair = r * r * (1.0 + q) / (3.0 + 3.0 * q + q * q)
    gradient = [by_pair @ shared, [0.5 * nugget * np.trace(inner)]]
    if slopes is not None:
        gradient.append(-(by_pair * slopes) @ shared)
    return float(value), np.concatenate(gradient)


def warped_likelihood(
    parameters: Array,
    straight: Array,
    bends: Array,
    f: Array,
    basis: Array,
    kernel: str,
    shares: Array,
    centre: Array,
    sd: Array,
) -> tuple[float, Array]:
    """Return `restricted_likelihood` and gradient of (log length scales, log nugget ratio, warps), with their
    prior.

    `straight` and `bends` are the `pair_differences` of u and of sqrt(1 + u^2) - 1; the prior is normal.
    """
    log_parameters, warp = np.split(parameters, [len(straight) + 1])
    difference = straight + warp[:, None] * bends
    slopes = bends / np.where(difference == 0.0, np.inf, difference)
    value, gradient = restricted_likelihood(
        log_parameters, np.abs(difference), f, basis, kernel, shares, slopes
    )
    away = (parameters - centre) / sd
    return value + 0.5 * float(away @ away), gradient + away / sd


def most_likely(u: Array, f: Array, form: GPSpec, starts: Array, centre: Array, sd: Array) -> Array:
    """Return log length scales (P), log nugget ratio and warps (P) of the correlation of `f` (N, K),
    concatenated.

    Outputs weigh by the square root of what the trend leaves of their sum of squares: equal weights would let
    the many small ones, half of them rounding of the model, decide. Of the searches from `starts` (n, 2 P +
    1) the best end wins; `centre` and `sd` (2 P + 1) are those of the prior.
    """
    from scipy.optimize import minimize

    basis = trend(u, form.degree)
    residual = f - basis @ np.linalg.lstsq(basis, f, rcond=None)[0]
    scale = np.maximum(residual.std(axis=0), RESOLUTION * f.std(axis=0) + np.finfo(float).tiny)
    bounds = [tuple(np.log(LENGTH))] * u.shape[1] + [tuple(np.log(NUGGET))]
    bounds += [(-MOST_WARP, MOST_WARP) if form.warped else (0.0, 0.0)] * u.shape[1]
    differences = pair_differences(u), pair_differences(np.sqrt(1.0 + u * u))
    arguments = (*differences, residual / scale, basis, form.kernel, scale / scale.sum(), centre, sd)
    ends = [
        minimize(warped_likelihood, start, arguments, jac=True, method="L-BFGS-B", bounds=bounds)
        for start in starts
    ]
    return min(ends, key=lambda end: end.fun).x


def fit_correlations(u: Array, f: Array, form: GPSpec, starts: Array, own: Array) -> Array:
    """Return `most_likely` (K, 2 P + 1) of the columns of `f` (N, K): shared, but for the columns of the mask
    `own`."""
    counts = [u.shape[1], 1, u.shape[1]]
    shared = most_likely(
        u, f, form, starts, np.zeros(sum(counts)), np.repeat([np.inf, np.inf, WARP_SD], counts)
    )
    found = np.tile(shared, (f.shape[1], 1))
    for k in np.flatnonzero(own):
        found[k] = most_likely(u, f[:, [k]], form, shared[None], shared, np.repeat(NEAR_SHARED, counts))
    return found


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

    One task of `map` for each form; length scales, nugget ratio and warps are found from `rows` alone.

    Each search starts from one fixed and one random point. On outputs of a smooth test model (320 runs, six
    parameters) three very different starts reached the same maximum, so that more seem to buy only time.
    """
    n_parameters = u.shape[1]
    low, high = np.full(n_parameters + 1, np.log(0.3)), np.full(n_parameters + 1, np.log(10.0))
    low[-1], high[-1] = np.log(1e-6), np.log(1e-2)
    starts = np.stack([0.5 * (low + high), rng.uniform(low, high)])
    starts = np.hstack([starts, np.zeros((2, n_parameters))])
    own = np.zeros(outputs.shape[1], dtype=bool) if own is None else own
    found = map(partial(fit_correlations, u[rows], outputs[rows], starts=starts, own=own), forms)
    return [scaled(each, u, outputs, form) for each, form in zip(found, forms, strict=True)]


def scaled(found: Array, u: Array, outputs: Array, form: GPSpec) -> Fitted:
    """Return what `fit_correlations` found, with the process variances that are most likely given it."""
    n_parameters = u.shape[1]
    ratio, warp = np.exp(found[:, n_parameters, None]), found[:, n_parameters + 1 :]
    unit = Fitted(np.hstack([np.exp(found[:, :n_parameters]), np.ones_like(ratio), ratio]), warp)
    process = Process.of(unit, u, outputs, form)
    variance = np.sum(outputs * process.weights, axis=0) / (len(u) - trend(u[:1], form.degree).shape[1])
    variance = np.maximum(variance, (RESOLUTION * outputs.std(axis=0)) ** 2 + np.finfo(float).tiny)[:, None]
    return Fitted(np.hstack([unit.hyperparameters[:, :-2], variance, variance * ratio]), warp)
