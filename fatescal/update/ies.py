"""Subspace iterative ensemble smoother: every member minimises its own cost, with perturbed data.

Evensen et al. (2019, Alg. 1) iterate on weights W (J, J), X = X_0 (I + W / sqrt(J-1)). Where P < J - 1 the
predictions are projected on the ensemble, S = Y A_i^+ A_0 is the regression on the parameters, and the
columns of W stay in the row space of A_0: W / sqrt(J-1) = Z V' / (J-1), Z (J, P) the standardised prior
members, V (J, P) how far each member has moved in the same coordinates. The ensemble tells V; no W is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.linalg import centred, column_blocks
from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.update import survivors
from fatescal.update.regression import StandardPrior, sensitivities
from fatescal.update.residuals import misfit, whitened_residuals


@dataclass(frozen=True)
class SubspaceIES:
    """Subspace IES of a parameter ensemble; satisfies `protocols.UpdateScheme`.

    Members that fail are left out for the rest of the loop, as in `IEnKS`.

    Parameters
    ----------
    iterations : int
        Updates.
    first_step, last_step : float
        Step length gamma of the first update, and the one it decays to.
    half_life : float
        Updates in which gamma comes half-way to `last_step`.
    minimum_survivors : float
        Share of the prior members that must run (and never fewer than P + 2).

    References
    ----------
    Evensen et al. 2019, doi:10.3389/fams.2019.00047, Alg. 1.
    """

    iterations: int = 8
    first_step: float = 0.6
    last_step: float = 0.3
    half_life: float = 1.5
    minimum_survivors: float = 0.5

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise BadInput("iterations of ies", expected="at least 1", got=self.iterations)
        for name in ("first_step", "last_step"):
            if not 0 < getattr(self, name) <= 1:
                raise BadInput(f"{name} of ies", expected="a share in (0, 1]", got=getattr(self, name))
        if not self.half_life > 0:
            raise BadInput("half_life of ies", expected="a positive number", got=self.half_life)

    def start(self, u: Array) -> KalmanState:
        """Return the state at iteration 0, which asks for the prior ensemble `u` (J, P) itself."""
        survivors.require_usable_ensemble(u)
        return KalmanState(u=u, memory={"u0": u, "alive": np.ones(len(u), dtype=bool)})

    def step(
        self, rng: np.random.Generator, state: KalmanState, predictions: Array, obs: Observations
    ) -> tuple[KalmanState, KalmanInfo]:
        """Return the state after one more step; the data are perturbed once, with the first `rng`."""
        u0, alive = state.memory["u0"], np.array(state.memory["alive"])
        seed = state.memory.get("perturbation_seed")
        if seed is None:
            seed = np.array(rng.integers(2**63))
        n_members, n_parameters = u0.shape
        ran = survivors.survivors(
            predictions, n_parameters, n_started=n_members, fraction=self.minimum_survivors
        )
        alive[alive] = ran
        residuals = whitened_residuals(predictions, obs, ran)
        prior = StandardPrior.of(u0[alive])
        z = prior.coordinates(state.u[ran])
        St = sensitivities(centred(z)[1], residuals)  # S' (P, D)
        StS = St @ St.T
        V = z - prior.members
        # S'H of Alg. 1, in rows, H = S W + D - g(X): the perturbed data are y + xi
        SH = V @ StS + residuals @ St.T + _perturbations_along(St, int(seed), n_members)[alive]
        solution = np.linalg.solve(np.eye(n_parameters) + StS, SH.T).T
        gamma = self.last_step + (self.first_step - self.last_step) * 0.5 ** (
            state.iteration / self.half_life
        )
        u = prior.parameters(z - gamma * (V - solution))

        iteration = state.iteration + 1
        finished = iteration == self.iterations
        following = KalmanState(
            u=u,
            iteration=iteration,
            pseudo_time=float(finished),
            finished=finished,
            memory={"u0": u0, "alive": alive, "perturbation_seed": seed},
        )
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
        return following, info


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
