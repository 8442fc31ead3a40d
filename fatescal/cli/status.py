"""The verb `status`: may the posterior be used, what is finished, what runs, what has changed since."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fatescal import config as settings
from fatescal.base.errors import BadInput, Status
from fatescal.cli import run_state
from fatescal.cli.run_folder import Fold, directory_of, load_config, opened, results_of, stages_reached
from fatescal.ensemble import preparation
from fatescal.ensemble.marker import MarkersOnce
from fatescal.hpc.communicator import Communicator
from fatescal.report.collected import SCORECARDS
from fatescal.storage.lock import holder
from fatescal.storage.stage_graph import EFFECTS
from fatescal.storage.store import Store
from fatescal.workflow.snapshot import differences, edited_files

CLEAR = "\033[H\033[2J"  # a terminal's screen


def status(
    where: Path,
    comm: Communicator,
    fold: Fold = None,
    machine: str | None = None,
    changes: settings.Changes | None = None,
) -> int:
    """Print what of a run is finished (stages, members under way, scorecard), and what has changed since.

    It is named by its folder or its config.
    """
    config = load_config(where, fold, machine, changes) if where.is_file() else None
    directory = Path(os.path.normpath(where.absolute())) if config is None else config.run.directory
    store = opened(directory, comm)
    once = MarkersOnce()
    reached = stages_reached(directory, store, once)
    lines = _head(directory, store, once) + _stages(directory, store, {}, once)
    print("\n".join(lines))
    if (directory / "scorecard.txt").exists() and any(store.path(key).exists() for key in SCORECARDS):
        print((directory / "scorecard.txt").read_text())
    for line in edited_files(directory, reached):
        print(line)
    for difference in [] if config is None else differences(config, directory, reached):
        print(difference)
    return 0


def watch(
    where: Path,
    comm: Communicator,
    seconds: float,
    fold: Fold = None,
    machine: str | None = None,
    changes: settings.Changes | None = None,
) -> int:
    """Print what a run is doing every so many seconds, until it ends; return 1 where it has died.

    It reads the run's folder alone, so that it may be called on a login node.
    """
    directory = directory_of(where, fold, machine, changes)
    known: dict[str, str] = {}
    while True:
        try:
            store = opened(directory, comm)
        except BadInput as waiting:
            lines, is_over, code = [f"waiting: {waiting}"], False, 0
        else:
            by = holder(directory)
            is_over, code = not by.runs, 1 if by.died else 0
            once = MarkersOnce()
            lines = _head(directory, store, once) + _stages(directory, store, known, once)
        on_screen = sys.stdout.isatty()
        print(f"{CLEAR if on_screen else ''}{time.strftime('%H:%M:%S')}\n" + "\n".join(lines), flush=True)
        if is_over:
            return code
        time.sleep(seconds)


def _head(directory: Path, store: Store, once: MarkersOnce) -> list[str]:
    """Return where the run is, what it does, and whether its posterior may be used."""
    finished = store.keys()
    lines = [f"{'run':28s} {directory.absolute()}"]
    lines.append(f"{'state':28s} {run_state.state_line(directory, finished)}")
    snapshot = run_state.snapshot_of(directory)
    ended = any(key in finished for key in run_state.ENDS)
    if ended:
        lines += results_of(directory, store).answer.lines
    so_far = run_state.pace(directory, snapshot, once)
    return lines if so_far is None else [*lines, f"{'model runs':28s} {so_far.line(ended)}"]


def _stages(directory: Path, store: Store, known: dict[str, str], once: MarkersOnce) -> list[str]:
    """Return a line for every stage, finished or under way."""
    finished, snapshot = store.keys(), run_state.snapshot_of(directory)
    misfits, is_running = run_state.misfits(store, known), holder(directory).runs
    lines = [f"{key:28s} {store.digest(key)[:16]} {misfits.get(key, '')}".rstrip() for key in finished]
    prepared = preparation.folder(directory / "members")
    if prepared.is_dir():
        lines += _prepared(prepared)
    for folder in sorted((directory / "members").glob("*")):
        if folder.name == EFFECTS:
            n = len([*folder.rglob("member.json")])
            lines.append(f"{folder.name:28s} {n} runs with one parameter moved")
        elif folder.name not in finished and folder != prepared:
            expected = run_state.expected_members(folder.name, snapshot)
            lines.append(f"{folder.name:28s} under way: {_under_way(folder, expected, is_running, once)}")
    return lines


def _prepared(prepared: Path) -> list[str]:
    """Return what has been made before all members."""
    made = [marker.parent for marker in prepared.rglob("member.json")]
    made += [result.parents[2] for result in prepared.glob("*/jobs/*/result.json")]  # by a job of a case
    names = sorted(str(folder.relative_to(prepared)) for folder in made)
    lines = [f"{prepared.name:28s} prepared: {', '.join(names) or 'nothing yet'}"]
    notes = prepared.glob("*/jobs/submission.json")
    return lines + [f"{prepared.name:28s} under way: {_under_way(note.parents[1])}" for note in notes]


def _under_way(
    folder: Path, expected: int | None = None, is_running: bool = False, once: MarkersOnce | None = None
) -> str:
    """Return how many members of a stage are finished; of several sites, how many at each."""
    made = (once or MarkersOnce())(folder)
    failed = sum(content["status"] != Status.OK for _, _, content in made)
    sites = Counter(site for _, site, _ in made if site)
    where = ", ".join(f"{n} at {site}" for site, n in sorted(sites.items()))
    of = f" of {expected}" if expected is not None and not sites else ""
    running = run_state.n_running(folder) if is_running else 0
    notes = [note for path in folder.glob("jobs/submission.json") if (note := _content(path)) is not None]
    in_job = f"; job {notes[0]['number']} was submitted for them" if notes and notes[0]["number"] else ""
    text = f"{where or len(made)}{of} members finished, {failed} of them failed"
    return f"{text}{f', {running} running' if running else ''}{in_job}"


def _content(path: Path) -> dict[str, Any] | None:
    """Return what a file of a run under way holds; None where it has vanished, or is being written."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None
