"""The verb `status`: what of a run is finished, and what has changed since."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from fatescal.base.errors import Status
from fatescal.cli.run_folder import Fold, load_config, opened, stages_reached
from fatescal.ensemble import preparation
from fatescal.hpc.communicator import Communicator
from fatescal.report.outputs import SCORECARDS
from fatescal.storage.stage_graph import EFFECTS
from fatescal.workflow.snapshot import (
    differences,
    edited_files,
)


def status(where: Path, comm: Communicator, fold: Fold = None, machine: str | None = None) -> int:
    """Print what of a run is finished (stages, members under way, scorecard), and what has changed since.

    It is named by its folder or its config.
    """
    config = load_config(where, fold, machine) if where.is_file() else None
    directory = where if config is None else config.run.directory
    store = opened(directory, comm)
    reached = stages_reached(directory, store)
    finished = store.keys()
    for key in finished:
        print(f"{key:28s} {store.digest(key)[:16]}")
    prepared = preparation.folder(directory / "members")
    if prepared.is_dir():
        made = [marker.parent for marker in prepared.rglob("member.json")]
        made += [result.parents[2] for result in prepared.glob("*/jobs/*/result.json")]  # by a job of a case
        names = sorted(str(folder.relative_to(prepared)) for folder in made)
        print(f"{prepared.name:28s} prepared: {', '.join(names) or 'nothing yet'}")
        for note in prepared.glob("*/jobs/submission.json"):
            print(f"{prepared.name:28s} under way: {_under_way(note.parents[1])}")
    for folder in sorted((directory / "members").glob("*")):
        if folder.name == EFFECTS:
            print(f"{folder.name:28s} {len([*folder.rglob('member.json')])} runs with one parameter moved")
        elif folder.name not in finished and folder != prepared:
            print(f"{folder.name:28s} under way: {_under_way(folder)}")
    if (directory / "scorecard.txt").exists() and any(key in finished for key in SCORECARDS):
        print((directory / "scorecard.txt").read_text())
    for line in edited_files(directory, reached):
        print(line)
    for difference in [] if config is None else differences(config, directory, reached):
        print(difference)
    return 0


def _under_way(folder: Path) -> str:
    """Return how many members of a stage are finished; of several sites, how many at each."""
    paths = [*folder.glob("[0-9]*/member.json"), *folder.glob("[0-9]*/*/member.json")]
    paths = [path for path in paths if "." not in str(path.parent.relative_to(folder))]
    markers = {path: content for path in paths if (content := _content(path)) is not None}
    failed = sum(content["status"] != Status.OK for content in markers.values())
    sites = Counter(path.parent.name for path in markers if path.parent.parent != folder)
    where = ", ".join(f"{n} at {site}" for site, n in sorted(sites.items()))
    notes = [note for path in folder.glob("jobs/submission.json") if (note := _content(path)) is not None]
    in_job = f"; job {notes[0]['number']} was submitted for them" if notes and notes[0]["number"] else ""
    return f"{where or len(markers)} members finished, {failed} of them failed{in_job}"


def _content(path: Path) -> dict[str, Any] | None:
    """Return what a file of a run under way holds; None where it has vanished, or is being written."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None
