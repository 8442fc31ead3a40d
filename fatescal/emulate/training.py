"""Which training rows matter: those near the optimum, and which of them are nearly the same run."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array

ROUGH = 128  # rows by which forms are compared
LEARNING = 256  # rows that length scales are learnt from, at most: their fit takes the cube of that


def rows_needed(n_parameters: int) -> int:
    """Return how many runs near the optimum an emulator needs before it can be judged.

    >>> rows_needed(2), rows_needed(6)
    (10, 12)
    """
    return max(10, 2 * n_parameters)


def near_limit(n_parameters: int) -> float:
    """Return Phi - Phi_min below which a run has a say in the posterior: exp(-10) of the maximum, or more.

    Phi - Phi_min of a normal posterior is P / 2 +- sqrt(P / 2): of many parameters 10 would leave out a part.

    >>> near_limit(6), round(near_limit(16), 1)
    (10.0, 16.5)
    """
    return max(10.0, n_parameters / 2 + 3.0 * (n_parameters / 2) ** 0.5)


def near_optimum(phi: Array, n_parameters: int) -> Array:
    """Return the mask (N) of the rows near the optimum, Phi (N) being their misfit.

    >>> near_optimum(np.array([3.0, 12.0, 14.0]), 2).tolist()
    [True, True, False]
    """
    return phi - phi.min() < near_limit(n_parameters)


def nearest_rows(phi: Array, n_parameters: int) -> Array:
    """Return the mask (N) of the rows near the optimum, or of the best few where too few are near."""
    mask = near_optimum(phi, n_parameters)
    if mask.sum() < rows_needed(n_parameters):
        mask = np.zeros(len(phi), dtype=bool)
        mask[np.argsort(phi, kind="stable")[: rows_needed(n_parameters)]] = True
    return mask


def learning_rows(phi: Array, n: int = LEARNING) -> Array:
    """Return the indices of `n` rows to learn length scales from: half of them the best, half evenly from the
    rest.

    All rows where there are no more.

    >>> learning_rows(np.array([5.0, 1.0, 3.0, 2.0, 9.0, 4.0, 7.0, 6.0]), 4).tolist()
    [1, 2, 3, 4]
    """
    if len(phi) <= n:
        return np.arange(len(phi))
    order = np.argsort(phi, kind="stable")
    best, rest = np.split(order, [n // 2])
    spread = rest[np.linspace(0, len(rest) - 1, n - n // 2).round().astype(int)]
    return np.sort(np.concatenate([best, spread]))


def principal_axes(u: Array) -> tuple[Array, Array]:
    """Return the orthogonal axes (P, P) of the cloud `u` (N, P) and the standard deviations (P) along them.

    A direction without spread keeps the prior's unit scale.
    """
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(u, rowvar=False)))
    axes = axes * np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(len(axes))])
    return axes, np.sqrt(np.where(values > 1e-12, values, 1.0))


def twins(u: Array, near: Array, radius: float = 0.1) -> list[Array]:
    """Return for each row near the optimum the rows to leave out with it: itself first, then its twins.

    A converged ensemble smoother runs almost the same members again at its last iterations. A held-out
    run whose twin stays in the training set says nothing about the emulator, so twins go together.

    Parameters
    ----------
    u : (N, P) array
        Training inputs.
    near : (N) mask
        Rows near the optimum.
    radius : float
        Runs are twins below this distance, in standard deviations of the rows near the optimum
        (Mahalanobis), that is about in posterior standard deviations.

    >>> u = np.random.default_rng(0).standard_normal((20, 2))
    >>> u[7] = u[3] + 1e-6
    >>> [rows.tolist() for rows in twins(u, np.arange(20) < 5)]
    [[0], [1], [2], [3, 7], [4]]
    """
    axes, scale = principal_axes(u[near])
    x = u @ axes / scale
    groups = []
    for i in np.flatnonzero(near):
        distance = np.sqrt(np.sum((x - x[i]) ** 2, axis=1))
        distance[i] = np.inf
        groups.append(np.concatenate([[i], np.flatnonzero(distance < radius)]))
    return groups
