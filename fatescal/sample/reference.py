"""The second leg of the tempered path: from a normal fitted to the posterior's own draws.

Level v samples q(u)^(1-s_v) (N(u; 0, I) L(u))^s_v with 0 = s_0 < ... < s_{V-1} < 1; the posterior itself is
the next level. q is a normal with full covariance, fitted round by round in the warm-up and then frozen.
Where the posterior is nearly normal, fresh draws of q reach it in one or two swaps, while the first leg, from
the prior, needs about twice the communication barrier in levels. Where it is not, the prior's leg still finds
its modes (Surjanovic et al. 2022, parallel tempering with a variational reference). log q is normalised, so
the leg gives log Z too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fatescal.base.minimum import minimum, slopes
from fatescal.base.types import Array, LogLikelihood
from fatescal.sample.local_move import evaluate
from fatescal.storage.chain_records import TemperedState

WIDER = 1.1  # variance of q over that of the draws: importance weights must not have heavier tails than q
WORTH = 40.0  # draws of a chain, for each parameter, that weigh as much as the reference before
FLATTEST = 2.0  # prior sd
CURVATURE_STEP = 1e-3  # prior sd
GOOD_REFERENCE = 1.0  # barrier of this leg below which it mixes well
LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Reference:
    """A normal: mean (P) and lower-triangular factor (P, P) of its covariance."""

    mean: Array
    factor: Array

    @classmethod
    def fit(cls, draws: Array, before: Reference | None = None) -> Reference:
        """Return the normal of draws (N, P), its variance `WIDER` times theirs.

        Few draws of a chain tell a covariance badly. What was known `before` counts as `WORTH` P of them;
        where nothing was, the covariance is drawn towards its diagonal, P / N of the way.
        """
        n_draws, n_parameters = draws.shape
        mean, covariance = draws.mean(axis=0), WIDER * np.atleast_2d(np.cov(draws.T))
        if before is None:
            towards = min(n_parameters / n_draws, 1.0)
            other = np.diag(np.diag(covariance))
        else:
            towards = WORTH * n_parameters / (n_draws + WORTH * n_parameters)
            other = before.factor @ before.factor.T
            mean = (1 - towards) * mean + towards * before.mean
        covariance = (1 - towards) * covariance + towards * other
        return cls(mean, np.linalg.cholesky(covariance + 1e-12 * np.eye(n_parameters)))

    @classmethod
    def at_mode(cls, log_likelihood: LogLikelihood, starts: Array) -> Reference:
        """Return the normal at the highest mode of the posterior found from `starts` (S, P), by its curvature
        there (Laplace).

        It is `FLATTEST` prior sd wide at most, for a posterior that is flat at its mode.
        """

        def cost(u: Array) -> Array:
            return 0.5 * np.einsum("mp,mp->m", u, u) - log_likelihood(u)

        mode = minimum(cost, starts)
        apart = CURVATURE_STEP * np.eye(len(mode))
        _, gradients = slopes(cost, np.vstack([mode + apart, mode - apart]))
        forward, backward = np.split(gradients, 2)
        curvature = (forward - backward) / (2.0 * CURVATURE_STEP)
        values, axes = np.linalg.eigh(0.5 * (curvature + curvature.T))
        variance = 1.0 / np.maximum(values, FLATTEST**-2)
        return cls(mode, np.linalg.cholesky(WIDER * (axes * variance) @ axes.T))

    @cached_property
    def _inverse(self) -> Array:
        return np.linalg.inv(self.factor)

    @cached_property
    def _constant(self) -> float:
        return float(-np.sum(np.log(np.diag(self.factor))) - 0.5 * len(self.mean) * LOG_2PI)

    def log_density(self, u: Array) -> Array:
        """Return log q (...) at u (..., P), normalised."""
        z = (u - self.mean) @ self._inverse.T
        return self._constant - 0.5 * np.einsum("...p,...p->...", z, z)

    def draws(self, noise: Array) -> Array:
        """Return draws (..., P) from standard normal noise (..., P)."""
        return self.mean + noise @ self.factor.T


def log_prior(u: Array) -> Array:
    """Return log N(u; 0, I) (...) of u (..., P), normalised."""
    return -0.5 * np.einsum("...p,...p->...", u, u) - 0.5 * u.shape[-1] * LOG_2PI


class ReferenceInfo(NamedTuple):
    """What adaptation, ladder and evidence need of one step on this leg; the last level is the posterior."""

    noise: Array  # (V + 1, W, P) behind the proposals
    acceptance: Array  # (V + 1, W) of local moves; of fresh draws 1
    rejection: Array  # (V, W) of swaps with the level above
    weight: Array  # (V, W) W before the swaps


def reference_step(
    rng: np.random.Generator,
    state: TemperedState,
    reference: Reference,
    log_likelihood: LogLikelihood,
) -> tuple[TemperedState, ReferenceInfo]:
    """Return the state after a local move at the levels of this leg and the posterior, and a sweep of swaps.

    The lowest level is drawn anew from q. The sweep offers swaps from the reference up, so that a fresh draw
    can reach the posterior within one step. `log_likelihood` is called once, with (V + 1) W rows.
    """
    u = np.concatenate([state.reference_u, state.u[-1:]])
    fit = np.concatenate([state.reference_log_likelihood, state.log_likelihood[-1:]])
    s = np.concatenate([state.reference_beta, [1.0]])[:, None]
    scale = np.concatenate([state.reference_scale, state.scale[-1:]])
    noise = rng.standard_normal(u.shape)
    proposed = u + noise @ scale.swapaxes(1, 2)
    proposed[0] = reference.draws(noise[0])
    new_fit = evaluate(log_likelihood, proposed)
    density, new_density = reference.log_density(u), reference.log_density(proposed)
    weight = log_prior(u) + fit - density
    new_weight = log_prior(proposed) + new_fit - new_density
    log_ratio = new_density - density + s * (new_weight - weight)
    log_ratio[0] = 0.0
    acceptance = np.exp(np.minimum(log_ratio, 0.0))
    accepted = rng.random(acceptance.shape) < acceptance
    u = np.where(accepted[:, :, None], proposed, u)
    fit = np.where(accepted, new_fit, fit)
    weight = np.where(accepted, new_weight, weight)
    before = weight[:-1].copy()
    rejection = _sweep(rng, u, fit, weight, s[:, 0])
    after = replace(
        state,
        u=np.concatenate([state.u[:-1], u[-1:]]),
        log_likelihood=np.concatenate([state.log_likelihood[:-1], fit[-1:]]),
        reference_u=u[:-1],
        reference_log_likelihood=fit[:-1],
    )
    return after, ReferenceInfo(noise, acceptance, rejection, before)


def _sweep(rng: np.random.Generator, u: Array, fit: Array, weight: Array, s: Array) -> Array:
    """Swap neighbouring levels in place, from the reference up; return the probabilities of refusal (V,
    W).
    """
    rejection = np.empty((len(u) - 1, u.shape[1]))
    chance = rng.random(rejection.shape)
    for v in range(len(rejection)):
        probability = np.exp(np.minimum((s[v + 1] - s[v]) * (weight[v] - weight[v + 1]), 0.0))
        rejection[v] = 1.0 - probability
        swapped = np.flatnonzero(chance[v] < probability)
        for values in (u, fit, weight):
            values[v, swapped], values[v + 1, swapped] = (
                values[v + 1, swapped].copy(),
                values[v, swapped].copy(),
            )
    return rejection
