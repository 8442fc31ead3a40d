"""fatescal: calibrate an expensive land model on a cluster.

For notebooks: ``import fatescal as fc; run = fc.open("runs/x")`` gives a finished or unfinished run as tables
and fields (`OpenedRun`), ``fc.load("my.yaml", {"calibrate.members": 32})`` a checked config, ``fc.calibrate``
the run of one on this process alone.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("fatescal")
except PackageNotFoundError:  # imported from a checkout that is not installed
    __version__ = "0+unknown"
__all__ = ["__version__", "calibrate", "compare", "load", "open"]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from fatescal.config import Config
    from fatescal.report.opened_run import OpenedRun


def open(directory: str | Path) -> OpenedRun:
    """Return a run as tables and fields, read from its folder alone.

    Parameters
    ----------
    directory : str or Path
        The folder of the run.

    Raises
    ------
    fatescal.base.errors.BadInput
        If it is no run.
    """
    from fatescal.report.opened_run import OpenedRun

    return OpenedRun(directory)


def load(path: str | Path, set: Mapping[str, Any] | None = None) -> Config:
    """Return a config, checked, with the place of its run whole.

    Parameters
    ----------
    path : str or Path
        The YAML file.
    set : mapping, optional
        Values in place of those in the file, by dotted keys.
    """
    from fatescal.cli.run_folder import load_config

    return load_config(Path(path), changes=set)


def calibrate(path: str | Path, set: Mapping[str, Any] | None = None) -> OpenedRun:
    """Run a config to its end on this process alone, from wherever it stands; return the run.

    A posterior that the model does not confirm is no error here: see `OpenedRun.answer`.

    Parameters
    ----------
    path, set
        As of `load`.
    """
    from fatescal.base.errors import NotConfirmed
    from fatescal.cli import run
    from fatescal.hpc.communicator import Communicator

    with suppress(NotConfirmed):
        run.run(Path(path), Communicator(), changes=set)
    return open(load(path, set).run.directory)


def compare(directories: Sequence[str | Path]) -> pd.DataFrame:
    """Return the scores of several runs, a column each, by variable, period, ensemble, score and unit.

    Parameters
    ----------
    directories : sequence of str or Path
        The folders of the runs; those of one name are told apart by their paths.
    """
    from fatescal.observations.tables import beside

    names = [Path(directory).name for directory in directories]
    unique = len({*names}) == len(names)
    labels = names if unique else [str(directory) for directory in directories]
    return beside({label: open(d).scores for label, d in zip(labels, directories, strict=True)})
