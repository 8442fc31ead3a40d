"""Emulator of the model's outputs: Gaussian processes of the whitened, compressed predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array, LogLikelihood, Map
from fatescal.emulate import likelihood
from fatescal.emulate.encoder import encode
from fatescal.emulate.fit import fit_outputs, in_order
from fatescal.emulate.gaussian_process import Process, mixed, processes
from fatescal.emulate.hold_out import (
    calibrated,
    calibration,
    explained,
    left_out_error,
    refitted_hold_out,
    shares,
)
from fatescal.emulate.kernels import JOINT, PRODUCT, GPSpec, trend_degree
from fatescal.emulate.training import LEARNING, learning_rows, nearest_rows, twins
from fatescal.storage.records import Observations, Surrogate, TrainingSet

FEW = 64  # runs up to which all count as near the optimum, and forms are averaged


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
        """Return the surrogate of the latent outputs; a task of `map` for each form, and for each of its
        hold-outs.

        Forms differ in kernel, trend (a constant, or the highest polynomial the runs allow) and warp. The
        wrong one does as much harm as the right one good. Many runs tell which is right: the one that
        predicts left-out runs best, with one correlation for all outputs, for speed. Few do not: there all
        forms are averaged, weighed by what they predict of left-out runs, and outputs above the noise have a
        correlation of their own near the shared one.

        All runs are used. Outputs stay bounded where the misfit grows without bound, so the far runs of the
        prior ensemble do no harm here, and they keep the tempered chains from wandering into gaps. Length
        scales are learnt from the runs that matter most (`learning_rows`), since their fit takes the cube of
        the number of runs.
        """
        u, phi = training.u, obs.misfit(training.predictions)
        few = len(u) <= FEW
        near = np.ones(len(u), dtype=bool) if few else nearest_rows(phi, u.shape[1])
        mean, basis, latent = encode(obs, training.predictions, near, self.discarded)
        # With three rows for a coefficient a trend wins among the training runs and fails on others.
        degrees = sorted({0, trend_degree(len(u), u.shape[1], rows_each=6)})
        warps = (False, True) if few else (True,)
        forms = [GPSpec(k, d, w) for k in (JOINT, PRODUCT) for d in degrees for w in warps]
        own = few & (latent.std(axis=0) > 1.0)  # noise is 1
        fitted = fit_outputs(rng, u, latent, forms, map, learning_rows(phi), own)
        together = twins(u, near)
        if few:
            held_out = refitted_hold_out(fitted, u, latent, forms, own, together, map)
            share = shares(latent, held_out[:, 0])
        else:
            judged = np.argsort(phi, kind="stable")[:LEARNING]
            errors = [left_out_error(one, u, latent, f, judged) for one, f in zip(fitted, forms, strict=True)]
            best = int(np.argmin(errors))
            fitted, forms, share = [fitted[best]], [forms[best]], np.ones(1)
            held_out = np.array([Process.of(fitted[0], u, latent, forms[0]).hold_out(latent, together)])
        predicted, variance = mixed(share, held_out[:, 0], held_out[:, 1])
        factors = calibration(latent[near], predicted, variance)
        kept = np.flatnonzero(share)
        return Surrogate(
            target="outputs", kernel=" + ".join(forms[i].kernel for i in kept), mean=mean, basis=basis,
            hyperparameters=np.hstack([calibrated(fitted[i].hyperparameters, factors) for i in kept]),
            u=u, latent=latent, scores=explained(latent[near], predicted),
            memory={
                "degree": np.array([forms[i].degree for i in kept]), "axes": np.eye(u.shape[1]),
                "warp": np.array([fitted[i].warp for i in kept]), "shares": share[kept],
                "held_out": np.array([predicted, variance * factors]), "held_out_rows": np.flatnonzero(near),
                "variance": factors * fitted[kept[0]].hyperparameters[:, -2],
            },
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
        """Return u (M, P) -> log L (M) with the emulator's own error as the variance mode says,
        ignorance charged for.
        """
        target, rest = self._project(surrogate, obs)
        process = processes(surrogate)
        mode = likelihood.chosen(self.variance, process, target, surrogate.u)

        def evaluate(u: Array) -> Array:
            mean, variance = process(u)
            return likelihood.charged(mode, target - mean, variance) - 0.5 * rest

        return evaluate

    def _project(self, surrogate: Surrogate, obs: Observations) -> tuple[Array, float]:
        """Return the observations in latent coordinates (K) and |y_perp|^2, what no mode can reach."""
        y = obs.whiten(obs.y) - surrogate.mean
        target = surrogate.basis.T @ y
        outside = y - surrogate.basis @ target
        return target, float(outside @ outside)
