"""Emulator of the model's outputs: Gaussian processes of the whitened, compressed predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.emulate import likelihood
from fatescal.emulate.encoder import encode
from fatescal.emulate.gp import (
    JOINT,
    PRODUCT,
    Form,
    Process,
    calibrate,
    explained,
    fit_outputs,
    in_order,
    left_out_error,
    processes,
    refitted_hold_out,
    trend_degree,
)
from fatescal.emulate.training import LEARNING, learning_rows, nearest_rows, twins
from fatescal.protocols import LogLikelihood, Map
from fatescal.records import Array, Observations, Surrogate, TrainingSet

FEW = 64  # runs up to which all count as near the optimum, and are held out with a fit of their own


@dataclass(frozen=True)
class OutputsEmulator:
    """Calibrate, emulate, sample with emulated outputs (Cleary et al. 2021).

    Attributes
    ----------
    discarded : float
        Sum of squares that the compression may discard of any run near the optimum, in units of 2 Phi.
    variance : str
        What the emulator's own error does to the likelihood, a name of `likelihood.MODES`, or `auto`.
    """

    discarded: float = 0.5
    variance: str = "auto"

    def fit(
        self, rng: np.random.Generator, training: TrainingSet, obs: Observations, map: Map = in_order
    ) -> Surrogate:
        """Return the surrogate of the latent outputs; all outputs share one correlation; a task of `map` for each form.

        Kernel and trend (a constant, or the highest polynomial the runs allow) are those that predict left-out
        runs best: the wrong ones do as much harm as the right ones good. All runs are used. Outputs stay
        bounded where the misfit grows without bound, so the far runs of the prior ensemble do no harm here,
        and they keep the tempered chains from wandering into gaps. Length scales are learnt from the runs that
        matter most (`learning_rows`), since their fit takes the cube of the number of runs.
        """
        u, phi = training.u, obs.misfit(training.predictions)
        few = len(u) <= FEW
        near = np.ones(len(u), dtype=bool) if few else nearest_rows(phi, u.shape[1])
        mean, basis, latent = encode(obs, training.predictions, near, self.discarded)
        # With three rows for a coefficient a trend wins among the training runs and fails on others.
        degrees = sorted({0, trend_degree(len(u), u.shape[1], rows_each=6)})
        forms = [Form(k, d, warped=True) for k in (JOINT, PRODUCT) for d in degrees]
        fitted = fit_outputs(rng, u, latent, forms, map, learning_rows(phi))
        judged = np.arange(len(u)) if few else np.argsort(phi, kind="stable")[:LEARNING]
        errors = [left_out_error(h, u, latent, form, judged) for h, form in zip(fitted, forms, strict=True)]
        best, form = fitted[int(np.argmin(errors))], forms[int(np.argmin(errors))]
        together = twins(u, near)
        if few:
            held_out = refitted_hold_out(best, u, latent, form, together, map)
        else:
            held_out = Process.of(best, u, latent, form).hold_out(latent, together)
        return Surrogate(
            target="outputs", kernel=form.kernel, mean=mean, basis=basis,
            hyperparameters=calibrate(best.hyperparameters, latent[near], *held_out),
            u=u, latent=latent, scores=explained(latent[near], held_out[0]),
            memory={"degree": np.array(form.degree), "axes": np.eye(u.shape[1]), "warp": best.warp},
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
        """Return u (M, P) -> log L (M) with the emulator's own error as the variance mode says."""
        target, rest = self._project(surrogate, obs)
        process = processes(surrogate)
        mode = likelihood.chosen(self.variance, process, target, surrogate.u)

        def evaluate(u: Array) -> Array:
            mean, variance = process(u)
            return mode(target - mean, variance) - 0.5 * rest

        return evaluate

    def _project(self, surrogate: Surrogate, obs: Observations) -> tuple[Array, float]:
        """Return the observations in latent coordinates (K) and |y_perp|^2, what no mode can reach."""
        y = obs.whiten(obs.y) - surrogate.mean
        target = surrogate.basis.T @ y
        outside = y - surrogate.basis @ target
        return target, float(outside @ outside)
