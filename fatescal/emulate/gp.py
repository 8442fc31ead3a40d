"""Gaussian processes of the latent outputs: fit, fast prediction, analytic hold-out.

One output is f(u) = h(u)'b + Z(u) + e: a polynomial trend with unknown coefficients b (universal
kriging), a Matern-5/2 process Z with one length scale per parameter, and a nugget e. With b integrated
out under a flat prior, what stands for the inverse covariance everywhere below is

    Q = A^-1 - A^-1 H (H'A^-1 H)^-1 H'A^-1,    A (N, N) = correlation + nugget ratio,  H (N, p) = h(u).

Outputs of a group share A and differ in variance and trend alone (parallel partial processes, Gu & Berger 2016,
doi:10.1214/16-AOAS934): one factorisation for all in the place of one for each. Length scales then rest on all
outputs.

Which form is best depends on the model. A product of Matern functions over the parameters (the default of
DiceKriging, Roustant et al. 2012) learns what each parameter does alone from runs that differ in all others: the
embedded model (192 runs, six parameters) is predicted 0.0023 noise sd wrong, with one function of the joint
distance 0.0048; CLM-FATES (28 runs, six parameters) 0.137 and 0.157; but with 16 runs of two
parameters 0.32 and 0.29. A trend makes linear models exact and helps where runs of a smooth model are few; in
CLM-FATES (28 runs, linear) it does harm. So the outputs' emulator tries them all.

scikit-learn's regressor knows neither, and its fit took ten times as long (320 rows, 6 parameters)
because its gradient builds an N x N x P array; its kernels are the tests' reference.

Inputs need no scaling, since every prior is N(0, I) in u; `axes` may rotate them. A `warp` bends each, so that the
model is equally rough along it: the answer to Vcmax is nearly logarithmic, whatever the prior is. 16 runs of two
parameters are predicted 0.262 noise sd wrong instead of 0.289, 28 of six 0.149 instead of 0.138 (the numbers above are
without a warp; `benchmarks/clm_fates_emulator.py`).
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
SHRINKAGE = 4.0  # hold-out predictions that the mean over all outputs is worth
EVERY = slice(None)
WARP_SD, MOST_WARP = 0.5, 0.9  # prior sd and bound of a warp; monotone below 1


@dataclass(frozen=True)
class Form:
    """What a process is made of: its kernel, the degree of its trend, and whether its inputs may bend."""

    kernel: str
    degree: int
    warped: bool = False


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


def trend_degree(n_rows: int, n_parameters: int, rows_each: int = 3) -> int:
    """Return the highest degree that leaves `rows_each` rows for every trend coefficient.

    >>> trend_degree(320, 6), trend_degree(28, 6), trend_degree(12, 6), trend_degree(28, 6, 6)
    (2, 1, 0, 0)
    """
    n_linear = 1 + n_parameters
    n_quadratic = n_linear + n_parameters * (n_parameters + 1) // 2
    return sum(n_rows >= rows_each * n for n in (n_linear, n_quadratic))


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


def bent(x: Array, warp: Array) -> Array:
    """Return inputs (M, P) bent by `warp` (P): x + w (sqrt(1 + x^2) - 1), monotone for |w| < 1, straight far away.

    >>> bent(np.array([[-1.0], [0.0], [1.0]]), np.array([-0.5])).round(3).ravel().tolist()
    [-1.207, 0.0, 0.793]
    """
    return x + warp * (np.sqrt(1.0 + x * x) - 1.0)


def cross_correlation(x: Array, z: Array, kernel: str) -> Array:
    """Return the correlations (M, N) of `x` (M, P) and `z` (P, N), both over length scales."""
    if kernel == JOINT:  # by one matrix product, which halves the time of a prediction
        square = np.sum(x * x, axis=1)[:, None] + np.sum(z * z, axis=0) - 2.0 * (x @ z)
        return matern([SQRT5 * np.sqrt(np.maximum(square, 0.0))], kernel)
    return matern((SQRT5 * np.abs(x[:, p, None] - z[p]) for p in range(len(z))), kernel)


def pair_differences(u: Array) -> Array:
    """Return sqrt(5) (u_ip - u_jp) (P, N (N - 1) / 2) of the pairs i > j of the rows of `u` (N, P)."""
    i, j = np.tril_indices(len(u), -1)
    return SQRT5 * (u.T[:, i] - u.T[:, j])


def pair_distances(u: Array) -> Array:
    """Return the absolute `pair_differences`."""
    return np.abs(pair_differences(u))


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
        Derivatives of the logarithms of `distances` by a further parameter each, whose gradient (P) then follows.

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
    parameters: Array, straight: Array, bends: Array, f: Array, basis: Array, kernel: str, shares: Array
) -> tuple[float, Array]:
    """Return `restricted_likelihood` and gradient of (log length scales, log nugget ratio, warps), with their prior.

    `straight` and `bends` are the `pair_differences` of u and of sqrt(1 + u^2) - 1.
    """
    log_parameters, warp = np.split(parameters, [len(straight) + 1])
    difference = straight + warp[:, None] * bends
    slopes = bends / np.where(difference == 0.0, np.inf, difference)
    value, gradient = restricted_likelihood(
        log_parameters, np.abs(difference), f, basis, kernel, shares, slopes
    )
    gradient[-len(warp) :] += warp / WARP_SD**2
    return value + 0.5 * float(np.sum((warp / WARP_SD) ** 2)), gradient


def fit_correlation(task: tuple[Array, Array, Array, Form]) -> Array:
    """Return length scales (P), nugget ratio and warps (P) of the correlation that outputs share, concatenated.

    Outputs weigh by the square root of what the trend leaves of their sum of squares: equal weights would let
    the many small ones, half of them rounding of the model, decide.

    Parameters
    ----------
    task : (u, f, starts, form)
        Inputs (N, P), outputs (N, K), the starting points (n, 2 P + 1) of the search, of which the best end point
        wins, and the form of the process.
    """
    from scipy.optimize import minimize

    u, f, starts, form = task
    basis = trend(u, form.degree)
    residual = f - basis @ np.linalg.lstsq(basis, f, rcond=None)[0]
    scale = np.maximum(residual.std(axis=0), RESOLUTION * f.std(axis=0) + np.finfo(float).tiny)
    bounds = [tuple(np.log(LENGTH))] * u.shape[1] + [tuple(np.log(NUGGET))]
    bounds += [(-MOST_WARP, MOST_WARP) if form.warped else (0.0, 0.0)] * u.shape[1]
    differences = pair_differences(u), pair_differences(np.sqrt(1.0 + u * u))
    arguments = (*differences, residual / scale, basis, form.kernel, scale / scale.sum())
    ends = [
        minimize(warped_likelihood, start, arguments, jac=True, method="L-BFGS-B", bounds=bounds)
        for start in starts
    ]
    best = min(ends, key=lambda end: end.fun).x
    return np.concatenate([np.exp(best[: u.shape[1] + 1]), best[u.shape[1] + 1 :]])


@dataclass(frozen=True)
class Fitted:
    """What fixes K processes: length scales (P), process and nugget variance of each, and the warps of the inputs."""

    hyperparameters: Array  # (K, P + 2)
    warp: Array  # (P)


def fit_outputs(
    rng: np.random.Generator,
    u: Array,
    outputs: Array,
    forms: Sequence[Form],
    map: Map,
    rows: Array | slice = EVERY,
) -> list[Fitted]:
    """Return for each form what fits the columns of `outputs` (N, K), which share all but their variances.

    One task of `map` for each form; length scales, nugget ratio and warps are found from `rows` alone.

    Each search starts from one fixed and one random point. On outputs of a smooth test model (320 runs, six
    parameters) three very different starts reached the same maximum, so that more seem to buy only time.
    """
    n_parameters = u.shape[1]
    low, high = np.full(n_parameters + 1, np.log(0.3)), np.full(n_parameters + 1, np.log(10.0))
    low[-1], high[-1] = np.log(1e-6), np.log(1e-2)
    starts = np.stack([0.5 * (low + high), rng.uniform(low, high)])
    starts = np.hstack([starts, np.zeros((2, n_parameters))])
    shared = map(fit_correlation, [(u[rows], outputs[rows], starts, form) for form in forms])
    return [_scaled(found, u, outputs, form) for found, form in zip(shared, forms, strict=True)]


def _scaled(shared: Array, u: Array, outputs: Array, form: Form) -> Fitted:
    """Return what `fit_correlation` found, with the process variances that are most likely given it."""
    n_outputs, n_parameters = outputs.shape[1], u.shape[1]
    length, ratio, warp = shared[:n_parameters], shared[n_parameters], shared[n_parameters + 1 :]
    unit = Fitted(np.tile(np.concatenate([length, [1.0, ratio]]), (n_outputs, 1)), warp)
    process = Process.of(unit, u, outputs, form)
    variance = np.sum(outputs * process.weights, axis=0) / (len(u) - trend(u[:1], form.degree).shape[1])
    variance = np.maximum(variance, (RESOLUTION * outputs.std(axis=0)) ** 2 + np.finfo(float).tiny)
    return Fitted(np.column_stack([unit.hyperparameters[:, :-2], variance, variance * ratio]), warp)


@dataclass(frozen=True, eq=False)
class Group:
    """K outputs of one correlation conditioned on N runs: what prediction needs, computed once.

    A = L L', W = L^-1 H = (orthonormal `projection`) (upper triangular R).
    """

    kernel: str
    ratio: float  # nugget variance / process variance
    inverse_length: Array  # (P)
    scaled: Array  # (P, N) training inputs over length scales
    whitener: Array  # (N, N) L^-T
    projection: Array  # (N, p) orthonormal basis of L^-1 H
    inverse_r: Array  # (p, p) R^-1
    coefficients: Array  # (p, K) of the trend, generalised least squares
    weights: Array  # (N, K) Q f

    @classmethod
    def condition(cls, length: Array, ratio: float, u: Array, h: Array, f: Array, kernel: str) -> Group:
        """Condition on outputs `f` (N, K) at `u` (N, P) with trend basis `h` (N, p)."""
        from scipy.linalg import cholesky, solve_triangular

        scaled = np.ascontiguousarray((u / length).T)
        a = cross_correlation(u / length, scaled, kernel)
        np.fill_diagonal(a, 1.0 + ratio)
        lower = cholesky(a, lower=True, check_finite=False)
        whitener = np.ascontiguousarray(solve_triangular(lower, np.eye(len(u)), lower=True).T)
        projection, r = np.linalg.qr(whitener.T @ h)
        inverse_r = np.linalg.inv(r)
        white = whitener.T @ f  # L^-1 f
        along = projection.T @ white
        weights = whitener @ (white - projection @ along)
        return cls(
            kernel, ratio, 1.0 / length, scaled, whitener, projection, inverse_r, inverse_r @ along, weights
        )

    @cached_property
    def _blocks(self) -> list[tuple[slice, Array]]:
        """Column blocks of the upper-triangular `whitener` without the zeros below them.

        They halve the time of the product; BLAS's own triangular product was no faster than the full one.
        """
        edges = [*range(0, len(self.whitener), BLOCK), len(self.whitener)]
        return [(slice(a, b), np.ascontiguousarray(self.whitener[:b, a:b])) for a, b in pairwise(edges)]

    def mean(self, u: Array, h: Array) -> tuple[Array, Array]:
        """Return mean (M, K) and correlations with the runs (M, N) at `u` (M, P) with trend `h` (M, p)."""
        correlation = cross_correlation(u * self.inverse_length, self.scaled, self.kernel)
        return correlation @ self.weights + h @ self.coefficients, correlation

    def factors(self, correlation: Array, h: Array) -> tuple[Array, Array]:
        """Return L^-1 k (M, N) and the trend's share (M, p), from what `mean` returns."""
        explained = np.empty_like(correlation)
        for columns, block in self._blocks:
            np.matmul(correlation[:, : columns.stop], block, out=explained[:, columns])
        return explained, h @ self.inverse_r - explained @ self.projection

    def spread(self, correlation: Array, h: Array) -> Array:
        """Return the variance (M) of a run over the process variance, nugget included."""
        explained, unknown = self.factors(correlation, h)
        left = 1.0 - np.einsum("mn,mn->m", explained, explained)
        return np.maximum(left, 0.0) + np.einsum("mp,mp->m", unknown, unknown) + self.ratio

    def covariance(self, u: Array, h: Array) -> Array:
        """Return the covariance (M, M) of runs at `u` (M, P) over the process variance, nugget included."""
        explained, unknown = self.factors(self.mean(u, h)[1], h)
        x = u * self.inverse_length
        covariance = cross_correlation(x, x.T, self.kernel) - explained @ explained.T + unknown @ unknown.T
        np.fill_diagonal(covariance, covariance.diagonal() + self.ratio)
        return covariance

    def precision(self) -> Array:
        """Return Q (N, N), the inverse covariance over the process variance with the trend unknown."""
        rest = self.whitener - (self.whitener @ self.projection) @ self.projection.T
        return rest @ rest.T


