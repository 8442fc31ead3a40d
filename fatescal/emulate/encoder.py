"""Compression of the whitened predictions to the few modes that carry the misfit."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array
from fatescal.storage.records import Observations

BEST = 20  # runs whose mean residual is an axis
NOTHING = 1e-6  # noise sd: a residual without direction
FAINT = 1e-3  # noise sd: a mode of all runs together whose direction may be rounding; no part of the axis


def encode(
    obs: Observations, predictions: Array, near: Array, n_parameters: int, discarded: float = 0.5
) -> tuple[Array, Array, Array]:
    """Return mean (D), orthonormal basis (D, K) and latent outputs (N, K) of whitened predictions.

    The first axis is the residual of the observations from the best runs, but for its part along the P modes
    that vary most. An emulator that errs by e (K) changes Phi by r'e, r (K) the residual, and by |e|^2 / 2,
    which is small: the error of Phi is the error along the residual. Outputs vary little along it, as the
    optimum is flat, and with a correlation of its own it is predicted better than as a sum over modes.
    The error of Phi at fresh members fell from 0.36 to 0.24 (a twin of 16 parameters), from 0.42 to 0.36
    (eight parameters, real fluxes).

    All others are principal modes of the rest, as many as it takes for every run near the optimum to lose
    less than `discarded` of its sum of squares. A share of the variance is no criterion: runs far from the
    optimum make up nearly all of it, and 99 % still moved Phi by 25 in a real land model's ensemble.

    Parameters
    ----------
    obs : Observations
        Whitens *before* the decomposition; otherwise the variable with the smaller unit is lost.
    predictions : (N, D) array
        In the unit of the observations.
    near : (N) mask
        Runs near the optimum.
    n_parameters : int
        P of the runs.
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
    rows, span = _modes(g - mean)  # (N, R), (R, D)
    target = span @ (obs.whiten(obs.y) - mean)
    best = np.argsort(obs.misfit(predictions), kind="stable")[:BEST]
    residual = target - rows[best].mean(axis=0)
    residual[:n_parameters] = 0.0
    residual[np.linalg.norm(rows, axis=0) < FAINT] = 0.0
    size = np.linalg.norm(residual)
    axis = residual[None] / size if size > NOTHING else np.empty((0, len(target)))
    modes = _modes(rows - rows @ axis.T @ axis)[1]
    frame = np.linalg.qr(np.vstack([axis, modes]).T)[0]  # faint modes are not quite orthogonal
    latent, first = rows @ frame, len(axis)
    lost = np.cumsum(latent[near, first:][:, ::-1] ** 2, axis=1)[:, ::-1].max(axis=0, initial=0.0)
    shows = np.flatnonzero(lost >= discarded)  # modes whose loss, with all after it, does
    n_kept = first + 1 + int(shows.max(initial=0))
    basis, latent = span.T @ frame[:, :n_kept], latent[:, :n_kept]
    sign = np.sign(basis[np.argmax(np.abs(basis), axis=0), np.arange(basis.shape[1])])
    return mean, basis * sign, latent * sign


def _modes(x: Array) -> tuple[Array, Array]:
    """Return coordinates (N, R) of the rows of `x` (N, D) and the R principal modes (R, D) that they have."""
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(singular > singular[0] * max(x.shape) * np.finfo(float).eps))
    return left[:, :rank] * singular[:rank], right[:rank]
