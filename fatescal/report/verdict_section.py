"""Section "Verdict": whether the model itself confirms the posterior, and the road there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fatescal.diagnostics.tolerances import RATIO, SHIFT
from fatescal.diagnostics.verdict_text import HEADLINES, advice, k_limit, sentence
from fatescal.report.markup import Markup, breakable, number, paragraph, table
from fatescal.report.results import Results
from fatescal.report.section import ReportSection
from fatescal.storage.records import Verdict


class VerdictSection(ReportSection):
    """Whether the model itself confirms the posterior, and the road there."""

    kind = "verdict"
    title = "Verdict"
    needs = "a finished round of emulation"

    def content(self, results: Results) -> Sequence[object] | None:
        if not results.verdicts:
            return None
        last = results.verdict or results.verdicts[-1]
        content = [
            paragraph(
                "The posterior ensemble was run again with the model. Weights of the true over the emulated "
                "likelihood give each parameter its true mean and sd. Confirmed is a posterior whose means "
                f"are right within {SHIFT:g} sd and whose sd are right within {RATIO - 1:.0%}, sampling "
                "errors included."
            ),
            paragraph(f"In short: {results.labelled(sentence(last))}."),
            _road(results),
        ]
        if len(last.weights):
            content.append(_parameters(last, results))
        if results.verdict is not None and last.outcome != "confirmed":
            rounds = int(results.settings.get("emulate", {}).get("rounds", 0))
            content.append(paragraph(f"What to do: {advice(last, rounds)}."))
        return content


def _road(results: Results) -> Markup:
    """Return a row for each round of emulation."""
    rows = [
        [
            str(v.round), v.n_runs, HEADLINES[v.outcome],
            _size(v.effective_size, len(v.weights)), v.log_weight_sd,
            _k(v.k, len(v.weights)), results.labelled(_largest(v.shift, v)),
            results.labelled(_largest(v.ratio, v, np.log)), v.distance,
            _size(v.pooled_size, len(v.pooled_weights)),
        ]
        for v in results.verdicts
    ]  # fmt: skip
    header = [
        "round", "model runs so far", "verdict", "effective size", "sd of log weights", "k-hat (limit)",
        "largest shift of a mean [sd]", "largest change of an sd [factor]",
        "KL divergence from the round before", "effective size of all rounds pooled",
    ]  # fmt: skip
    return table(header, rows, "Rounds of emulation, sampling and rerun")


def _size(effective: float, n: int) -> str:
    return f"{effective:.0f} of {n}" if n else "-"


def _k(k: float, n: int) -> str:
    return "too few members" if np.isnan(k) else f"{number(k)} ({number(k_limit(n))})"


def _largest(values: np.ndarray, of: Verdict, scale=np.asarray) -> str:
    """Return the value that is farthest off, with its parameter."""
    if np.isnan(values).any():
        return "-"
    p = int(np.argmax(np.abs(scale(values))))
    return f"{values[p]:.2f} ({of.parameter[p]})"


def _parameters(of: Verdict, results: Results) -> Markup:
    """Return a row for each parameter of the verdict of the run."""
    several = len(of.pooled_weights) > len(of.weights)
    header = ["parameter", "mean shifts by [sd]", "sd changes by the factor", "judgement"]
    header += ["mean, all rounds pooled [sd]", "sd, all rounds pooled [factor]"] if several else []
    listed = "distrust" if of.outcome == "not confirmed" else "undecided"
    rows = [
        [
            breakable(results.labelled(str(of.parameter[p]))),
            f"{of.shift[p]:+.2f} ± {of.shift_error[p]:.2f}",
            f"{of.ratio[p]:.2f} ± {of.ratio_error[p]:.2f}",
            listed if of.distrust[p] else "right",
            *([f"{of.pooled_shift[p]:+.2f}", f"{of.pooled_ratio[p]:.2f}"] if several else []),
        ]
        for p in range(len(of.parameter))
    ]
    return table(header, rows, f"What the model's runs of round {of.round} say of the emulated posterior")
