"""History of the land model: the few variables that are wanted, from files of any version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.errors import ModelFailed, Status
from fatescal.forward.clm_fates import classic
from fatescal.records import Array

if TYPE_CHECKING:
    import xarray as xr

Attributes = Mapping[str, Mapping[str, object]]  # of the variables
Piece = tuple[dict[str, Array], Attributes]
BOUNDS = "time_bounds"
PACKED = {"scale_factor", "add_offset"}


def read(folder: Path, variables: Sequence[str], prefix: str) -> xr.Dataset:
    """Return the daily series of a run in memory, with ``time`` in the middle of each interval and its bounds.

    Version differences (tape names, stamps at the end or the middle, a first record of no length, CDF-2 and CDF-5)
    end here: the interval bounds decide.

    Raises
    ------
    ModelFailed
        TRUNCATED when there is no file, one cannot be read to its end, or they do not follow upon each other (one
        is gone, or of another run); MISSING_VARIABLE.
    """
    import xarray as xr

    # h0i and the like hold instants, no means.
    tape = re.compile(rf"{re.escape(prefix)}\.clm2\.h\d+a?\..*\.nc")
    files = sorted(path for path in folder.iterdir() if tape.fullmatch(path.name))
    if not files:
        raise ModelFailed(Status.TRUNCATED, f"{folder} has no history file {prefix}.clm2.h*.nc")
    reader = classic.Reader()
    pieces = [_read_file(path, variables, reader) for path in files]
    attributes = pieces[0][1]
    edges = _joined(files, pieces)
    whole = edges[:, 1] > edges[:, 0]
    series = {name: np.concatenate([piece[name] for piece, _ in pieces])[whole] for name in variables}
    time = {key: str(attributes["time"][key]) for key in ("units", "calendar")}
    return xr.Dataset(
        {
            **{
                name: ("time", values, {"units": str(attributes[name]["units"])})
                for name, values in series.items()
            },
            BOUNDS: (("time", "nbnd"), edges[whole]),
        },
        coords={"time": ("time", edges[whole].mean(axis=1), {**time, "bounds": BOUNDS})},
    )


def _joined(files: Sequence[Path], pieces: Sequence[Piece]) -> Array:
    """Return the bounds of all records, which must follow upon each other from file to file."""
    for path, (piece, said), (before, first) in zip(files[1:], pieces[1:], pieces, strict=False):
        same = said["time"]["units"] == first["time"]["units"]
        if not same or (
            piece[BOUNDS].size and before[BOUNDS].size and piece[BOUNDS][0, 0] != before[BOUNDS][-1, 1]
        ):
            raise ModelFailed(
                Status.TRUNCATED,
                f"{path} does not begin where the file before it ends: one is missing, or is of another run",
            )
    return np.concatenate([piece[BOUNDS] for piece, _ in pieces])


def _read_file(path: Path, variables: Sequence[str], reader: classic.Reader) -> Piece:
    """Return the series of one file, and the attributes of its variables."""
    try:
        arrays, said = _classic(path, (BOUNDS, *variables), reader) or _any(path, (BOUNDS, *variables))
        missing = [name for name in (BOUNDS, "time", *variables) if name not in said]
        if missing:
            raise ModelFailed(
                Status.MISSING_VARIABLE, f"{path} has no {', '.join(missing)}; it has {', '.join(said)}"
            )
        n = len(arrays[BOUNDS])
        return {k: values if k == BOUNDS else values.reshape(n) for k, values in arrays.items()}, said
    except (OSError, RuntimeError, IndexError, ValueError) as error:  # netCDF4's on a torn file, too
        raise ModelFailed(Status.TRUNCATED, f"{path} cannot be read: {error}") from error


def _classic(path: Path, names: Sequence[str], reader: classic.Reader) -> Piece | None:
    """Read a file of a classic format; None where it is of another, or packs its numbers."""
    with path.open("rb") as file:
        if file.read(3) != classic.MAGIC:
            return None
    arrays, variables = reader(path, names)
    if any(PACKED & set(variables[name].attributes) for name in arrays):
        return None
    return arrays, {name: variable.attributes for name, variable in variables.items()}


def _any(path: Path, names: Sequence[str]) -> Piece:
    """Read a file of whatever format netCDF4 knows."""
    import netCDF4

    with netCDF4.Dataset(path) as data:
        data.set_auto_mask(False)
        arrays = {name: np.asarray(data[name][:], float) for name in names if name in data.variables}
        return arrays, {name: variable.__dict__ for name, variable in data.variables.items()}
