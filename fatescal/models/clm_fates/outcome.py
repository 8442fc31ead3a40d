"""How a run of cesm.exe ended: the cause, from its exit code and its logs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fatescal.base.errors import ModelFailed, Status

QUOTED = ("lnd.log", "PET0.ESMF_LogFile", "cesm.err")  # the cause stands in the first of them that has any
HEADED = ("cesm.err",)  # logs whose cause stands at the head, before the addresses of a backtrace
SUCCESS = {"drv.log": "SUCCESSFUL TERMINATION OF CESM", "med.log": "SUCCESSFUL TERMINATION OF CMEPS"}
BACKTRACE = re.compile(
    r"Obtained \d+ stack frames|Program received signal|Backtrace for|#\d+\s+0x|\S*\(\+?0x"
)
LINES = 12  # of each log that are quoted
TIMED_OUT = 124  # exit code of `timeout`

# What the logs say, in the order in which it counts, and what it means. Groups go into the meaning.
CAUSES: tuple[tuple[str, str], ...] = (
    (r"Cant find: (\w+)", "the FATES parameter file has no parameter {}"),
    (r"Error reading\.\s+Var:\s*(\w+)", "the FATES parameter file has no parameter {}"),
    (r"Could not open parameter file: (\S+)", "the FATES parameter file {} cannot be opened"),
    (r'tag:"dimensions" not found', "the FATES parameter file is unreadable: this version expects JSON"),
    (r'tag:"(\w+)"\s*no separator found', "the FATES parameter file is unreadable at {}: truncated?"),
    (r"parameter size does not match dimension size(?:.*\n)*? *(fates_\w+)", "wrong size of parameter {}"),
    (r"GETFIL: FAILED to get (\S+)", "the input file {} is missing"),
    (r"ERROR reading (\w+) namelist", "a mistake in the namelist {} of lnd_in"),
    (r"NetCDF: Unknown file format",
     "an input file is unreadable: a parameter file in JSON, where this version expects netCDF?"),
    (r"Abort with message No such file",
     "aborted in parallel I/O: a file is missing, of the forcing? The model does not name it"),
    (r"^(free\(\): invalid pointer|corrupted size vs\. prev_size|malloc\S*: .*|double free or corruption.*)",
     "memory was damaged ({}): by a forcing file whose variables are not (time, lat = 1, lon = 1)?"),
    (r"ENDRUN:\s*ERROR in \S*?(src/\S+) at line (\d+)", "the model stopped itself in {}, line {}"),
)  # fmt: skip


def judge(folder: Path, code: int, records: Callable[[], int], expected: int) -> None:
    """Raise `ModelFailed` unless a run is whole.

    Parameters
    ----------
    code : int
        Exit status: 128 + signal for one that was killed.
    records : callable
        Counts the history records, when the logs tell of success; may raise `ModelFailed`.
    expected : int
        The number of records there must be.

    Raises
    ------
    ModelFailed
        TIME_OUT for exit code 124, MODEL_ERROR for any other but 0; TRUNCATED where driver or mediator do not
        tell of success (exit code 0 alone proves nothing), or records are missing or too many.
    """
    if code:
        kind = Status.TIME_OUT if code == TIMED_OUT else Status.MODEL_ERROR
        raise ModelFailed(kind, report(folder, f"exit code {code}"))
    for name, success in SUCCESS.items():
        if success not in _text(folder / name):
            raise ModelFailed(Status.TRUNCATED, report(folder, f"{folder / name} does not say {success}"))
    n_records = records()
    if n_records != expected:
        raise ModelFailed(
            Status.TRUNCATED, f"{folder} holds {n_records} records of history. Expected {expected}"
        )


def report(folder: Path, ending: str) -> str:
    """Return how a run ended: its cause where the logs give one, how far it came, and lines of the logs."""
    lines = [f"{ending}: {reason}" if (reason := cause(folder)) else ending]
    reached = re.findall(r"^\s*Model Date: (\d{4}-\d\d-\d\d)", _text(folder / "med.log"), re.MULTILINE)
    lines += [f"it came to {reached[-1]}"] if reached else []
    return "\n".join([*lines, *(end for name in QUOTED if (end := _end(folder / name)))])


def cause(folder: Path) -> str:
    """Return why a run failed, as its logs tell; nothing where they do not."""
    logs = "\n".join(_text(folder / name) for name in QUOTED)
    for pattern, meaning in CAUSES:
        match = re.search(pattern, logs, re.MULTILINE)
        if match:
            return meaning.format(*match.groups())
    return ""


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _end(path: Path) -> str:
    """Return the lines of a log that tell most, introduced by its path; nothing of an empty one.

    They are its last lines; of one that ends in a backtrace its first, up to the addresses.
    """
    lines, which = _text(path).splitlines(), "last"
    trace = next((i for i, line in enumerate(lines) if BACKTRACE.match(line)), None)
    if path.name in HEADED and trace is not None:
        lines, which = lines[:trace], "first"
        lines = [line for line in lines if not re.match(r"\s*\(t_initf\)", line)][:LINES]
    shown = [f"    {line}" for line in lines[-LINES:] if line.strip()]
    return "\n".join([f"The {which} lines of {path}:", *shown]) if shown else ""
