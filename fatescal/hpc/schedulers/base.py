"""What a batch scheduler is to this program: the job one runs in, and other jobs in its queue."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar, TypeVar

from fatescal.base.errors import BadInput, OutOfTime

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = 60.0  # s that a command of the scheduler may take
PAUSE = (0.2, 30.0)  # s between two looks at the queue, at first and at last


def never() -> bool:
    """Return False: the `stop` of a wait that nothing interrupts."""
    return False


class SchedulerSilent(Exception):
    """The scheduler did not answer: its server is busy or restarts. Nothing follows for any job."""


class End(Enum):
    """How a job ended."""

    SUCCEEDED = "exit code 0"
    FAILED = "another exit code"
    OUT_OF_TIME = "its wall time was over"
    OUT_OF_MEMORY = "it needed more memory than it had"
    CANCELLED = "somebody cancelled it"
    MACHINE_FAILED = "a node failed, or another job took its place: it may be submitted again"
    UNKNOWN = "the scheduler does not say"


@dataclass(frozen=True)
class Job:
    """A job as its scheduler describes it.

    Attributes
    ----------
    number : str
        The scheduler's identifier of the job.
    state : str
        Its state in the scheduler's own terms.
    reason : str
        Why it waits, or how it ended; empty where nothing is known.
    end : End or None
        How it ended; None while it waits or runs.
    """

    number: str
    state: str
    reason: str = ""
    end: End | None = None

    @property
    def under_way(self) -> bool:
        """Whether it waits or runs."""
        return self.end is None

    def __str__(self) -> str:
        return f"job {self.number} {self.state}{f' ({self.reason})' if self.reason else ''}"


class Scheduler(ABC):
    """A batch scheduler, asked by its commands.

    Parameters
    ----------
    environment : mapping, optional
        Environment variables of its commands, and of the job; those of this process by default.
    stop : callable, optional
        Asked while waiting: True ends the wait with `OutOfTime`.
    """

    kind: ClassVar[str]  # the name that a model's own scripts have for it: slurm, pbs
    variables: ClassVar[tuple[str, ...]] = ()  # prefixes of job variables that members must not inherit
    configuration: ClassVar[tuple[str, ...]] = ()  # variables that its commands need
    submitter: ClassVar[str] = ""  # the program that puts a job into its queue
    launchers: ClassVar[tuple[str, ...]] = ()  # programs that start members and need `variables`

    def __init__(
        self, environment: Mapping[str, str] | None = None, stop: Callable[[], bool] = never
    ) -> None:
        self.environment = dict(os.environ if environment is None else environment)
        self.stop = stop

    # ---- the job that this process runs in

    @property
    @abstractmethod
    def job(self) -> str | None:
        """The identifier of the job that this process runs in; None outside a job."""

    @property
    def node(self) -> str | None:
        """The name by which the scheduler knows this node, where that may differ from the host name."""
        return None

    def seconds_left(self) -> tuple[float, float] | None:
        """Return the time until the job is ended and its whole wall time [s]; None where there is no
        limit.
        """
        return None

    # ---- other jobs

    @abstractmethod
    def look(self, number: str) -> Job | None:
        """Return a job, or None where the scheduler does not know it (any more).

        Raises
        ------
        SchedulerSilent
            When the scheduler does not answer.
        """

    @abstractmethod
    def named(self, name: str) -> list[str]:
        """Return the identifiers of this user's jobs of a name that wait or run.

        Raises
        ------
        SchedulerSilent
            When the scheduler does not answer.
        """

    @abstractmethod
    def in_folder(self, name: str, folder: Path) -> list[str]:
        """Return the identifiers of this user's jobs of a name that wait or run and belong to a folder.

        That is where they were submitted, or where their script is: others may use the same name.

        Raises
        ------
        SchedulerSilent
            When the scheduler does not answer.
        """

    def submit(self, script: Path, name: str, output: Path, options: Sequence[str]) -> str:
        """Put a script into the queue, from its own folder, with this environment; return the job's
        identifier.

        Parameters
        ----------
        script : Path
            The job's script, for `/bin/sh`.
        name : str
            The job's name.
        output : Path
            The file that gets what the job prints.
        options : sequence of str
            Further options of the command that submits.

        Raises
        ------
        BadInput
            When the scheduler refuses the job, or has none.
        """
        raise BadInput(f"{self.kind} puts no job into a queue", expected="slurm or pbs")

    def cancel(self, number: str) -> None:
        """End a job that waits or runs; nothing happens where it has ended."""
        raise BadInput(f"{self.kind} ends no job")

    def wait(self, number: str, report: Callable[[Job], None]) -> Job | None:
        """Return a job when it has ended, None where it is not known any more; `report` gets each change.

        Raises
        ------
        OutOfTime
            When `stop` returned True; the job goes on.
        """
        begin, last = time.monotonic(), None
        while (job := self.patiently(lambda: self.look(number))) is not None and job.under_way:
            if job != last:
                report(job)
                last = job
            self.sleep(min(max((time.monotonic() - begin) / 50, PAUSE[0]), PAUSE[1]), f"{job} goes on")
        return job

    def patiently(self, ask: Callable[[], T], most: float = math.inf) -> T:
        """Return what `ask` returns, asked again while the scheduler is silent; `BadInput` after `most`
        [s].
        """
        begin, silent = time.monotonic(), False
        while True:
            try:
                return ask()
            except SchedulerSilent as silence:
                if time.monotonic() - begin > most:
                    raise BadInput(
                        f"{self.kind} does not answer: {silence}", hint="look at the queue by hand"
                    ) from None
                if not silent:
                    log.warning("%s does not answer (%s): asking again", self.kind, silence)
                silent = True
                self.sleep(PAUSE[1], f"{self.kind} does not answer; its jobs go on")

    def sleep(self, seconds: float, meanwhile: str) -> None:
        """Wait some seconds, or raise `OutOfTime` with this text when `stop` returns True."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.stop():
                raise OutOfTime(f"{meanwhile}.")
            time.sleep(min(left, 0.5))

    def submitted(self, folder: Path, *arguments: str) -> str:
        """Return what the command that submits prints, called in a folder; `BadInput` where it refuses."""
        done = self.command(*arguments, folder=folder)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).replace("\n", " ")
            raise BadInput(f"{arguments[0]} refuses the job: {said}", hint="jobs.options of the machine file")
        return done.stdout

    def command(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Return a command of the scheduler that has ended.

        Raises
        ------
        BadInput
            When there is no such command.
        SchedulerSilent
            When it does not end within `PATIENCE`.
        """
        try:
            return subprocess.run(
                arguments,
                cwd=folder,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except FileNotFoundError:
            raise BadInput(
                f"{arguments[0]} is not found, which tells about jobs in the queue",
                expected=f"the commands of {self.kind} on the PATH",
            ) from None
        except subprocess.TimeoutExpired:
            raise SchedulerSilent(f"{arguments[0]} gave no answer in {PATIENCE:g} s") from None
