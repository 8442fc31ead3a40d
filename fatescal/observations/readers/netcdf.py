"""CF netCDF, classic and HDF5: series at one point, with units, calendar and missing values from the file.

Read by netCDF4: xarray refuses files in which a dimension's name is that of a scalar variable, as `lat` in
files of land models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.types import Array
from fatescal.observations.readers import cf_time
from fatescal.observations.readers.base import Head, Layout, Reader, Request
from fatescal.observations.readers.named_units import of_units_row
from fatescal.observations.readers.numbers import take_out_codes
from fatescal.storage.classic_size import require_whole

if TYPE_CHECKING:
    import pandas as pd

_FIRST = (b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x89HDF\r\n\x1a\n")
_SINCE = re.compile(r"\ssince\s", re.IGNORECASE)
_FLAG = re.compile(r"(?:^|\s)(?:quality|status)_flag$|\sstatus_flag$")


class NetCDF(Reader):
    """CF netCDF, classic or HDF5: series along one time axis, at one point."""

    kind: Literal["netcdf"] = "netcdf"
    """Name of the format."""
    expected: ClassVar[str] = "a file that begins as netCDF does, with CDF or HDF"

    point: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Place, from 0, along each dimension other than time that has several: `{y: 0, x: 3}`."""

    def fits(self, head: Head) -> bool:
        """Return whether the file begins as classic netCDF or HDF5."""
        return head.first.startswith(_FIRST)

    def layout(self, head: Head) -> Layout:
        """Return the series of numbers along a time axis, their units and their quality columns."""
        with _opened(head.path) as data:
            return _layout(data, str(head.path))

    def read(self, head: Head, request: Request) -> tuple[pd.DataFrame, Layout]:
        """Return the requested series and the layout; see `Reader.read`."""
        import pandas as pd

        path = str(head.path)
        if request.time_format is not None:
            raise BadInput(f"{path} is netCDF, whose times are numbers", hint="leave time_format out")
        with _opened(head.path) as data:
            layout = _layout(data, path)
            series = {name: data[layout.names[layout.index(name, path)]] for name in request.columns}
            time = _time_axis(data, list(series.values()), request.time_column, path)
            _check_dimensions(self.point, data, path)
            index, notes = cf_time.starts(data, time, list(series.values()), request, path)
            table = {}
            for name, variable in series.items():
                table[name], said = _values(variable, time, self.point, request, path)
                notes += said
        layout = replace(layout, notes=(*layout.notes, *notes))
        return pd.DataFrame(table, index=index).sort_index(), layout


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open file; one that is damaged or cut short is refused, also while it is being read."""
    import netCDF4

    try:
        require_whole(path)
        data = netCDF4.Dataset(path)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise _damaged(path, error) from error
    with data:
        try:
            yield data
        except (OSError, RuntimeError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path} can't be read as netCDF: {error}", hint="copy or download it again")


def _text(variable: Any, attribute: str) -> str:
    """An attribute as text, without marks that are not seen; '' without one."""
    value = variable.getncattr(attribute) if attribute in variable.ncattrs() else ""
    return re.sub("[\u200b-\u200f\ufeff]", "", str(value)).strip()


def _is_numeric(variable: Any) -> bool:
    return getattr(variable.dtype, "kind", "") in ("i", "u", "f")


def _times(data: Any, path: str) -> dict[str, Any]:
    """The time axes of a file by name."""
    times = {
        name: variable
        for name, variable in data.variables.items()
        if variable.ndim == 1 and _is_numeric(variable) and _SINCE.search(_text(variable, "units"))
    }
    if not times:
        groups = f"; variables of its groups ({', '.join(data.groups)}) are not read" if data.groups else ""
        raise BadInput(
            f"{path} has no time axis{groups}",
            expected="a variable of one dimension whose units are as 'days since 2004-01-01'",
            got=", ".join(data.variables) or "no variables",
        )
    return times


def _layout(data: Any, path: str) -> Layout:
    times = _times(data, path)
    along = {time.dimensions[0] for time in times.values()}
    bounds = {_text(v, key) for v in data.variables.values() for key in ("bounds", "climatology")}
    names = [
        name
        for name, v in data.variables.items()
        if _is_numeric(v) and along & set(v.dimensions) and name not in bounds | times.keys()
    ]
    if not names:
        raise BadInput(
            f"{path} has no series of numbers", expected=f"variables with the dimension {', '.join(along)}"
        )
    units: dict[str, str] = {}
    for name in names:
        units |= _unit(name, data[name])
    flags = {name for name in names if _is_flag(data[name])}
    stored = "HDF5" if data.data_model.startswith("NETCDF4") else "classic"
    return Layout(
        format="netcdf",
        names=tuple(names),
        units=units,
        written=f"{stored}, {len(names)} series",
        quality={name: column for name in names if (column := _quality(data, name, names))},
        flags=frozenset(flags),
    )


def _unit(name: str, variable: Any) -> dict[str, str]:
    """The unit of a variable by its name; of moles, what they are of where its standard name tells."""
    standard = _text(variable, "standard_name")
    alias = "co2_flux" if "carbon" in standard else "h2o_flux" if "water" in standard else name
    units = of_units_row([name], [_text(variable, "units")])
    if not units or "mol" not in units[name]:
        return units
    return {name: of_units_row([alias], [_text(variable, "units")])[alias]}


def _is_flag(variable: Any) -> bool:
    attributes = variable.ncattrs()
    return bool(_FLAG.search(_text(variable, "standard_name"))) or "flag_values" in attributes


def _quality(data: Any, name: str, names: Sequence[str]) -> str | None:
    """The quality column among the ancillary variables of a variable."""
    others = [other for other in _text(data[name], "ancillary_variables").split() if other in names]
    return next((o for o in others if _is_flag(data[o]) or o.lower().endswith("qc")), None)


def _time_axis(data: Any, series: Sequence[Any], chosen: object, path: str) -> Any:
    """The time axis that all `series` have: the one that the config names, else the only one."""
    times = _times(data, path)
    if chosen is not None and (not isinstance(chosen, str) or chosen not in times):
        raise BadInput(
            f"{path} has no time axis {chosen!r}",
            expected=f"one of {', '.join(times)}",
            hint=did_you_mean(chosen, times),
        )
    fitting = [t for t in times.values() if all(t.dimensions[0] in s.dimensions for s in series)]
    if chosen is not None:
        fitting = [t for t in fitting if t.name == chosen]
    if len(fitting) > 1:  # a coordinate variable goes by the name of its dimension
        fitting = [t for t in fitting if t.name == t.dimensions[0]] or fitting
    if len(fitting) != 1:
        listed = ", ".join(f"{s.name} ({', '.join(s.dimensions)})" for s in series)
        raise BadInput(
            f"{path}: {'several time axes' if fitting else 'no time axis'} for {listed}",
            expected=f"one that all have, of {', '.join(times)}",
            hint=f"time_column: {fitting[0].name}" if fitting else "variables of one time axis",
        )
    return fitting[0]


def _check_dimensions(point: dict[str, int], data: Any, path: str) -> None:
    for name, index in point.items():
        if name not in data.dimensions:
            raise BadInput(
                f"{path} has no dimension {name!r}, named in format.point",
                expected=f"one of {', '.join(data.dimensions)}",
                hint=did_you_mean(name, data.dimensions),
            )
        if index >= len(data.dimensions[name]):
            raise BadInput(
                f"{path}: format.point has place {index} of dimension {name}",
                expected=f"0 to {len(data.dimensions[name]) - 1}",
            )


def _values(
    variable: Any, time: Any, point: dict[str, int], request: Request, path: str
) -> tuple[Array, list[str]]:
    """The values (N) of a variable at the point, NaN where missing, and notes about them."""
    axis, index = time.dimensions[0], []
    for name, size in zip(variable.dimensions, variable.shape, strict=True):
        if name != axis and size != 1 and name not in point:
            shape = ", ".join(f"{d} {n}" for d, n in zip(variable.dimensions, variable.shape, strict=True))
            raise BadInput(
                f"{path}: which point of {variable.name} ({shape})?",
                expected="one place along each dimension but time",
                hint=f"observations.format: {{kind: netcdf, point: {{{name}: 0}}}}, counted from 0",
            )
        index.append(slice(None) if name == axis else point.get(name, 0))
    variable.set_auto_maskandscale(True)
    masked = np.ma.asarray(variable[tuple(index)])
    values = np.ma.filled(masked.astype(np.float64), np.nan)
    notes = _out_of_range(variable, tuple(index), np.ma.getmaskarray(masked))
    if np.isinf(values).any():
        raise BadInput(
            f"{path}: {variable.name} is infinite in row {int(np.isinf(values).argmax()) + 1}",
            expected="numbers; missing ones as NaN or by _FillValue",
        )
    flags = np.unique(values[values >= 0]) if _is_flag(variable) else ()  # 101 among 0 and 1 is no code
    present = (*request.not_missing, *flags)
    return values, notes + take_out_codes(values, variable.name, path, request.missing, present)


def _out_of_range(variable: Any, index: tuple[Any, ...], masked: Array) -> list[str]:
    """Notes about values that are missing by the file's valid range, not by its fill value."""
    if not {"valid_min", "valid_max", "valid_range"} & set(variable.ncattrs()):
        return []
    variable.set_auto_maskandscale(False)
    stored = np.asarray(variable[index])
    variable.set_auto_maskandscale(True)
    filled = np.isnan(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, dtype=bool)
    for name in {"_FillValue", "missing_value"} & set(variable.ncattrs()):
        filled |= np.isin(stored, variable.getncattr(name))
    n = int((masked & ~filled).sum())
    return [f"{n} values of {variable.name} outside the file's valid range taken as missing"] if n else []
