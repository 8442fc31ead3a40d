"""No scheduler: a laptop or a server. The program runs until it is done, or until `--time-limit`."""

from __future__ import annotations

from pathlib import Path

from fatescal.hpc.schedulers.base import Job, Scheduler


class NoScheduler(Scheduler):
    """No queue: no job is known, none has a wall time."""

    kind = "none"

    @property
    def job(self) -> str | None:
        """None: this process runs in no job."""
        return None

    def look(self, number: str) -> Job | None:
        """Return None: there is no queue that could know a job."""
        return None

    def named(self, name: str) -> list[str]:
        """Return no jobs."""
        return []

    def in_folder(self, name: str, folder: Path) -> list[str]:
        """Return no jobs."""
        return []
