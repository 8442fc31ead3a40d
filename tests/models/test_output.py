"""Reading what a model left: only what is compared, and every broken file with its reason."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from fatescal.base.errors import ModelFailed, Status
from fatescal.models import output
from fatescal.observations import missing_codes
from fatescal.observations.align import align
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.windows import grid_of
from fatescal.storage import classic_size

FORMATS = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4", "NETCDF4_CLASSIC")
N = 20
GRID = grid_of(
    [ObservedVariable("GPP", "g m-2 d-1", ErrorModel(sd=1.0))],
    "1D",
    ("2004-01-01", "2004-01-20"),
    None,
    "standard",
)


def write(path: Path, form: Any = "NETCDF4", n: int = N, unlimited: bool = False, **more: Any) -> Path:
    """Write `n` days of GPP, with bounds; `more` are values and attributes of further variables."""
    with netCDF4.Dataset(path, "w", format=form) as data:
        data.createDimension("time", None if unlimited else n)
        data.createDimension("nv", 2)
        time = data.createVariable("time", "f8", ("time",))
        time.units, time.bounds, time.calendar = "days since 2004-01-01", "time_bounds", "standard"
        time[:] = np.arange(n) + 0.5
        data.createVariable("time_bounds", "f8", ("time", "nv"))[:] = np.arange(n)[:, None] + [0.0, 1.0]
        gpp = data.createVariable("GPP", "f4", ("time",))
        gpp.units = "g m-2 d-1"
        gpp[:] = np.arange(n) % 7
        for name, (values, attributes) in more.items():
            variable = data.createVariable(name, np.asarray(values).dtype, ("time",))
            variable.setncatts(attributes)
            variable[:] = values
    return path


def predicted(path: Path, name: str = "GPP") -> np.ndarray:
    return align(output.read(path, [name]), GRID, {"GPP": name}, "standard")


def refused(path: Path, name: str = "GPP") -> ModelFailed:
    with pytest.raises(ModelFailed) as caught:
        predicted(path, name)
    return caught.value


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("unlimited", [False, True])
def test_a_whole_file_is_read_and_a_torn_one_never(tmp_path, form, unlimited):
    path = write(tmp_path / "output.nc", form, unlimited=unlimited, other=(np.arange(N, dtype="i2"), {}))
    np.testing.assert_array_equal(predicted(path), np.arange(N) % 7)
    whole = path.read_bytes()
    for part in (len(whole) - 8, len(whole) * 3 // 4, len(whole) // 2, 300, 40, 5, 4, 2):
        path.write_bytes(whole[:part])
        failure = refused(path)
        assert failure.kind == Status.TRUNCATED, (part, failure.reason)
        assert str(path) in failure.reason


def test_a_stream_of_unknown_length_counts_as_whole(tmp_path):
    path = write(tmp_path / "output.nc", "NETCDF3_CLASSIC", unlimited=True)
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    classic_size.require_whole(path)


def test_a_damaged_header_is_no_size(tmp_path):
    path = write(tmp_path / "output.nc", "NETCDF3_CLASSIC")
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):  # whatever it holds: a reason or numbers, no other error
        content = bytearray(whole)
        for k in rng.integers(0, 400, 3):
            content[k] = rng.integers(256)
        path.write_bytes(content)
        with suppress(ModelFailed):
            predicted(path)


def test_other_variables_are_not_looked_at(tmp_path):
    planting = (np.arange(float(N)), {"units": "days since planting"})
    bad = (np.arange(float(N)), {"units": "months since 0000-00-00", "calendar": "none", "_FillValue": 1.0})
    path = write(tmp_path / "output.nc", planting=planting, bad=bad)
    np.testing.assert_array_equal(predicted(path), np.arange(N) % 7)
    assert list(output.read(path, ["GPP"]).data_vars) == ["GPP", "time_bounds"]


def test_a_variable_in_days_is_numbers(tmp_path):
    path = write(tmp_path / "output.nc", age=(np.arange(float(N)), {"units": "days"}))
    assert output.read(path, ["age"])["age"].values.tolist() == list(range(N))


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        ([-9999.0], {"_FillValue": -9999.0}),
        ([-9999.0], {"missing_value": -9999.0}),
        ([-9999.0], {}),
        ([-9999.0, -9999.0], {}),
        ([-6999.0], {}),
        ([-999.0], {}),
        ([-99.0, -99.0], {}),
        ([99999.0, 99999.0], {}),
        ([1e20], {}),
        ([1e36], {}),
        ([9.96921e36], {}),
        ([500.0], {"valid_max": 100.0}),
        ([500.0], {"valid_range": np.array([0.0, 100.0])}),
        ([np.nan], {}),
        ([-np.inf], {}),
    ],
)
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_what_is_missing_is_never_data(tmp_path, values, attributes, kind):
    series = np.arange(N, dtype=kind) % 7
    series[3 : 3 + len(values)] = values
    cast = {k: np.asarray(v, kind) for k, v in attributes.items()}
    path = write(tmp_path / "output.nc", y=(series, {"units": "g m-2 d-1", **cast}))
    failure = refused(path, "y")
    assert failure.kind == Status.NON_FINITE
    assert f"in {len(values)} of 20 windows, first 2004-01-04" in failure.reason


def test_numbers_of_nines_that_may_be_data_are_data(tmp_path):
    series = 9990.0 + np.arange(N)
    path = write(tmp_path / "output.nc", y=(series, {"units": "g m-2 d-1"}))
    np.testing.assert_array_equal(predicted(path, "y"), series)


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ([-9999.0] * 5, [-9999]),
        ([-9999.0, -6999.0, 1.0, 2.0], [-9999, -6999]),  # two codes hide each other from no one
        ([99999.0] * 5, [99999]),  # the code alone
        ([999.0], []),
        ([5.0, 5.0], []),
        ([0.0, 0.0, 0.1, 12345.0, 12345.0], []),  # a flood is a flood
        ([np.nan, 1e36], []),
    ],
)
def test_codes_that_no_attribute_says(values, codes):
    missing, seen = missing_codes.undeclared(np.array(values))
    assert seen == codes
    np.testing.assert_array_equal(missing, missing_codes.fills(np.array(values)) | np.isin(values, codes))


def test_packed_numbers_are_unpacked(tmp_path):
    path = tmp_path / "output.nc"
    with netCDF4.Dataset(write(path), "a") as data:
        y = data.createVariable("y", "i2", ("time",), fill_value=-32768)
        y.units, y.scale_factor, y.add_offset = "g m-2 d-1", 0.5, 10.0
        y[:] = np.arange(N)
    np.testing.assert_array_equal(predicted(path, "y"), np.arange(N))


def left(path: Path, content: bytes | str | None) -> None:
    if isinstance(content, str):
        content = content.encode()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: left(p, None), "it is missing"),
        (lambda p: left(p, b""), "it is empty"),
        (lambda p: left(p, "date,GPP\n2004-01-01,3\n"), "it is text ('date,GPP' ...). Expected netCDF"),
        (lambda p: left(p, "\n"), "it is text"),
        (lambda p: left(p, gzip.compress(b"x")), "compressed with gzip"),
        (lambda p: left(p, b"PK\3\4" + b"\0" * 50), "a zip archive"),
        (lambda p: left(p, bytes(range(128, 256))), "cannot be read"),
        (lambda p: left(p, b"\x89HDF\r\n\x1a\n" + b"\0" * 500), "cannot be read"),
        (lambda p: left(p, b"CDF\7"), "its header is damaged"),
        (lambda p: p.mkdir(), "it is a directory"),
        (lambda p: p.symlink_to("gone.nc"), "it is a link to gone.nc, which is missing"),
        (lambda p: p.symlink_to(p), "cannot be read"),
        (lambda p: os.mkfifo(p), "it is not a regular file"),
    ],
)
def test_whatever_stands_in_place_of_the_output_is_told(tmp_path, make: Callable[[Path], object], words):
    path = tmp_path / "output.nc"
    make(path)
    failure = refused(path)
    assert failure.kind == Status.TRUNCATED
    assert words in failure.reason
    assert failure.reason.startswith(f"{path} cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_told(tmp_path):
    path = write(tmp_path / "output.nc")
    path.chmod(stat.S_IWUSR)
    assert "Permission denied" in refused(path).reason


@pytest.mark.parametrize("form", FORMATS)
def test_no_record_is_truncated(tmp_path, form):
    failure = refused(write(tmp_path / "output.nc", form, n=0, unlimited=True))
    assert failure.kind == Status.TRUNCATED
    assert "has no record" in failure.reason


def with_time(path: Path, change: Callable[[netCDF4.Dataset], object]) -> Path:
    with netCDF4.Dataset(write(path), "a") as data:
        change(data)
    return path


def test_records_that_were_never_written_are_told(tmp_path):
    path = tmp_path / "output.nc"
    with netCDF4.Dataset(write(path, unlimited=True), "a") as data:
        data["GPP"][N : N + 5] = 1.0  # time stays at netCDF's fill value
    failure = refused(path)
    assert (failure.kind, "in 5 of 25 records" in failure.reason) == (Status.TRUNCATED, True)
    path = with_time(path, lambda data: data["time_bounds"].__setitem__((3, 1), np.nan))
    failure = refused(path)
    assert "'time_bounds' is NaN or a fill value in 1 of 20 records" in failure.reason


def test_a_time_axis_of_text_is_told(tmp_path):
    path = tmp_path / "output.nc"
    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("time", 2)
        data.createVariable("time", str, ("time",))[:] = np.array(["2004-01-01", "2004-01-02"], dtype=object)
        data.createVariable("GPP", "f8", ("time",))[:] = 1.0
    failure = refused(path)
    assert (failure.kind, "holds text" in failure.reason) == (Status.WRONG_UNIT, True)


@pytest.mark.parametrize(
    "units", ["", "days", "days since planting", "months since 2004-01-01", "d since 2004-13-01"]
)
def test_times_without_a_unit_that_says_when_are_told(tmp_path, units):
    path = with_time(tmp_path / "output.nc", lambda data: data["time"].setncattr("units", units))
    failure = refused(path)
    assert failure.kind == Status.WRONG_UNIT
    assert "time axis" in failure.reason


def test_text_in_place_of_numbers_and_missing_names_are_told(tmp_path):
    path = tmp_path / "output.nc"
    with netCDF4.Dataset(write(path), "a") as data:
        data.createVariable("note", str, ("time",))
    assert "note holds text" in refused(path, "note").reason
    failure = refused(path, "NEE")
    assert failure.kind == Status.MISSING_VARIABLE
    assert "has no NEE; it has time_bounds, GPP, note" in failure.reason


def test_a_file_without_a_time_axis_is_told(tmp_path):
    path = tmp_path / "output.nc"
    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("day", 2)
        data.createVariable("GPP", "f8", ("day",))[:] = 1.0
    failure = refused(path)
    assert (failure.kind, "no time axis 'time'" in failure.reason) == (Status.MISSING_VARIABLE, True)
