"""Mean and sd of a reweighted posterior from few members, by the difference estimator of survey sampling.

A plain weighted mean of few members is too noisy to decide (15 members see a shift of half an sd as 0.5 +-
0.2). So a quadratic of the log weights is fitted first (kernel ridge, chosen by leave-one-out error) and
reweights all draws; the members then only correct what the quadratic leaves, each predicted without itself.
The estimate is unbiased whatever the quadratic, its error is that of the left-out residuals. Where log
weights are smooth, 15 members settle what would take 500; where they are not, the error says so.
"""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array

RIDGES = 10.0 ** np.arange(-8, 3)  # variance of the residuals over that of the quadratic's coefficients
INDEPENDENT_DRAWS = 2000  # that thinned chains are worth at most


def corrected_moments(
    log_weights: Array, bounded: Array, u: Array, draws: Array, relative: Array, fitted_to: Array
) -> tuple[Array, Array, Array, Array]:
    """Return shifts of the means with errors, and ratios of the sd with errors (P each), by the
    difference estimator.

    Parameters
    ----------
    log_weights, bounded : (J) arrays
        Of the members; those that the quadratic is fitted to are bounded below.
    u : (J, P) array
        The members.
    draws : (N, P) array
        Of the emulated posterior.
    relative : (J) array
        Density of the emulated posterior over that of the distribution which the members are a sample of.
    fitted_to : (J) mask
        Members that the quadratic is fitted to.
    """
    mean, sd = draws.mean(axis=0), np.maximum(draws.std(axis=0), np.finfo(float).tiny)
    z, all_z = (u - mean) / sd, (draws - mean) / sd
    whiten = whitener(all_z)
    x, others = z[fitted_to] @ whiten, z[~fitted_to] @ whiten
    predicted, own = _quadratic(bounded[fitted_to], x, np.concatenate([all_z @ whiten, others]))
    fitted, left_out = predicted[: len(draws)], np.empty(len(u))
    left_out[fitted_to], left_out[~fitted_to] = own, predicted[len(draws) :]
    top = fitted.max()
    scale = np.exp(fitted - top).mean()
    smooth = np.exp(fitted - top) / scale  # (N) mean 1
    with np.errstate(over="ignore"):
        rest = relative * (np.exp(log_weights - top) - np.exp(left_out - top)) / scale  # (J)
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


def whitener(z: Array) -> Array:
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
