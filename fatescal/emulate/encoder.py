"""Compression of the whitened predictions to the few modes that carry the misfit."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array
from fatescal.storage.records import Observations


def encode(
    obs: Observations, predictions: Array, near: Array, discarded: float = 0.5
) -> tuple[Array, Array, Array]:
    """Return mean (D), orthonormal basis (D, K) and latent outputs (N, K) of whitened predictions.

    As many principal modes are kept as it takes for every run near the optimum to lose less than `discarded`
    of its sum of squares. Where the model cannot fit the data, even a small discarded part may lie along the
    large residual: one more mode, the discarded part of the residual, holds all of it, so that 2 Phi changes
    by less than `discarded`, too. (More principal modes instead would be 153 in the place of 21 for the
    embedded model on real fluxes: nine parameters, 496 runs.) A share of the variance is no criterion: runs
    far from the optimum make up nearly all of it, and 99 % still moved Phi by 25 in a real land model's
    ensemble.

    Parameters
    ----------
    obs : Observations
        Whitens *before* the decomposition; otherwise the variable with the smaller unit is lost.
    predictions : (N, D) array
        In the unit of the observations.
    near : (N) mask
        Runs near the optimum.
    discarded : float
        Bound in units of 2 Phi. Zero keeps every mode.

    Notes
    -----
    LAPACK's SVD of an N x D matrix with D >> N starts with a QR step, so the iterations work on N x N;
    the eigenvectors of the Gram matrix, as cheap, would lose half the digits. A mode's largest entry is
    positive.
    """
    g = obs.whiten(predictions)
    mean = g.mean(axis=0)
    left, singular, right = np.linalg.svd(g - mean, full_matrices=False)
    rank = max(1, int(np.sum(singular > singular[0] * max(g.shape) * np.finfo(float).eps)))
    latent = left[:, :rank] * singular[:rank]
    target = right[:rank] @ (obs.whiten(obs.y) - mean)
    lost = np.cumsum(latent[near, ::-1] ** 2, axis=1)[:, ::-1].max(axis=0)
    shows = np.flatnonzero(lost >= discarded)  # modes whose loss, with all after it, does
    n_modes = 1 + int(shows.max(initial=0))
    # What is discarded changes 2 Phi by its square less twice this.
    along = latent[:, n_modes:] @ target[n_modes:]
    if np.abs(2.0 * along[near]).max(initial=0.0) >= discarded > 0.0:
        size = np.linalg.norm(target[n_modes:])
        residual = target[n_modes:] @ right[n_modes:rank] / size
        basis = np.column_stack([right[:n_modes].T, residual])
        latent = np.column_stack([latent[:, :n_modes], along / size])
    else:
        basis, latent = right[:n_modes].T, latent[:, :n_modes]
    sign = np.sign(basis[np.argmax(np.abs(basis), axis=0), np.arange(basis.shape[1])])
    return mean, basis * sign, latent * sign
