"""Gaussian processes conditioned on runs: fast prediction, analytic hold-out, and weighted means of several.

One output is f(u) = h(u)'b + Z(u) + e: a polynomial trend with unknown coefficients b (universal
kriging), a Matern-5/2 process Z with one length scale per parameter, and a nugget e. With b integrated
out under a flat prior, what stands for the inverse covariance everywhere below is

    Q = A^-1 - A^-1 H (H'A^-1 H)^-1 H'A^-1,    A (N, N) = correlation + nugget ratio,  H (N, p) = h(u).

Outputs of a group share A and differ in variance and trend alone (parallel partial processes, Gu & Berger
2016, doi:10.1214/16-AOAS934): one factorisation for all in the place of one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from fatescal.base.types import Array
from fatescal.emulate.kernels import Correlation, GPSpec, trend, warped

BLOCK = 64  # columns of a block of the triangular product


@dataclass(frozen=True)
class Fitted:
    """What fixes K processes: length scales (P), process and nugget variance of each, how its inputs
    warp, and the weights of its kernel."""

    hyperparameters: Array  # (K, P + 2)
    warp: Array  # (K, 2, P)
    weights: Array  # (K, T)

    @classmethod
    def plain(cls, hyperparameters: Array) -> Fitted:
        """Return what fixes processes whose inputs do not warp and whose kernel has no weights."""
        n_outputs, n = hyperparameters.shape
        return cls(hyperparameters, np.zeros((n_outputs, 2, n - 2)), np.empty((n_outputs, 0)))

    def part(self, columns: slice) -> Fitted:
        """Return what fixes some of the processes."""
        return Fitted(self.hyperparameters[columns], self.warp[columns], self.weights[columns])

    def calibrated(self, factors: Array) -> Fitted:
        """Return the same with variances times `factors` (K)."""
        scale = np.ones_like(self.hyperparameters)
        scale[:, -2:] = factors[:, None]
        return replace(self, hyperparameters=self.hyperparameters * scale)


@dataclass(frozen=True, eq=False)
class Group:
    """K outputs of one correlation conditioned on N runs: what prediction needs, computed once.

    A = L L', W = L^-1 H = (orthonormal `projection`) (upper triangular R).
    """

    correlation: Correlation  # with the training inputs
    ratio: float  # nugget variance / process variance
    inverse_length: Array  # (P)
    warp: Array  # (2, P) of the inputs
    whitener: Array  # (N, N) L^-T
    projection: Array  # (N, p) orthonormal basis of L^-1 H
    inverse_r: Array  # (p, p) R^-1
    coefficients: Array  # (p, K) of the trend, generalised least squares
    weights: Array  # (N, K) Q f

    @classmethod
    def condition(cls, fitted: Fitted, ratio: float, u: Array, h: Array, f: Array, kernel: str) -> Group:
        """Condition on outputs `f` (N, K), all of the first correlation of `fitted`, at `u` (N, P) with trend
        basis `h` (N, p)."""
        from scipy.linalg import cholesky, solve_triangular

        inverse_length, warp = 1.0 / fitted.hyperparameters[0, :-2], fitted.warp[0]
        x = warped(u, warp) * inverse_length
        correlation = Correlation(kernel, fitted.weights[0], np.ascontiguousarray(x.T))
        a = correlation(x)
        np.fill_diagonal(a, 1.0 + ratio)
        lower = cholesky(a, lower=True, check_finite=False)
        whitener = np.ascontiguousarray(solve_triangular(lower, np.eye(len(u)), lower=True).T)
        projection, r = np.linalg.qr(whitener.T @ h)
        inverse_r = np.linalg.inv(r)
        white = whitener.T @ f  # L^-1 f
        along = projection.T @ white
        weights = whitener @ (white - projection @ along)
        coefficients = inverse_r @ along
        return cls(
            correlation,
            ratio,
            inverse_length,
            warp,
            whitener,
            projection,
            inverse_r,
            coefficients,
            weights,
        )

    @cached_property
    def _blocks(self) -> list[tuple[slice, Array]]:
        """Column blocks of the upper-triangular `whitener` without the zeros below them.

        They halve the time of the product; BLAS's own triangular product was no faster than the full one.
        """
        edges = [*range(0, len(self.whitener), BLOCK), len(self.whitener)]
        return [(slice(a, b), np.ascontiguousarray(self.whitener[:b, a:b])) for a, b in pairwise(edges)]

    def _inputs(self, u: Array) -> Array:
        """Return warped inputs (M, P) over length scales."""
        return warped(u, self.warp) * self.inverse_length

    def mean(self, u: Array, h: Array) -> tuple[Array, Array]:
        """Return mean (M, K) and correlations with the runs (M, N) at `u` (M, P) with trend `h` (M, p)."""
        correlation = self.correlation(self._inputs(u))
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
        x = self._inputs(u)
        covariance = replace(self.correlation, fixed=x.T)(x) - explained @ explained.T + unknown @ unknown.T
        np.fill_diagonal(covariance, covariance.diagonal() + self.ratio)
        return covariance

    def precision(self) -> Array:
        """Return Q (N, N), the inverse covariance over the process variance with the trend unknown."""
        rest = self.whitener - (self.whitener @ self.projection) @ self.projection.T
        return rest @ rest.T


@dataclass(frozen=True, eq=False)
class Process:
    """K independent processes conditioned on N runs, in groups that share a correlation."""

    form: GPSpec
    axes: Array  # (P, P) orthogonal; trend and correlations see u @ axes
    variance: Array  # (K) process variance
    ratio: Array  # (K) nugget variance / process variance
    columns: tuple[slice, ...]  # of each group
    groups: tuple[Group, ...]

    @classmethod
    def condition(
        cls, fitted: Fitted, u: Array, outputs: Array, form: GPSpec, axes: Array | None = None
    ) -> Process:
        """Condition what was `fitted` on `outputs` (N, K) at `u` (N, P), seen along `axes` (P, P).

        Neighbouring outputs of one correlation and nugget ratio are a group.
        """
        axes = np.eye(u.shape[1]) if axes is None else axes
        variance, nugget = fitted.hyperparameters[:, -2:].T
        x = u @ axes
        h, ratio = trend(x, form.degree), nugget / variance
        same = np.hstack(
            [fitted.hyperparameters[:, :-2], fitted.warp.reshape(len(variance), -1), fitted.weights]
        )
        alike = np.all(same[1:] == same[:-1], axis=1) & np.isclose(ratio[1:], ratio[:-1], 1e-9, 0.0)
        edges = [0, *(1 + np.flatnonzero(~alike)), len(variance)]
        columns = tuple(slice(int(a), int(b)) for a, b in pairwise(edges))
        groups = tuple(
            Group.condition(fitted.part(c), float(ratio[c.start]), x, h, outputs[:, c], form.kernel)
            for c in columns
        )
        return cls(form, axes, variance, ratio, columns, groups)

    @property
    def weights(self) -> Array:
        """Q f (N, K) of all outputs."""
        return np.hstack([group.weights for group in self.groups])

    def _inputs(self, u: Array) -> tuple[Array, Array]:
        """Return rotated inputs (M, P) and the trend basis (M, p)."""
        x = u @ self.axes
        return x, trend(x, self.form.degree)

    def mean(self, u: Array) -> Array:
        """Return the mean (M, K) at `u` (M, P), without the cost of a variance."""
        x, h = self._inputs(u)
        return np.hstack([group.mean(x, h)[0] for group in self.groups])

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
        x, h = self._inputs(u)
        shared = [group.covariance(x, h) for group in self.groups]
        counts = [columns.stop - columns.start for columns in self.columns]
        return self.variance[:, None, None] * np.repeat(shared, counts, axis=0)

    def hold_out(self, outputs: Array, groups: list[Array]) -> tuple[Array, Array]:
        """Return mean and variance (G, K) predicted for the first row of each group of rows without that
        group.

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


