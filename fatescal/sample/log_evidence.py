"""The log evidence log Z from tempered runs, four ways that fail differently.

All use log-likelihoods l at every level of the ladder; the prior is normalised, so Z(beta=0) = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array
from fatescal.sample.ladder import barrier
from fatescal.sample.reference import GOOD_REFERENCE
from fatescal.storage.chain_records import ChainBlock

TOLERANCE = 0.5  # nats between the ways: a factor 1.6 in Z


@dataclass(frozen=True)
class LogEvidence:
    """log Z by three estimators on the leg from the prior and one on that from the reference, pooled over all
    runs.

    Forward and reverse stepping stones err to opposite sides where neighbouring levels overlap too little;
    thermodynamic integration suffers from the width of the gaps instead. `reference` is the stepping stone
    from the fitted normal, None where that is far from the posterior.
    """

    forward: float
    reverse: float
    thermodynamic: float
    reference: float | None = None

    @property
    def log_z(self) -> float:
        """That of the reference's short leg; else the forward stepping stone.

        The best fit bounds the weights of the forward one, nothing those of the reverse.
        """
        return self.forward if self.reference is None else self.reference

    @property
    def disagreement(self) -> float:
        """Largest difference between two estimators, in nats."""
        known = [self.forward, self.reverse, self.thermodynamic]
        known += [] if self.reference is None else [self.reference]
        return max(known) - min(known)

    @property
    def warning(self) -> str:
        """Why log Z should not be trusted; empty where nothing speaks against it."""
        if self.disagreement <= TOLERANCE:
            return ""
        return (
            f"The estimates of log Z differ by {self.disagreement:.2f} (forward stepping stone "
            f"{self.forward:.2f}, reverse {self.reverse:.2f}, thermodynamic integration "
            f"{self.thermodynamic:.2f}): use more levels or longer chains"
        )


def evidence(blocks: Sequence[ChainBlock]) -> LogEvidence:
    """Return log Z from all draws of `blocks`, which share one ladder."""
    beta = blocks[0].beta[0]
    levels = np.concatenate(
        [np.moveaxis(b.log_likelihood, 2, 0).reshape(len(beta), -1) for b in blocks], axis=1
    )
    return LogEvidence(
        forward=stepping_stone(beta, levels),
        reverse=-stepping_stone(beta[::-1], levels[::-1]),
        thermodynamic=thermodynamic_integration(beta, levels),
        reference=from_reference(blocks),
    )


def from_reference(blocks: Sequence[ChainBlock]) -> float | None:
    """Return log Z by the stepping stone from the fitted normal; None where that is far from the
    posterior.
    """
    rejected = np.mean([block.reference_rejected.mean(axis=0) for block in blocks], axis=0)
    if barrier(rejected)[-1] > GOOD_REFERENCE:
        return None
    s = np.append(blocks[0].reference_beta[0], 1.0)
    weights = np.concatenate(
        [np.moveaxis(b.reference_weight, 2, 0).reshape(len(s) - 1, -1) for b in blocks], axis=1
    )
    return stepping_stone(s, np.vstack([weights, weights[-1:]]))  # of the last level nothing is needed


def stepping_stone(beta: Array, log_likelihood: Array) -> float:
    """Return the log of Z(beta[-1]) / Z(beta[0]): sum_t log mean exp((beta_{t+1} - beta_t) l_t).

    Parameters
    ----------
    beta : (T,)
        Rising for the forward estimate, falling for the reverse one (with its sign turned).
    log_likelihood : (T, M)
        Draws at each level.

    References
    ----------
    Xie et al. 2011, doi:10.1093/sysbio/syq085.

    >>> stepping_stone(np.array([0.0, 0.5, 1.0]), np.full((3, 10), -4.0))
    -4.0
    """
    exponent = np.diff(beta)[:, None] * log_likelihood[:-1]
    largest = exponent.max(axis=1, keepdims=True)
    return float(np.sum(largest[:, 0] + np.log(np.mean(np.exp(exponent - largest), axis=1))))


def thermodynamic_integration(beta: Array, log_likelihood: Array) -> float:
    """Return log Z = integral of E_beta[l] d beta, from means and variances at each level.

    The misfit E = E_beta[l] - max l falls like 1/beta, which a trapezoid over the few levels of a ladder
    misses by whole nats. So the integral is taken over tau with d tau = d beta / s, s(beta) = 1/sd_beta[l]
    linear between levels: integral of f d tau with f = E s, by the trapezoid corrected with the derivative
    at its ends (Friel et al. 2014, doi:10.1007/s11222-013-9397-1), f' = 1 + E s ds/dbeta because dE/dbeta is
    the variance of l. With Gaussian prior and likelihood of one centre f is constant, the result exact.

    Parameters
    ----------
    beta, log_likelihood : (T,), (T, M)

    >>> x = np.random.default_rng(0).standard_normal((4, 100_000))
    >>> beta = np.array([0.0, 0.05, 0.3, 1.0])  # prior N(0, 1), l = -99/2 x^2: log Z = -1/2 log 100
    >>> round(thermodynamic_integration(beta, -99 / 2 * x**2 / (1 + 99 * beta[:, None])), 1)
    -2.3
    """
    best = float(log_likelihood.max())
    mean = log_likelihood.mean(axis=1) - best
    s = 1 / np.maximum(log_likelihood.std(axis=1), 1e-9)  # a flat likelihood has sd 0 and needs none
    gap, rise = np.diff(beta), np.diff(s)
    slope = rise / gap
    relative_rise = rise / s[:-1]
    small = np.abs(relative_rise) < 1e-9  # log1p(x)/x -> 1
    log_ratio = np.where(small, 1.0, np.log1p(relative_rise) / np.where(small, 1.0, relative_rise))
    width = gap / s[:-1] * log_ratio  # of each interval in tau
    f = mean * s
    trapezoid = 0.5 * width * (f[:-1] + f[1:])
    correction = width**2 / 12 * (f[1:] - f[:-1]) * slope
    return best + float(np.sum(trapezoid - correction))
