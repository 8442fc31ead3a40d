"""Section "Fit in time": every variable as observed and as modelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, MonthLocator
from matplotlib.figure import Figure

from fatescal.base.types import Array
from fatescal.diagnostics.scores import LEVEL
from fatescal.report.figure import COLOUR, Plot, canvas, styled
from fatescal.report.markup import element, paragraph
from fatescal.report.results import Results, members
from fatescal.report.section import ReportSection

INTERVAL = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
PERCENT = f"{100 * LEVEL:.0f} %"
BRIDGE = 7  # windows without observation that a line still crosses
LONG = 400  # windows above which a series is cut into years
SEASON_DAYS = 10  # of one step of the mean seasonal cycle
VALIDATION = "#fdf5e0"  # background


class FitInTime(ReportSection):
    """Every variable as observed and as modelled."""

    kind = "fit"
    title = "Fit in time"
    needs = "a model run"

    def plots(self, results: Results) -> Sequence[Plot]:
        return [
            plot for variable in results.variables if results.ensembles for plot in _of(results, variable)
        ]

    def content(self, results: Results) -> Sequence[object] | None:
        if not results.ensembles:
            return None
        role = _best_role(results)
        content = [
            paragraph(
                "Dots are the observations, with bars of one error standard deviation. The dark band holds "
                f"the central {PERCENT} of the ",
                element("b", f"{role} ensemble's"),
                " predictions (parameter uncertainty only); the light band adds the observation error, and "
                f"{PERCENT} of the dots should lie in it (coverage in the scorecard). Orange is the same "
                "interval of the prior ensemble, the dashed line the default run. The model is drawn where "
                "there are observations; longer gaps stay open. Yellow background: validation, not used in "
                "the fit.",
            )
        ]
        fits, seasons = self.figures(results)[::2], self.figures(results)[1::2]
        for variable, fit, season in zip(results.variables, fits, seasons, strict=True):
            heading = element("h3", f"{variable} [{results.unit(variable)}]")
            content += [heading, fit.shown, season.shown]
        return content


def _of(results: Results, variable: str) -> list[Plot]:
    """Return the figures of one variable."""
    name = re.sub(r"[^\w.-]", "_", variable)
    data = series(results, variable)
    best = list(data.ensembles)[-1]
    model = np.median(data.ensembles[best], axis=0)
    alt = (
        f"{variable} in time, {len(data.y)} observations from {data.time[0].astype('datetime64[D]')} to "
        f"{data.time[-1].astype('datetime64[D]')} with mean {data.y.mean():.3g} {results.unit(variable)}, "
        f"beside the {best} ensemble with mean {model.mean():.3g}"
    )
    caption = (
        "Means over the same days of all years (where the series is long enough), and model against "
        "observation, window by window; on the diagonal they agree."
    )
    fit = Plot(
        f"fit-{name}", lambda: fit_figure(results, variable), alt, lambda: table_of(data), vector=False
    )
    return [
        fit,
        Plot(
            f"season-{name}", lambda: summary_figure(results, variable),
            f"{variable}: mean seasonal cycle, and {best} median against observations, which differ by "
            f"{np.sqrt(np.mean((model - data.y) ** 2)):.3g} {results.unit(variable)} (RMSE)",
            lambda: table_of(data), caption, vector=False,
        ),
    ]  # fmt: skip


def table_of(data: TimeSeries) -> tuple[list[str], list[list[Any]]]:
    """Return the observations and the bands of the ensembles as a table, a row for each window."""
    columns: dict[str, Any] = {
        "time": np.datetime_as_string(data.time, "s"), "period": data.period,
        "observed": data.y, "error_sd": data.noise,
    }  # fmt: skip
    if data.default is not None:
        columns["default"] = data.default
    for role, ensemble in data.ensembles.items():
        shares = {"low": INTERVAL[0], "median": 0.5, "high": INTERVAL[1]}
        columns |= {f"{role}_{end}": np.quantile(ensemble, share, axis=0) for end, share in shares.items()}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return list(columns), [list(row) for row in rows]


def _best_role(results: Results) -> str:
    """Return the furthest ensemble there is: posterior, else last, else prior."""
    return list(results.ensembles)[-1]


@dataclass(frozen=True)
class TimeSeries:
    """One variable in order of time: windows, observations and ensembles (J, M) by role."""

    time: Array  # (M,) middle of the windows
    y: Array
    noise: Array
    period: Array
    default: Array | None
    ensembles: dict[str, Array]

    def __getitem__(self, rows: Array) -> TimeSeries:
        default = None if self.default is None else self.default[rows]
        ensembles = {role: g[:, rows] for role, g in self.ensembles.items()}
        return TimeSeries(
            self.time[rows], self.y[rows], self.noise[rows], self.period[rows], default, ensembles
        )

    @property
    def window(self) -> np.timedelta64:
        """The usual distance of neighbouring windows."""
        steps = np.diff(self.time)
        return np.median(steps) if len(steps) else np.timedelta64(1, "D")

    @property
    def year(self) -> Array:
        """Calendar year (M) of each window."""
        return self.time.astype("datetime64[Y]").astype(int) + 1970

    @property
    def day(self) -> Array:
        """Day of the year (M), from 0."""
        return (self.time - self.time.astype("datetime64[Y]")).astype("timedelta64[s]").astype(float) / 86400


def series(results: Results, variable: str) -> TimeSeries:
    """Return one variable's observations and predictions in order of time."""
    obs = results.observations
    middle = obs.start + (obs.end - obs.start) // 2
    rows = np.flatnonzero(results.rows(variable=variable))
    rows = rows[np.argsort(middle[rows], kind="stable")]
    default = results.default_predictions
    return TimeSeries(
        time=middle[rows],
        y=obs.y[rows],
        noise=obs.sd[rows],
        period=obs.period[rows],
        default=None if default is None else default[rows],
        ensembles={role: members(e)[:, rows] for role, e in results.ensembles.items()},
    )


