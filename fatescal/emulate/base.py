"""What an emulator must offer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from fatescal.base.types import Array, LogLikelihood, Map
from fatescal.storage.records import Observations, Surrogate, TrainingSet


@runtime_checkable
class Emulator(Protocol):
    """Learns the map from u to the whitened predictions (or their misfit)."""

    def fit(
        self, rng: np.random.Generator, training: TrainingSet, obs: Observations, map: Map = ...
    ) -> Surrogate:
        """Return the fitted surrogate; `map` spreads the fits of the K latent outputs."""

    def predict(self, surrogate: Surrogate, u: Array) -> tuple[Array, Array]:
        """Return mean (M, K) and variance (M, K) of the latent outputs at `u` (M, P)."""

    def misfit(
        self, surrogate: Surrogate, obs: Observations, mean: Array, variance: Array
    ) -> tuple[Array, Array]:
        """Return Phi (M) of latent outputs `mean` (M, K) and its sd (M) from their `variance` (M, K)."""

    def log_likelihood(self, surrogate: Surrogate, obs: Observations) -> LogLikelihood:
        """Return the function u (M, P) -> log L (M) that the sampler sees."""
