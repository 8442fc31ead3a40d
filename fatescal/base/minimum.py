"""The minimum of a smooth function that is cheap for many points at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fatescal.base.types import Array

STEP = 1e-4  # of the difference quotients
STARTS = 3  # lowest points from which a minimum is looked for


def slopes(function: Callable[[Array], Array], points: Array, step: float = STEP) -> tuple[Array, Array]:
    """Return values (M) and gradients (M, P) of `function` (M, P) -> (M) at `points`, by central differences.

    >>> values, gradients = slopes(lambda u: np.sum(u**2, axis=1), np.array([[1.0, 2.0]]))
    >>> values.tolist(), gradients.round(6).tolist()
    ([5.0], [[2.0, 4.0]])
    """
    n_points, n_parameters = points.shape
    steps = step * np.vstack([np.zeros(n_parameters), np.eye(n_parameters), -np.eye(n_parameters)])
    values = function((points[:, None] + steps).reshape(-1, n_parameters)).reshape(n_points, -1)
    forward, backward = np.split(values[:, 1:], 2, axis=1)
    return values[:, 0], (forward - backward) / (2.0 * step)


def minimum(function: Callable[[Array], Array], starts: Array) -> Array:
    """Return the lowest point (P) of `function` (M, P) -> (M) that L-BFGS finds from the `STARTS` lowest of
    `starts` (S, P).

    >>> minimum(lambda u: np.sum((u - 1.0) ** 2, axis=1), np.array([[3.0], [-2.0]])).round(4).tolist()
    [1.0]
    """
    from scipy.optimize import minimize

    def with_gradient(x: Array) -> tuple[float, Array]:
        values, gradients = slopes(function, x[None])
        return float(values[0]), gradients[0]

    lowest = starts[np.argsort(function(starts), kind="stable")[:STARTS]]
    ends = [minimize(with_gradient, start, jac=True, method="L-BFGS-B") for start in lowest]
    return min(ends, key=lambda end: end.fun).x
