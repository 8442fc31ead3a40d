"""The report: one self-contained HTML page, made from the records of a run alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fatescal.diagnostics.answer import QUESTION, WITH_CARE, YES
from fatescal.report.markup import Markup, element, framed, number
from fatescal.report.registry import OWN, made_sections
from fatescal.report.results import Results
from fatescal.report.section import ReportSection
from fatescal.storage import atomic

log = logging.getLogger(__name__)

STYLES = Path(__file__).with_name("page.css")


def write(results: Results, folder: Path, made: Iterable[ReportSection] | None = None) -> Path:
    """Write ``folder/index.html``, whole or not at all, and return its path.

    The page holds its figures and asks the network for nothing; the same results give the same bytes.

    Parameters
    ----------
    made : iterable of ReportSection, optional
        Its sections, whose figures the caller needs again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    atomic.write_text(path, page(results, made))
    return path


def page(results: Results, made: Iterable[ReportSection] | None = None) -> str:
    """Return the page of a run, with a section for everything the run has reached."""
    rendered = {section: _rendered(section, results) for section in made or made_sections()}
    shown = {section: markup for section, markup in rendered.items() if markup is not None}
    links = (element("a", section.title, href=f"#{section.kind}") for section in shown)
    head = element(
        "head",
        Markup(
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
        ),
        element("title", f"{results.name} · fatescal"),
        element("style", Markup(STYLES.read_text(encoding="utf-8"))),
    )
    skip = element("a", "Skip to the results", href="#content", class_="skip")
    contents = element("nav", *links, aria_label="Contents")
    main = element("main", *shown.values(), id="content")
    body = element("body", skip, _head(results), contents, main)
    return f'<!DOCTYPE html>\n<html lang="en">{head}\n{body}</html>\n'


def _rendered(section: ReportSection, results: Results) -> Markup | None:
    """Return a section; one of another package that fails is logged and left out: the run is not lost."""
    try:
        return section.render(results)
    except Exception as error:
        if isinstance(section, OWN):
            raise
        reason = f"{type(error).__name__}: {error}"
        log.warning("the report lacks the section %s, which failed: %s", section.kind, reason)
        return None


def _head(results: Results) -> Markup:
    """Return name, answer, key numbers and remarks."""
    remarks = [element("li", results.labelled(remark)) for remark in results.said]
    more = element("summary", "what emulator, chains and data say")
    return element(
        "header",
        element("h1", results.name),
        _answer(results),
        _steps(results),
        _key_numbers(results),
        element("details", more, element("ul", *remarks)) if remarks else "",
    )


def _answer(results: Results) -> Markup:
    """Return whether the posterior may be used, why, and what to do."""
    said = results.answer
    kind = {YES: "good", WITH_CARE: "care"}.get(said.word, "bad")
    reasons = [element("li", "because ", results.labelled(reason)) for reason in said.because]
    todo = [element("li", element("b", "do: "), results.labelled(step)) for step in said.advice]
    return element(
        "div",
        element(
            "p", f"{QUESTION} ", element("b", f"{said.word.capitalize()}: {said.headline}"), class_="verdict"
        ),
        element("ul", *reasons, *todo) if reasons or todo else "",
        class_=f"answer {kind}",
    )


def _steps(results: Results) -> Markup:
    """Return in one line the state of emulator and chains: no verdict on the posterior."""
    validation, diagnosis = results.validation, results.diagnosis
    steps = []
    if validation is None:
        steps.append("emulator not reached")
    else:
        steps.append("emulator validated" if validation.passed else "emulator NOT VALIDATED")
    if diagnosis is None:
        steps.append("no chains")
    else:
        steps.append("chains converged" if diagnosis.converged else "chains NOT CONVERGED")
    steps.append("posterior run again" if "posterior" in results.ensembles else "posterior not run again")
    return element("p", " · ".join(steps), class_="steps")


def _key_numbers(results: Results) -> Markup:
    counts = {period: int(results.rows(period).sum()) for period in results.periods}
    runs = sum(len(e.status) for e in results.history.values())
    failed = sum(int((~e.ok).sum()) for e in results.history.values())
    n_sites = len(results.settings.get("sites", ()))
    members = f"{runs} members at {n_sites} sites" if n_sites > 1 else f"{runs}"
    numbers: list[list[object]] = [
        ["parameters", len(results.parameter)],
        ["observations", ", ".join(f"{n} {period}" for period, n in counts.items())],
        ["model runs", f"{members}, of which {failed} failed"],
    ]
    if results.ensembles and "calibration" in counts:
        numbers.append(["reduced χ² (calibration, median)", " → ".join(_chi2_medians(results))])
    if results.diagnosis is not None:
        numbers.append(["largest R-hat", float(np.max(results.diagnosis.rhat))])
        numbers.append(["least effective sample size", float(np.min(results.diagnosis.ess_bulk))])
    return framed(Markup(), numbers)


def _chi2_medians(results: Results) -> list[str]:
    return [
        f"{role} {number(float(np.median(results.reduced_chi2(g, 'calibration'))))}"
        for role, g in results.compared.items()
    ]
