"""Reader of a model's output, for all models that leave one netCDF file.

It reads the time axis, its bounds and the variables that are compared, nothing else, and decodes missing
values and packing of those alone. Times stay numbers in their unit (`align` decodes them). Whatever a broken
run can leave instead of a file fails the member with its reason: no file, a directory, a text table, a
truncated file, an axis without records.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fatescal.base.errors import ModelFailed, Status
from fatescal.base.types import Array
from fatescal.storage.classic_size import MAGIC, require_whole

if TYPE_CHECKING:
    import xarray as xr

# What netCDF4 raises of a damaged file; MemoryError where a damaged header tells absurd sizes.
DAMAGED = (OSError, RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError, MemoryError)
KNOWN = {  # first bytes of other formats
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "a zip archive (perhaps xlsx or npz)",
    b"\x93NUMPY": "a numpy array",
    b"BZh": "compressed with bzip2",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"GRIB": "GRIB",
    b"SQLite": "an SQLite database",
}
HDF5 = b"\x89HDF\r\n\x1a\n"


def read(path: Path, variables: Sequence[str] = ()) -> xr.Dataset:
    """Return variables of an output file in memory, with ``time`` undecoded and the bounds that it names.

    Parameters
    ----------
    path : Path
        A netCDF file.
    variables : sequence of str
        What is returned of it; all that have dimension ``time`` when empty.

    Raises
    ------
    ModelFailed
        TRUNCATED when there is no such file, it is not netCDF, is truncated, or has no record;
        MISSING_VARIABLE when a variable is missing or holds text; WRONG_UNIT when the time axis holds text.
    """
    require_file(path)
    import netCDF4

    try:
        with netCDF4.Dataset(path) as data:
            return _dataset(path, data, variables)
    except DAMAGED as error:
        raise ModelFailed(Status.TRUNCATED, f"{path} cannot be read: {error}") from error


def require_file(path: Path) -> None:
    """Raise `ModelFailed` (TRUNCATED) where there is no whole file of a format that may be read."""
    try:
        wrong = _wrong(path)
    except FileNotFoundError:
        wrong = (
            f"it is a link to {path.readlink()}, which is missing" if path.is_symlink() else "it is missing"
        )
    except (OSError, ValueError) as error:
        wrong = str(error)
    if wrong:
        raise ModelFailed(Status.TRUNCATED, f"{path} cannot be read: {wrong}")


def _wrong(path: Path) -> str:
    """Return why a path is no netCDF file, '' where it may be one."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        return "it is a directory" if stat.S_ISDIR(about.st_mode) else "it is not a regular file"
    if not about.st_size:
        return "it is empty"
    with path.open("rb") as file:
        start = file.read(64)
    if start[:3] == MAGIC:
        require_whole(path)
        return ""
    kind = next((kind for magic, kind in KNOWN.items() if start.startswith(magic)), "")
    if kind:
        return f"it is {kind}. Expected netCDF"
    if not start.startswith(HDF5) and _is_text(start):
        return f"it is text ({start.splitlines()[0][:40].decode()!r} ...). Expected netCDF"
    return ""


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("ascii")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\r\n" for c in text)


def _dataset(path: Path, data: Any, variables: Sequence[str]) -> xr.Dataset:
    """Return the wanted variables of an open file."""
    import xarray as xr

    missing = [name for name in variables if name not in data.variables]
    if missing:
        has = ", ".join(name for name in data.variables if name not in data.dimensions) or "no variable"
        raise ModelFailed(Status.MISSING_VARIABLE, f"{path} has no {', '.join(missing)}; it has {has}")
    if "time" not in data.variables:
        return xr.Dataset({name: _series(path, data[name]) for name in variables or data.variables})
    if "time" in data.dimensions and not len(data.dimensions["time"]):
        raise ModelFailed(
            Status.TRUNCATED, f"{path} has no record: the model stopped before it wrote the first"
        )
    bounds = _text(data["time"], "bounds")
    wanted = list(variables) or [name for name, v in data.variables.items() if "time" in v.dimensions]
    wanted = [name for name in dict.fromkeys([*wanted, bounds]) if name in data.variables and name != "time"]
    return xr.Dataset(
        {name: _series(path, data[name]) for name in wanted}, coords={"time": _time(path, data)}
    )


def _time(path: Path, data: Any) -> tuple[tuple[str, ...], Array, dict[str, str]]:
    variable = data["time"]
    if np.dtype(variable.dtype).kind not in "iuf":
        raise ModelFailed(
            Status.WRONG_UNIT,
            f"{path}: the time axis holds text. Expected numbers in a unit like 'days since 2004-01-01'",
        )
    if variable.dimensions != ("time",):
        raise ModelFailed(
            Status.MISSING_VARIABLE,
            f"{path}: 'time' has dimensions {', '.join(variable.dimensions) or 'none'}. Expected time alone",
        )
    return _series(path, variable)


def _series(path: Path, variable: Any) -> tuple[tuple[str, ...], Array, dict[str, str]]:
    """Return dimensions, values (NaN where missing) and the attributes that tell what they mean."""
    if np.dtype(variable.dtype).kind not in "iuf":
        raise ModelFailed(Status.MISSING_VARIABLE, f"{path}: {variable.name} holds text. Expected numbers")
    values = np.ma.filled(np.ma.asarray(variable[...]).astype(np.float64), np.nan)
    attributes = {key: _text(variable, key) for key in ("units", "calendar", "bounds", "long_name")}
    return variable.dimensions, values, {key: text for key, text in attributes.items() if text}


def _text(variable: Any, name: str) -> str:
    return str(variable.getncattr(name)).strip() if name in variable.ncattrs() else ""
