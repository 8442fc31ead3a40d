"""What an update scheme must offer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from fatescal.base.types import Array
from fatescal.storage.records import KalmanInfo, KalmanState, Observations


@runtime_checkable
class UpdateScheme(Protocol):
    """One way to move an ensemble towards the observations; pure."""

    def start(self, u: Array) -> KalmanState:
        """Return the state at iteration 0 for the prior ensemble `u` (J, P)."""

    def step(
        self,
        rng: np.random.Generator,
        state: KalmanState,
        predictions: Array,
        obs: Observations,
    ) -> tuple[KalmanState, KalmanInfo]:
        """Return the next state; rows of `predictions` (J, D) of failed members are NaN."""
