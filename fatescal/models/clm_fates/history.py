"""History of the land model: the few variables that are wanted, from files of any version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import ModelFailed, Status
from fatescal.models import output

if TYPE_CHECKING:
    import xarray as xr

BOUNDS = "time_bounds"


def read(folder: Path, variables: Sequence[str], prefix: str) -> xr.Dataset:
    """Return the daily series of a run in memory, with ``time`` in the middle of each interval and its
    bounds.

    Version differences (tape names, stamps at the end or the middle, a first record of no length, CDF-2 and
    CDF-5) end here: the interval bounds decide.

    Parameters
    ----------
    folder : Path
        A run directory.
    variables : sequence of str
        History fields of one value a record.
    prefix : str
        The name of the case, with which its files begin.

    Raises
    ------
    ModelFailed
        TRUNCATED when there is no file, one cannot be read to its end, or they do not follow upon each other
        (one is gone, or of another run); MISSING_VARIABLE, also for one with several values a record.
    """
    import xarray as xr

    # h0i and the like hold instants, no means.
    tape = re.compile(rf"{re.escape(prefix)}\.clm2\.h\d+a?\..*\.nc")
    files = sorted(path for path in folder.iterdir() if tape.fullmatch(path.name))
    if not files:
        raise ModelFailed(Status.TRUNCATED, f"{folder} has no history file {prefix}.clm2.h*.nc")
    pieces = [_read(path, variables) for path in files]
    for path, piece, before in zip(files[1:], pieces[1:], pieces, strict=False):
        same = piece["time"].attrs["units"] == before["time"].attrs["units"]
        if not same or piece[BOUNDS].values[0, 0] != before[BOUNDS].values[-1, 1]:
            raise ModelFailed(
                Status.TRUNCATED,
                f"{path} does not begin where the file before it ends: one is missing, or is of another run",
            )
    edges = np.concatenate([piece[BOUNDS].values for piece in pieces])
    whole = edges[:, 1] > edges[:, 0]
    time = {key: pieces[0]["time"].attrs[key] for key in ("units", "calendar")}
    series = {name: np.concatenate([piece[name].values for piece in pieces])[whole] for name in variables}
    units = {name: {"units": pieces[0][name].attrs["units"]} for name in variables}
    return xr.Dataset(
        {
            **{name: ("time", values, units[name]) for name, values in series.items()},
            BOUNDS: (("time", "nbnd"), edges[whole]),
        },
        coords={"time": ("time", edges[whole].mean(axis=1), {**time, "bounds": BOUNDS})},
    )


def _read(path: Path, variables: Sequence[str]) -> xr.Dataset:
    """Return the series of one file, each one value a record."""
    data = output.read(path, [*variables, BOUNDS])
    n = data.sizes["time"]
    for name in variables:
        field = data[name]
        if field.size != n or field.dims[0] != "time":
            sizes = ", ".join(f"{dim}={size}" for dim, size in field.sizes.items())
            raise ModelFailed(
                Status.MISSING_VARIABLE, f"{path}: {name} has {sizes}. Expected one value a record"
            )
        if "units" not in field.attrs:
            raise ModelFailed(Status.WRONG_UNIT, f"{path}: {name} has no unit")
    if not {"units", "calendar"} <= data["time"].attrs.keys() or data[BOUNDS].shape != (n, 2):
        raise ModelFailed(Status.TRUNCATED, f"{path}: its time axis has no unit, calendar or bounds")
    return data.assign({name: ("time", data[name].values.reshape(n), data[name].attrs) for name in variables})
