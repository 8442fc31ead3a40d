"""Section "Sensitivity": which parameters decide the misfit and each variable, by the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fatescal.base.types import Array
from fatescal.diagnostics.sobol_indices import SobolIndices, indices, points
from fatescal.emulate.surrogates import OutputsSurrogate
from fatescal.report.figure import COLOUR, Plot, canvas, styled, wrap
from fatescal.report.markup import Markup, breakable, fixed, paragraph, table
from fatescal.report.results import Results
from fatescal.report.section import ReportSection

N = 512  # points of each of the P + 2 sets
MISFIT = "misfit"


class Sensitivity(ReportSection):
    """Which parameters decide the misfit and each variable, by the emulator."""

    kind = "sensitivity"
    title = "Sensitivity"
    needs = "an emulator"

    def plots(self, results: Results) -> Sequence[Plot]:
        if results.emulator is None or results.surrogate is None:
            return ()
        self._found = of_results(results)
        return (_plot(results, self._found),)

    def content(self, results: Results) -> Sequence[object] | None:
        if results.emulator is None or results.surrogate is None:
            return None
        (plot,), found = self.figures(results), self._found
        correlated = (
            " Priors are correlated here: an index is of what the parameters before it leave open."
            if results.prior.factor is not None
            else ""
        )
        return [
            paragraph(
                "Over the prior, by the emulator: the share of the variance of the misfit, and of each "
                "variable's mean over the calibration period, that a parameter explains alone (first), and "
                "with all its interactions (total). Intervals (5 to 95 %) hold the error of the sampling and "
                "the variance that the emulator itself does not know, told below; where that is large, the "
                f"indices say little.{correlated}"
            ),
            plot.shown,
            *(_table(results, output, of) for output, of in found.items()),
        ]


def _plot(results: Results, found: dict[str, SobolIndices]) -> Plot:
    leading = (
        f"{output}: {results.name_of(int(np.argmax(of.total)))} {of.total.max():.2f}"
        for output, of in found.items()
    )
    alt = f"Total Sobol indices of every output; the largest of each: {'; '.join(leading)}"
    return Plot("sensitivity", lambda: _figure(results, found), alt, lambda: columns(results, found))


def of_results(results: Results) -> dict[str, SobolIndices]:
    """Return the indices of the misfit and, of an emulator of outputs, of each variable's mean."""
    from scipy.special import ndtri

    emulator, surrogate = results.emulator, results.surrogate
    assert emulator is not None
    assert surrogate is not None
    n_parameters = len(results.parameter)
    u = ndtri(points(n_parameters, N))
    mean, variance = emulator.predict(surrogate, u)
    calibration = results.observations.select(results.rows("calibration"))
    phi, sd = emulator.misfit(surrogate, calibration, mean, variance)
    found = {MISFIT: indices(phi, n_parameters, sd**2)}
    if isinstance(surrogate, OutputsSurrogate):
        for variable in results.variables:
            weight = _weight(calibration, surrogate, calibration.variable == variable)
            found[variable] = indices(mean @ weight, n_parameters, variance @ weight**2)
    return found


def _weight(calibration: Any, surrogate: OutputsSurrogate, rows: Array) -> Array:
    """Return what each latent output (K) adds to the mean of some rows, in their unit."""
    if not rows.any():
        return np.zeros(surrogate.basis.shape[1])
    return calibration.colour(surrogate.basis.T)[:, rows].mean(axis=1)


def columns(results: Results, found: dict[str, SobolIndices]) -> tuple[list[str], list[list[Any]]]:
    """Return the indices as csv has them: header and rows."""
    header = ["output", "parameter", "first", "first_low", "first_high", "total", "total_low", "total_high"]
    rows = []
    for output, of in found.items():
        of_each = zip(of.first, *of.bounds("first"), of.total, *of.bounds("total"), strict=True)
        rows += [
            [output, name, *map(float, numbers), of.unknown]
            for name, numbers in zip(results.parameter, of_each, strict=True)
        ]
    return [*header, "unknown_to_the_emulator"], rows


def _table(results: Results, output: str, of: SobolIndices) -> Markup:
    order = np.argsort(-of.total, kind="stable")
    rows = [
        [breakable(results.name_of(p)), *(_interval(of, which, p) for which in ("first", "total"))]
        for p in order.tolist()
    ]
    caption = (
        f"{output}: share of its variance over the prior; {of.unknown:.1%} of it is unknown to the emulator"
    )
    return table(["parameter", "first-order index", "total index"], rows, caption)


def _interval(of: SobolIndices, which: str, p: int) -> Markup:
    low, high = of.bounds(which)
    value = fixed(float(getattr(of, which)[p]), 2)
    return Markup(f"{value} ({fixed(float(low[p]), 2)} – {fixed(float(high[p]), 2)})")


@styled
def _figure(results: Results, found: dict[str, SobolIndices]) -> Figure:
    n = len(results.parameter)
    figure = canvas(0.9 + 0.32 * n)
    axes = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    where = np.arange(n)
    for ax, (output, of) in zip(axes, found.items(), strict=True):
        for which, colour, shift in (("total", COLOUR["posterior"], -0.17), ("first", COLOUR["prior"], 0.17)):
            index, (low, high) = getattr(of, which), of.bounds(which)
            ax.barh(where + shift, np.clip(index, 0, 1), 0.32, color=colour, alpha=0.8, label=which)
            ax.hlines(where + shift, low, high, color="#222222", lw=1)
        ax.set_xlim(0, 1)
        ax.set_title(output)
        ax.set_xlabel("share of the variance")
    axes[0].set_yticks(where, [wrap(results.name_of(p), 28) for p in range(n)])
    axes[0].invert_yaxis()
    axes[-1].legend(loc="lower right")
    return figure
