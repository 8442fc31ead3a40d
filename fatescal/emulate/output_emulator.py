"""Emulator of the model's outputs: Gaussian processes of the whitened, compressed predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import numpy as np

from fatescal.base.options import Field, Number
from fatescal.base.types import Array, Map
from fatescal.emulate import likelihood
from fatescal.emulate.base import Emulator
from fatescal.emulate.encoder import encode
from fatescal.emulate.fit import fit_outputs, in_order, refit
from fatescal.emulate.gaussian_process import GPMixture, Process, mixed
from fatescal.emulate.hold_out import (
    best_form,
    calibration,
    explained,
    refitted_hold_out,
    shares,
)
from fatescal.emulate.kernels import JOINT, PAIRS, PRODUCT, GPSpec, trend, trend_degree
from fatescal.emulate.surrogates import OutputsSurrogate, members, processes
from fatescal.emulate.training import ROUGH, learning_rows, nearest_rows, twins
from fatescal.storage.records import Observations, TrainingSet

KINDS = ((JOINT, False), (JOINT, True), (PRODUCT, True), (PAIRS, True))  # kernel, warped
FEW = 128  # runs up to which all count as near the optimum, and forms are averaged


class OutputsEmulator(Emulator):
    """Gaussian processes of the compressed outputs (calibrate, emulate, sample; Cleary et al. 2021)."""

    kind: ClassVar[str] = "outputs"

    variance: Literal["auto", *likelihood.MODES] | None = None  # type: ignore[valid-type]
    """what the emulator's own error does to the likelihood: auto (default), plug-in, expected or marginal"""
    discarded: Annotated[Number, Field(ge=0)] = 0.5
    """sum of squares that the compression may discard of any run near the optimum, in units of 2 Phi"""

    @property
    def record(self) -> type[OutputsSurrogate]:
        """The type of what `fit` returns."""
        return OutputsSurrogate

    def fit(
        self, rng: np.random.Generator, training: TrainingSet, obs: Observations, map: Map = in_order
    ) -> OutputsSurrogate:
        """Return the surrogate of the latent outputs; a task of `map` for each form, and for each of its
        hold-outs.

        Forms differ in kernel, trend (a constant, or linear where the runs allow it) and warp. The wrong one
        does as much harm as the right one good. Many runs tell which is right: the one that best predicts
        left-out runs near the optimum, with one correlation for all outputs but the first, for speed. (By all
        runs those far away decide: the misfit's error at fresh members of a twin of 16 parameters was 0.58 in
        the place of 0.38.) Few do not: there all forms are averaged, weighed by what they predict of left-out
        runs. Outputs above the noise have a correlation of their own near the shared one, the others one
        together. The first output, along the residual, always has its own (`encode` says why).

        All runs are used. Outputs stay bounded where the misfit grows without bound, so the far runs of the
        prior ensemble do no harm here, and they keep the tempered chains from wandering into gaps. Of many
        runs correlations are learnt from those that matter most (`learning_rows`), since their fit takes the
        cube of the number of runs; forms are compared by fits to fewer still.
        """
        u, phi = training.u, obs.misfit(training.predictions)
        few = len(u) <= FEW
        near = np.ones(len(u), dtype=bool) if few else nearest_rows(phi, u.shape[1])
        mean, basis, latent = encode(obs, training.predictions, near, u.shape[1], self.discarded)
        # With three rows for a coefficient a trend wins among the training runs and fails on others.
        # A quadratic one runs away outside the runs (real fluxes, eight parameters: sd of Phi 12).
        degrees = sorted({0, min(1, trend_degree(len(u), u.shape[1], rows_each=6))})
        forms = [GPSpec(k, d, w) for k, w in KINDS for d in degrees if w or few]
        own = few & (latent.std(axis=0) > 1.0)  # noise is 1
        own[0] = True  # the residual's axis, whose error is that of Phi
        n_rough = len(u) if few else max(ROUGH, 2 * trend(u[:1], degrees[-1]).shape[1])
        fitted = fit_outputs(rng, u, latent, forms, map, learning_rows(phi, n_rough), own)
        together = twins(u, near)
        if few:
            held_out = refitted_hold_out(fitted, u, latent, forms, own, together, map)
            share = shares(latent, held_out[:, 0])
        else:
            best = best_form(fitted, u, latent, forms, np.flatnonzero(near))
            forms, share = [forms[best]], np.ones(1)
            fitted = [refit(fitted[best], u, latent, forms[0], own, learning_rows(phi))]
            held_out = np.array(
                [Process.condition(fitted[0], u, latent, forms[0]).hold_out(latent, together)]
            )
        predicted, variance = mixed(share, held_out[:, 0], held_out[:, 1])
        factors = calibration(latent[near], predicted, variance)
        kept = np.flatnonzero(share)
        mixture = [fitted[i].calibrated(factors) for i in kept]
        return OutputsSurrogate(
            mean=mean, basis=basis, u=u, latent=latent, scores=explained(latent[near], predicted),
            held_out_rows=np.flatnonzero(near), held_out_mean=predicted, held_out_variance=variance * factors,
            variance=mixture[0].hyperparameters[:, -2],
            **members([forms[i] for i in kept], mixture, share[kept], np.eye(u.shape[1])),
        )  # fmt: skip

    def conditioned(self, surrogate: OutputsSurrogate) -> GPMixture:
        """Return the mixture of processes, conditioned once."""
        return processes(surrogate)

    def left_out(
        self, surrogate: OutputsSurrogate, near: Array, mean: Array, variance: Array
    ) -> tuple[Array, Array, Array]:
        """Return truth, mean and variance (G, K) of the predictions made with hyperparameters fitted anew.

        `mean` and `variance` of the rows `near`, whose hyperparameters have seen the left-out runs, make few
        runs look better predicted than they are. The kept variances follow those of the surrogate, so that a
        surrogate with wrong ones is seen.
        """
        scale = surrogate.hyperparameters[0, :, -2] / surrogate.variance
        truth = surrogate.latent[surrogate.held_out_rows]
        return truth, surrogate.held_out_mean, surrogate.held_out_variance * scale

    def description(self, surrogate: OutputsSurrogate) -> str:
        """Return in words what the surrogate is."""
        n_runs, n_outputs = surrogate.latent.shape
        return (
            f"Gaussian processes ({surrogate.description}) learnt {n_outputs} latent outputs, to which the "
            f"calibration observations are compressed, from {n_runs} model runs"
        )

    def misfit(
        self, surrogate: OutputsSurrogate, obs: Observations, mean: Array, variance: Array
    ) -> tuple[Array, Array]:
        """Return Phi (M) of the latent outputs `mean` (M, K) and its sd (M) from their `variance`."""
        target, rest = self._project(surrogate, obs)
        residual = target - mean
        phi = 0.5 * (np.sum(residual**2, axis=1) + rest)
        return phi, likelihood.sd_of_misfit(residual, variance)

    def likelihood_of_prediction(
        self, surrogate: OutputsSurrogate, obs: Observations
    ) -> Callable[[Array, Array], Array]:
        """Return (mean, variance) (M, K) -> log L (M) with the emulator's own error as the variance mode
        says, ignorance charged for.
        """
        target, rest = self._project(surrogate, obs)
        mode = likelihood.chosen(self.variance or "auto", processes(surrogate), target, surrogate.u)
        return lambda mean, variance: likelihood.charged(mode, target - mean, variance) - 0.5 * rest

    def _without(self, surrogate: OutputsSurrogate, rows: Array, groups: list[Array]) -> tuple[Array, Array]:
        """Return the held-out predictions: those of hyperparameters fitted anew where there are any."""
        mean, variance = self.conditioned(surrogate).hold_out(surrogate.latent, groups)
        place = {row: i for i, row in enumerate(surrogate.held_out_rows.tolist())}
        for r, row in enumerate(rows.tolist()):
            if row in place:
                mean[r] = surrogate.held_out_mean[place[row]]
                variance[r] = surrogate.held_out_variance[place[row]]
        return mean, variance

    def _project(self, surrogate: OutputsSurrogate, obs: Observations) -> tuple[Array, float]:
        """Return the observations in latent coordinates (K) and |y_perp|^2, what no mode can reach."""
        y = obs.whiten(obs.y) - surrogate.mean
        target = surrogate.basis.T @ y
        outside = y - surrogate.basis @ target
        return target, float(outside @ outside)
