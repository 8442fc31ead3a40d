"""Gaussian processes of the latent outputs: fit, fast prediction, analytic hold-out.

One output is f(u) = h(u)'b + Z(u) + e: a polynomial trend with unknown coefficients b (universal
kriging), a Matern-5/2 process Z with one length scale per parameter, and a nugget e. With b integrated
out under a flat prior, what stands for the inverse covariance everywhere below is

    Q = A^-1 - A^-1 H (H'A^-1 H)^-1 H'A^-1,    A (N, N) = correlation + nugget ratio,  H (N, p) = h(u).

Which form is best depends on the model. A product of Matern functions over the parameters (the default of
DiceKriging, Roustant et al. 2012) learns what each parameter does alone from runs that differ in all others: the
embedded model (192 runs, six parameters) is predicted 0.0023 noise sd wrong, with one function of the joint
distance 0.0048; CLM-FATES (28 runs, six parameters) 0.135 and 0.164; but with 16 runs of two
parameters 0.29 and 0.25. A trend makes linear models exact and helps where runs of a smooth model are few; in
CLM-FATES (28 runs, linear) it raises 0.164 to 0.188. So the outputs' emulator tries them all.

scikit-learn's regressor knows neither, and its fit took ten times as long (320 rows, 6 parameters)
because its gradient builds an N x N x P array; its kernels are the tests' reference.

Inputs need no scaling, since every prior is N(0, I) in u; `axes` may rotate them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import pairwise

import numpy as np

from fatescal.protocols import Map
from fatescal.records import Array, Surrogate

LENGTH = (0.05, 50.0)  # bounds of a length scale, in prior standard deviations of a parameter
NUGGET = (1e-8, 1e2)  # bounds of nugget variance / process variance; the lower one keeps A well-conditioned
BLOCK = 64  # columns of a block of the triangular product
JOINT, PRODUCT = "matern-5/2", "matern-5/2 product"  # kernels
SQRT5 = np.sqrt(5.0)
RESOLUTION = 1e-9  # of an output's spread: what a trend leaves below it is rounding


@dataclass(frozen=True)
class Form:
    """What a process is made of: its kernel and the degree of its trend."""

    kernel: str
    degree: int


def in_order(task: Callable, items: Iterable) -> list:
    """Return the results of `task` for all items: the map of one rank."""
    return [task(item) for item in items]


def trend(u: Array, degree: int) -> Array:
    """Return the monomials h(u) (M, p) of `u` (M, P) up to `degree` 0, 1 or 2.

    >>> trend(np.array([[2.0, 3.0]]), 2).tolist()
    [[1.0, 2.0, 3.0, 4.0, 6.0, 9.0]]
    """
    columns = [np.ones((len(u), 1))]
    if degree >= 1:
        columns.append(u)
    if degree >= 2:
        i, j = np.triu_indices(u.shape[1])
        columns.append(u[:, i] * u[:, j])
    return np.hstack(columns)


def trend_degree(n_rows: int, n_parameters: int) -> int:
    """Return the highest degree that leaves three rows for every trend coefficient.

    >>> trend_degree(320, 6), trend_degree(28, 6), trend_degree(12, 6)
    (2, 1, 0)
    """
    n_linear = 1 + n_parameters
    n_quadratic = n_linear + n_parameters * (n_parameters + 1) // 2
    return sum(n_rows >= 3 * n for n in (n_linear, n_quadratic))


def matern(distances: Iterable[Array], kernel: str) -> Array:
    """Return the correlations (1 + r + r^2/3) exp(-r) of the joint distance, or their product over parameters.

    `distances` are the r_p = sqrt(5) |x_p - z_p| / length_p, an array for each parameter; jointly,
    r^2 = sum_p r_p^2.

    >>> r = [np.array([0.0, 3.0]), np.array([0.0, 4.0])]
    >>> matern(r, JOINT).round(4).tolist(), matern(r, PRODUCT).round(4).tolist()
    ([1.0, 0.0966], [1.0, 0.066])
    """
    if kernel == JOINT:
        distances = [np.sqrt(sum(r * r for r in distances))]
    total, polynomial = np.zeros(()), np.ones(())
    for r in distances:
        total = total + r
        polynomial = polynomial * (1.0 + r + r * r / 3.0)
    return polynomial * np.exp(-total)


def cross_correlation(x: Array, z: Array, kernel: str) -> Array:
    """Return the correlations (..., M, N) of `x` (..., M, P) and `z` (..., P, N), both over length scales."""
    if kernel == JOINT:  # by one matrix product, which halves the time of a prediction
        square = np.sum(x * x, axis=-1)[..., None] + np.sum(z * z, axis=-2)[..., None, :]
        return matern([SQRT5 * np.sqrt(np.maximum(square - 2.0 * np.matmul(x, z), 0.0))], kernel)
    return matern((SQRT5 * np.abs(x[..., p, None] - z[..., None, p, :]) for p in range(x.shape[-1])), kernel)


def pair_distances(u: Array) -> Array:
    """Return sqrt(5) |u_ip - u_jp| (P, N (N - 1) / 2) of the pairs i > j of the rows of `u` (N, P)."""
    i, j = np.tril_indices(len(u), -1)
    return SQRT5 * np.abs(u.T[:, i] - u.T[:, j])


def restricted_likelihood(
    log_parameters: Array, distances: Array, f: Array, basis: Array, kernel: str
) -> tuple[float, Array]:
    """Return the negative restricted log-likelihood, process variance profiled out, and its gradient.

    Parameters
    ----------
    log_parameters : (P + 1) array
        Logarithms of the length scales and of the nugget ratio.
    distances : (P, N (N - 1) / 2) array
        Of the inputs, from `pair_distances`: all symmetric matrices are handled by their pairs.
    f, basis : (N), (N, p) arrays
        Outputs and trend basis.

    Notes
    -----
    Rasmussen & Williams (2006) eqs 2.45 and 5.9, with Q for the inverse covariance; constants left out.
    """
    from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular

    n, p = basis.shape
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
    variance = float(f @ weights) / (n - p) + np.finfo(float).tiny
    value = 0.5 * (n - p) * np.log(variance)
    value += np.sum(np.log(np.diag(lower))) + np.sum(np.log(np.abs(np.diag(upper))))

    inverse, _ = lapack.dpotri(lower, lower=1)  # its lower triangle, in a third of the time of a solution
    inner = inverse - w @ w.T - np.outer(weights, weights) / variance
    shared = inner[i, j] * correlation
    q = np.sqrt(np.sum(r * r, axis=0)) if kernel == JOINT else r
    by_length = (r * r * (1.0 + q) / (3.0 + 3.0 * q + q * q)) @ shared
    return float(value), np.append(by_length, 0.5 * nugget * np.trace(inner))


def fit_output(task: tuple[Array, Array, Form], u: Array) -> Array:
    """Return length scales (P), process variance and nugget variance of one output, concatenated.

    Only the ratio of the two variances is fitted; `calibrate` finds their scale.

    Parameters
    ----------
    task : (f, starts, form)
        The output (N), the starting points (n, P + 1) of the search, of which the best end point wins, and
        the form of the process.
    u : (N, P) array
    """
    from scipy.optimize import minimize

    f, starts, form = task
    basis = trend(u, form.degree)
    residual = f - basis @ np.linalg.lstsq(basis, f, rcond=None)[0]
    scale = max(residual.std(), RESOLUTION * f.std(), np.finfo(float).tiny)
    bounds = [tuple(np.log(LENGTH))] * u.shape[1] + [tuple(np.log(NUGGET))]
    arguments = (pair_distances(u), residual / scale, basis, form.kernel)
    ends = [
        minimize(restricted_likelihood, start, arguments, jac=True, method="L-BFGS-B", bounds=bounds)
        for start in starts
    ]
    parameters = np.exp(min(ends, key=lambda end: end.fun).x)
    return np.append(parameters[:-1], scale**2 * np.array([1.0, parameters[-1]]))


def fit_outputs(
    rng: np.random.Generator, u: Array, outputs: Array, forms: Sequence[Form], map: Map
) -> list[Array]:
    """Return for each form the hyperparameters (K, P + 2) of the columns of `outputs` (N, K).

    One task of `map` for each form and column.

    Each search starts from one fixed and one random point. On outputs of a smooth test model (320 runs, six
    parameters) three very different starts reached the same maximum, so that more seem to buy only time.
    """
    n_outputs, n_parameters = outputs.shape[1], u.shape[1]
    low, high = np.full(n_parameters + 1, np.log(0.3)), np.full(n_parameters + 1, np.log(10.0))
    low[-1], high[-1] = np.log(1e-6), np.log(1e-2)
    random = rng.uniform(low, high, (n_outputs, n_parameters + 1))
    middle = np.broadcast_to(0.5 * (low + high), random.shape)
    starts = np.stack([middle, random], axis=1)
    tasks = [(outputs[:, k].copy(), starts[k], form) for form in forms for k in range(n_outputs)]
    return np.split(np.array(map(partial(fit_output, u=u), tasks)), len(forms))


@dataclass(frozen=True, eq=False)
class Process:
    """K independent processes conditioned on N runs: what prediction needs, computed once.

    A = L L', W = L^-1 H = (orthonormal `projection`) (upper triangular R).
    """

    form: Form
    axes: Array  # (P, P) orthogonal; the processes see u @ axes
    variance: Array  # (K) process variance
    ratio: Array  # (K) nugget variance / process variance
    inverse_length: Array  # (K, 1, P)
    scaled: Array  # (K, P, N) training inputs over length scales
    whitener: Array  # (K, N, N) L^-T
    projection: Array  # (K, N, p) orthonormal basis of L^-1 H
    inverse_r: Array  # (K, p, p) R^-1
    coefficients: Array  # (K, p) of the trend, generalised least squares
    weights: Array  # (K, N) Q f

    @classmethod
    def condition(cls, hyperparameters: Array, u: Array, outputs: Array, form: Form, axes: Array) -> Process:
        """Condition on `outputs` (N, K) at `u` (N, P); `hyperparameters` (K, P + 2) as from `fit_outputs`."""
        from scipy.linalg import solve_triangular

        u = u @ axes
        length, variance, nugget = hyperparameters[:, :-2], hyperparameters[:, -2], hyperparameters[:, -1]
        ratio = nugget / variance
        inverse_length = 1.0 / length[:, None, :]
        scaled = np.ascontiguousarray(np.swapaxes(u * inverse_length, 1, 2))
        a = cross_correlation(u * inverse_length, scaled, form.kernel)
        diagonal = np.arange(len(u))
        a[:, diagonal, diagonal] = 1.0 + ratio[:, None]
        lower = np.linalg.cholesky(a)
        whitener = np.array([solve_triangular(factor, np.eye(len(u)), lower=True).T for factor in lower])
        basis = trend(u, form.degree)
        projection, r = np.linalg.qr(np.swapaxes(whitener, 1, 2) @ basis)
        inverse_r = np.linalg.inv(r)
        white = np.einsum("kij,ik->kj", whitener, outputs)  # L^-1 f
        along = np.einsum("kjp,kj->kp", projection, white)
        coefficients = np.einsum("kpq,kq->kp", inverse_r, along)
        rest = white - np.einsum("kjp,kp->kj", projection, along)
        weights = np.einsum("kij,kj->ki", whitener, rest)
        return cls(
            form, axes, variance, ratio, inverse_length, scaled,
            whitener, projection, inverse_r, coefficients, weights,
        )  # fmt: skip

    @cached_property
    def _blocks(self) -> list[tuple[slice, Array]]:
        """Column blocks of the upper-triangular `whitener` without the zeros below them.

        They halve the time of the product; BLAS's own triangular product was no faster than the full one.
        """
        edges = [*range(0, self.whitener.shape[1], BLOCK), self.whitener.shape[1]]
        return [(slice(a, b), np.ascontiguousarray(self.whitener[:, :b, a:b])) for a, b in pairwise(edges)]

    def _factors(self, u: Array) -> tuple[Array, Array, Array]:
        """Return mean (K, M), L^-1 k (K, M, N) and the trend's share (K, M, p) at `u` (M, P)."""
        u = u @ self.axes
        correlation = cross_correlation(u * self.inverse_length, self.scaled, self.form.kernel)
        h = trend(u, self.form.degree)
        mean = np.matmul(correlation, self.weights[:, :, None])[:, :, 0] + self.coefficients @ h.T
        explained = np.empty_like(correlation)
        for columns, block in self._blocks:
            np.matmul(correlation[:, :, : columns.stop], block, out=explained[:, :, columns])
        unknown = h @ self.inverse_r - explained @ self.projection
        return mean, explained, unknown

    def __call__(self, u: Array) -> tuple[Array, Array]:
        """Return mean and variance (M, K) of a run at `u` (M, P), nugget included.

        Universal kriging, Rasmussen & Williams (2006) eqs 2.41-2.42.
        """
        mean, explained, unknown = self._factors(u)
        left = 1.0 - np.einsum("kmn,kmn->km", explained, explained)
        spread = np.maximum(left, 0.0) + np.einsum("kmp,kmp->km", unknown, unknown) + self.ratio[:, None]
        return mean.T, (self.variance[:, None] * spread).T

    def covariance(self, u: Array) -> Array:
        """Return the covariance (K, M, M) of runs at `u` (M, P), nugget included."""
        _, explained, unknown = self._factors(u)
        x = (u @ self.axes) * self.inverse_length
        covariance = cross_correlation(x, np.swapaxes(x, 1, 2), self.form.kernel)
        covariance -= explained @ np.swapaxes(explained, 1, 2)
        covariance += unknown @ np.swapaxes(unknown, 1, 2)
        diagonal = np.arange(len(u))
        covariance[:, diagonal, diagonal] += self.ratio[:, None]
        return self.variance[:, None, None] * covariance

    def precision(self) -> Array:
        """Return Q (K, N, N), the inverse covariance over the process variance with the trend unknown."""
        rest = self.whitener - np.matmul(
            np.matmul(self.whitener, self.projection), np.swapaxes(self.projection, 1, 2)
        )
        return rest @ np.swapaxes(rest, 1, 2)

    def hold_out(self, outputs: Array, groups: list[Array]) -> tuple[Array, Array]:
        """Return mean and variance (G, K) predicted for the first row of each group without that group.

        Hyperparameters stay; nothing is refitted: with B the rows of a group, the errors are
        Q_BB^-1 (Q f)_B and their covariance Q_BB^-1 (Dubrule 1983; for single rows the formulas
        mu_i = f_i - [Q f]_i / Q_ii, s_i^2 = 1 / Q_ii).
        """
        q = self.precision()
        mean, variance = np.empty((2, len(groups), len(self.variance)))
        for g, rows in enumerate(groups):
            inverse = np.linalg.inv(q[:, rows[:, None], rows])
            error = np.einsum("kb,kb->k", inverse[:, 0], self.weights[:, rows])
            mean[g] = outputs[rows[0]] - error
            variance[g] = self.variance * inverse[:, 0, 0]
        return mean, variance


