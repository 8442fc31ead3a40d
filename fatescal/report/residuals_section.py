"""Section "Residuals": does what is left between data and model look like the error that was assumed?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fatescal.diagnostics.residual_checks import (
    Autocorrelation,
    Residuals,
    autocorrelation,
    by_hour,
    by_season,
)
from fatescal.diagnostics.scores import LEVEL
from fatescal.report import residual_tables
from fatescal.report.figure import COLOUR, Plot, canvas, styled
from fatescal.report.markup import element, paragraph
from fatescal.report.results import Results
from fatescal.report.section import ReportSection

BINS = 10  # of the histogram of ranks
PERCENT = f"{100 * LEVEL:.0f} %"


class ResidualsSection(ReportSection):
    """Does what is left between data and model look like the error that was assumed?"""

    kind = "residuals"
    title = "Residuals"
    needs = "a model run"

    def plots(self, results: Results) -> Sequence[Plot]:
        return [_plot(results, variable) for variable in results.variables if results.ensembles]

    def content(self, results: Results) -> Sequence[object] | None:
        if not results.ensembles:
            return None
        role = list(results.ensembles)[-1]
        seasons, hours = (residual_tables.rows(results, split) for split in (by_season, by_hour))
        content: list[object] = [
            paragraph(
                f"The {role} ensemble's mean minus the observations, in units of the assumed error. If the "
                "error model is right, the dots of the left panel lie on the diagonal, the bars of the "
                "middle one are about equal (within the band for independent data; a bowl: intervals too "
                "narrow, a hill: too wide, a slope: biased), and the residuals of neighbouring windows are "
                "no more alike than the line in the right one."
            ),
            *(plot.shown for plot in self.figures(results)),
            residual_tables.correlated(results),
            residual_tables.shares("by season", seasons),
        ]
        if hours:
            summary = element("summary", "by hour of the day, as the observations count it")
            content.append(element("details", summary, residual_tables.shares("by hour", hours)))
        return content


def _plot(results: Results, variable: str) -> Plot:
    parts = {period: of for (name, period), of in results.residuals.items() if name == variable}
    first = next(iter(parts.values()))
    found = autocorrelation(first)
    lag = f"{found.found[0]:.2f}" if len(found.lag) else "unknown"
    inside = float(first.inside.mean())
    alt = (
        f"Residuals of {variable}: quantiles against the normal distribution, histogram of ranks, "
        f"autocorrelation; {inside:.0%} of the data in the {PERCENT} range, autocorrelation of "
        f"neighbouring windows {lag}, by the error model {first.rho:.2f}"
    )
    name = re.sub(r"[^\w.-]", "_", variable)
    return Plot(
        f"residuals-{name}", lambda: _figure(variable, parts), alt, lambda: _data(parts), vector=False
    )


def _data(parts: dict[str, Residuals]) -> tuple[list[str], list[list[Any]]]:
    header = ["time", "period", "observed", "mean", "error_sd", "standardised_residual", "pit"]
    rows: list[list[Any]] = []
    for period, of in parts.items():
        time = np.datetime_as_string(of.time, "s").tolist()
        numbers = (x.tolist() for x in (of.y, of.mean, of.sd, of.z, of.pit))
        rows += [[t, period, *row] for t, *row in zip(time, *numbers, strict=True)]
    return header, rows


@styled
def _figure(variable: str, parts: dict[str, Residuals]) -> Figure:
    figure = canvas(3.0)
    quantiles, ranks, lags = figure.subplots(1, 3)
    for period, of in parts.items():
        colour = COLOUR["posterior"] if period == "calibration" else COLOUR["truth"]
        _quantiles(quantiles, of, colour, period)
        _ranks(ranks, of, colour, period)
        _lags(lags, autocorrelation(of), colour, period)
    low, high = quantiles.get_ylim()
    quantiles.plot([-4, 4], [-4, 4], color="#999999", lw=0.8, zorder=0)
    quantiles.set(xlim=(-4, 4), ylim=(min(low, -4), max(high, 4)), title=f"{variable}: quantiles")
    quantiles.set_xlabel("of a normal distribution")
    quantiles.set_ylabel("of the observations in the prediction")
    quantiles.legend(loc="upper left")
    ranks.axhline(1, color="#999999", lw=0.8, zorder=0)
    ranks.set(xlim=(0, 1), title="histogram of ranks (PIT)", xlabel="rank of the observation, 0 to 1")
    ranks.set_ylim(bottom=0)
    lags.axhline(0, color="#bbbbbb", lw=0.5, zorder=0)
    lags.set(title="autocorrelation of residuals", xlabel="windows apart", ylim=(None, 1.0))
    lags.legend(loc="upper right")
    return figure


def _quantiles(ax: Axes, of: Residuals, colour: str, period: str) -> None:
    """Draw where the observations lie in their predictive distribution, as normal quantiles."""
    from scipy.special import ndtri

    n = len(of.pit)
    expected = ndtri((np.arange(n) + 0.5) / n)
    found = ndtri(np.clip(np.sort(of.pit), 1e-9, 1 - 1e-9))
    ax.plot(expected, found, ".", ms=3, color=colour, alpha=0.7, label=period)


def _ranks(ax: Axes, of: Residuals, colour: str, period: str) -> None:
    """Draw the density of the ranks, and the band in which 90 % of the bars of independent data lie."""
    from scipy.stats import binom

    n = len(of.pit)
    density = np.histogram(of.pit, BINS, (0, 1))[0] * BINS / n
    ax.stairs(density, np.linspace(0, 1, BINS + 1), color=colour, lw=1.5)
    low, high = binom.ppf([0.05, 0.95], n, 1 / BINS) * BINS / n
    ax.axhspan(low, high, color=colour, alpha=0.12, lw=0)


def _lags(ax: Axes, found: Autocorrelation, colour: str, period: str) -> None:
    ax.plot(found.lag, found.found, "o-", ms=2.5, lw=0.8, color=colour, label=period)
    ax.plot(found.lag, found.assumed, color="#222222", lw=1.2, ls="--")
    half = 1.645 * found.standard_error
    ax.fill_between(found.lag, found.assumed - half, found.assumed + half, color=colour, alpha=0.12, lw=0)
