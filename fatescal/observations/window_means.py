"""Means of measurements over windows, weighted by the time that each stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.observations import calendars, record_lengths
from fatescal.observations.noise import sd_of_mean
from fatescal.storage.records import ObservationGrid

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rows:
    """The measurements of a table: their starts, lengths [s] and middles (N)."""

    starts: Array
    lengths: Array

    @classmethod
    def of(cls, table: pd.DataFrame) -> Rows:
        """Return those of a table that is indexed by the start of each."""
        starts = table.index.to_numpy().astype("datetime64[s]")
        return cls(starts, record_lengths.interval_lengths(starts))

    @property
    def middles(self) -> Array:
        """Middles (N), which decide to which window a row belongs."""
        return self.starts + self.lengths // 2

    @property
    def step_description(self) -> str:
        """How far the rows are apart: 'a row each 1 d'."""
        return record_lengths.step_description(self.starts, self.lengths)


def averages(
    columns: dict[str, Array], sds: dict[str, Array], rows: Rows, grid: ObservationGrid, calendar: str
) -> tuple[Array, Array, Array, Array, Array]:
    """Mean of each window (D), its valid measurements (D), the share (D) of its length that they fill.

    And whether (D) it is shorter than they are, by more than weeks or months differ among themselves; and the
    sd (D) of its mean by the uncertainties (N) of its measurements.
    """
    here = calendars.exists(rows.middles, calendar)
    clock = calendars.clock(rows.middles[here], calendar)
    lengths = record_lengths.elapsed(rows.starts, rows.lengths, calendar)[here]
    start, end = (calendars.clock(edges, calendar) for edges in (grid.start, grid.end))
    if (end - start).max() < rows.lengths.min():
        raise BadInput(
            f"windows of {(end - start).max() / 3600:g} h are shorter than the step of the measurements",
            expected=f"at least {rows.lengths.min() / 3600:g} h",
        )
    lo, hi = calendars.spans(clock, start, end)
    steps, counts = np.unique(rows.lengths, return_counts=True)
    step = steps[counts.argmax()]
    weights = lengths / step  # exactly 1 where all last as long, so that a mean is one
    y, n_valid, filled, measured = (np.zeros(len(grid)) for _ in range(4))
    for name, column in columns.items():
        mine, values = grid.variable == name, column[here]
        valid = np.isfinite(values)
        n_valid[mine] = calendars.sums(valid.astype(float), lo[mine], hi[mine])
        filled[mine] = calendars.sums(np.where(valid, weights, 0.0), lo[mine], hi[mine])
        total = calendars.sums(np.where(valid, values * weights, 0.0), lo[mine], hi[mine])
        y[mine] = total / np.where(filled[mine] > 0, filled[mine], 1.0)
        variance = np.where(valid, (sds[name][here] * weights) ** 2, 0.0)
        measured[mine] = sd_of_mean(calendars.sums(variance, lo[mine], hi[mine]), filled[mine])
    short = np.zeros(len(grid), dtype=bool)
    for length in steps[steps > (end - start).min()]:
        holds = calendars.sums((lengths == length).astype(float), lo, hi) > 0
        short |= holds & (3 * length > 4 * (end - start))
    return y, n_valid, filled * step / (end - start), short, measured
