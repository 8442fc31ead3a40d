"""Runs before all others: the default run, and what a model wants made before its members.

The default run (member 0 of the first ensemble) goes alone and before everything, at each site: where it
fails or its output cannot be compared, so would every member, and one run is spent instead of an ensemble.
The ensemble waits for it, one member's duration; it is not run twice. A model that runs a whole ensemble as
one job has none.

Some models make more runs: a spin-up that all members share, and one short run for each parameter, moved by
one prior standard deviation. A parameter whose short run gives the same output as the default's, bit for bit,
has no effect: it stands in a file that the model does not read, or belongs to a process that is switched off.

Each run is kept in a folder of its own, the default's in its ensemble's folder, the others under
`RUN/members/preparation`, and made once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fatescal.base.errors import ModelFailed, RunFailed, Status
from fatescal.ensemble import effects
from fatescal.ensemble.marker import MARKER
from fatescal.ensemble.member import Members, in_jobs
from fatescal.ensemble.single_run import once, require_own
from fatescal.ensemble.wall_time import WallTimeGuard
from fatescal.hpc.communicator import Communicator
from fatescal.models.base import SPIN_UP
from fatescal.storage.stage_graph import PREPARATION

log = logging.getLogger(__name__)
DEFAULT = "canary-default"
HINTS = {
    Status.MODEL_ERROR: "run the model by hand in that folder; the log tells the cause",
    Status.TIME_OUT: "a longer model.timeout",
    Status.TRUNCATED: "compare model.output, the model's and the observations' periods with what is there",
    Status.NON_FINITE: "look at the output in that folder, and at the parameters' defaults",
    Status.MISSING_VARIABLE: "observations.variables.NAME.model: a name that the output has",
    Status.WRONG_UNIT: "the attribute `units` in the output, or unit and compare_in of the observed variable",
}


@dataclass(frozen=True)
class Task:
    """One run: its folder's name, its parameters, and what makes it."""

    name: str
    theta: Mapping[str, float]
    run: Callable[[Mapping[str, float], Path], None]


def folder(members: Path, site: str = "") -> Path:
    """Return the folder of runs before all members under `RUN/members`, at each of several sites."""
    return members / PREPARATION / site


def prepare(sites: Sequence[Members], comm: Communicator, stage: str | None) -> None:
    """Make the runs that go before all others at all sites; warn of parameters without effect.

    Parameters
    ----------
    stage : str or None
        The first evaluation, whose member 0 is the default run; None where it is finished.

    Raises
    ------
    RunFailed
        When the spin-up or the default run fails: so would every member.
    """
    tasks = [(members, task) for members in sites for task in tasks_of(members)]
    comm.on_root(lambda: _require_own(tasks))
    # A short run with default parameters and the spin-up, which the default run starts from, come first.
    first = [pair for pair in tasks if pair[1].name in (SPIN_UP, DEFAULT)]
    first.sort(key=lambda pair: pair[1].name != SPIN_UP)  # the longest
    alone = [members for members in sites if stage is not None and not members.model.runs_together]
    moved = [pair for pair in tasks if pair[1].name not in (SPIN_UP, DEFAULT)]
    if sites[0].jobs is not None:
        comm.on_root(lambda: _in_jobs(sites, first, [], ""))
        comm.on_root(lambda: _in_jobs(sites, moved, alone, str(stage)))
    else:
        comm.parallel_for(lambda i: _make(*first[i]), len(first))
        others = [partial(_default, members, str(stage), comm) for members in alone]
        others += [partial(_make, *pair) for pair in moved]
        comm.parallel_for(lambda i: others[i](), len(others))
    if tasks:
        log.info("prepared: %s", ", ".join(_named(*pair) for pair in tasks))
    comm.on_root(lambda: _warn_of_idle(sites))


def _default(members: Members, stage: str, comm: Communicator) -> None:
    """Run member 0 of a stage, the default run; RunFailed where it fails."""
    _require_default(members, stage, *members.default_run(stage, WallTimeGuard(comm.time_left)))


