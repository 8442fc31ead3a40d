"""Judge the emulated posterior by the true misfit of the posterior ensemble that was run again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fatescal.records import Array

ALIKE = 0.5  # of log weights: nobody minds a posterior density that is wrong by less
LEAST_MEMBERS = 25  # of which the largest fifth, 5 weights, are the fewest a Pareto tail is fitted to


@dataclass(frozen=True)
class Importance:
    """Pareto-smoothed importance weights from the emulated to the true posterior.

    `k` is the tail index of the raw weights, -inf where they are all alike, and NaN, as is `k_limit`, with fewer than
    25 members; in both cases the weights stay raw; what is averaged with these weights cannot be trusted above `k_limit`.
    """

    weights: Array  # (J,), sum 1
    k: float
    k_limit: float

    @property
    def effective_size(self) -> float:
        """How many equally weighted members the ensemble is worth, 1 / sum w^2."""
        return float(1 / np.sum(self.weights**2))

    @property
    def trusted(self) -> bool:
        """Whether the emulated posterior covers the true one well enough to be reweighted to it."""
        return self.k < self.k_limit

    @property
    def words(self) -> str:
        """The finding as a sentence for the report."""
        n_members, effective = len(self.weights), f"effective size {self.effective_size:.0f}"
        if np.isnan(self.k):
            return (
                f"too few members ran again to judge the emulated posterior: {n_members}, at least {LEAST_MEMBERS} can "
                f"({effective})"
            )
        weights = f"PSIS k-hat {self.k:.2f} (limit {self.k_limit:.2f})"
        if np.isneginf(self.k):
            weights = f"importance weights within a factor {np.exp(ALIKE):.1f}"
        finding = f"{weights}, {effective} of {n_members}"
        if self.trusted:
            return f"the model confirms the emulated posterior: {finding}"
        return f"the model does not confirm the emulated posterior: {finding}"


def importance(misfit: Array, emulated_log_likelihood: Array) -> Importance:
    """Return the weights w ~ exp(-Phi) / L_emulated of members drawn from the emulated posterior.

    Parameters
    ----------
    misfit : (J,)
        Phi of the members from the model itself; failed members left out.
    emulated_log_likelihood : (J,)
        What the sampler saw at the same u; constants don't matter.

    Raises
    ------
    ValueError
        If a value is not finite.

    References
    ----------
    Vehtari et al. 2024, JMLR 25(72): k-hat, and its limit min(1 - 1/log10(J), 0.7).
    """
    from arviz_stats.base import array_stats

    log_weights = -np.asarray(misfit) - np.asarray(emulated_log_likelihood)
    if not np.isfinite(log_weights).all():
        raise ValueError("misfit and emulated_log_likelihood must be finite: leave failed members out")
    log_weights -= log_weights.max()
    n_members = len(log_weights)
    smoothed, k, k_limit = log_weights, np.nan, np.nan
    if n_members >= LEAST_MEMBERS:
        k, k_limit = -np.inf, min(1 - 1 / np.log10(n_members), 0.7)
        # k-hat knows no scale: it calls a tail heavy even if all weights agree to three digits
        if np.ptp(log_weights) >= ALIKE:
            smoothed, k = array_stats.psislw(-log_weights)
    return Importance(np.exp(smoothed) / np.exp(smoothed).sum(), float(k), k_limit)
