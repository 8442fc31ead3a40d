"""Runs a model wants made before its members: a spin-up that all share, and a canary for every parameter.

A canary is a short run with one parameter moved by one prior standard deviation. A parameter whose canary gives
the same output as the default's, bit for bit, changes nothing: it stands in a file the model does not read, or
belongs to a process that is switched off. Nothing later would tell, for its posterior is simply the prior.

All these runs are shared among the ranks: while one of them spins up, the others run the canaries. Each is kept in
a folder of its own under `RUN/members/preparation` and made once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fatescal.errors import ModelFailed, RunFailed
from fatescal.members import Members, once, require_own
from fatescal.protocols import Prepared
from fatescal.stages import PREPARATION
from fatescal.world import World

log = logging.getLogger(__name__)
SPIN_UP, DEFAULT, REMARKS = "spin-up", "canary-default", "preparation.json"


@dataclass(frozen=True)
class Task:
    """One run: its folder's name, its parameters, and what makes it."""

    name: str
    theta: Mapping[str, float]
    run: Callable[[Mapping[str, float], Path], None]


def folder(members: Path, site: str = "") -> Path:
    """Return the folder of these runs under `RUN/members`; of several sites each has its own."""
    return members / PREPARATION / site


def prepare(sites: Sequence[Members], world: World) -> None:
    """Make the runs that the models of all sites want made beforehand; warn of parameters that change nothing.

    Raises
    ------
    RunFailed
        When the spin-up or the default run fails: so would every member.
    """
    tasks = [(members, task) for members in sites for task in tasks_of(members)]
    if not tasks:
        return
    # The longest first, so that the others fit beside it.
    tasks.sort(key=lambda pair: pair[1].name != SPIN_UP)
    world.on_root(lambda: _require_own(tasks))
    world.share(lambda i: _make(*tasks[i]), len(tasks))
    for line in world.on_root(lambda: _note(sites)):
        log.warning(line)
    log.info("prepared: %s", ", ".join(_named(*pair) for pair in tasks))


def idle(sites: Sequence[Members]) -> dict[str, list[str]]:
    """Return the parameters whose canary gives the default's output to the last bit, and at which sites; on root."""
    found: dict[str, list[str]] = {}
    for members in sites:
        model, place = members.model, folder(members.folder, members.site)
        if not (place / DEFAULT).is_dir():
            continue
        default = model.read(place / DEFAULT)
        for name in members.space.names:
            canary = place / f"canary-{name}"
            if canary.is_dir() and model.read(canary).identical(default):
                found.setdefault(name, []).append(members.site)
    return found


def _note(sites: Sequence[Members]) -> list[str]:
    """Say what it means that parameters are idle, and keep it: later the model may not be there; on root."""
    lines = [
        f"{name} CHANGES NOTHING, so its posterior is its prior: is the process it belongs to switched on?"
        if len(where) == len(sites)
        else f"{name} changes nothing at {', '.join(where)}: the other sites alone tell about it"
        for name, where in idle(sites).items()
    ]
    path = sites[0].folder.parent / REMARKS
    part = path.with_name(f".{REMARKS}.part")
    part.write_text(json.dumps(lines, indent=1) + "\n")
    os.replace(part, path)
    return lines


def remarks(run: Path) -> list[str]:
    """Return what a run's preparation has said of parameters that are idle."""
    try:
        return json.loads((run / REMARKS).read_text())
    except FileNotFoundError:
        return []


def _require_own(tasks: Sequence[tuple[Members, Task]]) -> None:
    """Refuse runs that are there with other parameters, or by another model, before any is made."""
    for members, task in tasks:
        require_own(folder(members.folder, members.site) / task.name, task.theta, members.identity)


def tasks_of(members: Members) -> list[Task]:
    """Return the runs to make, none for a model that wants none."""
    space, model = members.space, members.model
    if not isinstance(model, Prepared):
        return []
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
        once(folder(members.folder, members.site) / task.name, task.theta, members.identity, work)
    except ModelFailed as failure:
        if task.name not in (SPIN_UP, DEFAULT):
            log.warning(
                "%s failed (%s): whether the parameter changes anything is not known",
                _named(members, task),
                failure,
            )
            return
        raise RunFailed(
            f"the {_named(members, task)} run failed, and so would every member: {failure.kind.words}: {failure.reason}"
        ) from None


def _named(members: Members, task: Task) -> str:
    return f"{members.site}/{task.name}" if members.site else task.name
