"""Section "Failed members": which runs failed, of what, and where in the space of the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fatescal.base.errors import Status
from fatescal.base.types import Array
from fatescal.diagnostics import failures
from fatescal.report.figure import COLOUR, RUNS, Plot, canvas, styled, wrap
from fatescal.report.markup import element, paragraph
from fatescal.report.results import Results
from fatescal.report.section import ReportSection

FAILED = COLOUR["truth"]
SPREAD = 0.28  # of the dots of a parameter above and below its line


class FailedMembers(ReportSection):
    """Which runs failed, of what, and where in the space of the parameters."""

    kind = "failures"
    title = "Failed members"
    needs = "a member that failed"

    def plots(self, results: Results) -> Sequence[Plot]:
        z, _, status, _ = _runs(results)
        if not (status > 0).any():
            return ()
        alt = f"{(status > 0).sum()} failed and {(status == 0).sum()} other runs, along each parameter"
        caption = (
            "Each run on the scale on which the prior of a parameter is standard normal: grey those that "
            "ran, coloured those that failed, by reason."
        )
        return (
            Plot(
                "failures", lambda: _figure(results, z, status), alt, lambda: _data(results), caption,
                vector=False,
            ),
        )  # fmt: skip

    def content(self, results: Results) -> Sequence[object] | None:
        plots = self.figures(results)
        if not plots:
            return None
        first = next(iter(results.history.values()))  # later ones are narrower: to pool them would mislead
        said = failures.where(first.theta, first.ok, results.names)
        pattern = paragraph(
            "Parameters whose values separate failed runs of the first ensemble from the others:"
            if said
            else "In the first ensemble no parameter by itself separates failed runs from the others."
        )
        return [
            pattern,
            element("ul", *(element("li", line) for line in said)) if said else "",
            plots[0].shown,
        ]


def _runs(results: Results) -> tuple[Array, Array, Array, list[tuple[str, int]]]:
    """Return z (J, P), theta (J, P) and status (J) of all runs, and stage and number of each."""
    history = results.history
    if not history:
        nothing = np.empty((0, len(results.parameter)))
        return nothing, nothing, np.empty(0, int), []
    u = np.concatenate([e.u for e in history.values()])
    theta = np.concatenate([e.theta for e in history.values()])
    status = np.concatenate([e.status for e in history.values()])
    names = [(stage, j) for stage, e in history.items() for j in range(len(e.status))]
    return results.prior.z(u), theta, status, names


def _data(results: Results) -> tuple[list[str], list[list[Any]]]:
    _, theta, status, names = _runs(results)
    rows = [
        [stage, j, Status(s).description, *values]
        for (stage, j), s, values in zip(names, status.tolist(), theta.tolist(), strict=True)
        if s
    ]
    return ["stage", "member", "reason", *results.parameter], rows


@styled
def _figure(results: Results, z: Array, status: Array) -> Figure:
    n = z.shape[1]
    figure = canvas(0.9 + 0.42 * n, 9.0)
    ax = figure.subplots()
    reasons = [Status(kind) for kind in np.unique(status[status > 0]).tolist()]
    colours = {Status.OK: "#bbbbbb"} | dict(zip(reasons, (FAILED, *RUNS[2:]), strict=False))
    height = SPREAD * (2 * (np.arange(len(z)) * 0.618034 % 1) - 1)  # spread evenly, the same every time
    for kind, colour in colours.items():
        mine = status == kind
        for p in range(n):
            ax.scatter(
                z[mine, p], p + height[mine], s=6 if kind == Status.OK else 20, lw=0, color=colour,
                marker="o" if kind == Status.OK else "X", zorder=1 + (kind != Status.OK),
                label=None if p else f"{'ran' if kind == Status.OK else kind.description} ({mine.sum()})",
            )  # fmt: skip
    ax.set_yticks(range(n), [wrap(results.name_of(p)) for p in range(n)])
    ax.set_ylim(n - 0.5, -0.5)
    ax.set_xlabel("prior standard deviations from the prior's median")
    figure.legend(loc="outside upper left", ncols=len(colours))
    return figure
