"""Tables of the residuals: autocorrelation, seasons and hours, on the page and as csv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fatescal.diagnostics.residual_checks import Residuals, Share, autocorrelation, by_hour, by_season
from fatescal.diagnostics.scores import LEVEL
from fatescal.report.markup import Markup, element, fixed, rounded, table
from fatescal.report.results import Results

Split = Callable[[Residuals], list[Share]]
LAGS = (1, 2, 3, 5, 10, 20, 30)  # of the table of the page; residual_autocorrelation.csv has all
PERCENT = f"{100 * LEVEL:.0f} %"


def doubts(results: Results) -> Markup:
    """Return what the residuals contradict, and what to do, nothing where that is nothing."""
    items = [element("li", f"{c.why}; do: {c.todo}") for c in results.overconfident]
    return element("ul", *items) if items else Markup()


def columns(results: Results) -> tuple[list[str], list[list[Any]]]:
    """Return how well seasons, and hours, are predicted, as csv has it: header and rows."""
    header = ["variable", "period", "windows", "n", "bias", "rmse", "reduced_chi2", "coverage"]
    return header, [*rows(results, by_season), *rows(results, by_hour)]


def correlations(results: Results) -> tuple[list[str], list[list[Any]]]:
    """Return the autocorrelations as csv has them: header and rows."""
    header = ["variable", "period", "lag", "pairs", "residuals", "error_model", "standard_error"]
    rows: list[list[Any]] = []
    for (variable, period), of in results.residuals.items():
        a = autocorrelation(of)
        parts = (a.lag, a.pairs, a.found, a.assumed, a.standard_error)
        rows += [[variable, period, *row] for row in zip(*(x.tolist() for x in parts), strict=True)]
    return header, rows


def rows(results: Results, split: Split) -> list[list[Any]]:
    """Return a row for each season, or hour, of each variable and period."""
    return [
        [variable, period, s.name, s.n, s.bias, s.rmse, s.chi2, s.coverage]
        for (variable, period), of in results.residuals.items()
        for s in split(of)
    ]


def shares(what: str, rows: Sequence[Sequence[Any]]) -> Markup:
    """Return the table of seasons, or hours."""
    shown = [
        [f"{variable}, {period}", name, n, rounded(bias), rounded(rmse), fixed(chi2, 2), fixed(coverage, 2)]
        for variable, period, name, n, bias, rmse, chi2, coverage in rows
    ]
    header = ["variable, period", "windows", "D", "bias", "RMSE", "reduced χ²", "coverage"]
    return table(
        header, shown,
        f"Residuals {what}: bias, RMSE and χ² of the ensemble mean, and the share of the data in the "
        f"{PERCENT} range, observation error included. The same as residuals.csv.",
    )  # fmt: skip


def correlated(results: Results) -> Markup:
    """Return the table of autocorrelations at some lags, each beside that of the error model."""
    rows = []
    for (variable, period), of in results.residuals.items():
        found = autocorrelation(of)
        at = dict(zip(found.lag.tolist(), range(len(found.lag)), strict=True))
        for name, values in (("residuals", found.found), ("error model", found.assumed)):
            cells = [fixed(float(values[at[lag]]), 2) if lag in at else "–" for lag in LAGS]
            rows.append([f"{variable}, {period}", name, *cells])
    return table(
        ["variable, period", "of", *(f"lag {lag}" for lag in LAGS)], rows,
        "Autocorrelation of the residuals; a lag is one window. All lags in residual_autocorrelation.csv.",
    )  # fmt: skip
