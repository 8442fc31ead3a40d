"""What history makes of whole, torn and foreign files, of any netCDF format."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
import pytest
from ctsm_case import SAMPLES

from fatescal.base.errors import ModelFailed, Status
from fatescal.models.clm_fates import history

Format = Literal["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
FORMATS: tuple[Format, ...] = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4")
FIRST = "m.clm2.h0a.2004-01-02-00000.nc"
SECOND = "m.clm2.h0a.2004-02-01-00000.nc"


@pytest.mark.parametrize(("version", "prefix"), [("A", "hyy"), ("B", "old")])
def test_real_history_is_what_the_files_hold(version, prefix, data):
    folder = data / "ctsm" / SAMPLES[version]
    found = history.read(folder, ["FATES_GPP", "TSA"], prefix)
    series: dict[str, list[float]] = {"FATES_GPP": [], "TSA": []}
    for path in sorted(folder.glob(f"{prefix}.clm2.h1*.nc")):
        with netCDF4.Dataset(path) as file:
            bounds = file["time_bounds"][:]
            whole = bounds[:, 1] > bounds[:, 0]
            for name, values in series.items():
                values += file[name][:, 0][whole].astype(float).tolist()
    for name, values in series.items():
        np.testing.assert_array_equal(found[name], values)
        assert len(values) == 365


def write_tape(path: Path, form: Format, days: range, origin: str = "2004-01-01", **packed: float) -> Path:
    """Write GPP = day, one value a record; `packed` are its attributes."""
    with netCDF4.Dataset(path, "w", format=form) as data:
        for name, size in (("time", None), ("nbnd", 2), ("lndgrid", 1), ("pft", 2)):
            data.createDimension(name, size)
        time = data.createVariable("time", "f8", ("time",))
        time.units, time.calendar = f"days since {origin} 00:00:00", "noleap"
        time[:] = np.asarray(days, float) + 0.5
        data.createVariable("time_bounds", "f8", ("time", "nbnd"))[:] = [(d, d + 1) for d in days]
        gpp = data.createVariable("GPP", "f4", ("time", "lndgrid"))
        gpp.units = "g m-2 d-1"
        gpp.setncatts(packed)
        gpp[:] = np.asarray(days, float)[:, None]
        data.createVariable("GPP_PF", "f4", ("time", "pft"))[:] = np.ones((len(days), 2))
        data.createVariable("BARE", "f4", ("time",))[:] = np.ones(len(days))
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_history_is_the_same_in_any_format_and_unpacked(form, tmp_path):
    write_tape(tmp_path / FIRST, form, range(30))
    write_tape(tmp_path / SECOND, form, range(30, 40), scale_factor=0.5)
    found = history.read(tmp_path, ["GPP"], "m")
    np.testing.assert_array_equal(found["GPP"], np.arange(40))
    np.testing.assert_array_equal(found["time"], np.arange(40) + 0.5)
    assert found["GPP"].attrs == {"units": "g m-2 d-1"}


@pytest.mark.parametrize(
    ("field", "status", "words"),
    [
        ("ET", Status.MISSING_VARIABLE, "has no ET"),
        ("GPP_PF", Status.MISSING_VARIABLE, "GPP_PF has time=30, pft=2. Expected one value a record"),
        ("BARE", Status.WRONG_UNIT, "BARE has no unit"),
    ],
)
def test_a_field_that_is_no_series_fails_the_member_with_its_reason(field, status, words, tmp_path):
    write_tape(tmp_path / FIRST, "NETCDF3_64BIT_DATA", range(30))
    with pytest.raises(ModelFailed, match=words) as caught:
        history.read(tmp_path, ["GPP", field], "m")
    assert caught.value.kind == status


@pytest.mark.parametrize("form", FORMATS)
def test_torn_files_are_refused_wherever_they_end(form, tmp_path):
    path = write_tape(tmp_path / FIRST, form, range(30))
    content = path.read_bytes()
    for end in [*range(0, 200, 23), len(content) // 2, len(content) - 5]:
        path.write_bytes(content[:end])
        with pytest.raises(ModelFailed, match="cannot be read") as caught:
            history.read(tmp_path, ["GPP"], "m")
        assert caught.value.kind == Status.TRUNCATED


@pytest.mark.parametrize("fault", ["gap", "overlap", "another origin"])
def test_history_that_does_not_hang_together_is_refused(fault, tmp_path):
    write_tape(tmp_path / FIRST, "NETCDF3_64BIT_DATA", range(30))
    origin = "2003-01-01" if fault == "another origin" else "2004-01-01"
    first = {"gap": 31, "overlap": 29, "another origin": 30}[fault]
    last = write_tape(tmp_path / SECOND, "NETCDF3_64BIT_DATA", range(first, 40), origin)
    with pytest.raises(ModelFailed, match="does not begin where the file before it ends") as caught:
        history.read(tmp_path, ["GPP"], "m")
    assert caught.value.kind == Status.TRUNCATED
    shutil.move(last, tmp_path / "other.clm2.h0a.2004-02-01-00000.nc")
    assert history.read(tmp_path, ["GPP"], "m").sizes["time"] == 30
