"""What the emulators remember: a record for each, by whose declaration it is checked and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fatescal.base.types import Array
from fatescal.emulate.gaussian_process import Fitted, GPMixture, Process
from fatescal.emulate.kernels import GPSpec
from fatescal.storage.declaration import array
from fatescal.storage.records import Surrogate


@dataclass(frozen=True, eq=False, kw_only=True)
class GPSurrogate(Surrogate):
    """F Gaussian-process emulators of the same K latent outputs, mixed by their shares.

    The last axis (H) of `hyperparameters` holds P length scales, process and nugget variance; a kernel with
    fewer weights than T leaves the last of them zero.
    """

    kernel: Array = array("F", dtype=np.str_)
    degree: Array = array("F", dtype=np.int64)  # of the trend
    share: Array = array("F")  # sum 1
    hyperparameters: Array = array("F K H")
    warp: Array = array("F K B P")  # B = 2: rate and bend of the inputs
    weights: Array = array("F K T")  # of the kernel, sum 1
    axes: Array = array("P P")  # orthogonal; trend and correlations see u @ axes

    @property
    def description(self) -> str:
        """What the processes are made of, in words."""
        forms = zip(self.kernel.tolist(), self.degree.tolist(), self.share.tolist(), strict=True)
        return ", ".join(
            f"{kernel}, trend of degree {degree}" + (f" ({share:.0%})" if share < 1.0 else "")
            for kernel, degree, share in forms
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class OutputsSurrogate(GPSurrogate):
    """What the emulator of outputs remembers: how it predicts runs with hyperparameters fitted without them.

    `held_out_variance` and `variance`, the process variance of the first member, are those that the fit has
    calibrated.
    """

    held_out_rows: Array = array("G", dtype=np.int64)
    held_out_mean: Array = array("G K")
    held_out_variance: Array = array("G K")
    variance: Array = array("K")


@dataclass(frozen=True, eq=False, kw_only=True)
class MisfitSurrogate(GPSurrogate):
    """What the emulator of the misfit remembers: the transform f = (Phi + shift)^power, of power 0 log."""

    power: float
    shift: float


def members(forms: Sequence[GPSpec], fitted: Sequence[Fitted], share: Array, axes: Array) -> dict[str, Any]:
    """Return the fields of `GPSurrogate` that tell what the processes are."""
    n_weights = max(one.weights.shape[1] for one in fitted)
    padded = [np.pad(one.weights, ((0, 0), (0, n_weights - one.weights.shape[1]))) for one in fitted]
    return {
        "kernel": [form.kernel for form in forms],
        "degree": [form.degree for form in forms],
        "share": share,
        "hyperparameters": [one.hyperparameters for one in fitted],
        "warp": [one.warp for one in fitted],
        "weights": padded,
        "axes": axes,
    }


@lru_cache(maxsize=2)  # by identity: records are frozen and compare by identity
def processes(surrogate: GPSurrogate) -> GPMixture:
    """Return the conditioned processes of a surrogate; the Cholesky factors are computed once."""
    n_parameters = surrogate.u.shape[1]
    conditioned = []
    for f, (kernel, degree) in enumerate(
        zip(surrogate.kernel.tolist(), surrogate.degree.tolist(), strict=True)
    ):
        form = GPSpec(kernel, degree)
        weights = surrogate.weights[f, :, : form.n_weights(n_parameters)]
        fitted = Fitted(surrogate.hyperparameters[f], surrogate.warp[f], weights)
        conditioned.append(Process.condition(fitted, surrogate.u, surrogate.latent, form, surrogate.axes))
    return GPMixture(surrogate.share, tuple(conditioned))