@dataclass(frozen=True, eq=False)
class Process:
    """K independent processes conditioned on N runs, in groups that share a correlation."""

    form: Form
    axes: Array  # (P, P) orthogonal; the trend sees u @ axes
    warp: Array  # (P) and the correlation that, bent
    variance: Array  # (K) process variance
    ratio: Array  # (K) nugget variance / process variance
    columns: tuple[slice, ...]  # of each group
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, fitted: Fitted, u: Array, outputs: Array, form: Form) -> Process:
        """Condition what was `fitted` on `outputs` (N, K) at `u` (N, P), not rotated."""
        return cls.condition(fitted.hyperparameters, u, outputs, form, np.eye(u.shape[1]), fitted.warp)

    @classmethod
    def condition(
        cls,
        hyperparameters: Array,
        u: Array,
        outputs: Array,
        form: Form,
        axes: Array,
        warp: Array | None = None,
    ) -> Process:
        """Condition on `outputs` (N, K) at `u` (N, P); `hyperparameters` (K, P + 2) as from `fit_outputs`.

        Neighbouring rows of equal length scales and nugget ratio are a group.
        """
        warp = np.zeros(u.shape[1]) if warp is None else warp
        x, h = bent(u @ axes, warp), trend(u @ axes, form.degree)
        length, variance = hyperparameters[:, :-2], hyperparameters[:, -2]
        ratio = hyperparameters[:, -1] / variance
        alike = np.all(length[1:] == length[:-1], axis=1) & np.isclose(ratio[1:], ratio[:-1], 1e-9, 0.0)
        edges = [0, *(1 + np.flatnonzero(~alike)), len(variance)]
        columns = tuple(slice(int(a), int(b)) for a, b in pairwise(edges))
        groups = tuple(
            Group.condition(length[c.start], float(ratio[c.start]), x, h, outputs[:, c], form.kernel)
            for c in columns
        )
        return cls(form, axes, warp, variance, ratio, columns, groups)

    @property
    def weights(self) -> Array:
        """Q f (N, K) of all outputs."""
        return np.hstack([group.weights for group in self.groups])

    def _inputs(self, u: Array) -> tuple[Array, Array]:
        """Return rotated and bent inputs (M, P) and the trend basis (M, p)."""
        x = u @ self.axes
        return bent(x, self.warp), trend(x, self.form.degree)

    def mean(self, u: Array) -> Array:
        """Return the mean (M, K) at `u` (M, P), without the cost of a variance."""
        return np.hstack([group.mean(*self._inputs(u))[0] for group in self.groups])

    def __call__(self, u: Array) -> tuple[Array, Array]:
        """Return mean and variance (M, K) of a run at `u` (M, P), nugget included.

        Universal kriging, Rasmussen & Williams (2006) eqs 2.41-2.42.
        """
        x, h = self._inputs(u)
        mean, variance = np.empty((2, len(u), len(self.variance)))
        for columns, group in zip(self.columns, self.groups, strict=True):
            mean[:, columns], correlation = group.mean(x, h)
            variance[:, columns] = group.spread(correlation, h)[:, None] * self.variance[columns]
        return mean, variance

    def covariance(self, u: Array) -> Array:
        """Return the covariance (K, M, M) of runs at `u` (M, P), nugget included."""
        shared = [group.covariance(*self._inputs(u)) for group in self.groups]
        counts = [columns.stop - columns.start for columns in self.columns]
        return self.variance[:, None, None] * np.repeat(shared, counts, axis=0)

    def hold_out(self, outputs: Array, groups: list[Array]) -> tuple[Array, Array]:
        """Return mean and variance (G, K) predicted for the first row of each group of rows without that group.

        Hyperparameters stay; nothing is refitted: with B the rows of a group, the errors are
        Q_BB^-1 (Q f)_B and their covariance Q_BB^-1 (Dubrule 1983; for single rows the formulas
        mu_i = f_i - [Q f]_i / Q_ii, s_i^2 = 1 / Q_ii).
        """
        mean, variance = np.empty((2, len(groups), len(self.variance)))
        for columns, shared in zip(self.columns, self.groups, strict=True):
            q = shared.precision()
            for g, rows in enumerate(groups):
                inverse = np.linalg.inv(q[np.ix_(rows, rows)])
                mean[g, columns] = outputs[rows[0], columns] - inverse[0] @ shared.weights[rows]
                variance[g, columns] = self.variance[columns] * inverse[0, 0]
        return mean, variance


