"""Iterative ensemble Kalman smoother: Gauss-Newton with sensitivities regressed on the ensemble.

Bocquet & Sakov (2014) write the ensemble as E = (x0 + X0 w) 1' + sqrt(J-1) X0 T, X0 (P, J) the prior
anomalies over sqrt(J-1). Their sensitivities Y T^-1 are those of J - 1 weights; where P < J - 1, the part
outside the row space of X0 is the model's curvature, no sensitivity, and is taken out by regression on the
parameters: S = Y A^+ X0, A = X0 T (the projection of Evensen et al. 2019). With it the scheme tends, for many
members, to the ensemble-averaged Gauss-Newton point; without it, to a point that no theory names.

S, w and T then act in the P-dimensional row space of X0 alone: in the coordinates in which the prior ensemble
has mean 0 and covariance I, w is P numbers and T a (P, P) matrix. The ensemble itself tells them, so that
no weights need to be remembered, and a member is dropped by dropping its rows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.linalg import centred, symmetric_function
from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update import survivors
from fatescal.update.regression import StandardPrior, sensitivities
from fatescal.update.residuals import misfit, whitened_residuals

log = logging.getLogger(__name__)

ROUNDING = 1e-10  # relative; a smaller rise of J(w) near its minimum says nothing about the step


@dataclass(frozen=True)
class IEnKS:
    """IEnKS of a parameter ensemble; satisfies `protocols.UpdateScheme`.

    Minimises J(w) = 1/2 |y - G(x0 + X0 w)|^2 + 1/2 |w|^2, whitened. The first ensemble is the prior's in
    both forms; the last one, at `finished`, has the covariance X0 H^-1 X0' of the Gauss-Newton Hessian H.

    Members that fail are left out for the rest of the loop: `u` then has fewer rows, and
    ``memory["alive"]`` tells which of the prior members ``memory["u0"]`` they are. The prior of the
    scheme is then the one of these members.

    Parameters
    ----------
    iterations : int
        Budget: updates at most.
    form : "transform" or "bundle"
        Sensitivities from an ensemble as wide as the current posterior (tends to the
        ensemble-averaged Gauss-Newton point), or from one shrunk by `bundle_width` (tends to the MAP and its
        Laplace approximation).
    method : "gauss-newton" or "levenberg-marquardt"
        Fixed steps, or damped ones that are taken back and halved when J(w) has risen. With the
        transform, the ensemble's width changes J(w) too: close to the solution some steps are then halved
        for nothing.
    step_length : float
        gamma, the share of the full step taken (with Levenberg-Marquardt: tried first).
    damping : float
        lambda of Levenberg-Marquardt, in units of the prior's precision: slows the directions the
        data hardly inform, does not move the solution.
    tolerance : float
        Converged when the step |dw| < tolerance sqrt(J).
    bundle_width : float
        Width of the bundle over that of the prior.
    minimum_survivors : float
        Share of the prior members that must run (and never fewer than P + 2).

    References
    ----------
    Bocquet & Sakov 2014, doi:10.1002/qj.2236.
    """

    iterations: int = 4
    form: Literal["transform", "bundle"] = "transform"
    method: Literal["gauss-newton", "levenberg-marquardt"] = "gauss-newton"
    step_length: float = 1.0
    damping: float = 1.0
    tolerance: float = 1e-3
    bundle_width: float = 1e-4
    minimum_survivors: float = 0.5

    def __post_init__(self) -> None:
        if self.form not in ("transform", "bundle"):
            raise BadInput("form of ienks", expected="transform or bundle", got=self.form)
        if self.method not in ("gauss-newton", "levenberg-marquardt"):
            raise BadInput("method of ienks", expected="gauss-newton or levenberg-marquardt", got=self.method)
        if self.iterations < 1:
            raise BadInput("iterations of ienks", expected="at least 1", got=self.iterations)
        if not 0 < self.step_length <= 1:
            raise BadInput("step_length of ienks", expected="a share in (0, 1]", got=self.step_length)
        for name in ("damping", "tolerance", "bundle_width"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} of ienks", expected="a positive number", got=getattr(self, name))

    def start(self, u: Array) -> KalmanState:
        """Return the state at iteration 0, which asks for the prior ensemble `u` (J, P) itself.

        The bundle, too, takes its first sensitivities from the prior: shrunk at once, it would spend a
        whole set of model runs on one point and leave the prior unscored.
        """
        survivors.require_usable_ensemble(u)
        return KalmanState(u=u, memory={"u0": u, "alive": np.ones(len(u), dtype=bool)})

    def step(
        self, rng: np.random.Generator, state: KalmanState, predictions: Array, obs: Observations
    ) -> tuple[KalmanState, KalmanInfo]:
        """Return the state after one more step; `rng` is not used."""
        u0, alive = state.memory["u0"], np.array(state.memory["alive"])
        n_parameters = u0.shape[1]
        ran = survivors.survivors(
            predictions, n_parameters, n_started=len(u0), fraction=self.minimum_survivors
        )
        alive[alive] = ran
        prior = StandardPrior.of(u0[alive])
        residuals = whitened_residuals(predictions, obs, ran)
        search = self._search(
            prior, state, ran, residuals, np.mean(predictions, axis=0, where=ran[:, None]), obs
        )

        iteration = state.iteration + 1
        converged = search.step < self.tolerance * np.sqrt(len(residuals))
        finished = bool(converged or iteration == self.iterations)
        if finished and not converged:
            log.info("ienks ends at its budget, last step %.2g sqrt(J)", search.step / len(residuals) ** 0.5)
        posterior = prior.parameters(search.posterior)
        following = KalmanState(
            u=posterior if finished else prior.parameters(search.trial),
            iteration=iteration,
            pseudo_time=1.0 if finished else 0.0,
            finished=finished,
            memory={"u0": u0, "alive": alive, **search.memory(prior, self.method)},
        )
        info = KalmanInfo(
            alpha=1.0,
            misfit=misfit(residuals),
            spread=posterior.std(axis=0, ddof=1),
            n_failed=int((~ran).sum()),
            degrees_of_freedom=n_parameters - float(search.posterior.var(axis=0, ddof=1).sum()),
            step_length=search.gamma,
            projected_iterations=iteration if finished else self.iterations,
        )
        return following, info

    def _search(
        self,
        prior: StandardPrior,
        state: KalmanState,
        ran: Array,
        residuals: Array,
        predicted: Array,
        obs: Observations,
    ) -> _Search:
        """Return the step from the ensemble just run, or a shorter one from the last that was accepted.

        Both costs are computed with the errors of today: an estimated discrepancy changes between iterations.
        """
        z, last = prior.coordinates(state.u[ran]), state.memory
        if "predicted" in last:
            accepted, target = (prior.coordinates(last[name][ran]) for name in ("accepted", "target"))
            if _cost(z, predicted, obs) > _cost(accepted, last["predicted"], obs) * (1 + ROUNDING):
                return _Search.shortened(accepted, target, last["predicted"], float(last["gamma"]) / 2)
        damping = self.damping if self.method == "levenberg-marquardt" else 0.0
        target = _gauss_newton(z, prior.members, residuals, damping)
        bundle = self.bundle_width * prior.members if self.form == "bundle" else None
        return _Search.fresh(z, target, predicted, self.step_length, bundle)


def _cost(z: Array, predicted: Array, obs: Observations) -> float:
    """Return J of an ensemble at `z` (J, P) whose mean prediction is `predicted` (D)."""
    w, innovation = z.mean(axis=0), obs.whiten((obs.y - predicted)[None])[0]
    return 0.5 * float(innovation @ innovation + w @ w)


def _gauss_newton(z: Array, Z: Array, residuals: Array, damping: float) -> Array:
    """Return the ensemble (J, P) one full step from `z` (J, P): its mean moved, its spread that of H^-1.

    `Z` (J, P) are the prior's members, all in the coordinates where these have mean 0 and covariance I;
    S = dG/dz (D, P), g = w - S'(y - gbar), H = I + S'S, (H + damping I) step = g.
    """
    w, A = centred(z)
    St = sensitivities(A, residuals)
    StS = St @ St.T
    step = np.linalg.solve((1 + damping) * np.eye(len(w)) + StS, w - St @ residuals.mean(axis=0))
    return w - step + Z @ symmetric_function(lambda s2: 1 / np.sqrt(1 + s2), StS)


class _Search(NamedTuple):
    """Where a line search stands; all ensembles (J, P) in the prior's coordinates."""

    accepted: Array  # the last ensemble whose J(w) did not rise
    target: Array  # a full step from there
    predicted: Array  # mean prediction (D) of the accepted
    gamma: float  # share of the step that the trial takes
    step: float  # |dw| that the stopping rule looks at
    trial: Array  # to be run next
    posterior: Array  # the answer if nothing is run any more

    @classmethod
    def fresh(cls, z: Array, target: Array, predicted: Array, gamma: float, bundle: Array | None) -> _Search:
        """Take `gamma` of the step from `z` to `target`, with the spread of the target or a `bundle`."""
        move = target.mean(axis=0) - z.mean(axis=0)
        posterior = target - (1 - gamma) * move
        trial = posterior if bundle is None else posterior.mean(axis=0) + bundle
        return cls(z, target, predicted, gamma, float(np.linalg.norm(move)), trial, posterior)

    @classmethod
    def shortened(cls, accepted: Array, target: Array, predicted: Array, gamma: float) -> _Search:
        """Go back to `accepted` and take a smaller share.

        The trial keeps the accepted spread: gbar depends on the spread too, and with the target's the
        cost could stay above however small gamma becomes.
        """
        move = target.mean(axis=0) - accepted.mean(axis=0)
        return cls(
            accepted,
            target,
            predicted,
            gamma,
            gamma * float(np.linalg.norm(move)),
            accepted + gamma * move,
            target - move,
        )

    def memory(self, prior: StandardPrior, method: str) -> dict[str, Array]:
        """Return what the next step needs to take this one back, by parameters."""
        if method == "gauss-newton":
            return {}
        return {
            "accepted": prior.parameters(self.accepted),
            "target": prior.parameters(self.target),
            "predicted": self.predicted,
            "gamma": np.array(self.gamma),
        }
