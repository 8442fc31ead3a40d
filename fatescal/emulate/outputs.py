"""Emulator of the model's outputs: Gaussian processes of the whitened, compressed predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.emulate.encoder import encode
from fatescal.emulate.gp import (
    JOINT,
    PRODUCT,
    Form,
    calibrate,
    explained,
    fit_outputs,
    in_order,
    left_out_error,
    processes,
    trend_degree,
)
from fatescal.emulate.training import nearest_rows, twins
from fatescal.protocols import LogLikelihood, Map
from fatescal.records import Array, Observations, Surrogate, TrainingSet


@dataclass(frozen=True)
class OutputsEmulator:
    """Calibrate, emulate, sample with emulated outputs (Cleary et al. 2021).

    Attributes
    ----------
    discarded : float
        Sum of squares that the compression may discard of any run near the optimum, in units of 2 Phi.
    """

    discarded: float = 0.5

    def fit(
        self, rng: np.random.Generator, training: TrainingSet, obs: Observations, map: Map = in_order
    ) -> Surrogate:
        """Return the surrogate of the latent outputs; one task of `map` for each and each form.

        Kernel and trend (a constant, or the highest polynomial the runs allow) are those that predict left-out
        runs best: the wrong ones do as much harm as the right ones good. All runs are used. Outputs stay
        bounded where the misfit grows without bound, so the far runs of the prior ensemble do no harm here,
        and they keep the tempered chains from wandering into gaps.
        """
        u = training.u
        near = nearest_rows(obs.misfit(training.predictions), u.shape[1])
        mean, basis, latent = encode(obs, training.predictions, near, self.discarded)
        forms = [Form(k, d) for k in (JOINT, PRODUCT) for d in sorted({0, trend_degree(*u.shape)})]
        fitted = fit_outputs(rng, u, latent, forms, map)
        errors = [left_out_error(h, u, latent, form) for h, form in zip(fitted, forms, strict=True)]
        best, axes = int(np.argmin(errors)), np.eye(u.shape[1])
        hyperparameters, held_out = calibrate(fitted[best], u, latent, forms[best], axes, twins(u, near))
        return Surrogate(
            target="outputs", kernel=forms[best].kernel, mean=mean, basis=basis, hyperparameters=hyperparameters,
            u=u, latent=latent, scores=explained(latent[near], held_out),
            memory={"degree": np.array(forms[best].degree), "axes": axes},
        )  # fmt: skip

    def predict(self, surrogate: Surrogate, u: Array) -> tuple[Array, Array]:
        """Return mean and variance (M, K) of the latent outputs at `u` (M, P)."""
        return processes(surrogate)(u)

    def misfit(
        self, surrogate: Surrogate, obs: Observations, mean: Array, variance: Array
    ) -> tuple[Array, Array]:
        """Return Phi (M) of the latent outputs `mean` (M, K) and its sd (M) from their `variance`."""
        target, rest = self._project(surrogate, obs)
        error2 = (target - mean) ** 2
        phi = 0.5 * (np.sum(error2, axis=1) + rest)
        return phi, np.sqrt(np.sum(error2 * variance + 0.5 * variance**2, axis=1))

    def log_likelihood(self, surrogate: Surrogate, obs: Observations) -> LogLikelihood:
        """Return u (M, P) -> E[log L] (M) over the emulator's outputs, -1/2 sum_k [(z_k - m_k)^2 + s_k^2] - rest.

        It never rewards ignorance. Rejected: log E[L] = log N(y; m, R + C) (Cleary et al. 2021, eq. 2.17), whose
        residuals shrink where the emulator knows nothing. A model with an error of structure is off by
        20 sd in some latent output (real Hyytiala fluxes), which such a pocket forgives: chains
        then sat 12 prior sd away from every model run, 300 nats above the true optimum. The two agree where the
        gate lets an emulator pass, since s_k is small there; by Jensen's inequality this one is never above.
        """
        target, rest = self._project(surrogate, obs)
        process = processes(surrogate)

        def evaluate(u: Array) -> Array:
            mean, variance = process(u)
            return -0.5 * (np.sum((target - mean) ** 2 + variance, axis=1) + rest)

        return evaluate

    def _project(self, surrogate: Surrogate, obs: Observations) -> tuple[Array, float]:
        """Return the observations in latent coordinates (K) and |y_perp|^2, what no mode can reach."""
        y = obs.whiten(obs.y) - surrogate.mean
        target = surrogate.basis.T @ y
        outside = y - surrogate.basis @ target
        return target, float(outside @ outside)
