"""The schedulers by name, and the one whose job this process runs in. A new one is a file and a line here."""

from __future__ import annotations

import socket
from functools import cache
from importlib.metadata import entry_points

from fatescal.base.errors import BadInput
from fatescal.hpc.schedulers.base import Scheduler
from fatescal.hpc.schedulers.none import NoScheduler
from fatescal.hpc.schedulers.pbs import PBS
from fatescal.hpc.schedulers.slurm import Slurm

SCHEDULERS: dict[str, type[Scheduler]] = {c.kind: c for c in (Slurm, PBS, NoScheduler)}
ENTRY_POINTS = "fatescal.hpc.schedulers"


@cache
def schedulers() -> dict[str, type[Scheduler]]:
    """Return all schedulers by name: those here, and those of other packages (entry points)."""
    return {**{point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}, **SCHEDULERS}


def scheduler(kind: str) -> type[Scheduler]:
    """Return the scheduler of a name.

    Raises
    ------
    BadInput
        For a name that is not known.
    """
    known = schedulers()
    if kind not in known:
        raise BadInput(
            f"the batch system {kind} is not known",
            expected=f"one of {', '.join(known)}",
            hint="a package that brings it, by an entry point of group fatescal.hpc.schedulers",
        )
    return known[kind]


def current() -> Scheduler:
    """Return the scheduler whose job this process runs in, `NoScheduler` outside any job."""
    inside = (made for c in schedulers().values() if (made := c()).job is not None)
    return next(inside, NoScheduler())


def node_name() -> str:
    """Return the name of this node, as the scheduler or else the host calls it."""
    return current().node or socket.gethostname()
