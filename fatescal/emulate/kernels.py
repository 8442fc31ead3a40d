"""Correlations and trends that Gaussian processes are made of.

Which form is best depends on the model. Three are tried, all of Matern-5/2 functions: of the joint distance;
their product over the parameters (the default of DiceKriging, Roustant et al. 2012); and what each parameter
and each pair of parameters does, summed with weights learnt from the runs (`PAIRS`, the additive kernels of
Duvenaud et al. 2011 with a weight for each pair, Durrande et al. 2013). A land model is a sum over its
vegetation types: of 15 pairs of a real one the three of one type's Vcmax and stomatal slope carry all weight,
and runs are predicted 0.059 noise sd wrong from 49 others, by the product 0.092, by the joint distance 0.083.

A prior with bounds makes the parameter a logistic function of u, so that the model changes little where u is
large. `warped` inputs follow it: without, three members at the corners of the prior make up three quarters
of the squared error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fatescal.base.types import Array

JOINT, PRODUCT, PAIRS = "matern-5/2", "matern-5/2 product", "matern-5/2 pairs"  # kernels
SQRT5 = np.sqrt(5.0)
SLOWEST = 1e-4  # rate below which inputs do not saturate
FAR = 100.0  # length scales from 0 beyond which exponentials could overflow
CACHED = 2**15  # numbers that fit into a core's cache; larger intermediate arrays take twice as long


@dataclass(frozen=True)
class GPSpec:
    """What a process is made of: its kernel, the degree of its trend, and whether its inputs may warp."""

    kernel: str
    degree: int
    warped: bool = False

    def n_weights(self, n_parameters: int) -> int:
        """Return how many weights its kernel has, of the parameters and of their pairs.

        >>> GPSpec(PAIRS, 0).n_weights(6), GPSpec(JOINT, 0).n_weights(6)
        (21, 0)
        """
        return n_parameters * (n_parameters + 1) // 2 if self.kernel == PAIRS else 0


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


def matern(r: Array) -> Array:
    """Return Matern-5/2 correlations (1 + r + r^2/3) exp(-r) of r = sqrt(5) distance / length.

    >>> matern(np.array([0.0, 3.0])).round(4).tolist()
    [1.0, 0.3485]
    """
    return (1.0 + r * (1.0 + r / 3.0)) * np.exp(-r)


def correlate(distances: Array, kernel: str, weights: Array) -> tuple[Array, Array]:
    """Return correlations and how they depend on each parameter's own.

    Parameters
    ----------
    distances : (P, ...) array
        r_p = sqrt(5) |x_p - z_p| / length_p.
    kernel : str
    weights : (T) array
        Of `PAIRS`, sum 1: of each parameter's own correlation k_p, then of the products k_p k_q, p < q.

    Returns
    -------
    correlation : (...) array
        The Matern function of the joint distance, r^2 = sum_p r_p^2; the product of the k_p; or
        sum_p w_p k_p + sum_pq w_pq k_p k_q.
    share : (P or 1, ...) array
        d correlation / d log k_p; but for `PAIRS` the correlation itself.

    >>> r, none = np.array([[0.0, 3.0], [0.0, 4.0]]), np.empty(0)
    >>> [correlate(r, kernel, none)[0].round(4).tolist() for kernel in (JOINT, PRODUCT)]
    [[1.0, 0.0966], [1.0, 0.066]]
    >>> correlate(r, PAIRS, np.array([0.5, 0.25, 0.25]))[0].round(4).tolist()
    [1.0, 0.2381]
    """
    if kernel == PAIRS:
        single = matern(distances)
        correlation, slope = pairs(single, weights)
        return correlation, single * slope
    if kernel == JOINT:
        distances = np.sqrt(np.sum(distances * distances, axis=0))[None]
    polynomial = np.prod(1.0 + distances + distances * distances / 3.0, axis=0)
    correlation = polynomial * np.exp(-np.sum(distances, axis=0))
    return correlation, correlation[None]


def pairs(single: Array, weights: Array) -> tuple[Array, Array]:
    """Return sum_p w_p k_p + sum_pq w_pq k_p k_q (...) of `single` k (P, ...), and its slopes by them."""
    own, matrix = split_weights(weights, len(single))
    flat = single.reshape(len(single), -1)
    of_pairs = matrix @ flat
    correlation = own @ flat + 0.5 * np.einsum("pn,pn->n", flat, of_pairs)
    of_pairs += own[:, None]
    return correlation.reshape(single.shape[1:]), of_pairs.reshape(single.shape)


def split_weights(weights: Array, n_parameters: int) -> tuple[Array, Array]:
    """Return the weights (P) of parameters alone and, symmetric, those of pairs (P, P).

    >>> [part.tolist() for part in split_weights(np.array([0.5, 0.25, 0.25]), 2)]
    [[0.5, 0.25], [[0.0, 0.25], [0.25, 0.0]]]
    """
    matrix = np.zeros((n_parameters, n_parameters))
    matrix[np.triu_indices(n_parameters, 1)] = weights[n_parameters:]
    return weights[:n_parameters], matrix + matrix.T


def warped(u: Array, warp: Array) -> Array:
    """Return inputs (M, P) that saturate and bend by `warp` (2, P), a rate and a bend of each.

    s = tanh(rate u) / rate, of rate 0 u itself; x = s + bend (sqrt(1 + s^2) - 1), monotone for |bend| < 1.
    A parameter with a logit-normal prior of scale 1 is linear in s at the rate 1/2.

    >>> warped(np.array([[-4.0], [0.0], [4.0]]), np.array([[0.5], [0.0]])).round(3).ravel().tolist()
    [-1.928, 0.0, 1.928]
    >>> warped(np.array([[-1.0], [0.0], [1.0]]), np.array([[0.0], [-0.5]])).round(3).ravel().tolist()
    [-1.207, 0.0, 0.793]
    """
    rate, bend = warp
    safe = np.where(rate > SLOWEST, rate, 1.0)
    s = np.where(rate > SLOWEST, np.tanh(safe * u) / safe, u)
    return s + bend * (np.sqrt(1.0 + s * s) - 1.0)


def warp_slopes(u: Array, warp: Array) -> tuple[Array, Array]:
    """Return the derivatives (M, P) of `warped` by the rates and by the bends."""
    rate, bend = warp
    safe = np.where(rate > SLOWEST, rate, 1.0)
    t = np.tanh(safe * u)
    s = np.where(rate > SLOWEST, t / safe, u)
    by_rate = np.where(rate > SLOWEST, (safe * u * (1.0 - t * t) - t) / safe**2, 0.0)
    root = np.sqrt(1.0 + s * s)
    return by_rate * (1.0 + bend * s / root), root - 1.0


@dataclass(frozen=True, eq=False)
class Correlation:
    """The correlations of any inputs with N fixed ones.

    On either side of z the Matern function of x - z is a sum of three products of a function of x and one of
    z: for r = x - z >= 0

        (1 + r + r^2/3) exp(-r) = exp(-x) (1 + x + x^2/3, -1 - 2x/3, 1/3) . (1, z, z^2) exp(z),

    for r <= 0 the same of -x and -z; the smaller of the two is the right one. So two matrix products take the
    place of a distance and an exponential for each parameter and pair of inputs.
    """

    kernel: str
    weights: Array  # (T) of the kernel
    fixed: Array  # (P, N) over length scales

    @cached_property
    def _sides(self) -> Array:
        """(1, z, z^2) exp(z) (2, P, 3, N) of the fixed inputs and of their negatives."""
        z = SQRT5 * np.stack([self.fixed, -self.fixed])
        return np.exp(z)[:, :, None] * np.stack([np.ones_like(z), z, z * z], axis=2)

    @cached_property
    def _far(self) -> bool:
        """Whether a fixed input is `FAR`."""
        return bool(np.any(np.abs(self.fixed) > FAR))

    @cached_property
    def _split_weights(self) -> tuple[Array, Array]:
        own, of_pairs = split_weights(self.weights, len(self.fixed))
        return own[:, None], 0.5 * of_pairs

    def __call__(self, x: Array) -> Array:
        """Return the correlations (M, N) with `x` (M, P), over length scales too."""
        if self.kernel == JOINT:
            square = np.sum(x * x, axis=1)[:, None] + np.sum(self.fixed**2, axis=0) - 2.0 * (x @ self.fixed)
            return matern(SQRT5 * np.sqrt(np.maximum(square, 0.0)))
        correlation = np.empty((len(x), self.fixed.shape[1]))
        step = max(1, CACHED // self.fixed.size)
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            single = self._single(x[rows]).reshape(len(self.fixed), -1)
            if self.kernel == PAIRS:
                own, of_pairs = self._split_weights
                np.einsum("pn,pn->n", single, of_pairs @ single + own, out=correlation[rows].reshape(-1))
            else:
                np.prod(single, axis=0, out=correlation[rows].reshape(-1))
        return correlation

    def _single(self, x: Array) -> Array:
        """Return the correlations (P, M, N) of each parameter alone."""
        if self._far or np.any(np.abs(x) > FAR):
            return matern(SQRT5 * np.abs(x.T[:, :, None] - self.fixed[:, None, :]))
        x = SQRT5 * np.stack([x.T, -x.T])
        terms = np.stack([1.0 + x + x * x / 3.0, -1.0 - 2.0 * x / 3.0, np.full_like(x, 1.0 / 3.0)], axis=-1)
        from_above, from_below = (np.exp(-x)[..., None] * terms) @ self._sides
        return np.minimum(from_above, from_below, out=from_above)
