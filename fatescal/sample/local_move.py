"""Move every walker at its own temperature: robust adaptive Metropolis, and prior draws at beta = 0.

The proposal factor of a level is shared by its walkers and adapted during warm-up only: a chain that
went on adapting would no longer be a Markov chain, and its evidence and R-hat no longer what they say.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fatescal.base.errors import RunFailed
from fatescal.base.types import Array, LogLikelihood

OPTIMAL_STEP = 2.38  # sd of a proposal over that of its target, times the root of P (Roberts et al. 1997)
TARGET_ACCEPTANCE = 0.234  # Vihola (2012); optimal in many dimensions, near it in few


class Moved(NamedTuple):
    """Where the walkers are after a move, and what adaptation and log want to know of it."""

    u: Array  # (T, W, P)
    log_likelihood: Array  # (T, W)
    noise: Array  # (T, W, P), the standard normal draws behind the proposals
    acceptance: Array  # (T, W), probability


def initial_scale(beta: Array, spread: float, n_parameters: int) -> Array:
    """Return the proposal factors (T, P, P) to start from, isotropic.

    The prior sd times 2.38/sqrt(P), narrowed as if the likelihood raised the precision at `beta` (T,) to
    1 + beta `spread`, with `spread` the sd of the log-likelihood under the prior. Where that is too narrow
    adaptation widens it three times faster than it narrows what is too wide.
    """
    width = OPTIMAL_STEP / np.sqrt(n_parameters * (1 + beta * spread))
    return width[:, None, None] * np.eye(n_parameters)


def evaluate(log_likelihood: LogLikelihood, u: Array) -> Array:
    """Return log L (T, W) of the walkers `u` (T, W, P), computed in one call on (T*W, P).

    Raises
    ------
    RunFailed
        Where the log-likelihood is not finite: u is unconstrained, so no u is impossible.
    """
    rows = u.reshape(-1, u.shape[-1])
    values = log_likelihood(rows)
    if not math.isfinite(values.sum()):  # half the price of np.isfinite(values).all(), at every step
        row = int(np.argmin(np.isfinite(values)))
        raise RunFailed(
            f"The emulated log-likelihood is {values[row]} at u = {rows[row]}. Expected a finite number."
        )
    return values.reshape(u.shape[:-1])


def move(
    rng: np.random.Generator,
    u: Array,
    log_likelihood_of_u: Array,
    beta: Array,
    scale: Array,
    log_likelihood: LogLikelihood,
) -> Moved:
    """Return the walkers after one Metropolis step at each level, the lowest drawn anew from the prior.

    Parameters
    ----------
    u, log_likelihood_of_u : (T, W, P), (T, W)
        The walkers; level t samples N(u; 0, I) L(u)^beta_t.
    beta, scale : (T,), (T, P, P)
        Temperatures with beta[0] = 0, and lower-triangular proposal factors.
    log_likelihood : function (T*W, P) -> (T*W)
        Called once, always with this shape.
    """
    noise = rng.standard_normal(u.shape)
    proposed = u + noise @ scale.swapaxes(1, 2)
    proposed[0] = noise[0]
    proposed_log_likelihood = evaluate(log_likelihood, proposed)
    log_prior_ratio = -0.5 * np.einsum("twp,twp->tw", proposed - u, proposed + u)
    log_ratio = log_prior_ratio + beta[:, None] * (proposed_log_likelihood - log_likelihood_of_u)
    log_ratio[0] = 0.0
    acceptance = np.exp(np.minimum(log_ratio, 0.0))
    accepted = rng.random(acceptance.shape) < acceptance
    return Moved(
        np.where(accepted[:, :, None], proposed, u),
        np.where(accepted, proposed_log_likelihood, log_likelihood_of_u),
        noise,
        acceptance,
    )


def adapt(scale: Array, moved: Moved, step: int) -> Array:
    """Return the proposal factors (T, P, P) after learning from one move (Vihola 2012, eq. 1).

    S S' <- S (I + eta mean_w (a_w - a*) z_w z_w' / |z_w|^2) S' at step n = `step` + 1, with
    eta = min(1, P n^(-2/3)) and the mean over the W walkers of a level instead of Vihola's single chain.
    It stays positive definite since eta (a - a*) > -1.

    A level that accepts everything is stretched, one that accepts nothing is shrunk:

    >>> z = np.ones((3, 1, 1))
    >>> moved = Moved(z, z[..., 0], z, np.array([[1.0], [1.0], [0.0]]))
    >>> adapt(np.ones((3, 1, 1)), moved, 0).ravel().round(3)
    array([1.   , 1.329, 0.875])
    """
    n_walkers, n_parameters = moved.noise.shape[1:]
    eta = min(1.0, n_parameters * (step + 1) ** (-2 / 3))
    S, z = scale[1:], moved.noise[1:]  # (T-1, P, P), (T-1, W, P)
    weight = eta / n_walkers * (moved.acceptance[1:] - TARGET_ACCEPTANCE) / np.einsum("twp,twp->tw", z, z)
    direction = z @ S.swapaxes(1, 2)
    covariance = S @ S.swapaxes(1, 2) + direction.swapaxes(1, 2) @ (weight[:, :, None] * direction)
    return np.concatenate([scale[:1], np.linalg.cholesky(covariance)])
