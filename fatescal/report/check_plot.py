"""Plots of the observations as they will be used, made before any model run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from fatescal.report.figure import COLOUR, DPI, canvas, styled
from fatescal.report.time_series_section import VALIDATION
from fatescal.storage import atomic
from fatescal.storage.records import Observations


@styled
def plot(observations: Observations, folder: Path) -> list[Path]:
    """Write ``folder/check_VARIABLE.png`` for each variable; return their paths.

    Every used window with its error, the validation period shaded, gaps left open.
    """
    paths = []
    for variable in dict.fromkeys(observations.variable.tolist()):
        part = observations.select(observations.variable == variable)
        time = (part.start + (part.end - part.start) // 2).astype("datetime64[s]")
        figure = canvas(3.2)
        ax = figure.subplots()
        ax.errorbar(
            time, part.y, part.sd, fmt="o", ms=1.8, mew=0, color=COLOUR["observations"],
            ecolor="#22222244", elinewidth=0.5,
        )  # fmt: skip
        validation = part.period == "validation"
        if validation.any():
            ax.axvspan(
                part.start[validation].min(), part.end[validation].max(), color=VALIDATION, lw=0, zorder=-2
            )
        ax.axhline(0, color="#bbbbbb", lw=0.5, zorder=0)
        ax.set_xlim(part.start.min(), part.end.max())
        ax.set_ylabel(f"{variable} [{part.unit[0]}]")
        counts = ", ".join(f"{np.sum(part.period == p)} {p}" for p in dict.fromkeys(part.period.tolist()))
        ax.set_title(
            f"{variable}: windows used and their error sd; {counts}{' (shaded)' if validation.any() else ''}"
        )
        path = folder / f"check_{variable.replace('/', '_')}.png"
        atomic.write(path, partial(figure.savefig, dpi=DPI, format="png"))
        paths.append(path)
    return paths
