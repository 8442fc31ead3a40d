"""What a run is doing, read from its folder alone: on a login node, while its job runs or after it died."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.ensemble.marker import MARKER, MarkersOnce
from fatescal.storage.lock import Holder, holder
from fatescal.storage.records import Evaluation, Observations
from fatescal.storage.store import Store
from fatescal.workflow import cost
from fatescal.workflow.snapshot import Snapshot

RECENT = 200  # finished members by whose pace the end is projected
ENDS = ("verdict", "scorecard", "scorecard-prior", "scorecard-default")


@dataclass(frozen=True)
class Pace:
    """How many model runs are done, what they took, and when the rest would be at the present rate."""

    done: int
    planned: int
    seconds: float
    rate: float  # members a second; NaN where it is not known

    def line(self, ended: bool) -> str:
        """Return the pace as a line; planned are the runs that the config tells, without further rounds."""
        if ended:
            return f"{self.done} runs, {age(self.seconds)} of them"
        left = max(self.planned - self.done, 0)
        text = f"{self.done} of about {self.planned} runs, {age(self.seconds)} of them"
        if self.done:
            text += f", {age(left * self.seconds / self.done)} left"
        if left and self.rate > 0:
            text += f"; at the present pace all about {clock(left / self.rate)}"
        return text


def clock(seconds: float) -> str:
    """Return the time of day in so many seconds, with the date where it is not soon."""
    end = time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if seconds < 43200 else "%d %b %H:%M", end)


def age(seconds: float) -> str:
    """Return a duration in one unit.

    >>> age(5.2), age(300.0), age(7300.0), age(200000.0)
    ('5 s', '5 min', '2.0 h', '2.3 days')
    """
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def state_line(directory: Path, finished: Iterable[str]) -> str:
    """Return in one line whether a run is at work, waits, has ended or died."""
    by: Holder = holder(directory)
    ended = any(key in ENDS for key in finished)
    sign = f"last sign of life {age(by.seconds)} ago" if math.isfinite(by.seconds) else "no sign of life"
    if by.runs:
        return f"running ({by.who or 'unknown process'}; {sign})"
    if ended:
        return "finished"
    if by.died:
        return f"DIED ({by.who}; {sign}): start the same command again to go on"
    return "not running: start the same command again to go on"


def n_running(stage: Path) -> int:
    """Return how many members of a stage have a folder that is not complete: those that run, if any do."""
    parts = [*stage.glob("[0-9]*.part-*"), *stage.glob("[0-9]*/*.part-*")]
    return sum(path.is_dir() for path in parts)


def pace(directory: Path, snapshot: Snapshot | None, once: MarkersOnce) -> Pace | None:
    """Return how fast the members of a run come; None before one has finished."""
    if snapshot is None:
        return None
    stages = [folder for folder in (directory / "members").glob("*") if folder.is_dir()]
    done, ends = [], []
    for stage in stages:
        for number, site, marker in once(stage):
            with suppress(OSError):  # it has vanished since
                ends.append(os.stat(f"{stage}/{number}/{site or '.'}/{MARKER}").st_mtime)
                done.append(float(marker["seconds"]))
    if not done:
        return None
    last = np.sort(ends)[-RECENT:]
    rate = (len(last) - 1) / (last[-1] - last[0]) if len(last) > 1 and last[-1] > last[0] else math.nan
    return Pace(len(done), cost.planned_runs(snapshot.config), sum(done), rate)


def snapshot_of(directory: Path) -> Snapshot | None:
    """Return what a run was started with; None where that cannot be read."""
    try:
        return Snapshot.read(directory)
    except BadInput:
        return None


def expected_members(stage: str, snapshot: Snapshot | None) -> int | None:
    """Return how many members a stage will have at each site; None where the config does not tell."""
    if snapshot is None:
        return None
    if stage.startswith("evaluation-posterior"):
        return snapshot.config.posterior.members
    return snapshot.config.calibrate.members if stage.removeprefix("evaluation-").isdigit() else None


def misfits(store: Store, known: dict[str, str]) -> dict[str, str]:
    """Return the median reduced chi-squared of every finished ensemble; `known` are those read before."""
    keys = store.keys()
    if "observations" not in keys:
        return known
    stages = [key for key in keys if key.startswith("evaluation-") and key not in known]
    observations = store.load(max(k for k in keys if k.startswith("observations")), Observations)
    rows = observations.period == "calibration"
    calibration = observations.select(rows)
    for key in stages:
        evaluation = store.load(key, Evaluation)
        ok = evaluation.ok & (np.arange(len(evaluation.status)) > 0)
        if ok.any() and rows.any():
            chi2 = 2 * calibration.misfit(evaluation.predictions[ok][:, rows]) / rows.sum()
            known[key] = f"median reduced chi-squared {np.median(chi2):.3g}, least {np.min(chi2):.3g}"
    return known
