"""Runs that jobs of their own make: which of a batch they are, and what such a job does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fatescal.base.errors import ModelFailed, RunFailed
from fatescal.ensemble import effects, preparation
from fatescal.ensemble.job_notes import JobTask, Outcome
from fatescal.ensemble.member import Members
from fatescal.ensemble.wall_time import WallTimeGuard


def carry_out(sites: Sequence[Members], task: JobTask, time_left: Callable[[], float]) -> Outcome:
    """Make a run, in the job that was submitted for it; return how it ended.

    Raises
    ------
    RunFailed
        When config, files or program are others than when the job was submitted.
    OutOfTime
        When it could not finish in the time that is left.
    """
    members = next(members for members in sites if members.site == task.site)
    theta = np.array(task.theta)
    if members.job_task(task.kind, task.stage, task.name, theta) != task:
        raise RunFailed(
            f"{task.stage}/{task.name}: the config, or a file that it names, has changed since this job was "
            "submitted. Try: put it back; or start fatescal again, which says what has changed"
        )
    guard = WallTimeGuard(time_left)
    if task.kind == "member":
        members.member(task.stage, int(task.name), theta, guard)
        return Outcome()
    if task.kind == "default":
        status, reason = members.default_run(task.stage, guard)
        return Outcome(int(status), reason)
    try:
        if task.kind == "effect":
            effects.make(members, members.space.names.index(task.name))
        else:
            run = next(run for run in preparation.tasks_of(members) if run.name == task.name)
            preparation.make(members, run)
    except ModelFailed as failure:
        return Outcome(int(failure.kind), failure.reason)
    return Outcome()
