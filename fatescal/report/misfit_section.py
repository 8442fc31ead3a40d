"""Section "Misfit": how the ensembles approached the observations, and what failed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fatescal.base.errors import Status
from fatescal.base.types import Array
from fatescal.report.figure import COLOUR, Plot, canvas, styled
from fatescal.report.markup import Markup, paragraph, table
from fatescal.report.results import Results, is_kalman, members, ran
from fatescal.report.section import ReportSection
from fatescal.storage.records import Evaluation


class Misfit(ReportSection):
    """How the ensembles approached the observations, and what failed on the way."""

    kind = "misfit"
    title = "Misfit"
    needs = "a model run"

    def plots(self, results: Results) -> Sequence[Plot]:
        if not results.ensembles:
            return ()
        return (Plot("misfit", lambda: _figure(results), _described(results), lambda: _data(results)),)

    def content(self, results: Results) -> Sequence[object] | None:
        if not results.ensembles:
            return None
        return [
            paragraph(
                "Reduced χ² = 2Φ/D: the mean squared difference of model and observation in units of the "
                "assumed error, over the D observations of the calibration period. Near 1 the model fits as "
                "well as the error says it should; far above, model or error is wrong; far below, the error "
                "is too large. The spread is the mean standard deviation of the members in prior standard "
                "deviations: 1 is the prior, and it shrinks as the data inform. "
            ),
            *(plot.shown for plot in self.figures(results)),
            _of_evaluations(results),
            _of_variables(results),
        ]


def spread(evaluation: Evaluation) -> float:
    """Return the mean sd of the members in u, NaN below two members."""
    u = evaluation.u[ran(evaluation)]
    return float(u.std(axis=0, ddof=1).mean()) if len(u) > 1 else np.nan


def _chi2(results: Results) -> dict[str, Array]:
    """Return the reduced chi-square of every evaluation's members that ran."""
    return {
        key: results.reduced_chi2(members(e), "calibration")
        for key, e in results.history.items()
        if ran(e).any()
    }


def _described(results: Results) -> str:
    """Return what the figure shows, in words."""
    medians = (f"{results.label(key)} {np.median(x):.3g}" for key, x in _chi2(results).items())
    return f"Reduced chi-square and spread of every ensemble; median chi-square: {', '.join(medians)}"


def _data(results: Results) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Return the reduced chi-square of every member that ran, beside the spread of its ensemble."""
    rows: list[Sequence[object]] = []
    for key, values in _chi2(results).items():
        evaluation = results.history[key]
        numbers = np.flatnonzero(ran(evaluation)).tolist()
        rows += [
            (results.label(key), j, x, spread(evaluation))
            for j, x in zip(numbers, values.tolist(), strict=True)
        ]
    return ("ensemble", "member", "reduced_chi2", "spread_over_prior_spread"), rows


@styled
def _figure(results: Results) -> Figure:
    chi2 = _chi2(results)
    figure = canvas(2.8)
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    for x, (key, values) in enumerate(chi2.items()):
        dots = x + 0.5 * (np.arange(len(values)) / max(len(values) - 1, 1) - 0.5)
        left.scatter(dots, values, s=7, lw=0, alpha=0.6, color=COLOUR[results.role(key)])
        left.plot([x - 0.3, x + 0.3], [np.median(values)] * 2, color="#222222", lw=1.5)
        right.plot(x, spread(results.history[key]), "o", color=COLOUR[results.role(key)])
    default = results.default_predictions
    if default is not None:
        value = results.reduced_chi2(default[None], "calibration")[0]
        left.axhline(value, color=COLOUR["default"], ls="--", lw=1.3, label="default")
        left.legend(loc="upper right")
    left.set_yscale("log")
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _sparse(left) else "")
    left.axhline(1, color="#aaaaaa", lw=0.8, zorder=0)
    left.set_title("reduced χ² of the members; bar: median")
    right.set_title("spread / prior spread")
    right.margins(y=0.1)
    right.set_ylim(bottom=0)
    names = [results.label(key) for key in chi2]
    for ax in (left, right):
        ax.set_xticks(range(len(names)), names, rotation=30 if len(names) > 4 else 0)
        ax.set_xlim(-0.6, len(names) - 0.4)
    return figure


def _sparse(ax) -> bool:
    """Whether a logarithmic axis spans so little that its minor ticks need numbers."""
    low, high = ax.get_ylim()
    return high / low < 10


def _of_evaluations(results: Results) -> Markup:
    """Return the table of the batches of model runs, and of the Kalman updates that followed."""
    kalman = [key for key in results.history if is_kalman(key)]
    updates = dict(zip(kalman, results.updates, strict=False))  # none follows the last evaluation
    rows = []
    for key, evaluation in results.history.items():
        values = results.reduced_chi2(members(evaluation), "calibration") if ran(evaluation).any() else None
        update = updates.get(key)
        rows.append(
            [
                results.label(key),
                len(evaluation.status),
                _failures(evaluation),
                float(np.median(values)) if values is not None else np.nan,
                float(np.min(values)) if values is not None else np.nan,
                spread(evaluation),
                float(update.degrees_of_freedom) if update else "",
                float(update.alpha) if update else "",
            ]
        )
    header = [
        "ensemble",
        "runs",
        "failed",
        "median χ²",
        "least χ²",
        "spread",
        "informed directions",
        "α of update",
    ]
    return table(
        header, rows,
        "Every batch of model runs. Informed directions: degrees of freedom for signal of the update that "
        "followed; α: factor on the error variance in that update.",
    )  # fmt: skip


def _failures(evaluation: Evaluation) -> str:
    """Return how many runs failed, and of what."""
    failed = evaluation.status[~evaluation.ok].tolist()
    kinds = ", ".join(f"{n} {Status(kind).description}" for kind, n in Counter(failed).items())
    return f"{len(failed)} ({kinds})" if failed else "0"


def _of_variables(results: Results) -> Markup:
    """Return the table of reduced chi-square per variable and period."""
    columns = results.compared
    rows = [
        [
            f"{variable}, {period}",
            int(results.rows(period, variable).sum()),
            *(float(np.median(results.reduced_chi2(g, period, variable))) for g in columns.values()),
        ]
        for variable in results.variables
        for period in results.periods
        if results.rows(period, variable).any()
    ]
    return table(["variable, period", "D", *columns], rows, "Reduced χ² per variable, median of the members.")
