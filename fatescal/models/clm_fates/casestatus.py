"""`CaseStatus`, CIME's log of a case, which alone tells whether a run succeeded.

`case.submit` returns 0 after a crash of the model too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

FILE = "CaseStatus"
RUN, MODEL, SUBMIT = "case.run", "model execution", "case.submit"
_ENTRY = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d): +(.+?) +(starting|success|error)\b(.*)$", re.MULTILINE
)
_RULE = re.compile(r"^ ?-{10,}\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """What began or ended, when, and what follows: a job's number, or an error of several lines."""

    when: datetime
    phase: str
    event: str
    rest: str


def length(case: Path) -> int:
    """Return the size of CaseStatus [bytes]: what comes behind will be of a later run."""
    path = case / FILE
    return path.stat().st_size if path.is_file() else 0


def since(case: Path, offset: int) -> list[Entry]:
    """Return the entries behind `place`; all of them where the file has become shorter, so is another."""
    path = case / FILE
    if not path.is_file():
        return []
    content = path.read_bytes()
    return entries(content[offset if offset <= len(content) else 0 :].decode(errors="replace"))


def entries(text: str) -> list[Entry]:
    """Return the entries of a CaseStatus, or of a part of one.

    >>> text = "2026-11-22 09:08:39: case.run success 12 \\n -----------\\n"
    >>> [(e.phase, e.event, e.rest) for e in entries(text)]
    [('case.run', 'success', '12')]
    """
    starts = (_ENTRY.search(block) for block in _RULE.split(text))
    blocks = ((m, m[4] + m.string[m.end() :]) for m in starts if m is not None)
    return [Entry(datetime.fromisoformat(m[1]), m[2], m[3], rest.strip()) for m, rest in blocks]


def succeeded(run: list[Entry]) -> bool | None:
    """Tell whether the last run succeeded; None while it has not ended, or has ended without a result."""
    last = {entry.phase: entry.event for entry in run}
    events = last.get(MODEL), last.get(RUN)
    if "error" in events:
        return False
    return True if events == ("success", "success") else None


def error(run: list[Entry]) -> str:
    """Return the last error's message; nothing where there is none."""
    errors = [entry.rest for entry in run if entry.event == "error" and entry.rest]
    return errors[-1] if errors else ""


def submitted(run: list[Entry]) -> str | None:
    """Return the number of the job last submitted, or that says it runs; None where there is none."""
    lines = (e.rest for e in run if e.phase in (SUBMIT, RUN) and e.event != "error")
    numbers = [match[1] for rest in lines if (match := re.match(r"(?:case\.run:)?(\d+)\b", rest))]
    return numbers[-1] if numbers else None


def seconds(run: list[Entry]) -> float:
    """Return how long the model last ran [s]; 0 where that is not known."""
    times = {entry.event: entry.when for entry in run if entry.phase == MODEL}
    ended = times.get("success") or times.get("error")
    return (ended - times["starting"]).total_seconds() if ended and "starting" in times else 0.0
