"""What is written down of a job that makes runs: which runs, its number, and what came of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fatescal.hpc.schedulers.base import Job


@dataclass(frozen=True)
class JobTask:
    """A run that a job makes.

    Attributes
    ----------
    kind : str
        ``member``, ``default`` (member 0, before all others), ``preparation`` or ``effect``.
    site, stage : str
    name : str
        A member's number, or the name of another run.
    theta : tuple of float
        The parameters, in the order of the space.
    mark : str
        Fingerprint of parameters and model, which the job must come to as well.
    """

    kind: str
    site: str
    stage: str
    name: str
    theta: tuple[float, ...]
    mark: str

    @property
    def place(self) -> tuple[str, str, str]:
        """Which run it is, whatever its parameters."""
        return self.site, self.stage, self.name


@dataclass(frozen=True)
class Outcome:
    """How a run ended that left no marker, and why; of all others status 0."""

    status: int = 0
    reason: str = ""


@dataclass
class Pack:
    """A job under way and its runs."""

    note: Path
    name: str
    tasks: list[JobTask]
    number: str | None = None
    begin: float = field(default_factory=time.monotonic)
    next_look: float = 0.0
    job: Job | None = None  # as it was last seen; under way, or ended
    gone_since: float | None = None  # when it was first seen that it has ended

    @property
    def result(self) -> Path:
        """What the job writes last."""
        return self.note.with_suffix(".result.json")

    @property
    def log(self) -> Path:
        """What the job prints."""
        return self.note.with_suffix(".log")

    def __str__(self) -> str:
        return f"job {self.number} ({len(self.tasks)} runs)"


def read_content(path: Path) -> dict[str, Any]:
    """Return all that a note holds."""
    return json.loads(path.read_text())


def read_note(path: Path) -> Pack:
    """Return the job that a note describes."""
    content = read_content(path)
    tasks = [JobTask(**{**raw, "theta": tuple(raw["theta"])}) for raw in content["tasks"]]
    return Pack(path, content["name"], tasks, content["number"])
