"""Importance weights of members that were run again, alone and in a mixture of rounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fatescal.base.types import Array

LEAST_FOR_K = 100  # members: their largest fifth, 20, are the fewest a Pareto tail is fitted to with any use
ALIKE = 0.5  # range of log weights below which no tail is looked for


def normalised(log_weights: Array) -> Array:
    """Return weights of sum 1."""
    weights = np.exp(log_weights - log_weights.max(initial=-np.inf))
    return weights / max(weights.sum(), 1e-300)


def mixture_log_weights(
    misfit: Array,
    emulated: Sequence[Array] | Array,
    log_evidence: Sequence[float] | Array,
    sizes: Sequence[int],
) -> Array:
    """Return log weights (J) of the members of all rounds together, as one sample of the mixture of their
    posteriors.

    Round s drew `sizes[s]` members from its emulated posterior N(u; 0, I) L_s(u) / Z_s. With shares a_s of
    all members, log w = -Phi - log sum_s a_s L_s / Z_s; the prior cancels. A member that one round drew where
    it should not have is rare in the mixture of others, so that no weight is larger than the true density
    over a_s times that of any round.

    Parameters
    ----------
    misfit : (J)
        Phi of the members of all rounds, from the model.
    emulated : (S, J)
        Log likelihood of each round's emulator at all members, not at its own alone.
    log_evidence : (S)
        log Z_s of each round, from its tempered chains.
    sizes : S int
        Members of each round, sum J.

    References
    ----------
    Veach & Guibas 1995, doi:10.1145/218380.218498 (balance heuristic); Cornuet et al. 2012,
    doi:10.1111/j.1467-9469.2011.00756.x.

    >>> mixture_log_weights(np.array([2.0, 1.0]), [[-2.0, -1.0], [-2.0, -1.0]], [-3.0, -3.0], [1, 1]).tolist()
    [-3.0, -3.0]
    """
    from scipy.special import logsumexp

    emulated, count = np.asarray(emulated, float), np.asarray(sizes, float)
    if emulated.shape != (len(count), len(misfit)) or count.sum() != len(misfit):
        raise ValueError(
            f"{emulated.shape} likelihoods do not go with {sizes} members, {len(misfit)} misfits"
        )
    shares = np.log(count / count.sum()) - np.asarray(log_evidence, float)
    return -np.asarray(misfit, float) - logsumexp(emulated + shares[:, None], axis=0)


def relative_density(emulated: Array, log_evidence: Sequence[float] | Array, sizes: Sequence[int]) -> Array:
    """Return the density (J) of the last round's posterior over that of the mixture of all rounds, at members
    of all of them.

    Arguments are those of `mixture_log_weights`. At most sum J / J_last, as the last round is in the mixture.

    >>> relative_density(np.log([[3.0, 1.0], [1.0, 1.0]]), [0.0, 0.0], [1, 1]).round(9).tolist()
    [0.5, 1.0]
    """
    last = np.asarray(emulated, float)[-1] - log_evidence[-1]
    return np.exp(last + mixture_log_weights(np.zeros(len(last)), emulated, log_evidence, sizes))


def effective_number(weights: Array) -> float:
    """Return how many equal weights the `weights` (J) are worth, (sum w)^2 / sum w^2 (Kish 1965).

    >>> effective_number(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    return float(weights.sum() ** 2 / np.sum(weights**2))


def divergence(before: Array, after: Array) -> float:
    """Return the Kullback-Leibler divergence of draws `after` (N, P) from `before` (M, P), taken as normal.

    >>> x = np.random.default_rng(0).standard_normal((1000, 1))
    >>> round(divergence(x, x), 9), round(divergence(x, x + x.std(ddof=1)), 3)
    (0.0, 0.5)
    """
    old, new = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (before, after))
    difference = after.mean(axis=0) - before.mean(axis=0)
    solved = np.linalg.solve(old, np.column_stack([new, difference]))
    log_ratio = np.linalg.slogdet(old)[1] - np.linalg.slogdet(new)[1]
    trace = np.trace(solved[:, :-1]) - len(old)
    return float(0.5 * (trace + difference @ solved[:, -1] + log_ratio))


def pareto_k(log_weights: Array) -> float:
    """Return k-hat of the weights; NaN for few of them, -inf where they agree."""
    from arviz_stats.base import array_stats

    if len(log_weights) < LEAST_FOR_K:
        return np.nan
    if np.ptp(log_weights) < ALIKE:
        return -np.inf
    with np.errstate(divide="ignore", invalid="ignore"):  # of weights that are equal in part: NaN
        return float(array_stats.psislw(-log_weights)[1])