def _require_default(members: Members, stage: str, status: Status, reason: str) -> None:
    """Raise `RunFailed` where the default run has failed."""
    if status != Status.OK:
        where = f" at {members.site}" if members.site else ""
        raise RunFailed(
            f"the default run{where} failed, and no other was started: {status.description}: "
            f"{reason.rstrip('.')}. "
            f"Its folder is {members.member_folder(stage, 0)}. Try: {HINTS[status]}"
        )


def _warn_of_idle(sites: Sequence[Members]) -> None:
    without_effect = idle(sites)
    effects.note(sites[0].folder.parent, "preparation", without_effect)
    for line in effects.remarks(without_effect, len(sites)):
        log.warning(line)


def idle(sites: Sequence[Members]) -> dict[str, list[str]]:
    """Return the parameters whose run gives the default's output to the last bit, and at which sites; on
    root.
    """
    without_effect: dict[str, list[str]] = {}
    for members in sites:
        model, prepared = members.model, folder(members.folder, members.site)
        if not (prepared / DEFAULT).is_dir():
            continue
        default = model.read(prepared / DEFAULT)
        for name in members.space.names:
            moved = prepared / f"canary-{name}"
            if moved.is_dir() and model.read(moved).identical(default):
                without_effect.setdefault(name, []).append(members.site)
    return without_effect


def _require_own(tasks: Sequence[tuple[Members, Task]]) -> None:
    """Refuse runs that are there with other parameters, or by another model, before any is made."""
    for members, task in tasks:
        require_own(folder(members.folder, members.site) / task.name, task.theta, members.identity)


def tasks_of(members: Members) -> list[Task]:
    """Return the runs to make, none for a model that wants none."""
    space, model = members.space, members.model
    default = space.named(space.theta_default)
    tasks = [Task(SPIN_UP, default, model.spin_up)] if model.shares_spin_up else []
    if not model.makes_effect_runs:
        return tasks
    tasks.append(Task(DEFAULT, default, model.effect_run))
    for p, name in enumerate(space.names):
        tasks.append(Task(f"canary-{name}", space.named(space.moved(p)), model.effect_run))
    return tasks


def make(members: Members, task: Task) -> None:
    """Make a run, where it is not made; `ModelFailed` as the model."""

    def work(part: Path) -> None:
        task.run(task.theta, part)

    once(folder(members.folder, members.site) / task.name, task.theta, members.identity, work)


def _make(members: Members, task: Task) -> None:
    try:
        make(members, task)
    except ModelFailed as failure:
        _judge(members, task, failure)


def _judge(members: Members, task: Task, failure: ModelFailed) -> None:
    """Warn of a run that failed; raise `RunFailed` where all members would."""
    if task.name not in (SPIN_UP, DEFAULT):
        log.warning(
            "%s failed (%s): whether the parameter changes anything is not known",
            _named(members, task),
            failure,
        )
        return
    raise RunFailed(
        f"the {_named(members, task)} run failed, and so would every member: {failure.kind.description}: "
        f"{failure.reason}"
    ) from None


def _in_jobs(
    sites: Sequence[Members], runs: Sequence[tuple[Members, Task]], alone: Sequence[Members], stage: str
) -> None:
    """Let jobs make runs, and the default run of the sites `alone`; judge them as those of ranks; on root."""
    made, defaults = {}, {}
    for members, task in runs:
        if not (folder(members.folder, members.site) / task.name / MARKER).exists():
            name = task.name.removeprefix("canary-")
            is_moved, names = task.name not in (SPIN_UP, DEFAULT), list(members.space.names)
            theta = members.space.moved(names.index(name)) if is_moved else members.space.theta_default
            made[members.job_task("preparation", PREPARATION, task.name, theta)] = members, task
    for members in alone:
        theta = members.space.theta_default
        if members.unfinished(stage, theta[None]) or members.reason(stage, 0):  # one that failed runs again
            defaults[members.job_task("default", stage, "0000", theta)] = members
    for task_of_job, outcome in in_jobs(sites, PREPARATION, [*made, *defaults]).items():
        if task_of_job in defaults:
            _require_default(defaults[task_of_job], stage, Status(outcome.status), outcome.reason)
        elif outcome.status:
            _judge(*made[task_of_job], ModelFailed(Status(outcome.status), outcome.reason))


def _named(members: Members, task: Task) -> str:
    return f"{members.site}/{task.name}" if members.site else task.name
