"""The schedulers by name, and the one whose job this process runs in. A new one is a file and a line here."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
from functools import cache
from operator import attrgetter

from fatescal.base.errors import BadInput
from fatescal.base.families import UNUSABLE, family
from fatescal.hpc.schedulers.base import Scheduler
from fatescal.hpc.schedulers.none import NoScheduler
from fatescal.hpc.schedulers.pbs import PBS
from fatescal.hpc.schedulers.slurm import Slurm

ENTRY_POINTS = "fatescal.schedulers"


@cache
def schedulers() -> dict[str, type[Scheduler]]:
    """Return all schedulers by name: those here, and those of other packages (entry points)."""
    return family(Scheduler, (Slurm, PBS, NoScheduler), ENTRY_POINTS, attrgetter("kind"))  # type: ignore[type-abstract]


def scheduler(kind: str) -> type[Scheduler]:
    """Return the scheduler of a name.

    Raises
    ------
    BadInput
        For a name that is not known, or that of a package which cannot be used.
    """
    known = schedulers()
    if kind not in known:
        raise BadInput(
            f"the batch system {kind} is not known",
            expected=f"one of {', '.join(known)}",
            hint=UNUSABLE.get(kind, f"a package that brings it, by an entry point of group {ENTRY_POINTS}"),
        )
    return known[kind]


def current() -> Scheduler:
    """Return the scheduler whose job this process runs in, `NoScheduler` outside any job."""
    inside = (made for c in schedulers().values() if (made := c()).job is not None)
    return next(inside, NoScheduler())


def command_variables() -> dict[str, str]:
    """Return the variables without which the commands of a scheduler do not work."""
    needed = [name for c in schedulers().values() for name in c.configuration if name in os.environ]
    return {"USER": getpass.getuser()} | {name: os.environ[name] for name in needed}


def submitting() -> str:
    """Return the name of the scheduler that can put jobs into a queue here.

    Raises
    ------
    BadInput
        Where none can.
    """
    programs = {kind: c.submitter for kind, c in schedulers().items() if c.submitter}
    here = [kind for kind, program in programs.items() if shutil.which(program)]
    inside = current().kind
    if not here:
        raise BadInput(
            "no scheduler takes jobs here",
            expected=f"{' or '.join(programs.values())} on the PATH",
            hint="load the module that brings it, or leave `jobs` out of the machine file",
        )
    return inside if inside in here else here[0]


def node_name() -> str:
    """Return the name of this node, as the scheduler or else the host calls it."""
    return current().node or socket.gethostname()
