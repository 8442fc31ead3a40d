"""The verb `members`: what a job of `execution: jobs` does, the runs that its note names."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fatescal.base.errors import FatescalError, OutOfTime, error_message
from fatescal.cli.run_folder import load_config
from fatescal.ensemble.job_notes import JobTask, read_content, read_note
from fatescal.ensemble.job_tasks import carry_out
from fatescal.hpc.communicator import Communicator
from fatescal.hpc.schedulers.registry import current
from fatescal.storage import atomic
from fatescal.workflow.problem import assemble

log = logging.getLogger(__name__)
WAIT = 10.0  # s for the note to get the number of its job, which is submitted before


def members(note: Path, comm: Communicator) -> int:
    """Make the runs of a note on all ranks, and write down how they ended; return the exit code."""
    if not comm.on_root(lambda: _is_own(note)):
        return 0
    pack = comm.on_root(lambda: read_note(note))
    outcomes: dict[JobTask, Any] = {}
    error: FatescalError | None = None
    try:
        source, inputs = comm.on_root(lambda: [read_content(note)[key] for key in ("source", "inputs")])
        source |= {"path": Path(source["path"]), "fold": source["fold"] and tuple(source["fold"])}
        config = comm.on_root(lambda: load_config(**source))
        ensemble = assemble(config, comm).members.with_inputs(inputs)

        def make(i: int) -> None:
            outcomes[pack.tasks[i]] = carry_out(ensemble.sites, pack.tasks[i], comm.time_left)

        comm.parallel_for(make, len(pack.tasks))
    except OutOfTime as out_of_time:
        log.info("%s", out_of_time)
    except FatescalError as failure:
        error = failure
    parts = comm.gather([(task.place, tuple(asdict(made).values())) for task, made in outcomes.items()])
    if parts is not None:
        content = {
            "outcomes": [outcome for part in parts for outcome in part],
            "error": "" if error is None else error_message(error),
        }
        atomic.write_json(pack.result, content, indent=1)
    if error is not None:
        raise error
    return 0


def _is_own(note: Path) -> bool:
    """Tell whether a note, which gets its number after the submission, names the job that this is; on root.

    A job that was submitted, but not noted before the program that did so died, is not there for a later
    start, which submits another.
    """
    own = current().job
    end = time.monotonic() + WAIT
    while note.exists():
        number = read_note(note).number
        if number is None and time.monotonic() < end:
            time.sleep(0.2)
            continue
        if number is None and own is not None:
            atomic.write_json(note, read_content(note) | {"number": own}, indent=1)
        elif own is not None and number is not None and _serial(number) != _serial(own):
            break
        return True
    log.warning("%s is not the note of job %s: nothing to do", note, own)
    return False


def _serial(number: str) -> str:
    """Return the number without the server's name that PBS adds.

    >>> _serial("17.desched1")
    '17'
    """
    return number.partition(".")[0]
