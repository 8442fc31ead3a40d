"""What is kept of a job: the members it runs, its number, and how each of them ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from fatescal.models.clm_fates import instance_files, outcome

JOBS, NOTE, RESULT = "jobs", "submission.json", "result.json"


@dataclass(frozen=True)
class RunSegment:
    """The runs of a job: their days, the state they start from (None: the case's), whether they leave one."""

    first: date
    last: date
    finidat: Path | None = None
    restart: bool = False


@dataclass(frozen=True)
class Submission:
    """What was submitted: members by instance, their marks, length of CaseStatus before, the job's number.

    Without a number it is about to be submitted, or has been while this program died.
    """

    members: list[str]
    marks: list[str]
    place: int
    number: str | None = None


def decided(folder: Path, mark: str) -> bool:
    """Tell whether it is known how the member with this mark ended."""
    result = noted(folder / RESULT)
    return result is not None and result["mark"] == mark


def noted(path: Path) -> dict[str, Any] | None:
    """Return a note, None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None


def end_of_log(jobs: Path) -> str:
    """Return the end of what the last failed job logged."""
    folders = sorted(jobs.glob("job-*"), key=lambda path: path.stat().st_mtime)
    text = instance_files.log_text(folders[-1], "cesm") if folders else ""
    lines = [f"    {line}" for line in text.splitlines()[-outcome.LINES :]]
    return (
        "\n".join([f"the last lines of cesm.log in {folders[-1]}:", *lines]) if lines else "it logged nothing"
    )
