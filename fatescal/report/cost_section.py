"""Section "Cost": what each stage took, in model runs and hours of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fatescal.report.markup import paragraph, rounded, table
from fatescal.report.results import Results
from fatescal.report.section import ReportSection


class Cost(ReportSection):
    """What each stage took, in model runs and hours of them."""

    kind = "cost"
    title = "Cost"
    needs = "a model run"

    def content(self, results: Results) -> Sequence[object] | None:
        rows = costs(results)
        if not rows:
            return None
        shown = [[str(row[0]), *row[1:3], *map(rounded, row[3:])] for row in rows]
        total = [sum(row[i] for row in rows) for i in (1, 2, 5)]
        shown.append(["all", *total[:2], "", "", rounded(total[2])])
        return [
            paragraph(
                "Wall-clock time of the model runs, failed ones included. A rank runs one member at a time, "
                "so hours of model runs are core-hours where a member takes one core; emulator and sampler "
                "come on top."
            ),
            table(["ensemble", "runs", "failed", "median [s]", "longest [s]", "hours of model runs"], shown),
        ]


def costs(results: Results) -> list[list[Any]]:
    """Return of every batch its name, runs, failed ones, median and longest time [s], and their sum [h]."""
    rows = []
    for stage, evaluation in results.history.items():
        seconds = evaluation.seconds[np.isfinite(evaluation.seconds)]
        if not len(seconds):
            continue
        middle, longest = float(np.median(seconds)), float(seconds.max())
        failed = int((~evaluation.ok).sum())
        row = [results.label(stage), len(evaluation.status), failed, middle, longest]
        rows.append([*row, float(seconds.sum()) / 3600])
    return rows
