"""PBS Professional, OpenPBS and Torque: `qstat` for one job, `qselect` (or `qstat -u`) for those of a name.

A finished job is known to `qstat -x` as long as the server keeps its history (job_history_duration, two weeks
by default; Torque: keep_completed, minutes). PBS gives a job no variable with the end of its wall time: the
server is asked once.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fatescal.base.errors import BadInput
from fatescal.hpc.schedulers.base import End, Job, Scheduler, SchedulerSilent

STATES = {
    "Q": "QUEUED",
    "H": "HELD",
    "W": "WAITING",
    "T": "IN TRANSIT",
    "M": "MOVED",
    "R": "RUNNING",
    "B": "RUNNING",  # an array of which some job has begun
    "S": "SUSPENDED",
    "U": "SUSPENDED",
    "E": "EXITING",
    "C": "FINISHED",  # Torque
    "F": "FINISHED",
    "X": "FINISHED",  # a job of an array
}
UNDER_WAY = frozenset(STATES) - set("CFXM")
UNKNOWN = re.compile(r"unknown job|job has finished|invalid job id", re.IGNORECASE)
UNKNOWN_CODE = 153  # of qstat: the last byte of PBSE_UNKJOBID (15001)
# Exit codes that PBS itself gives (PBS Professional Reference Guide, job exit codes).
OUT_OF_TIME, OUT_OF_MEMORY = -29, -27  # JOB_EXEC_KILL_WALLTIME, JOB_EXEC_KILL_MEM
SIGNALLED = (
    256  # a job that a signal ended has 256 + the signal: SIGTERM comes from qdel, or at the wall time's end
)


class PBS(Scheduler):
    """PBS, by qstat and qselect."""

    kind = "pbs"
    variables = ("PBS_", "PALS_")
    configuration = ("PBS_SERVER", "PBS_CONF_FILE", "PBS_EXEC")
    submitter = "qsub"
    launchers = ("pbsdsh",)

    @property
    def job(self) -> str | None:
        """The identifier of the job that this process runs in; None outside a job."""
        return self.environment.get("PBS_JOBID")

    def seconds_left(self) -> tuple[float, float] | None:
        """Return the time until the job is ended and its whole wall time [s], as the server knows them.

        The wall time used is reported with minutes of delay, so the start of the job counts too, or else when
        the server last changed the job, which it did at its start; of all answers the shortest. None where
        the server does not answer: the job script's signal is left.
        """
        if self.job is None:
            return None
        try:
            attributes = self._attributes(self.job)
        except (SchedulerSilent, BadInput):
            return None
        whole = duration(_nested(attributes, "Resource_List").get("walltime"))
        if whole is None:
            return None
        used = duration(_nested(attributes, "resources_used").get("walltime")) or 0.0
        moments = (_moment(attributes.get(key)) for key in ("stime", "start_time", "mtime"))
        ran = [time.time() - moment for moment in moments if moment is not None]
        return whole - max(used, *ran, 0.0), whole

    def look(self, number: str) -> Job | None:
        """Return a job, or None where the server does not know it (any more)."""
        attributes = self._attributes(number)
        if not attributes:
            return None
        letter = str(attributes.get("job_state", "?"))
        return _job(number, letter, attributes)

    def named(self, name: str) -> list[str]:
        """Return the identifiers of this user's jobs of a name that wait or run.

        Where there is no qselect (Slurm's commands for PBS), each job of the user is asked for its name.
        """
        if shutil.which("qselect", path=self.environment.get("PATH")) is not None:
            return self._listed("qselect", "-u", getpass.getuser(), "-N", name)
        lines = self._listed("qstat", "-u", getpass.getuser(), by_line=True)
        numbers = [line.split()[0] for line in lines if re.match(r"\s*\d+(\[\d*\])?(\.|\s)", line)]
        of = ((number, self._attributes(number)) for number in numbers)
        return [n for n, job in of if job.get("Job_Name") == name and str(job.get("job_state")) in UNDER_WAY]

    def in_folder(self, name: str, folder: Path) -> list[str]:
        """Return the identifiers of this user's jobs of a name that wait or run and were submitted from
        a folder.
        """
        here = os.path.realpath(folder)  # Slurm's qstat does not tell from where a job was submitted
        return [n for n in self.named(name) if here == _submitted_from(self._attributes(n))]

    def submit(self, script: Path, name: str, output: Path, options: Sequence[str]) -> str:
        """Put a script into the queue by qsub, with the whole environment; return the job's identifier."""
        named = ("-N", name, "-o", str(output), "-j", "oe", "-V")
        return self.submitted(script.parent, "qsub", *named, *options, str(script)).strip()

    def cancel(self, number: str) -> None:
        """End a job by qdel."""
        self.command("qdel", number)

    def _listed(self, *command: str, by_line: bool = False) -> list[str]:
        """Return what a command that lists jobs prints, by word or by line."""
        done = self.command(*command)
        if done.returncode:
            raise SchedulerSilent(f"{command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return done.stdout.splitlines() if by_line else done.stdout.split()

    def _attributes(self, number: str) -> Mapping[str, Any]:
        """Return the attributes of a job, empty where it is not known; the plain form where there is no
        JSON.
        """
        for options in (("-x", "-f", "-F", "json"), ("-x", "-f"), ("-f",)):
            done = self.command("qstat", *options, number)
            if done.returncode == 0:
                job = _from_json(done.stdout) if "json" in options else from_plain(done.stdout)
                if job is not None:
                    return job
            elif done.returncode == UNKNOWN_CODE or UNKNOWN.search(done.stderr):
                return {}
            elif not re.search(r"usage|illegal|invalid option|unrecognized", done.stderr, re.IGNORECASE):
                raise SchedulerSilent(f"qstat: {done.stderr.strip() or f'exit code {done.returncode}'}")
        raise SchedulerSilent(f"qstat -f {number} gave no answer that can be read")


def _submitted_from(attributes: Mapping[str, Any]) -> str | None:
    """Return the folder that a job under way was submitted from; None of one that has ended or does not say.

    >>> _submitted_from({"job_state": "Q", "Variable_List": "PBS_O_HOME=/home/me,PBS_O_WORKDIR=/tmp"})
    '/tmp'
    """
    variables = attributes.get("Variable_List")
    if isinstance(variables, str):
        variables = dict(part.split("=", 1) for part in variables.split(",") if "=" in part)
    if str(attributes.get("job_state")) not in UNDER_WAY or not isinstance(variables, Mapping):
        return None
    directory = variables.get("PBS_O_WORKDIR") or attributes.get("init_work_dir")
    return None if directory is None else os.path.realpath(str(directory))


def duration(text: object) -> float | None:
    """Return a duration of PBS in seconds, None where there is none.

    >>> duration("36:00:01"), duration("90"), duration("10:00"), duration(None)
    (129601.0, 90.0, 600.0, None)
    """
    parts = str(text).split(":")
    if not all(re.fullmatch(r"\d+(\.\d+)?", part) for part in parts):
        return None
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + float(part)
    return seconds


def from_plain(text: str) -> dict[str, Any] | None:
    r"""Return the attributes that `qstat -f` prints: long values go on in lines that begin with a tab.

    >>> from_plain("Job Id: 7\n    Job_Name = a\n    Resource_List.walltime = 01:00:00\n    e = b,\n\tc\n")
    {'Job_Name': 'a', 'Resource_List': {'walltime': '01:00:00'}, 'e': 'b,c'}
    """
    attributes: dict[str, Any] = {}
    for line in re.sub(r"\n\t(?![\w.]+ = )", "", text).splitlines():
        key, equals, value = line.strip().partition(" = ")
        if not equals:
            continue
        group, dot, name = key.partition(".")
        if dot:
            attributes.setdefault(group, {})[name] = value
        else:
            attributes[key] = value
    return attributes or None


def _from_json(text: str) -> Mapping[str, Any] | None:
    """Return the attributes of the one job in JSON; None where it cannot be read: not every server quotes
    well.
    """
    try:
        jobs = json.loads(text, strict=False)["Jobs"]
        return next(iter(jobs.values()))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def _nested(attributes: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = attributes.get(key)
    return value if isinstance(value, Mapping) else {}


def _moment(text: object) -> float | None:
    """Return a time of PBS in seconds since 1970, None where there is none: `Sat Nov 28 03:00:00 2026`,
    local.
    """
    if isinstance(text, int | float) or str(text).isdecimal():
        return float(str(text))
    try:
        return datetime.strptime(str(text), "%a %b %d %H:%M:%S %Y").timestamp()
    except ValueError:
        return None


def _job(number: str, letter: str, attributes: Mapping[str, Any]) -> Job:
    state, under_way = STATES.get(letter, letter), letter in UNDER_WAY
    code = attributes.get("Exit_status", attributes.get("exit_status"))
    code = int(code) if re.fullmatch(r"-?\d+", str(code)) else None
    reason = str(attributes.get("comment", "")).strip() if under_way else ""
    if not under_way and code is not None:
        ran = _nested(attributes, "resources_used").get("walltime", "?")
        reason = f"exit code {code}, ran {ran}"
    return Job(number, state, reason, None if under_way else _end(code, attributes))


def _end(code: int | None, attributes: Mapping[str, Any]) -> End:
    """Return how a job ended that has this exit code, None where it has none.

    >>> _end(None, {"job_state": "F"}), _end(None, {"job_state": "C", "exec_host": "n1/2"})
    (<End.CANCELLED: 'somebody cancelled it'>, <End.UNKNOWN: 'the scheduler does not say'>)
    """
    if code is None:
        began = any(key in attributes for key in ("stime", "start_time", "exec_host"))
        return End.UNKNOWN if began or attributes.get("job_state") not in ("F", "C") else End.CANCELLED
    used, whole = (
        duration(_nested(attributes, group).get("walltime")) for group in ("resources_used", "Resource_List")
    )
    if code == OUT_OF_TIME or (
        code >= SIGNALLED and used is not None and whole is not None and used >= whole
    ):
        return End.OUT_OF_TIME
    if code == OUT_OF_MEMORY:
        return End.OUT_OF_MEMORY
    if code >= SIGNALLED:
        return End.CANCELLED
    if code < 0:
        return End.MACHINE_FAILED
    return End.SUCCEEDED if code == 0 else End.FAILED
