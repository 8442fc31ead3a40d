"""Daily output of the models that run in memory: one netCDF file, noleap, with bounds of its days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fatescal.base.types import Array
from fatescal.models import output

if TYPE_CHECKING:
    import xarray as xr

OUTPUT = "output.nc"


class DailyMeans(NamedTuple):
    """Daily means (days), their unit and what they are."""

    values: Array
    unit: str
    long_name: str


def write(folder: Path, start: date, series: Mapping[str, DailyMeans], source: str) -> None:
    """Write `series`, by name, into ``output.nc`` of `folder`; the first day is `start`. All of it or
    nothing.
    """
    import netCDF4

    part = folder / f"{OUTPUT}.part"
    n_days = len(next(iter(series.values())).values)
    with netCDF4.Dataset(part, "w") as data:
        data.Conventions = "CF-1.8"
        data.source = source
        data.createDimension("time", n_days)
        data.createDimension("nv", 2)
        time = data.createVariable("time", "f8", ("time",))
        time.units = f"days since {start.isoformat()} 00:00:00"
        time.calendar, time.bounds, time.standard_name = "noleap", "time_bounds", "time"
        time[:] = np.arange(n_days) + 0.5
        bounds = data.createVariable("time_bounds", "f8", ("time", "nv"))
        bounds[:] = np.arange(n_days)[:, None] + np.array([0.0, 1.0])
        for name, (values, unit, long_name) in series.items():
            variable = data.createVariable(name, "f8", ("time",))
            variable.units, variable.long_name = unit, long_name
            variable.cell_methods = "time: mean"
            variable[:] = values
    part.replace(folder / OUTPUT)


def read(folder: Path) -> xr.Dataset:
    """Return the daily output of a finished run; times are mid-days as numbers, with ``time_bounds``."""
    return output.read(folder / OUTPUT)
