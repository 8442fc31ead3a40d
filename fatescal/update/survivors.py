"""Members that died: who is left, whether they are enough, and who takes the places of the lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import ceil

import numpy as np

from fatescal.base.errors import BadInput, RunFailed
from fatescal.base.linalg import centred
from fatescal.base.types import Array
from fatescal.storage.declaration import array
from fatescal.storage.records import KalmanState

log = logging.getLogger(__name__)

WORRYING_SHARE = 0.2  # of the members; more failures than this bias the update towards easy parameters


def fewest_survivors(n_members: int, n_parameters: int, fraction: float) -> int:
    """Return the least number of members an update may rest on: max(P + 2, `fraction` of the members).

    P + 2 members are the fewest whose sample covariance of P parameters has full rank with one to spare.

    >>> fewest_survivors(64, 6, 0.5), fewest_survivors(10, 6, 0.5)
    (32, 8)
    """
    return max(n_parameters + 2, ceil(fraction * n_members))


def require_usable_ensemble(u: Array) -> None:
    """Raise `BadInput` when no update can rest on the ensemble `u` (J, P), even if no member fails."""
    n_members, n_parameters = u.shape
    if n_members < n_parameters + 2:
        raise BadInput(
            f"{n_members} updated members cannot calibrate {n_parameters} parameters",
            expected=f"at least {n_parameters + 2} (beside the default run)",
            got=n_members,
            hint=f"members: {max(64, 10 * n_parameters)}",
        )
    rank = np.linalg.matrix_rank(centred(u)[1])
    if rank < n_parameters:
        raise BadInput(
            "the prior ensemble does not vary in all directions",
            expected=f"{n_parameters} independent parameters",
            got=rank,
            hint="fix or tie the parameters that never vary or always vary together",
        )


def survivors(predictions: Array, n_parameters: int, *, n_started: int, fraction: float) -> Array:
    """Return the mask (J) of the rows of `predictions` (J, D) that ran: all finite.

    Parameters
    ----------
    predictions : (J, D)
        Rows of failed members are NaN.
    n_parameters : int
        P.
    n_started : int
        Members the calibration began with; schemes that drop members have fewer rows by now.
    fraction : float
        Least share of `n_started` that must be left.

    Raises
    ------
    RunFailed
        If fewer than max(P + 2, `fraction` `n_started`) are left.
    """
    alive: Array = np.asarray(np.isfinite(predictions).all(axis=1))
    n_left = int(alive.sum())
    lost = n_started - n_left
    required = fewest_survivors(n_started, n_parameters, fraction)
    if n_left < required:
        raise RunFailed(
            f"{lost} of {n_started} members failed. Expected at least {required} survivors "
            f"(P + 2 = {n_parameters + 2}; {fraction:.0%} of the members), got {n_left}. "
            "Try: read the logs of failed members; narrow the priors; give the model more time."
        )
    if lost > WORRYING_SHARE * n_started:
        log.warning("%d of %d members failed: the update rests on the other %d", lost, n_started, n_left)
    return alive


@dataclass(frozen=True, eq=False, kw_only=True)
class SurvivorState(KalmanState):
    """State of a scheme that leaves failed members out for the rest of the loop.

    `u` (J, P) has the rows of those prior members `u0` (J0, P) that are still `alive` (J0), in their order.
    """

    u0: Array = array("J0 P")
    alive: Array = array("J0", dtype=np.bool_)

    @staticmethod
    def of(state: KalmanState) -> SurvivorState:
        """Return a state as one of this kind; that of the prior ensemble has all members.

        Raises
        ------
        BadInput
            For a later state of a scheme that remembers something else.
        """
        if isinstance(state, SurvivorState):
            return state
        if state.iteration > 0:
            raise BadInput(
                f"the ensemble of iteration {state.iteration} was made by another scheme",
                expected=SurvivorState.__name__,
                got=type(state).__name__,
                hint="a change of the scheme before the first update",
            )
        return SurvivorState(u=state.u, u0=state.u, alive=np.ones(len(state.u), dtype=bool))

    def left(self, ran: Array) -> Array:
        """Return the mask (J0) of the prior members still in when of those so far `ran` (J) have run."""
        alive = np.array(self.alive)
        alive[alive] = ran
        return alive


def replace_failed(rng: np.random.Generator, updated: Array, alive: Array) -> Array:
    """Return the whole ensemble (J, P): survivors as `updated` (J', P), others drawn from their Gaussian.

    A draw is the survivors' mean plus a standard normal combination of their anomalies over
    sqrt(J' - 1): normal with the survivors' mean and sample covariance, no factorisation needed.
    """
    mean, anomalies = centred(updated)
    n_left, n_parameters = updated.shape
    whole = np.empty((len(alive), n_parameters))
    whole[alive] = updated
    draws = rng.standard_normal((len(alive) - n_left, n_left)) / np.sqrt(n_left - 1)
    whole[~alive] = mean + draws @ anomalies
    return whole
