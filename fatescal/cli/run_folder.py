"""A run's folder, from the outside: the config that names it, its lock and log, its stages."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fatescal import config as settings
from fatescal.base.errors import BadInput, FatescalError
from fatescal.cli.demo_config import DEFAULT_CONFIG
from fatescal.ensemble.marker import MarkersOnce
from fatescal.ensemble.progress import begun
from fatescal.hpc.communicator import Communicator
from fatescal.report.collected import collect
from fatescal.report.results import Results
from fatescal.storage.lock import locked
from fatescal.storage.stage_graph import EFFECTS, PREPARATION, Reached
from fatescal.storage.store import PARALLEL, Store
from fatescal.workflow.snapshot import (
    Snapshot,
    edited_files,
)

log = logging.getLogger(__name__)
Fold = tuple[int, int] | None  # (i, k): the i-th of k folds


def load_config(
    path: Path, fold: Fold = None, machine: str | None = None, changes: settings.Changes | None = None
) -> settings.Config:
    """Return the config of a file, with the place of its run whole.

    Parameters
    ----------
    path : Path
        The YAML file; the run of the demo begins where the program was started.
    fold : (i, k), optional
        Only the i-th of k folds of it.
    machine : str, optional
        Name or path of a machine file.
    changes : mapping, optional
        Values in place of those in the file, by dotted keys.

    Raises
    ------
    BadInput
        As `config.load`; where the run would be a new one while an old one is where earlier versions put it.
    """
    config = settings.load(path, changes)
    relative = config.run.directory
    if machine is not None:
        config = config.on(settings.load_machine(machine))
    config = config.placed(Path.cwd() if path.resolve() == DEFAULT_CONFIG.resolve() else None)
    _refuse_older_place(relative, config.run.directory)
    return config if fold is None else config.folded(*fold)


def _refuse_older_place(relative: Path, directory: Path) -> None:
    """Refuse to begin a run anew that is below the working directory."""
    older = relative.absolute()
    if older != directory and (older / "stages").is_dir() and not (directory / "stages").is_dir():
        raise BadInput(
            f"run.directory {relative} begins at the config's folder, and {directory} is no run yet, but "
            f"{older} is one",
            expected="one place",
            hint=f"mv {older} {directory}; or, to go on where it is, --set run.directory={older}",
        )


def directory_of(
    where: Path, fold: Fold = None, machine: str | None = None, changes: settings.Changes | None = None
) -> Path:
    """Return the folder of a run that is named by its folder or by its config."""
    if where.is_file():
        return load_config(where, fold, machine, changes).run.directory
    return Path(os.path.normpath(where.absolute()))


def opened(directory: Path, comm: Communicator) -> Store:
    """Return the stages of a run that has been started."""
    # A first job may wait for days with members, or a spin-up, and no stage yet.
    if not any((directory / name).is_dir() for name in ("stages", "members")):
        raise BadInput(
            f"{directory} is no run", expected="a folder with stages/ in it", hint="your run.directory"
        )
    return Store(directory / "stages", comm)


def stages_reached(directory: Path, store: Store, once: MarkersOnce | None = None) -> dict[str, Reached]:
    """Return what is there, in order: the runs before all members, finished stages, those begun.

    The effect runs stand behind the first ensemble, which asks for them.
    """
    finished = store.reached()
    others = begun(directory / "members", finished, once)
    first = {PREPARATION: others.pop(PREPARATION)} if PREPARATION in others else {}
    there = first | finished | others
    if EFFECTS not in there:
        return there
    order = [stage for stage in there if stage != EFFECTS]
    at = order.index("evaluation-00") + 1 if "evaluation-00" in order else len(order)
    return {stage: there[stage] for stage in [*order[:at], EFFECTS, *order[at:]]}


def results_of(directory: Path, store: Store) -> Results:
    """Return what a run has reached, read from its folder alone."""
    snapshot = Snapshot.read(directory)
    edited = edited_files(directory, stages_reached(directory, store))
    return collect(store, snapshot, edited)


@contextmanager
def lock_held(directory: Path, comm: Communicator) -> Iterator[None]:
    """Hold the run's lock, on root, until all ranks are done with it."""
    with ExitStack() as stack:

        def take() -> None:
            require_writable(directory)
            stack.enter_context(locked(directory))

        comm.on_root(take)
        yield


@contextmanager
def logged(path: Path, comm: Communicator) -> Iterator[None]:
    """Write root's log into the run's folder as well."""
    if not comm.is_root:
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except FatescalError as error:
        handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, "ended: %s", (error,), None))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def require_writable(directory: Path) -> None:
    """Raise `BadInput` unless files can be written in a run's folder; make it where it is not there."""
    probe = directory / ".probe"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_text("fatescal writes here")
        probe.unlink()
    except OSError as error:
        raise BadInput(
            f"run.directory {directory} cannot be written: {error.strerror}", hint="another run.directory"
        ) from None


def checkpoint_writer() -> str:
    """Return a sentence that says which ranks write checkpoints."""
    return (
        "checkpoints are written by all ranks (parallel HDF5)"
        if PARALLEL
        else "checkpoints are written by the root rank (h5py without MPI)"
    )
