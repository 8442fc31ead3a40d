"""What Slurm knows of a job: `squeue` while it waits and runs, `scontrol` just after its end, `sacct` where there is accounting.

Some minutes after its end (MinJobAge) the controller forgets a job; without accounting nothing then tells how it
ended, and who submitted it must know from what it left.
"""

from __future__ import annotations

import getpass
import logging
import math
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fatescal.errors import BadInput, OutOfTime

log = logging.getLogger(__name__)
T = TypeVar("T")

UNDER_WAY = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
    | {"RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
MACHINE_FAILED = frozenset({"NODE_FAIL", "BOOT_FAIL", "PREEMPTED"})  # another attempt may succeed
PATIENCE = 60.0  # s a command of Slurm may take
UNKNOWN = "Invalid job id"
PAUSE = (0.2, 30.0)  # s between two looks at the queue, at first and at last


def never() -> bool:
    """Return False: the `stop` of one who has all the time."""
    return False


class Silent(Exception):
    """Slurm did not answer: its controller is busy or restarts. Nothing follows for any job."""


@dataclass(frozen=True)
class Job:
    """A job as Slurm tells: `state` in its own words, `reason` why it waits or how it ended."""

    number: str
    state: str
    reason: str = ""

    @property
    def under_way(self) -> bool:
        """Whether it waits or runs."""
        return self.state in UNDER_WAY

    def __str__(self) -> str:
        return f"job {self.number} {self.state}{f' ({self.reason})' if self.reason else ''}"


@dataclass(frozen=True)
class Slurm:
    """The queue, asked by its commands in an `environment`; `stop` tells when to wait no longer."""

    environment: Mapping[str, str]
    stop: Callable[[], bool] = never

    def wait(self, number: str, tell: Callable[[Job], None]) -> Job | None:
        """Return a job when it has ended, None where Slurm has forgotten it; `tell` hears of each change.

        Raises
        ------
        OutOfTime
            When `stop` said True; the job goes on.
        """
        begin, told = time.monotonic(), None
        while (job := self.patiently(lambda: self.look(number))) is not None and job.under_way:
            if job != told:
                tell(job)
                told = job
            self.sleep(min(max((time.monotonic() - begin) / 50, PAUSE[0]), PAUSE[1]), f"{job} goes on")
        return job

    def patiently(self, ask: Callable[[], T], most: float = math.inf) -> T:
        """Return what `ask` returns, asked again and again while Slurm is silent; `BadInput` after `most` seconds."""
        begin, silent = time.monotonic(), False
        while True:
            try:
                return ask()
            except Silent as silence:
                if time.monotonic() - begin > most:
                    raise BadInput(f"Slurm does not answer: {silence}", hint="squeue by hand") from None
                if not silent:
                    log.warning("Slurm does not answer (%s): asking on", silence)
                silent = True
                self.sleep(PAUSE[1], "Slurm does not answer; its jobs go on")

    def sleep(self, seconds: float, meanwhile: str) -> None:
        """Wait, or raise `OutOfTime` with these words."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.stop():
                raise OutOfTime(f"{meanwhile}.")
            time.sleep(min(left, 0.5))

    def look(self, number: str) -> Job | None:
        """Return a job, or None where neither queue nor accounting knows it (any more).

        Raises
        ------
        Silent
        """
        return self._in_queue(number) or self._controlled(number) or self._accounted(number)

    def in_folder(self, name: str, folder: Path) -> list[str]:
        """Return the numbers of this user's jobs of a name that wait or run and belong to a folder.

        That is where they were submitted (`sbatch --chdir` hides it), or where their script is.

        Raises
        ------
        Silent
        """
        options = (f"--user={getpass.getuser()}", f"--name={name}", "--format=%i|%Z|%o")
        here, numbers = os.path.realpath(folder), []
        for line in self._ask("squeue", "--noheader", *options).splitlines():
            number, _, rest = line.strip().partition("|")
            directory, _, command = rest.partition("|")
            if here in (
                os.path.realpath(directory),
                os.path.realpath(os.path.dirname(command.split(" ")[0])),
            ):
                numbers.append(number)
        return numbers

    def _in_queue(self, number: str) -> Job | None:
        said = self._ask("squeue", "--noheader", f"--jobs={number}", "--format=%T|%r")
        if not said.strip():
            return None
        state, _, reason = said.split("\n")[0].strip().partition("|")
        return Job(number, state, "" if reason == "None" else reason)

    def _controlled(self, number: str) -> Job | None:
        said = dict(re.findall(r"(\w+)=(\S*)", self._ask("scontrol", "show", "job", number)))
        if "JobState" not in said:
            return None
        words = f"{said.get('Reason', 'None')}, exit code {said.get('ExitCode', '?')}, ran {said.get('RunTime', '?')}"
        return Job(number, said["JobState"], words.removeprefix("None, "))

    def _accounted(self, number: str) -> Job | None:
        """Return what the accounting tells; nothing where there is none."""
        options = ("--allocations", "--noheader", "--parsable2", "--format=State,ExitCode,Elapsed")
        try:
            said = self._ask("sacct", f"--jobs={number}", *options).strip()
        except (Silent, BadInput):
            return None
        if said.count("|") < 2:
            return None
        state, code, elapsed = said.split("\n")[-1].split("|")[:3]
        return Job(number, state.split()[0], f"exit code {code}, ran {elapsed}")  # CANCELLED by 1000

    def _ask(self, *command: str) -> str:
        """Return what a command says: nothing of a job that it does not know."""
        try:
            done = subprocess.run(
                command, env=dict(self.environment), capture_output=True, text=True, timeout=PATIENCE
            )
        except FileNotFoundError:
            raise BadInput(
                f"{command[0]} is not found, by which a job in the queue is watched",
                expected="the commands of Slurm on the PATH",
            ) from None
        except subprocess.TimeoutExpired:
            raise Silent(f"{command[0]} gave no answer in {PATIENCE:g} s") from None
        if done.returncode and UNKNOWN not in done.stderr:
            raise Silent(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return "" if done.returncode else done.stdout
