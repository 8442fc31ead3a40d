"""Where to run the model next, so that the surrogate improves where the posterior is."""

from __future__ import annotations

import numpy as np

from fatescal.base.types import Array
from fatescal.emulate.base import Emulator
from fatescal.storage.records import Observations, Surrogate

N_CANDIDATES = 500


def next_batch(
    rng: np.random.Generator,
    emulator: Emulator,
    surrogate: Surrogate,
    obs: Observations,
    draws: Array,
    n: int,
) -> Array:
    """Return `n` points (n, P) out of the posterior `draws` (S, P) that teach the surrogate most.

    Points are taken one by one where log a = 2 zeta (mu - mu_max) + log(exp(sigma) - 1) is largest, with
    mu the log posterior, sigma the surrogate's sd of Phi and zeta = P^-0.85 (Gammal et al. 2023). After
    each, the surrogate believes its own prediction there (kriging believer): the mean stays, the variance
    around the point falls, and the next one goes elsewhere.

    Raises
    ------
    ValueError
        If there are fewer draws than points asked for.

    Notes
    -----
    Conditioning on one more run with hyperparameters kept is a rank-one update of the covariance among
    the candidates, so that nothing is factorised again.
    """
    if len(draws) < n:
        raise ValueError(f"{n} points cannot be chosen out of {len(draws)} draws")
    count = min(len(draws), max(N_CANDIDATES, 4 * n))
    candidates = draws[np.sort(rng.choice(len(draws), count, replace=False))]
    mean, _ = emulator.predict(surrogate, candidates)
    process = emulator.conditioned(surrogate)
    covariance = process.covariance(candidates)  # (K, S, S)
    log_posterior = emulator.log_likelihood(surrogate, obs)(candidates) - 0.5 * np.sum(candidates**2, axis=1)
    zeta = candidates.shape[1] ** -0.85
    attraction = 2.0 * zeta * (log_posterior - log_posterior.max())
    chosen: list[int] = []
    for _ in range(n):
        variance = np.maximum(np.einsum("kss->sk", covariance), process.nugget)
        _, sigma = emulator.misfit(surrogate, obs, mean, variance)
        gain = attraction + _log_expm1(sigma)
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        chosen.append(best)
        column = covariance[:, :, best]
        covariance = covariance - column[:, :, None] * (column / variance[best][:, None])[:, None, :]
    return candidates[chosen]


def _log_expm1(x: Array) -> Array:
    """Return log(exp(x) - 1) without overflow.

    >>> _log_expm1(np.array([1e-3, 1000.0])).round(4).tolist()
    [-6.9073, 1000.0]
    """
    x = np.maximum(x, np.finfo(float).tiny)
    return x + np.log(-np.expm1(-x))
