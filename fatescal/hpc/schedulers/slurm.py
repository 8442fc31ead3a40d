"""Slurm: `squeue` while a job waits and runs, `scontrol` just after its end, `sacct` where there is
accounting.

Some minutes after its end (MinJobAge) the controller forgets a job; without accounting nothing then tells how
it ended, and who submitted it must know from what it left.
"""

from __future__ import annotations

import getpass
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.hpc.schedulers.base import End, Job, Scheduler, SchedulerSilent

UNDER_WAY = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
    | {"RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
ENDS = {
    "COMPLETED": End.SUCCEEDED,
    "FAILED": End.FAILED,
    "TIMEOUT": End.OUT_OF_TIME,
    "DEADLINE": End.OUT_OF_TIME,
    "OUT_OF_MEMORY": End.OUT_OF_MEMORY,
    "CANCELLED": End.CANCELLED,
    "NODE_FAIL": End.MACHINE_FAILED,
    "BOOT_FAIL": End.MACHINE_FAILED,
    "PREEMPTED": End.MACHINE_FAILED,
}
UNKNOWN = "Invalid job id"


class Slurm(Scheduler):
    """Slurm, by squeue, scontrol and sacct."""

    kind = "slurm"
    variables = ("SLURM_",)
    configuration = ("SLURM_CONF",)
    submitter = "sbatch"
    launchers = ("srun",)

    @property
    def job(self) -> str | None:
        """The identifier of the job that this process runs in; None outside a job."""
        return self.environment.get("SLURM_JOB_ID")

    @property
    def node(self) -> str | None:
        """The name of this node in Slurm: two nodes may share one host."""
        return self.environment.get("SLURMD_NODENAME")

    def seconds_left(self) -> tuple[float, float] | None:
        """Return the time until the job is ended and its whole wall time [s], since Slurm 22.05."""
        begin, end = (self.environment.get(f"SLURM_JOB_{edge}_TIME", "") for edge in ("START", "END"))
        if not (begin.isdecimal() and end.isdecimal()):
            return None
        return int(end) - time.time(), float(int(end) - int(begin))

    def look(self, number: str) -> Job | None:
        """Return a job, or None where neither queue nor accounting knows it (any more)."""
        return self._in_queue(number) or self._controlled(number) or self._accounted(number)

    def named(self, name: str) -> list[str]:
        """Return the numbers of this user's jobs of a name that wait or run."""
        return [line.partition("|")[0] for line in self._of_name(name)]

    def in_folder(self, name: str, folder: Path) -> list[str]:
        """Return the numbers of this user's jobs of a name that wait or run and belong to a folder.

        `sbatch --chdir` hides where a job was submitted; then its script tells.
        """
        here, numbers = os.path.realpath(folder), []
        for line in self._of_name(name):
            number, _, rest = line.partition("|")
            directory, _, command = rest.partition("|")
            script = os.path.dirname(command.split(" ")[0])
            if here in (os.path.realpath(directory), os.path.realpath(script)):
                numbers.append(number)
        return numbers

    def submit(self, script: Path, name: str, output: Path, options: Sequence[str]) -> str:
        """Put a script into the queue by sbatch; return the job's number."""
        named = (f"--job-name={name}", f"--chdir={script.parent}", f"--output={output}")
        said = self.submitted(script.parent, "sbatch", "--parsable", *named, *options, str(script))
        return said.strip().partition(";")[0]  # of several clusters: NUMBER;CLUSTER

    def cancel(self, number: str) -> None:
        """End a job by scancel."""
        self.command("scancel", number)

    def _of_name(self, name: str) -> list[str]:
        options = (f"--user={getpass.getuser()}", f"--name={name}", "--format=%i|%Z|%o")
        return [line.strip() for line in self._ask("squeue", "--noheader", *options).splitlines()]

    def _in_queue(self, number: str) -> Job | None:
        answer = self._ask("squeue", "--noheader", f"--jobs={number}", "--format=%T|%r")
        if not answer.strip():
            return None
        state, _, reason = answer.split("\n")[0].strip().partition("|")
        return _job(number, state, "" if reason == "None" else reason)

    def _controlled(self, number: str) -> Job | None:
        answer = dict(re.findall(r"(\w+)=(\S*)", self._ask("scontrol", "show", "job", number)))
        if "JobState" not in answer:
            return None
        reason, code, ran = (answer.get(key, "?") for key in ("Reason", "ExitCode", "RunTime"))
        return _job(number, answer["JobState"], f"{reason}, exit code {code}, ran {ran}")

    def _accounted(self, number: str) -> Job | None:
        """Return what the accounting knows; None where there is none."""
        options = ("--allocations", "--noheader", "--parsable2", "--format=State,ExitCode,Elapsed")
        try:
            answer = self._ask("sacct", f"--jobs={number}", *options).strip()
        except (SchedulerSilent, BadInput):
            return None
        if answer.count("|") < 2:
            return None
        state, code, elapsed = answer.split("\n")[-1].split("|")[:3]
        return _job(number, state.split()[0], f"exit code {code}, ran {elapsed}")  # CANCELLED by 1000

    def _ask(self, *command: str) -> str:
        """Return what a command prints: nothing of a job that it does not know."""
        done = self.command(*command)
        if done.returncode and UNKNOWN not in done.stderr:
            raise SchedulerSilent(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return "" if done.returncode else done.stdout


def _job(number: str, state: str, reason: str) -> Job:
    end = None if state in UNDER_WAY else ENDS.get(state, End.UNKNOWN)
    return Job(number, state, reason.removeprefix("None, "), end)
