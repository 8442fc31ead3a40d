"""Section "Scorecard": how good every ensemble is, per variable and period."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fatescal.diagnostics.scores import RMSE, SCORES
from fatescal.report.markup import Markup, element, fixed, framed, html, paragraph
from fatescal.report.residual_tables import doubts
from fatescal.report.results import Results
from fatescal.report.section import ReportSection
from fatescal.storage.records import Scorecard

ENSEMBLES = {
    "climatology": "climatology",
    "default": "default",
    "prior": "prior ensemble",
    "design": "design",
    "last": "last ensemble",
    "posterior": "posterior",
}


class ScorecardSection(ReportSection):
    """How good every ensemble is, per variable and period."""

    kind = "scorecard"
    title = "Scorecard"
    needs = "a scorecard"

    def content(self, results: Results) -> Sequence[object] | None:
        card = results.scorecard
        if card is None:
            return None
        return [
            paragraph(
                "Every ensemble against the observations; the calibration period was used to fit, the "
                "validation period was not. ",
                element("b", element("mark", "Marked")),
                " is the best model value of each column; climatology, the day-of-year mean of the "
                "calibration period, is what a model has to beat.",
            ),
            element("ul", *(_explained(name) for name in _known(card.score, list(SCORES)))),
            *(_of_variable(card, variable, results) for variable in _known(card.variable, results.variables)),
            doubts(results),
        ]


def _explained(name: str) -> Markup:
    """Return what a score is, as an item of a list; of one that is not installed here, its name alone."""
    score = SCORES.get(name)
    if score is None:
        return element("li", name)
    unit = f", in {'the unit of the variable' if not score.unit else score.unit}" if score.unit != "1" else ""
    return element("li", element("b", _title(name)), f": {score.description}{unit}; best at {score.best:g}")


def _title(name: str) -> str:
    """Return what a score is called on the page."""
    score = SCORES.get(name)
    return (score.title if score else "") or name


def _known(present: np.ndarray, order: list[str]) -> list[str]:
    """Return the labels that are present: those of `order` first, others as they come."""
    labels = list(dict.fromkeys(present.tolist()))
    return [x for x in order if x in labels] + [x for x in labels if x not in order]


def _of_variable(card: Scorecard, variable: str, results: Results) -> Markup:
    mine = card.variable == variable
    periods = _known(card.period[mine], results.periods)
    scores = _known(card.score[mine], list(SCORES))
    value = {
        (period, ensemble, score): x
        for period, ensemble, score, x in zip(
            card.period[mine], card.ensemble[mine], card.score[mine], card.value[mine].tolist(), strict=True
        )
    }
    ensembles = _known(card.ensemble[mine], list(ENSEMBLES))
    columns = [(period, score) for period in periods for score in scores]
    best = {column: _best(value, ensembles, *column) for column in columns}
    rows = [
        [
            ENSEMBLES.get(ensemble, ensemble),
            *(
                _cell(value.get((p, ensemble, s), np.nan), s, best[p, s], best.get((p, RMSE.kind)))
                for p, s in columns
            ),
        ]
        for ensemble in ensembles
    ]
    unit = f" [{results.unit(variable)}]" if variable in results.variables else ""
    return framed(_head(periods, scores), rows, f"{variable}{unit}")


def _head(periods: list[str], scores: list[str]) -> Markup:
    """Return two header rows: periods above their scores."""
    above = [element("th", period, colspan=str(len(scores)), scope="colgroup") for period in periods]
    below = [element("th", _title(s), scope="col") for _ in periods for s in scores]
    return element(
        "thead",
        element("tr", element("td", ""), *above),
        element("tr", element("th", "", scope="col"), *below),
    )


def _best(value: dict, ensembles: list[str], period: str, score: str) -> float | None:
    """Return the best value any model reached, None for an unknown score."""
    reached = [value.get((period, e, score), np.nan) for e in ensembles if e != "climatology"]
    reached = [x for x in reached if np.isfinite(x)]
    return min(reached, key=SCORES[score]().penalty) if reached and score in SCORES else None


def _cell(x: float, score: str, best: float | None, rmse: float | None) -> Markup:
    """Return a score to four digits; one that may be next to nothing to the last of the best `rmse`."""
    decimals = max(0, 3 - math.floor(math.log10(rmse))) if rmse else 0
    signed = score in SCORES and SCORES[score].signed
    shown = fixed(x, decimals) if signed and rmse and np.isfinite(x) else html(x)
    return element("mark", shown) if x == best else shown
