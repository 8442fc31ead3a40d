"""fatescal that pauses at one place: `python pausing.py FOLDER PLACE RANK [arguments of fatescal]`.

The rank writes its process number to FOLDER/paused and goes on when that file is gone. What happens meanwhile
comes from the outside: signals, a full disk, another clock. PLACE is a stage (about to be computed; of an
ensemble: some members are finished, one has run and is about to be marked as finished), `STAGE written` (its
file is open, nothing in it yet), `report` or `report written` (some of its files are there).
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fatescal.cli.run
from fatescal.__main__ import main
from fatescal.ensemble import attempt
from fatescal.hpc.communicator import Communicator
from fatescal.report import outputs
from fatescal.storage.records import Scorecard
from fatescal.storage.store import Store
from fatescal.workflow.calibrate import calibrate
from fatescal.workflow.calibration_run import CalibrationRun

FINISHED = 2  # members, of any rank, before this one pauses in the midst of its first


def pause(folder: Path) -> None:
    """Write down who waits, and wait; once."""
    mark = folder / "paused"
    if not (folder / "pausing").exists():
        return
    (folder / "pausing").unlink()
    part = mark.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(mark)
    while mark.exists():
        time.sleep(0.02)


def before(owner: Any, original: Callable[..., Any], act: Callable[..., None]) -> None:
    """Have `act`, given the same arguments, called before a method or function of `owner`."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        act(*arguments)
        return original(*arguments, **named)

    setattr(owner, original.__name__, wrapped)


def arrange(folder: Path, place: str, is_root: bool) -> None:
    """Make this rank pause at `place`."""
    stage, _, written = place.partition(" ")

    def in_stage(store: Store, key: str, *_: object) -> None:
        if key == stage:
            pause(folder)

    def in_member(part: Path, _: object) -> None:
        alone = part.name.startswith("0000")  # the default run: no other has begun
        if part.parent.name == stage and not alone:
            while sum(other.name.isdigit() for other in part.parent.iterdir()) < FINISHED:
                time.sleep(0.02)
            pause(folder)

    def in_file(_: Store, file: Any, *__: object) -> None:
        if Path(file.filename).name == f".{stage}.h5.part":
            pause(folder)

    def afterwards(run: CalibrationRun) -> Scorecard:
        card = calibrate(run)
        pause(folder)
        return card

    if stage == "report" and is_root:
        before(outputs, outputs._write_chains if written else outputs.write, lambda *_: pause(folder))
    elif stage == "report":
        fatescal.cli.run.calibrate = afterwards
    elif written:
        before(Store, Store._header, in_file)
    elif stage.startswith("evaluation"):
        before(attempt, attempt.mark_folder, in_member)
    else:
        before(Store, Store.once, in_stage)
        before(Store, Store.once_rows, in_stage)


if __name__ == "__main__":
    comm = Communicator()
    where, at, rank = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if comm.rank == rank:
        try:
            arrange(where, at, comm.is_root)
        except BaseException:
            traceback.print_exc()
            comm.mpi.Abort(3)  # the other ranks would wait for this one for ever
    sys.exit(main(sys.argv[4:]))
