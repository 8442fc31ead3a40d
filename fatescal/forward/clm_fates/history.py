"""History of the land model: the few variables that are wanted, from files of any version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fatescal.errors import ModelFailed, Status

if TYPE_CHECKING:
    import xarray as xr


def read(folder: Path, variables: Sequence[str], prefix: str) -> xr.Dataset:
    """Return the daily series of a run in memory, with ``time`` in the middle of each interval and its bounds.

    Version differences (tape names, stamps at the end or the middle, a first record of no length, CDF-2 and CDF-5)
    end here: the interval bounds decide.

    Raises
    ------
    ModelFailed
        TRUNCATED when there is no file or one cannot be read to its end, MISSING_VARIABLE.
    """
    import xarray as xr

    tape = re.compile(
        rf"{re.escape(prefix)}\.clm2\.h\d+a?\..*\.nc"
    )  # h0i and the like hold instants, no means
    files = sorted(path for path in folder.iterdir() if tape.fullmatch(path.name))
    if not files:
        raise ModelFailed(Status.TRUNCATED, f"{folder} has no history file {prefix}.clm2.h*.nc")
    pieces = [_read_file(path, variables) for path in files]
    edges = np.concatenate([piece["time_bounds"] for piece, _ in pieces])
    whole = edges[:, 1] > edges[:, 0]
    attributes = pieces[0][1]
    series = {n: np.concatenate([piece[n] for piece, _ in pieces])[whole] for n in variables}
    return xr.Dataset(
        {
            **{name: ("time", values, attributes[name]) for name, values in series.items()},
            "time_bounds": (("time", "nbnd"), edges[whole]),
        },
        coords={"time": ("time", edges[whole].mean(axis=1), attributes["time"])},
    )


def _read_file(path: Path, variables: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """Return the arrays of one file, and the attributes that say what they are."""
    import netCDF4

    try:
        with netCDF4.Dataset(path) as data:
            data.set_auto_mask(False)
            missing = [name for name in ("time_bounds", *variables) if name not in data.variables]
            if missing:
                raise ModelFailed(
                    Status.MISSING_VARIABLE,
                    f"{path} has no {', '.join(missing)}; it has {', '.join(data.variables)}",
                )
            arrays = {"time_bounds": np.asarray(data["time_bounds"][:], float)}
            n = len(arrays["time_bounds"])
            arrays |= {name: np.asarray(data[name][:], float).reshape(n) for name in variables}
            time = {key: str(getattr(data["time"], key)) for key in ("units", "calendar")}
            said = {name: {"units": str(data[name].units)} for name in variables}
            return arrays, {**said, "time": {**time, "bounds": "time_bounds"}}
    except (OSError, RuntimeError, IndexError, ValueError) as error:  # what netCDF4 raises on a torn file
        raise ModelFailed(Status.TRUNCATED, f"{path} cannot be read: {error}") from error
