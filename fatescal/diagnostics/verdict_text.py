"""A verdict as text: one sentence, the numbers behind it, what to do."""

from __future__ import annotations

import numpy as np

from fatescal.diagnostics.tolerances import LEAST_MEMBERS, MOST_MORE, RATIO, SHIFT
from fatescal.storage.records import Verdict

HEADLINES = {
    "confirmed": "confirmed by the model",
    "not confirmed": "not confirmed",
    "cannot tell": "cannot tell",
    "not sampled": "not sampled",
}


def k_limit(n: int) -> float:
    """Return the k-hat above which weighted means of `n` exchangeable draws are unreliable (Vehtari et al.
    2024); NaN below 25.
    """
    return float(min(1 - 1 / np.log10(n), 0.7)) if n >= 25 else np.nan


def sentence(verdict: Verdict) -> str:
    """Return the verdict in one sentence, with the parameters to distrust."""
    n, names = verdict.n_judged, ", ".join(verdict.distrusted)
    if verdict.outcome == "not sampled":
        return f"no posterior was sampled: {verdict.reason}"
    if verdict.outcome == "confirmed":
        return (
            f"the model confirms the emulated posterior: by {n} runs its means are right within {SHIFT} sd "
            f"and its sd within {RATIO - 1:.0%} (largest correction {_largest_correction(verdict)})"
        )
    if verdict.outcome == "not confirmed":
        return (
            f"the model does NOT confirm the emulated posterior: distrust {names} "
            f"(by {n} runs: {_largest_correction(verdict)})"
        )
    need = f"about {verdict.more} more would" if verdict.more < MOST_MORE else f"nor would {MOST_MORE} more"
    return (
        f"{n} members cannot tell whether the emulated posterior is right, {need}; until then do not rely on "
        f"{names} (by {n} runs: {_largest_correction(verdict)})"
    )


def details(verdict: Verdict) -> str:
    """Return the numbers behind the verdict, for the log."""
    n = len(verdict.weights)
    k = "" if np.isnan(verdict.k) else f", k-hat {verdict.k:.2f} (limit {k_limit(n):.2f})"
    pooled = ""
    if len(verdict.pooled_weights) > n:
        pooled = (
            f"; of all rounds {verdict.pooled_size:.0f} of {len(verdict.pooled_weights)}, "
            f"KL divergence from the round before {verdict.distance:.2g}"
        )
    return (
        f"sd of log weights {verdict.log_weight_sd:.2f}, effective size {verdict.effective_size:.0f} of "
        f"{n}{k}{pooled}"
    )


def advice(verdict: Verdict, n_rounds: int) -> str:
    """Return what to do about a run that ended with a verdict which is not `confirmed`, after `n_rounds` of
    refinement allowed.
    """
    more_rounds = f"emulate.rounds: {n_rounds + 2} (each round adds runs to those that are there)"
    n = len(verdict.weights)
    if verdict.outcome == "not sampled":
        return (
            f"more members or iterations, {more_rounds}, emulate.target: misfit, or (at your own risk) "
            "emulate.force: true"
        )
    if n < LEAST_MEMBERS:
        return f"posterior.members: {n + verdict.more + 1}, so few members can confirm nothing"
    if verdict.outcome == "cannot tell" and n <= verdict.more < MOST_MORE / 10:
        return f"posterior.members: {n + verdict.more + 1}, or {more_rounds}"
    return f"{more_rounds}, or more posterior.members"


def _largest_correction(verdict: Verdict) -> str:
    """Return the largest correction of a mean and of an sd, with their errors."""
    v = verdict
    if not len(v.shift) or np.isnan(v.shift).any():
        return "no estimate"
    p, q = int(np.argmax(np.abs(v.shift))), int(np.argmax(np.abs(np.log(v.ratio))))
    return (
        f"mean of {v.parameter[p]} {v.shift[p]:+.2f} +- {v.shift_error[p]:.2f} sd, "
        f"sd of {v.parameter[q]} times {v.ratio[q]:.2f} +- {v.ratio_error[q]:.2f}"
    )