@lru_cache(maxsize=2)  # by identity: records are frozen and compare by identity
def processes(surrogate: Surrogate) -> Process:
    """Return the conditioned processes of a surrogate; the Cholesky factors are computed once."""
    memory = surrogate.memory
    form = Form(surrogate.kernel, int(memory["degree"]))
    return Process.condition(
        surrogate.hyperparameters, surrogate.u, surrogate.latent, form, memory["axes"], memory.get("warp")
    )


def left_out_error(fitted: Fitted, u: Array, outputs: Array, form: Form, rows: Array) -> float:
    """Return the sum of squares by which `rows` of `outputs` (N, K) are missed, each predicted by all others."""
    mean, _ = Process.of(fitted, u, outputs, form).hold_out(outputs, list(rows[:, None]))
    return float(np.sum((outputs[rows] - mean) ** 2))


def refitted_hold_out(
    fitted: Fitted, u: Array, outputs: Array, form: Form, groups: list[Array], map: Map
) -> tuple[Array, Array]:
    """Return what `hold_out` returns, everything fitted anew without each group; a task of `map` for each.

    Each search starts where that with all runs ended.
    """
    both = np.array(map(partial(_refitted, fitted, u, outputs, form), groups))
    return both[:, 0], both[:, 1]


def _refitted(fitted: Fitted, u: Array, outputs: Array, form: Form, rows: Array) -> Array:
    rest = np.setdiff1d(np.arange(len(u)), rows)
    *length, variance, nugget = fitted.hyperparameters[0]
    start = np.concatenate([np.log([*length, nugget / variance]), fitted.warp])
    shared = fit_correlation((u[rest], outputs[rest], start[None], form))
    process = Process.of(_scaled(shared, u[rest], outputs[rest], form), u[rest], outputs[rest], form)
    return np.concatenate(process(u[rows[:1]]))