def weighted(shares: Array, parts: Sequence[Array] | Array) -> Array:
    """Return the mean of F arrays, weighed by their shares; one alone as it is."""
    return parts[0] if len(parts) == 1 else np.tensordot(shares, np.asarray(parts), axes=1)


def mixed(
    shares: Array, means: Sequence[Array] | Array, variances: Sequence[Array] | Array
) -> tuple[Array, Array]:
    """Return mean and variance (M, K) of a mixture of F predictions: where these differ, they are less sure.

    >>> mean, variance = mixed(np.array([0.5, 0.5]), [np.zeros(1), np.full(1, 2.0)], [np.ones(1), np.ones(1)])
    >>> mean.tolist(), variance.tolist()
    ([1.0], [2.0])
    """
    mean = weighted(shares, means)
    return mean, weighted(shares, [v + (m - mean) ** 2 for m, v in zip(means, variances, strict=True)])


@dataclass(frozen=True, eq=False)
class GPMixture:
    """Processes of different forms, mixed by their shares; one process alone has the share 1."""

    shares: Array  # (F) sum 1
    members: tuple[Process, ...]

    def mean(self, u: Array) -> Array:
        """Return the mean (M, K) at `u` (M, P), without the cost of a variance."""
        return weighted(self.shares, [process.mean(u) for process in self.members])

    def __call__(self, u: Array) -> tuple[Array, Array]:
        """Return mean and variance (M, K) of a run at `u` (M, P), nugget included."""
        mean, variance = zip(*(process(u) for process in self.members), strict=True)
        return mixed(self.shares, mean, variance)

    @property
    def nugget(self) -> Array:
        """The nugget variance (K)."""
        return weighted(self.shares, [process.variance * process.ratio for process in self.members])

    def covariance(self, u: Array) -> Array:
        """Return the covariance (K, M, M) of runs at `u` (M, P), nugget included."""
        means = [process.mean(u) for process in self.members]
        away = np.array(means) - weighted(self.shares, means)
        between = np.einsum("f,fmk,fnk->kmn", self.shares, away, away)
        return weighted(self.shares, [process.covariance(u) for process in self.members]) + between

    def hold_out(self, outputs: Array, groups: list[Array]) -> tuple[Array, Array]:
        """Return mean and variance (G, K) as `Process.hold_out` does."""
        mean, variance = zip(*(process.hold_out(outputs, groups) for process in self.members), strict=True)
        return mixed(self.shares, mean, variance)
