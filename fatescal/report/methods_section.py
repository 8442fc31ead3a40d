"""Section "Methods": what was done, as a paragraph for a paper, with its references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fatescal.report.markup import element, paragraph
from fatescal.report.results import Results
from fatescal.report.section import ReportSection

CES = "Cleary et al. (2021, doi:10.1016/j.jcp.2020.109716)"
SCHEMES = {
    "ienks": "the iterative ensemble Kalman smoother (Bocquet and Sakov 2014, doi:10.1002/qj.2236)",
    "es-mda": "the ensemble smoother with multiple data assimilation (Emerick and Reynolds 2013, "
    "doi:10.1016/j.cageo.2012.03.011)",
    "ies": "the subspace iterative ensemble smoother (Evensen et al. 2019, doi:10.3389/fams.2019.00047)",
}
TEMPERING = "Syed et al. 2022, doi:10.1111/rssb.12464"
RHAT = "Margossian et al. 2024, doi:10.1214/24-BA1453; Vehtari et al. 2021, doi:10.1214/20-BA1221"
SUPPORT = "support points of the draws (Mak and Joseph 2018, doi:10.1214/17-AOS1629)"


class Methods(ReportSection):
    """What was done, as a paragraph for a paper, with its references."""

    kind = "methods"
    title = "Methods, ready to paste"
    needs = "a model run"

    def content(self, results: Results) -> Sequence[object] | None:
        if not results.ensembles:
            return None
        text = " ".join(sentences(results))
        return [
            paragraph("What this run did, with its own numbers. Please check it against your text."),
            element("p", text, class_="paste"),
        ]


def sentences(results: Results) -> list[str]:
    """Return the paragraph, a sentence each, of as much as the run has reached."""
    settings = results.settings
    said = [_data(results, settings), _kalman(results, settings)]
    if results.validation is not None and results.surrogate is not None:
        said.append(_emulator(results))
    if results.diagnosis is not None and results.chains:
        said.append(_chains(results))
    if results.verdict is not None and len(results.verdict.weights):
        said.append(
            f"{len(results.verdict.weights)} posterior members, {SUPPORT}, were run again with the model; "
            f"importance weights of the model's own likelihood judged the emulated posterior: "
            f"{results.answer.headline}."
        )
    version = results.versions.get("fatescal", "of unknown version")
    git, seed = results.versions.get("git", ""), settings.get("run", {}).get("seed", 1)
    return [*said, f"All was computed by fatescal {version}{f' ({git})' if git else ''} with seed {seed}."]


def _data(results: Results, settings: Mapping[str, Any]) -> str:
    counts = ", ".join(
        f"{int(results.rows(period, v).sum())} windows of {v} ({period})"
        for period in results.periods
        for v in results.variables
    )
    n = len(results.parameter)
    return (
        f"We calibrated {n} parameter{'s' if n > 1 else ''} ({'; '.join(results.names)}) against {counts}, "
        f"by calibrate, emulate, sample: {CES}."
    )


def _kalman(results: Results, settings: Mapping[str, Any]) -> str:
    chosen = settings.get("calibrate", {})
    scheme = SCHEMES.get(str(chosen.get("scheme")), f"the scheme {chosen.get('scheme')}")
    members, updates = len(results.kalman[0].status) - 1, len(results.kalman) - 1
    if not updates:
        return f"A prior ensemble of {members} members was run."
    return f"{members} members were updated {updates} time{'s' if updates > 1 else ''} by {scheme}."


def _emulator(results: Results) -> str:
    assert results.validation is not None
    checked, training = results.validation, results.surrogate
    n = 0 if training is None else len(training.u)
    return (
        f"Gaussian processes (Gu and Berger 2016, doi:10.1214/16-AOAS934) learnt from {n} model runs; of "
        f"{checked.n_near} runs near the optimum, each predicted without it, they explain "
        f"{checked.q2:.4f} of the "
        f"variance of the misfit, and {checked.coverage:.0%} of the outputs lie in their 95 % intervals."
    )


def _chains(results: Results) -> str:
    blocks, diagnosis = results.chains, results.diagnosis
    assert diagnosis is not None
    steps = sum(block.u.shape[1] for block in blocks)
    n_runs, _, n_walkers, _ = blocks[0].u.shape
    return (
        f"{n_runs} independent runs of parallel tempering ({TEMPERING}) of {n_walkers} walkers and "
        f"{blocks[0].beta.shape[1]} levels kept {steps} steps on the emulator: nested R-hat at most "
        f"{diagnosis.rhat.max():.3f}, bulk effective sample size at least {diagnosis.ess_bulk.min():.0f} "
        f"({RHAT})."
    )
