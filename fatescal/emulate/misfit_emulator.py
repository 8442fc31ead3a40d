"""Emulator of the misfit alone: one Gaussian process of a transform of Phi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fatescal.base.types import Array, Map
from fatescal.emulate.base import Emulator
from fatescal.emulate.fit import fit_outputs, in_order
from fatescal.emulate.gaussian_process import Fitted, GPMixture, Process
from fatescal.emulate.hold_out import calibration, explained
from fatescal.emulate.kernels import JOINT, GPSpec, trend_degree
from fatescal.emulate.surrogates import MisfitSurrogate, members, processes
from fatescal.emulate.training import near_limit, nearest_rows, principal_axes, twins
from fatescal.storage.records import Observations, TrainingSet


@dataclass(frozen=True)
class Transform:
    """Monotone map f = (Phi + shift)^power of the misfit, the logarithm where the power is 0.

    >>> t = Transform(0.5, 0.0)
    >>> float(t.forward(np.array(8.0))), float(t.inverse(t.forward(np.array(8.0))))
    (2.8284271247461903, 8.000000000000002)
    """

    power: float
    shift: float

    def forward(self, phi: Array) -> Array:
        """Return f of the misfit."""
        return np.log(phi + self.shift) if self.power == 0 else (phi + self.shift) ** self.power

    def inverse(self, f: Array) -> Array:
        """Return Phi; a root predicted below zero continues monotonely to negative Phi."""
        if self.power == 0:
            return np.exp(np.minimum(f, 700.0)) - self.shift  # beyond, exp overflows and L is 0 anyway
        return np.sign(f) * np.abs(f) ** (1.0 / self.power) - self.shift

    def slope(self, f: Array) -> Array:
        """Return dPhi/df."""
        return (
            np.exp(np.minimum(f, 700.0))
            if self.power == 0
            else np.abs(f) ** (1.0 / self.power - 1.0) / self.power
        )


class MisfitEmulator(Emulator):
    """One process of Phi, sqrt(Phi) or log(Phi - Phi_min + 10), whichever predicts held-out runs best.

    The likelihood is plug-in: log L = -Phi(mean). The expectation over the process, exp(-m + s^2/2),
    rewards ignorance, and a penalty m + kappa s is no Bayesian statement.
    """

    kind: ClassVar[str] = "misfit"

    @property
    def record(self) -> type[MisfitSurrogate]:
        """The type of what `fit` returns."""
        return MisfitSurrogate

    def fit(
        self, rng: np.random.Generator, training: TrainingSet, obs: Observations, map: Map = in_order
    ) -> MisfitSurrogate:
        """Return the surrogate of the transform that predicts best; one task of `map` for each transform.

        All runs are used: without the far ones the quadratic trend may sink again beyond the known
        region; root and logarithm keep their huge Phi from ruling the fit. The process sees u along the
        principal axes of the runs near the optimum: Phi is a narrow, tilted bowl, and without the rotation
        its hold-out error was twice as large on test problems with 320 runs of six parameters. With 128 it
        made no difference: both failed. The outputs are smooth along every axis and gain nothing.
        """
        u, phi = training.u, obs.misfit(training.predictions)
        near = nearest_rows(phi, u.shape[1])
        groups = twins(u, near)
        transforms = [
            Transform(1.0, 0.0),
            Transform(0.5, 0.0),
            Transform(0.0, near_limit(u.shape[1]) - phi.min()),
        ]
        outputs = np.stack([transform.forward(phi) for transform in transforms], axis=1)
        form, axes = GPSpec(JOINT, trend_degree(*u.shape)), principal_axes(u[near])[0]
        single = [fit_outputs(rng, u @ axes, f[:, None], [form], map)[0] for f in outputs.T]
        fitted = Fitted.plain(np.vstack([one.hyperparameters for one in single]))
        held_out, variance = Process.condition(fitted, u, outputs, form, axes).hold_out(outputs, groups)
        errors = [
            np.mean((transform.inverse(f) - phi[near]) ** 2)
            for transform, f in zip(transforms, held_out.T, strict=True)
        ]
        best = [int(np.argmin(errors))]
        truth, held_out, variance = outputs[near][:, best], held_out[:, best], variance[:, best]
        chosen = fitted.part(slice(best[0], best[0] + 1)).calibrated(calibration(truth, held_out, variance))
        return MisfitSurrogate(
            mean=np.zeros(len(obs)), basis=np.zeros((len(obs), 1)), u=u, latent=outputs[:, best],
            scores=explained(truth, held_out), power=transforms[best[0]].power, shift=transforms[best[0]].shift,
            **members([form], [chosen], np.ones(1), axes),
        )  # fmt: skip

    def conditioned(self, surrogate: MisfitSurrogate) -> GPMixture:
        """Return the process of the transformed misfit, conditioned once."""
        return processes(surrogate)

    def description(self, surrogate: MisfitSurrogate) -> str:
        """Return in words what the surrogate is."""
        return f"Gaussian processes ({surrogate.description}) learnt the misfit Φ, from {len(surrogate.u)} model runs"

    def misfit(
        self, surrogate: MisfitSurrogate, obs: Observations, mean: Array, variance: Array
    ) -> tuple[Array, Array]:
        """Return Phi (M) of the transformed `mean` (M, 1) and its sd (M), to first order in `variance`."""
        transform = _transform(surrogate)
        return transform.inverse(mean[:, 0]), transform.slope(mean[:, 0]) * np.sqrt(variance[:, 0])


def _transform(surrogate: MisfitSurrogate) -> Transform:
    return Transform(surrogate.power, surrogate.shift)
