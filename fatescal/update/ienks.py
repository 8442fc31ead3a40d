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
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np

from fatescal.base.linalg import centred, symmetric_function
from fatescal.base.options import Field, GoesWith, Positive, Step, Whole
from fatescal.base.types import Array
from fatescal.storage.declaration import array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update import survivors
from fatescal.update.base import UpdateScheme
from fatescal.update.regression import StandardPrior, sensitivities
from fatescal.update.residuals import misfit, whitened_residuals
from fatescal.update.survivors import SurvivorState

log = logging.getLogger(__name__)

ROUNDING = 1e-10  # relative; a smaller rise of J(w) near its minimum says nothing about the step
DAMPED = "levenberg-marquardt"


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchState(SurvivorState):
    """What a line search remembers beside the prior members: all that takes its last step back."""

    accepted: Array = array("J P")  # u of the last ensemble whose J(w) did not rise
    target: Array = array("J P")  # a full step from there
    predicted: Array = array("D", "unit of each observation")  # mean prediction of the accepted
    gamma: float  # share of the step that was tried last


class IEnKS(UpdateScheme):
    """Iterative ensemble Kalman smoother.

    Minimises J(w) = 1/2 |y - G(x0 + X0 w)|^2 + 1/2 |w|^2, whitened. The first ensemble is the prior's in
    both forms: shrunk at once, the bundle would spend a whole set of model runs on one point and leave the
    prior unscored. The last one, at `finished`, has the covariance X0 H^-1 X0' of the Gauss-Newton Hessian H.

    Members that fail are left out for the rest of the loop (`SurvivorState`). The prior of the scheme is then
    the one of the other members.

    The transform (sensitivities from an ensemble as wide as the current posterior) tends to the
    ensemble-averaged Gauss-Newton point, the bundle to the MAP and its Laplace approximation. With
    Levenberg-Marquardt and the transform, the ensemble's width changes J(w) too: close to the solution some
    steps are then halved for nothing. The damping does not move the solution.

    References
    ----------
    Bocquet & Sakov 2014, doi:10.1002/qj.2236.
    """

    kind: ClassVar[str] = "ienks"

    iterations: Annotated[Whole, Field(ge=0)] = 4
    """number of updates at most, 0: none"""
    form: Literal["transform", "bundle"] = "transform"
    """transform (sensitivities from an ensemble as wide as the posterior) or bundle (from a narrow one)"""
    method: Literal["gauss-newton", "levenberg-marquardt"] = "gauss-newton"
    """gauss-newton (fixed steps) or levenberg-marquardt (damped steps, each taken back and halved when the
    cost function has risen)"""
    step_length: Step = 1.0
    """share of the full step that is taken, with levenberg-marquardt tried first"""
    damping: Annotated[Positive, GoesWith("method", DAMPED)] = 1.0
    """of levenberg-marquardt: added to the curvature, in units of the prior's precision; slows the directions
    that the data hardly inform"""
    tolerance: Positive = 1e-3
    """converged when a step is shorter than this times sqrt(members - 1), in prior standard deviations"""
    bundle_width: Annotated[Positive, GoesWith("form", "bundle")] = 1e-4
    """of form bundle: width of the ensemble over that of the prior"""

    @property
    def planned_updates(self) -> int:
        """Number of updates at most."""
        return self.iterations

    @property
    def record(self) -> type[KalmanState]:
        """The type of the states that `step` returns."""
        return SearchState if self.method == DAMPED else SurvivorState

    def step(
        self, rng: np.random.Generator, state: KalmanState, predictions: Array, obs: Observations
    ) -> tuple[KalmanState, KalmanInfo]:
        """Return the state after one more step; `rng` is not used."""
        state = SurvivorState.of(state)
        ran = survivors.survivors(
            predictions, state.u.shape[1], n_started=len(state.u0), fraction=self.min_survivors
        )
        prior = StandardPrior.of(state.u0[state.left(ran)])
        residuals = whitened_residuals(predictions, obs, ran)
        predicted = np.mean(predictions, axis=0, where=ran[:, None])
        search = self._search(prior, state, ran, residuals, predicted, obs)
        following = self._following(state, ran, prior, search)
        variance = search.posterior.var(axis=0, ddof=1)
        info = KalmanInfo(
            alpha=1.0,
            misfit=misfit(residuals),
            spread=prior.parameters(search.posterior).std(axis=0, ddof=1),
            n_failed=int((~ran).sum()),
            degrees_of_freedom=len(variance) - float(variance.sum()),
            step_length=search.gamma,
            projected_iterations=following.iteration if following.finished else self.iterations,
        )
        return following, info

    def _following(
        self, before: SurvivorState, ran: Array, prior: StandardPrior, search: _Search
    ) -> KalmanState:
        """Return the state that a search has led to."""
        iteration, n_left = before.iteration + 1, len(prior.members)
        converged = search.step < self.tolerance * np.sqrt(n_left)
        finished = bool(converged or iteration >= self.iterations)
        if finished and not converged:
            log.info("ienks ends at its budget, last step %.2g sqrt(J)", search.step / n_left**0.5)
        state = SurvivorState(
            u=prior.parameters(search.posterior if finished else search.trial),
            iteration=iteration,
            pseudo_time=1.0 if finished else 0.0,
            finished=finished,
            u0=before.u0,
            alive=before.left(ran),
        )
        return search.remembered(state, prior) if self.method == DAMPED else state

    def _search(
        self,
        prior: StandardPrior,
        state: SurvivorState,
        ran: Array,
        residuals: Array,
        predicted: Array,
        obs: Observations,
    ) -> _Search:
        """Return the step from the ensemble just run, or a shorter one from the last that was accepted.

        Both costs are computed with the errors of today: an estimated discrepancy changes between iterations.
        """
        z = prior.coordinates(state.u[ran])
        if isinstance(state, SearchState):
            accepted, target = (prior.coordinates(u[ran]) for u in (state.accepted, state.target))
            if _cost(z, predicted, obs) > _cost(accepted, state.predicted, obs) * (1 + ROUNDING):
                return _Search.shortened(accepted, target, state.predicted, state.gamma / 2)
        damping = self.damping if self.method == DAMPED else 0.0
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

    def remembered(self, state: SurvivorState, prior: StandardPrior) -> SearchState:
        """Return a state with what the next step needs to take this one back, by parameters."""
        return SearchState(
            **vars(state),
            accepted=prior.parameters(self.accepted),
            target=prior.parameters(self.target),
            predicted=self.predicted,
            gamma=self.gamma,
        )
