"""Compression of the whitened predictions to the few modes that carry the misfit."""

from __future__ import annotations

import numpy as np

from fatescal.records import Array, Observations


def encode(
    obs: Observations, predictions: Array, near: Array, discarded: float = 0.5
) -> tuple[Array, Array, Array]:
    """Return mean (D), orthonormal basis (D, K) and latent outputs (N, K) of whitened predictions.

    As many modes are kept as it takes for every run near the optimum to lose less than `discarded` of its
    sum of squares, and for its 2 Phi to change by less than `discarded`: where the model cannot fit the
    data, a small discarded part may lie along the large residual. A share of the variance is no criterion:
    runs far from the optimum make up nearly all of it, and 99 % still moved Phi by 25 in a real CLM-FATES
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
    squares = latent[near] ** 2
    changes = squares - 2.0 * latent[near] * target  # to 2 Phi = |target - latent|^2
    lost = [np.abs(np.cumsum(part[:, ::-1], axis=1)[:, ::-1]).max(axis=0) for part in (squares, changes)]
    too_much = np.flatnonzero(np.maximum(*lost) >= discarded)  # modes whose loss, with all after it, shows
    n_modes = 1 + int(too_much.max(initial=0))
    basis = right[:n_modes].T
    sign = np.sign(basis[np.argmax(np.abs(basis), axis=0), np.arange(n_modes)])
    return mean, basis * sign, latent[:, :n_modes] * sign
