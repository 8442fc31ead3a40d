"""The report: one self-contained HTML page, made from the records of a run alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from fatescal.report.markup import Markup, element, framed, number
from fatescal.report.registry import OWN, sections
from fatescal.report.results import Results
from fatescal.report.section import ReportSection
from fatescal.storage import atomic

log = logging.getLogger(__name__)

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2rem auto;\
 padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 3rem; border-bottom: 2px solid #ddd; } h3 { margin-bottom: 0; }
p { max-width: 62rem; } nav a { margin-right: 1.2em; } a { color: #0072B2; }
.verdict { font-size: 1.2rem; margin: .3rem 0; } .good { color: #00684b; } .bad { color: #b03a00; }
header td { text-align: left; } .unit { white-space: nowrap; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; color: #444; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: right; white-space: nowrap; }
th, td { vertical-align: bottom; }
th[scope=row], thead th:first-child, .text { text-align: left; font-weight: 500; }
th[scope=row], thead th { white-space: normal; }
th[scope=colgroup] { text-align: center; border-left: 1px solid #e4e4e4; }
mark { background: #d5e8f5; font-weight: 700; padding: 0 .2em; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption { font-size: .85rem;\
 color: #444; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .8rem; }
"""


def write(results: Results, folder: Path) -> Path:
    """Write ``folder/index.html``, whole or not at all, and return its path.

    The page holds its figures and asks the network for nothing; the same results give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    atomic.write_text(path, page(results))
    return path


def page(results: Results) -> str:
    """Return the page of a run, with a section for everything the run has reached."""
    made = {section: _rendered(section, results) for section in sections().values()}
    shown = {section: markup for section, markup in made.items() if markup is not None}
    links = (element("a", section.title, href=f"#{section.kind}") for section in shown)
    head = element(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", f"{results.name} · fatescal"),
        element("style", Markup(CSS)),
    )
    body = element("body", _head(results), element("nav", *links), *shown.values())
    return f'<!DOCTYPE html>\n<html lang="en">{head}\n{body}</html>\n'


def _rendered(section: type[ReportSection], results: Results) -> Markup | None:
    """Return a section; one of another package that fails is logged and left out: the run is not lost."""
    try:
        return section().render(results)
    except Exception as error:
        if section in OWN:
            raise
        reason = f"{type(error).__name__}: {error}"
        log.warning("the report lacks the section %s, which failed: %s", section.kind, reason)
        return None


def _head(results: Results) -> Markup:
    """Return name, verdict, remarks and key numbers."""
    remarks = [element("li", remark) for remark in results.remarks]
    return element(
        "header",
        element("h1", results.name),
        element("p", _headline(results), class_="verdict"),
        _steps(results),
        element("ul", *remarks) if remarks else "",
        _key_numbers(results),
    )


def _headline(results: Results) -> Markup:
    """Return the verdict on the run, which comes first."""
    fine = results.verdict is not None and results.verdict.outcome == "confirmed"
    distrust = ""
    if results.verdict is not None and results.verdict.outcome in ("not confirmed", "cannot tell"):
        distrust = f": do not rely on {', '.join(results.verdict.distrusted)}"
    return element("b", f"{results.headline}{distrust}", class_="good" if fine else "bad")


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
    return element("p", " · ".join(steps))


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
