"""Runs a model wants made before its members: a spin-up that all share, and a canary for every parameter.

A canary is a short run with one parameter moved by one prior standard deviation. A parameter whose canary gives
the same output as the default's, bit for bit, changes nothing: it stands in a file the model does not read, or
belongs to a process that is switched off. Nothing later would tell, for its posterior is simply the prior.

All these runs are shared among the ranks: while one of them spins up, the others run the canaries. Each is kept in
a folder of its own under `RUN/members/preparation` and made once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fatescal.errors import ModelFailed, RunFailed
from fatescal.members import Members, once
from fatescal.protocols import Prepared
from fatescal.world import World

log = logging.getLogger(__name__)
SPIN_UP, DEFAULT = "spin-up", "canary-default"


@dataclass(frozen=True)
class Task:
    """One run: its folder's name, its parameters, and what makes it."""

    name: str
    theta: Mapping[str, float]
    run: Callable[[Mapping[str, float], Path], None]


def folder(members: Path) -> Path:
    """Return the folder of these runs under `RUN/members`."""
    return members / "preparation"


def prepare(members: Members, world: World) -> tuple[str, ...]:
    """Make the runs `members.model` wants made beforehand; return the names of parameters that change nothing.

    Raises
    ------
    RunFailed
        When the spin-up or the default run fails: so would every member.
    """
    model = members.model
    if not isinstance(model, Prepared):
        return ()
    tasks = tasks_of(members, model)
    world.share(lambda i: _make(members, tasks[i]), len(tasks))
    found = world.on_root(lambda: idle(members))
    for name in found:
        log.warning(remark(name))
    log.info("prepared: %s", ", ".join(task.name for task in tasks))
    return found


def idle(members: Members) -> tuple[str, ...]:
    """Return the names of parameters whose canary gives the default's output to the last bit; on root."""
    model, place = members.model, folder(members.folder)
    if not (place / DEFAULT).is_dir():
        return ()
    default = model.read(place / DEFAULT)
    canaries = ((name, place / f"canary-{name}") for name in members.space.names)
    return tuple(name for name, path in canaries if path.is_dir() and model.read(path).identical(default))


def remark(name: str) -> str:
    """Say what it means that a parameter is idle."""
    return f"{name} CHANGES NOTHING, so its posterior is its prior: is the process it belongs to switched on?"


def tasks_of(members: Members, model: Prepared) -> list[Task]:
    """Return the runs to make: the longest first, so that the others fit beside it."""
    space = members.space
    default = space.named(space.theta_default)
    tasks = [Task(SPIN_UP, default, model.spin_up)] if model.shares_spin_up else []
    tasks.append(Task(DEFAULT, default, model.try_out))
    for p, name in enumerate(space.names):
        tasks.append(Task(f"canary-{name}", space.named(space.moved(p)), model.try_out))
    return tasks


def _make(members: Members, task: Task) -> None:
    def work(part: Path) -> None:
        task.run(task.theta, part)

    try:
        once(folder(members.folder) / task.name, task.theta, members.model.description, work)
    except ModelFailed as failure:
        if task.name not in (SPIN_UP, DEFAULT):
            log.warning(
                "%s failed (%s): whether the parameter changes anything is not known", task.name, failure
            )
            return
        raise RunFailed(
            f"the {task.name} run failed, and so would every member: {failure.kind.words}: {failure.reason}"
        ) from None
