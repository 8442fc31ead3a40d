"""Subspace iterative ensemble smoother: every member minimises its own cost, with perturbed data.

Evensen et al. (2019, Alg. 1) iterate on weights W (J, J), X = X_0 (I + W / sqrt(J-1)). Where P < J - 1 the
predictions are projected on the ensemble, S = Y A_i^+ A_0 is the regression on the parameters, and the
columns of W stay in the row space of A_0: W / sqrt(J-1) = Z V' / (J-1), Z (J, P) the standardised prior
members, V (J, P) how far each member has moved in the same coordinates. The ensemble tells V; no W is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fatescal.base.linalg import centred, column_blocks
from fatescal.base.options import Field, Positive, Step, Whole
from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update import survivors
from fatescal.update.base import UpdateScheme
from fatescal.update.regression import StandardPrior, sensitivities
from fatescal.update.residuals import misfit, whitened_residuals
from fatescal.update.survivors import SurvivorState


@dataclass(frozen=True, eq=False, kw_only=True)
class PerturbedState(SurvivorState):
    """What the subspace IES remembers: the seed of the data's perturbations beside the prior members."""

    perturbation_seed: int


class SubspaceIES(UpdateScheme):
    """Subspace iterative ensemble smoother.

    Members that fail are left out for the rest of the loop, as in `IEnKS`.

    References
    ----------
    Evensen et al. 2019, doi:10.3389/fams.2019.00047, Alg. 1.
    """

    kind: ClassVar[str] = "ies"

    iterations: Annotated[Whole, Field(ge=0)] = 4
    """number of updates, 0: none"""
    first_step: Step = 0.6
    """share of the full step that the first update takes"""
    last_step: Step = 0.3
    """the share that it tends to"""
    half_life: Positive = 1.5
    """updates in which the share comes half-way from first_step to last_step"""

    @property
    def planned_updates(self) -> int:
        """Number of updates."""
        return self.iterations

    @property
    def record(self) -> type[KalmanState]:
        """The type of the states that `step` returns."""
        return PerturbedState

    def step(
        self, rng: np.random.Generator, state: KalmanState, predictions: Array, obs: Observations
    ) -> tuple[KalmanState, KalmanInfo]:
        """Return the state after one more step; the data are perturbed once, with the first `rng`."""
        state, seed = SurvivorState.of(state), _perturbation_seed(state, rng)
        ran = survivors.survivors(
            predictions, state.u.shape[1], n_started=len(state.u0), fraction=self.min_survivors
        )
        alive, residuals = state.left(ran), whitened_residuals(predictions, obs, ran)
        prior = StandardPrior.of(state.u0[alive])
        z = prior.coordinates(state.u[ran])
        St = sensitivities(centred(z)[1], residuals)  # S' (P, D)
        StS = St @ St.T
        V = z - prior.members
        # S'H of Alg. 1, in rows, H = S W + D - g(X): the perturbed data are y + xi
        SH = V @ StS + residuals @ St.T + _perturbations_along(St, seed, len(alive))[alive]
        solution = np.linalg.solve(np.eye(len(StS)) + StS, SH.T).T
        gamma = self._gamma(state.iteration)
        u = prior.parameters(z - gamma * (V - solution))
        s2 = np.linalg.eigvalsh(StS)
        info = KalmanInfo(
            alpha=1.0,
            misfit=misfit(residuals),
            spread=u.std(axis=0, ddof=1),
            n_failed=int((~ran).sum()),
            degrees_of_freedom=float((s2 / (1 + s2)).sum()),
            step_length=gamma,
            projected_iterations=self.iterations,
        )
        return self._following(state, u, alive, seed), info

    def _gamma(self, iteration: int) -> float:
        """Return the share of the full step that the update after `iteration` others takes."""
        return self.last_step + (self.first_step - self.last_step) * 0.5 ** (iteration / self.half_life)

    def _following(self, before: SurvivorState, u: Array, alive: Array, seed: int) -> KalmanState:
        """Return the state with the members `u` (J, P), those that are `alive` (J0) of the prior's."""
        iteration = before.iteration + 1
        finished = iteration >= self.iterations
        return PerturbedState(
            u=u,
            iteration=iteration,
            pseudo_time=float(finished),
            finished=finished,
            u0=before.u0,
            alive=alive,
            perturbation_seed=seed,
        )


def _perturbation_seed(state: KalmanState, rng: np.random.Generator) -> int:
    """Return the seed of the data's perturbations: that of the steps before, in the first one a new one."""
    return state.perturbation_seed if isinstance(state, PerturbedState) else int(rng.integers(2**63))


def _perturbations_along(St: Array, seed: int, n_members: int) -> Array:
    """Return S' xi_j (J, P) of data perturbations xi_j ~ N(0, I_D) that `seed` fixes for the whole loop.

    S changes from step to step, so S' xi cannot be drawn in few dimensions once; and xi (J, D) is as large
    as the predictions. So it is drawn again each time, a block of columns at once.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    along = np.zeros((n_members, len(St)))
    for columns in column_blocks(St.shape[1]):
        along += rng.standard_normal((n_members, columns.stop - columns.start)) @ St[:, columns].T
    return along