@lru_cache(maxsize=2)  # by identity: records are frozen and compare by identity
def processes(surrogate: Surrogate) -> Process:
    """Return the conditioned processes of a surrogate; the Cholesky factors are computed once."""
    memory = surrogate.memory
    form = Form(surrogate.kernel, int(memory["degree"]))
    return Process.condition(surrogate.hyperparameters, surrogate.u, surrogate.latent, form, memory["axes"])


def left_out_error(hyperparameters: Array, u: Array, outputs: Array, form: Form) -> float:
    """Return the sum of squares by which rows of `outputs` (N, K) are missed, each predicted by all others."""
    process = Process.condition(hyperparameters, u, outputs, form, np.eye(u.shape[1]))
    mean, _ = process.hold_out(outputs, list(np.arange(len(u))[:, None]))
    return float(np.sum((outputs - mean) ** 2))


def calibrate(
    hyperparameters: Array, u: Array, outputs: Array, form: Form, axes: Array, groups: list[Array]
) -> tuple[Array, Array]:
    """Return hyperparameters (K, P + 2) whose variances fit the hold-out errors, and those means (G, K).

    The scale of each output makes the mean squared standardised error 1 over the held-out `groups` near
    the optimum (Rasmussen & Williams 2006, section 5.4.2). The likelihood's own scale is an average over
    all runs; far from the optimum a model is rougher, so that it is too large where it matters.
    """
    mean, variance = Process.condition(hyperparameters, u, outputs, form, axes).hold_out(outputs, groups)
    truth = outputs[[rows[0] for rows in groups]]
    scale = np.mean((truth - mean) ** 2 / variance, axis=0)
    calibrated = hyperparameters.copy()
    calibrated[:, -2:] *= np.maximum(scale, np.finfo(float).eps)[:, None]
    return calibrated, mean


def explained(truth: Array, predicted: Array) -> Array:
    """Return Q^2 = 1 - sum (truth - predicted)^2 / sum (truth - its mean)^2 of each column.

    >>> float(explained(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])))
    0.5
    """
    spread = np.sum((truth - truth.mean(axis=0)) ** 2, axis=0)
    return 1.0 - np.sum((truth - predicted) ** 2, axis=0) / spread
