"""Section "Annual sums": what a year adds up to, as observed and as modelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations import units
from fatescal.report.markup import Markup, interval, number, paragraph, rounded, table, to_spread
from fatescal.report.results import Results
from fatescal.report.section import ReportSection

SUMS = {"g C m-2 d-1": "g C m-2", "mm d-1": "mm"}  # of a rate over days
SHARES = (0.05, 0.5, 0.95)


class AnnualSums(ReportSection):
    """What a year adds up to, as observed and as modelled."""

    kind = "annual"
    title = "Annual sums"
    needs = "a model run, and a flux among the observed variables"

    def content(self, results: Results) -> Sequence[object] | None:
        header, rows = sums(results)
        if not rows:
            return None
        shown = [[*map(str, row[:3]), rounded(row[3]), *_cells(row[4:])] for row in rows]
        return [
            paragraph(
                "Sums over the windows that have observations, of observations and model alike; where these "
                "do not fill the year, the sum is not the year's. The ensembles' intervals (5 to 95 %) are "
                "those of the parameters alone. The same as annual_sums.csv."
            ),
            table(["variable", "unit", "year", "share of the year", *_titles(header[4:])], shown),
        ]


def _titles(names: Sequence[str]) -> list[str]:
    """Return the headings of the table of the page: one for each ensemble's three quantiles."""
    titles = [name.removesuffix("_median") for name in names if not name.endswith(("_low", "_high"))]
    return [f"{t}: median (5 – 95 %)" if f"{t}_low" in names else t for t in titles]


def _cells(values: Sequence[float]) -> Iterator[Markup]:
    """Yield observed and default sums, then the interval of each ensemble."""
    alone = len(values) % 3
    for x in values[:alone]:
        yield to_spread(x, 10.0) if abs(x) >= 10 else Markup(number(x))
    for i in range(alone, len(values), 3):
        low, median, high = values[i : i + 3]
        yield interval(median, low, high, max((high - low) / 3.29, 1e-3 * abs(median)))


def sums(results: Results) -> tuple[list[str], list[list[Any]]]:
    """Return the sums of each variable and year as csv has them: header and rows.

    Of a variable that is no flux of carbon or water there is none.
    """
    compared = results.compared
    header = ["variable", "unit", "year", "share_of_year", "observed"]
    header += ["default"] * ("default" in compared)
    roles = [role for role in compared if role != "default"]
    header += [f"{role}_{end}" for role in roles for end in ("low", "median", "high")]
    rows = []
    for variable in results.variables if roles else ():
        found = _sum_unit(results.unit(variable))
        if found is None:
            continue
        factor, unit = found
        mine = results.rows(variable=variable)
        year = results.observations.start.astype("datetime64[Y]").astype(int) + 1970
        rows += [
            [variable, unit, one, *_of_year(results, mine & (year == one), factor, one, roles)]
            for one in np.unique(year[mine]).tolist()
        ]
    return header, rows


def _sum_unit(unit: str) -> tuple[float, str] | None:
    """Return factor to a rate per day, and the unit of its sum; None of what is no such rate.

    >>> _sum_unit("mm d-1"), _sum_unit("K")
    ((1.0, 'mm'), None)
    """
    for rate, total in SUMS.items():
        try:
            return float(units.factor(unit, rate)), total
        except BadInput:
            continue
    return None


def _of_year(results: Results, mask: Array, factor: float, year: int, roles: Sequence[str]) -> list[float]:
    obs = results.observations
    days = (obs.end - obs.start)[mask].astype("timedelta64[s]").astype(float) / 86400
    weight, compared = factor * days, results.compared
    of_year = (np.datetime64(f"{year + 1}-01-01") - np.datetime64(f"{year}-01-01")).astype(int)
    values = [float(days.sum() / of_year), float(weight @ obs.y[mask])]
    values += [float(weight @ compared["default"][0, mask])] if "default" in compared else []
    for role in roles:
        values += np.quantile(compared[role][:, mask] @ weight, SHARES).tolist()
    return values