def with_noise(predictions: Array, noise: Array, share: float) -> Array:
    """Return the quantile (M) of prediction plus observation error.

    The predictive distribution is the equal mixture of the members' N(prediction, noise^2), whose
    distribution function is inverted by bisection: exact and free of random numbers.

    Parameters
    ----------
    predictions : (J, M)
    noise : (M,)
        Error standard deviation.
    share : float
        Probability below the quantile.

    >>> with_noise(np.zeros((3, 1)), np.array([2.0]), 0.975).round(3).tolist()
    [3.92]
    """
    from scipy.special import ndtr

    low, high = predictions.min(axis=0) - 8 * noise, predictions.max(axis=0) + 8 * noise
    for _ in range(40):
        middle = (low + high) / 2
        below = ndtr((middle - predictions) / noise).mean(axis=0) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


@styled
def fit_figure(results: Results, variable: str) -> Figure:
    """Return the fit of one variable in time; a long series takes a panel for each year."""
    data = series(results, variable)
    years = np.unique(data.year)
    by_year = len(data.time) > LONG and len(years) > 1
    panels = [data[data.year == year] for year in years] if by_year else [data]
    figure = canvas(0.4 + (2.1 if len(panels) > 1 else 3.0) * len(panels))
    axes = figure.subplots(len(panels), 1, sharey=True, squeeze=False)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw(ax, panel)
        _axis_of_time(ax, panel, whole_year=by_year)
    figure.supylabel(f"{variable} [{results.unit(variable)}]", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    return figure


def _draw(ax: Axes, data: TimeSeries) -> None:
    """Draw one panel: bands behind, observations in front."""
    time, order = _broken(data)
    best = list(data.ensembles)[-1]
    bands = []
    if "prior" in data.ensembles and best != "prior":
        prior = np.quantile(data.ensembles["prior"], INTERVAL, axis=0)
        bands.append((prior, COLOUR["prior"], 0.22, f"prior, {PERCENT}"))
    noisy = np.array([with_noise(data.ensembles[best], data.noise, share) for share in INTERVAL])
    bands.append((noisy, COLOUR[best], 0.22, f"{best} with observation error"))
    bands.append(
        (np.quantile(data.ensembles[best], INTERVAL, axis=0), COLOUR[best], 0.75, f"{best}, {PERCENT}")
    )
    for (low, high), colour, alpha, label in bands:
        ax.fill_between(time, order(low), order(high), color=colour, alpha=alpha, lw=0, label=label)
    ax.plot(time, order(np.median(data.ensembles[best], axis=0)), color=COLOUR[best], lw=0.9)
    if data.default is not None:
        ax.plot(time, order(data.default), color=COLOUR["default"], lw=0.9, ls="--", label="default")
    ax.errorbar(
        data.time, data.y, data.noise, fmt="o", ms=2.2, color=COLOUR["observations"], mew=0,
        ecolor="#22222255", elinewidth=0.5, label="observations",
    )  # fmt: skip
    ax.axhline(0, color="#bbbbbb", lw=0.5, zorder=0)


def _broken(data: TimeSeries):
    """Return the time with breaks at long gaps, and the function that puts NaN at them in a row (M)."""
    breaks = np.flatnonzero(np.diff(data.time) > (BRIDGE + 1) * data.window) + 1
    time = np.insert(data.time, breaks, data.time[breaks - 1])
    return time, lambda row: np.insert(row, breaks, np.nan)


def _axis_of_time(ax: Axes, data: TimeSeries, whole_year: bool) -> None:
    half = data.window / 2
    validation = data.time[data.period == "validation"]
    if len(validation):
        ax.axvspan(validation[0] - half, validation[-1] + half, color=VALIDATION, lw=0, zorder=-2)
    if whole_year:
        year = np.datetime64(int(data.year[0]) - 1970, "Y")
        ax.set_xlim(year.astype("datetime64[D]"), (year + 1).astype("datetime64[D]"))
        ax.xaxis.set_major_locator(MonthLocator())
        ax.xaxis.set_major_formatter(DateFormatter("%b"))
    else:
        ax.set_xlim(data.time[0] - half, data.time[-1] + half)
    periods = ", ".join(dict.fromkeys(data.period.tolist()))
    label = f"{data.year[0]} · {periods}" if whole_year else periods
    ax.text(0.006, 0.96, label, transform=ax.transAxes, va="top", weight="bold", color="#444444")


@styled
def summary_figure(results: Results, variable: str) -> Figure:
    """Return the mean seasonal cycle and scatters of model against observation."""
    data, unit = series(results, variable), results.unit(variable)
    best = list(data.ensembles)[-1]
    models = {best: np.median(data.ensembles[best], axis=0)}
    if data.default is not None:
        models = {"default": data.default, **models}
    seasonal = np.ptp(data.day) > 180
    figure = canvas(3.1, 11.0 if seasonal else 3.4 * len(models))
    ratios = ([2.0] if seasonal else []) + [1.0] * len(models)
    axes = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    if seasonal:
        _seasonal_cycle(axes[0], data, best)
        axes[0].set_ylabel(f"{variable} [{unit}]")
    for ax, (name, model) in zip(axes[-len(models) :], models.items(), strict=True):
        _scatter(ax, data, model, COLOUR[name])
        ax.set_title(name if name == "default" else f"{name} median")
        ax.set_xlabel(f"observed [{unit}]")
        ax.set_ylabel(f"modelled [{unit}]")
    return figure


def _seasonal_cycle(ax: Axes, data: TimeSeries, best: str) -> None:
    """Draw means over the same days of all years; months for windows longer than SEASON_DAYS."""
    width = SEASON_DAYS if data.window <= np.timedelta64(SEASON_DAYS, "D") else 366 / 12
    bins, which = np.unique((data.day // width).astype(int), return_inverse=True)
    counts = np.bincount(which)

    def mean(rows: Array) -> Array:
        """Return bin means (..., bins) of rows (..., M)."""
        rows = np.atleast_2d(rows)
        return np.array([np.bincount(which, row) / counts for row in rows])

    start = np.datetime64("2001-01-01", "h")
    time = start + ((bins + 0.5) * width * 24).astype("timedelta64[h]")
    for role in dict.fromkeys(("prior", "design", best)):
        if role in data.ensembles:
            low, high = np.quantile(mean(data.ensembles[role]), INTERVAL, axis=0)
            alpha = 0.25 if role != best else 0.6
            ax.fill_between(
                time, low, high, color=COLOUR[role], alpha=alpha, lw=0, label=f"{role}, {PERCENT}"
            )
    if data.default is not None:
        ax.plot(time, mean(data.default)[0], color=COLOUR["default"], ls="--", lw=1.3, label="default")
    ax.plot(time, mean(data.y)[0], "o-", ms=3, lw=0.8, color=COLOUR["observations"], label="observations")
    ax.xaxis.set_major_locator(MonthLocator())
    ax.xaxis.set_major_formatter(DateFormatter("%b"))
    ax.set_title("mean seasonal cycle")
    ax.legend(loc="upper left")


def _scatter(ax: Axes, data: TimeSeries, model: Array, colour: str) -> None:
    both = np.concatenate([data.y, model])
    limits = np.min(both), np.max(both)
    ax.plot(limits, limits, color="#999999", lw=0.8, zorder=0)
    for period, marker in (("calibration", "o"), ("validation", "^")):
        rows = data.period == period
        if rows.any():
            face = colour if period == "calibration" else "none"
            ax.scatter(data.y[rows], model[rows], s=9, marker=marker, facecolors=face, edgecolors=colour,
                       linewidths=0.5, alpha=0.5, label=period)  # fmt: skip
    ax.set_aspect("equal")
    ax.legend(loc="upper left", handletextpad=0.1)