def calibrate(hyperparameters: Array, truth: Array, mean: Array, variance: Array) -> Array:
    """Return hyperparameters (K, P + 2) whose variances fit the errors of hold-out predictions.

    The scale of each output makes the mean squared standardised error 1 (Rasmussen & Williams 2006, section
    5.4.2), with the mean over all outputs counting as much as `SHRINKAGE` predictions of its own. The
    likelihood's own scale is an average over all runs; far from the optimum a model is rougher, so that it is
    too large where it matters; and it takes the length scales for known, so that of few runs it is too small.

    Parameters
    ----------
    truth, mean, variance : (G, K) arrays
        Outputs and what was predicted for them.
    """
    z2 = (truth - mean) ** 2 / variance
    scale = (SHRINKAGE * z2.mean() + z2.sum(axis=0)) / (SHRINKAGE + len(z2))
    calibrated = hyperparameters.copy()
    calibrated[:, -2:] *= np.maximum(scale, np.finfo(float).eps)[:, None]
    return calibrated


def explained(truth: Array, predicted: Array) -> Array:
    """Return Q^2 = 1 - sum (truth - predicted)^2 / sum (truth - its mean)^2 of each column.

    >>> float(explained(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])))
    0.5
    """
    spread = np.sum((truth - truth.mean(axis=0)) ** 2, axis=0)
    return 1.0 - np.sum((truth - predicted) ** 2, axis=0) / spread
