"""A linear-Gaussian problem with its exact posterior, a nonlinear one, and the loop that calls a scheme."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update.base import UpdateScheme

Model = Callable[[Array], Array]

# methods.md 6A: a linear-Gaussian problem and its posterior, computed independently
A = np.array([[1, 0.5, 0], [0, 1, -1], [2, 0, 1], [1, 1, 1], [0, -0.5, 2]])
Y = np.array([1, -2, 0.5, 3, 0])
R = np.array([0.25, 0.5, 1, 0.5, 0.25])
MEAN = np.array([0.0, 1.0, -1.0])
B = np.array([[1, 0.3, 0], [0.3, 2, 0.1], [0, 0.1, 0.5]])
POSTERIOR_MEAN = [0.66954704, 0.53044356, 0.34105478]
POSTERIOR_COVARIANCE = [
    [0.14806162, -0.11647921, -0.04670439],
    [-0.11647921, 0.26414164, 0.06750886],
    [-0.04670439, 0.06750886, 0.06365792],
]


def observations(y: npt.ArrayLike, noise: npt.ArrayLike) -> Observations:
    y = np.asarray(y)
    return Observations(
        y=y,
        noise=np.asarray(noise),
        variable=np.full(len(y), "GPP"),
        unit=np.full(len(y), "1"),
        start=np.zeros(len(y), dtype="datetime64[s]"),
        end=np.ones(len(y), dtype="datetime64[s]"),
        period=np.full(len(y), "calibration"),
    )


OBS = observations(Y, np.sqrt(R))


def linear(u: Array) -> Array:
    return u @ A.T


def kalman(mean: Array, covariance: Array, obs: Observations = OBS, a: Array = A) -> tuple[Array, Array]:
    """Return the posterior mean and covariance of a linear-Gaussian problem by the textbook formula."""
    noise = np.diag(obs.noise**2)
    if obs.correlation:
        lag = np.abs(np.subtract.outer(np.arange(len(obs)), np.arange(len(obs))))
        noise = np.outer(obs.noise, obs.noise) * obs.correlation["rho"] ** lag
    gain = covariance @ a.T @ np.linalg.inv(a @ covariance @ a.T + noise)
    return mean + gain @ (obs.y - a @ mean), covariance - gain @ a @ covariance


def exact_ensemble(n_members: int, seed: int = 0) -> Array:
    z = np.random.default_rng(seed).standard_normal((3, n_members))
    z -= z.mean(axis=1, keepdims=True)
    z = np.linalg.solve(np.linalg.cholesky(z @ z.T / (n_members - 1)), z)
    return (MEAN[:, None] + np.linalg.cholesky(B) @ z).T


def calibrate(
    scheme: UpdateScheme,
    u: Array,
    model: Model = linear,
    obs: Observations = OBS,
    *,
    seed: int = 1,
    dying: Callable[[int, Array], Array] | None = None,
) -> tuple[KalmanState, list[KalmanInfo], list[KalmanState]]:
    """Run the caller's loop; `dying(iteration, u)` is the mask of members that fail."""
    state, infos, states = scheme.start(u), [], []
    while not state.finished:
        predictions = model(state.u)
        if dying is not None:
            predictions[dying(state.iteration, state.u)] = np.nan
        states.append(state)
        state, info = scheme.step(np.random.default_rng([seed, state.iteration]), state, predictions, obs)
        infos.append(info)
    return state, infos, states


def assert_moments(u: Array, mean: npt.ArrayLike, covariance: npt.ArrayLike, atol: float) -> None:
    np.testing.assert_allclose(u.mean(axis=0), np.asarray(mean), atol=atol, rtol=0)
    np.testing.assert_allclose(np.cov(u.T), np.asarray(covariance), atol=atol, rtol=0)


def bent(u: Array) -> Array:
    """A nonlinear model of three parameters, D = 12 > J - 1 = 9."""
    linear_part = np.hstack([linear(u), linear(u[:, ::-1]), u[:, :2]])
    return linear_part + 0.1 * np.tanh(linear_part) ** 2


BENT = observations(np.linspace(-2, 3, 12), np.linspace(0.3, 1.2, 12))
