"""What an emulator is: its options as they stand in a config, its fit, and what the stages ask of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from fatescal.base.options import Options
from fatescal.base.types import Array, LogLikelihood, Map
from fatescal.emulate.likelihood import charge
from fatescal.emulate.training import twins
from fatescal.storage.records import Observations, Surrogate, TrainingSet

RESERVED = ("target", "force", "rounds")  # keys of `emulate` whatever the emulator


class Predictor(Protocol):
    """A surrogate made ready to predict, once."""

    @property
    def nugget(self) -> Array:
        """The variance (K) that no run takes away."""

    def __call__(self, u: Array) -> tuple[Array, Array]:
        """Return mean and variance (M, K) of the latent outputs of runs at `u` (M, P)."""

    def covariance(self, u: Array) -> Array:
        """Return the covariance (K, M, M) of the latent outputs of runs at `u` (M, P)."""

    def hold_out(self, outputs: Array, groups: list[Array]) -> tuple[Array, Array]:
        """Return mean and variance (G, K) of the first row of each group of training rows, predicted without
        that group."""


class Emulator(Options):
    """Learns the map from u to the whitened predictions, or to their misfit.

    An emulator is one class: its fields are its keys in the section `emulate` of a config, the docstring
    below a field describes its key, its methods do the work. It is listed in `registry.py`, or given by
    another package as an entry point, by the name `kind`, of the group `fatescal.emulators`.

    A `surrogate` is always of the type `record`, as `fit` has returned it or as it was stored.

    Attributes
    ----------
    kind : str
        The emulator's name in a config: `emulate.target`.
    """

    kind: ClassVar[str]

    @property
    def record(self) -> type[Surrogate]:
        """The type of what `fit` returns, by whose declaration it is checked and stored."""
        return Surrogate

    @abstractmethod
    def fit(
        self, rng: np.random.Generator, training: TrainingSet, obs: Observations, map: Map = ...
    ) -> Surrogate:
        """Return the fitted surrogate; `map` spreads tasks over the ranks."""

    @abstractmethod
    def conditioned(self, surrogate: Any) -> Predictor:
        """Return the surrogate made ready to predict; asked often, so that it should be cached."""

    @abstractmethod
    def misfit(self, surrogate: Any, obs: Observations, mean: Array, variance: Array) -> tuple[Array, Array]:
        """Return Phi (M) of latent outputs `mean` (M, K) and its sd (M) from their `variance` (M, K)."""

    def likelihood_of_prediction(self, surrogate: Any, obs: Observations) -> Callable[[Array, Array], Array]:
        """Return the function (mean, variance) (M, K) of latent outputs -> log L (M): -Phi, less the `charge`
        of its uncertainty, as chains must not sit where no run vouches for the emulator.
        """

        def evaluate(mean: Array, variance: Array) -> Array:
            phi, sd = self.misfit(surrogate, obs, mean, variance)
            return -phi - charge(sd)

        return evaluate

    def log_likelihood(self, surrogate: Any, obs: Observations) -> LogLikelihood:
        """Return the function u (M, P) -> log L (M) that the sampler sees."""
        of_prediction = self.likelihood_of_prediction(surrogate, obs)
        predictor = self.conditioned(surrogate)
        return lambda u: of_prediction(*predictor(u))

    def left_out_log_likelihood(self, surrogate: Any, obs: Observations, rows: Array) -> Array:
        """Return log L (R) at the training rows `rows` (R), each predicted without itself and its twins."""
        chosen = np.isin(np.arange(len(surrogate.u)), rows)
        together = dict(zip(np.flatnonzero(chosen).tolist(), twins(surrogate.u, chosen), strict=True))
        groups = [together[row] for row in rows.tolist()]
        return self.likelihood_of_prediction(surrogate, obs)(*self._without(surrogate, rows, groups))

    def _without(self, surrogate: Any, rows: Array, groups: list[Array]) -> tuple[Array, Array]:
        """Return mean and variance (R, K) of the latent outputs of `rows` (R), each without its group."""
        return self.conditioned(surrogate).hold_out(surrogate.latent, groups)

    def predict(self, surrogate: Any, u: Array) -> tuple[Array, Array]:
        """Return mean (M, K) and variance (M, K) of the latent outputs at `u` (M, P)."""
        return self.conditioned(surrogate)(u)

    def left_out(
        self, surrogate: Any, near: Array, mean: Array, variance: Array
    ) -> tuple[Array, Array, Array]:
        """Return truth, mean and variance (G, K) of the held-out predictions that judge the variances.

        Those given, `mean` and `variance` (G, K) of the rows of the mask `near` (N), unless the fit has kept
        better ones.
        """
        return surrogate.latent[near], mean, variance

    def description(self, surrogate: Any) -> str:
        """Return in words what the surrogate is, for the report."""
        n_runs, n_outputs = surrogate.latent.shape
        return f"emulator {self.kind}: {n_outputs} latent outputs learnt from {n_runs} model runs"
