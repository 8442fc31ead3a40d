"""Ensemble smoother with multiple data assimilation: the likelihood enters in several small steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from fatescal.base.linalg import centred, n_modes, principal_modes
from fatescal.base.options import Count, Field, GoesWith, Positive, Step, Whole
from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update import survivors
from fatescal.update.base import UpdateScheme
from fatescal.update.residuals import misfit, whitened_residuals
from fatescal.update.schedules import AdaptiveSchedule, FixedSchedule, Schedule, normalised

USUAL = 7  # updates of adaptive steps, for an estimate of the cost


class ESMDA(UpdateScheme):
    """Ensemble smoother with multiple data assimilation, in the ensemble subspace.

    Failed members are replaced by draws from the updated Gaussian, so J never changes.

    References
    ----------
    Emerick & Reynolds 2013, doi:10.1016/j.cageo.2012.03.011 (stochastic form);
    Iglesias & Yang 2021, doi:10.1088/1361-6420/abd29b (adaptive steps).
    """

    kind: ClassVar[str] = "es-mda"

    iterations: (
        Annotated[Whole, Field(ge=0)] | Annotated[list[Positive], Field(min_length=1)] | Literal["adaptive"]
    ) = 4
    """number of equal steps, 0: none; or a list of inflation factors up to a common factor; or adaptive:
    steps as long as the misfit allows"""
    form: Literal["stochastic", "square-root"] = "stochastic"
    """stochastic (perturbed observations) or square-root (a deterministic symmetric transform)"""
    truncation: Step = 1.0
    """share of the variance of the whitened predictions that is kept, in their leading modes"""
    max_iterations: Annotated[Count, GoesWith("iterations", "adaptive")] = 20
    """of adaptive iterations: steps at most, of which the last takes all that is left"""

    @property
    def planned_updates(self) -> int:
        """Number of updates; of adaptive ones a usual number."""
        if isinstance(self.iterations, list):
            return len(self.iterations)
        return self.iterations if isinstance(self.iterations, int) else min(USUAL, self.max_iterations)

    @property
    def _schedule(self) -> Schedule:
        if isinstance(self.iterations, list):
            return FixedSchedule(normalised(self.iterations))
        if isinstance(self.iterations, int):
            return FixedSchedule((float(self.iterations),) * self.iterations)
        return AdaptiveSchedule(self.max_iterations)

    def step(
        self, rng: np.random.Generator, state: KalmanState, predictions: Array, obs: Observations
    ) -> tuple[KalmanState, KalmanInfo]:
        """Return the state after one more assimilation of all data with noise inflated by alpha."""
        n_members, n_parameters = state.u.shape
        alive = survivors.survivors(
            predictions, n_parameters, n_started=n_members, fraction=self.min_survivors
        )
        residuals = whitened_residuals(predictions, obs, alive)
        phi = misfit(residuals)
        stride = self._schedule.stride(state, phi, len(obs))
        modes = _Modes.of(residuals, self.truncation)
        assimilate = _stochastic if self.form == "stochastic" else _square_root
        updated = assimilate(rng, state.u[alive], modes, stride.alpha)
        state = KalmanState(
            u=survivors.replace_failed(rng, updated, alive),
            iteration=state.iteration + 1,
            pseudo_time=stride.pseudo_time,
            finished=stride.pseudo_time == 1.0,
        )
        informed = modes.variances / (modes.variances + stride.alpha)
        info = KalmanInfo(
            alpha=stride.alpha,
            misfit=phi,
            spread=state.u.std(axis=0, ddof=1),
            n_failed=n_members - len(phi),
            degrees_of_freedom=float(informed.sum()),
            step_length=1.0,
            projected_iterations=stride.projected_iterations,
        )
        return state, info


@dataclass(frozen=True, eq=False)
class _Modes:
    """Thin decomposition Y = U s V' of the whitened, scaled prediction anomalies Y (D, J)."""

    vectors: Array  # V (J, K)
    variances: Array  # s^2 (K)
    innovation: Array  # V' Y' (y - gbar) (K)

    @classmethod
    def of(cls, residuals: Array, share: float) -> _Modes:
        """Return the leading modes of `residuals` (J, D) that carry `share` of their variance."""
        variances, vectors, projection = principal_modes(residuals)
        kept = n_modes(variances, share)
        # residuals are y - G_j: their mean is the innovation, their anomalies are -Y' sqrt(J - 1)
        scale = len(residuals) - 1
        return cls(vectors[:, :kept], variances[:kept] / scale, -projection[:kept] / np.sqrt(scale))


def _stochastic(rng: np.random.Generator, u: Array, modes: _Modes, alpha: float) -> Array:
    """Return `u` (J, P) updated with perturbed observations.

    C_ug (C_gg + alpha I)^-1 is X V s / (s^2 + alpha) U' with X the scaled anomalies of u, so that of the
    perturbations xi (D, J) only s U' xi matters, and that is s times a standard normal (K, J).
    """
    V, s2 = modes.vectors, modes.variances
    root = np.sqrt(len(u) - 1)
    xi = rng.standard_normal(V.shape)
    increments = (modes.innovation - root * s2 * V + np.sqrt(alpha * s2) * xi) / (s2 + alpha)  # (J, K)
    X = centred(u)[1] / root
    return u + increments @ (V.T @ X)


def _square_root(_: np.random.Generator, u: Array, modes: _Modes, alpha: float) -> Array:
    """Return `u` (J, P) moved by w = (I+S'S)^-1 S'(y - gbar) and shrunk by T = (I+S'S)^(-1/2).

    S = Y / sqrt(alpha); the noise of the innovation shrinks likewise.
    """
    V, s2 = modes.vectors, modes.variances
    mean, anomalies = centred(u)
    coordinates = V.T @ anomalies  # (K, P)
    moved = mean + (modes.innovation / (s2 + alpha)) @ coordinates / np.sqrt(len(u) - 1)
    shrink = 1 / np.sqrt(1 + s2 / alpha) - 1  # T - I on the modes; T is I elsewhere
    return moved + anomalies + (V * shrink) @ coordinates
