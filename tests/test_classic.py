"""Classic netCDF files from their bytes, against netCDF4, bit for bit; and what history makes of whole, torn and foreign ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
import pytest
from ctsm_case import SAMPLES

from fatescal.errors import ModelFailed, Status
from fatescal.forward.clm_fates import classic, history

Format = Literal["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
FORMATS: tuple[Format, ...] = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA")


def require_same(path: Path, reader: classic.Reader) -> int:
    """Compare every number and attribute of a file; return how many variables it has."""
    with netCDF4.Dataset(path) as data:
        data.set_auto_maskandscale(False)
        arrays, known = reader(path, [n for n, v in data.variables.items() if v.dtype.kind != "S"])
        assert list(known) == list(data.variables)
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, np.asarray(data[name][:], float), strict=True)
        for name, variable in data.variables.items():
            for key, value in variable.__dict__.items():
                same = value if isinstance(value, str) else tuple(np.atleast_1d(value).tolist())
                assert known[name].attributes[key] == same, (name, key)
        return len(known)


@pytest.mark.parametrize(("version", "n_first"), [("A", 60), ("B", 70)])
def test_real_history_reads_as_netcdf4_reads_it(version, n_first, data):
    reader = classic.Reader()  # one for all: it compares headers with the one before
    paths = sorted((data / "ctsm" / SAMPLES[version]).glob("*.h1*.nc"))
    assert [require_same(path, reader) for path in paths] == [
        n_first,
        *[60] * 12,
    ]  # constants in the first alone


def write(
    path: Path, form: Format, kinds: dict[str, str], n: int, width: int = 3, begin: float = 0.0
) -> Path:
    """Write record variables of some types, and a fixed one, with numbers that differ everywhere."""
    rng = np.random.default_rng(len(kinds) + n)
    with netCDF4.Dataset(path, "w", format=form) as data:
        data.createDimension("time", None)
        data.createDimension("x", width)
        data.createVariable("fixed", "i2", ("x",))[:] = rng.integers(0, 99, width)
        data.createVariable("scalar", "f8").assignValue(0.1)
        for name, kind in kinds.items():
            variable = data.createVariable(name, kind, ("time", "x"))
            variable.units, variable.odd = "m", np.arange(3, dtype="i2")
            variable[:] = rng.integers(0, 99, (n, width)) + (begin if kind == "f8" else 0)
    return path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "kinds", [["i1"], ["i2"], ["i2", "f4"], ["i1", "i2", "i1"], ["f8"], ["f4", "i1", "f8"]]
)
def test_paddings_of_odd_records_are_known(form, kinds, tmp_path):
    named = {f"v{i}": kind for i, kind in enumerate(kinds)}
    reader = classic.Reader()
    for n in (0, 1, 5):
        require_same(write(tmp_path / f"{n}.nc", form, named, n), reader)
    require_same(write(tmp_path / "wider.nc", form, named, 4, width=5), reader)  # not laid out like the last


def test_types_of_cdf5_are_known(tmp_path):
    named = {kind: kind for kind in ("u1", "u2", "u4", "i8", "u8")}
    require_same(write(tmp_path / "a.nc", FORMATS[2], named, 3), classic.Reader())


@pytest.mark.parametrize("form", FORMATS)
def test_torn_files_are_refused_wherever_they_end(form, tmp_path):
    path = write(tmp_path / "whole.nc", form, {"a": "f4", "b": "f8"}, 3)
    content = path.read_bytes()
    torn = tmp_path / "torn.nc"
    for end in [*range(0, 200, 7), len(content) // 2, len(content) - 1]:
        torn.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"it ends|header|classic|empty file"):
            classic.Reader()(torn, ["a", "b"])
    width = 8 if form == FORMATS[2] else 4
    torn.write_bytes(content[:4] + b"\xff" * width + content[4 + width :])  # written as a stream
    np.testing.assert_array_equal(
        classic.Reader()(torn, ["b"])[0]["b"], classic.Reader()(path, ["b"])[0]["b"]
    )


def write_tape(path: Path, form: Format, days: range, origin: str = "2004-01-01", **packed: float) -> Path:
    with netCDF4.Dataset(path, "w", format=form) as data:
        for name, size in (("time", None), ("nbnd", 2), ("lndgrid", 1)):
            data.createDimension(name, size)
        time = data.createVariable("time", "f8", ("time",))
        time.units, time.calendar = f"days since {origin} 00:00:00", "noleap"
        data.createVariable("time_bounds", "f8", ("time", "nbnd"))[:] = [(d, d + 1) for d in days]
        gpp = data.createVariable("GPP", "f4", ("time", "lndgrid"))
        gpp.units = "g m-2 d-1"
        gpp.setncatts(packed)
        gpp[:] = np.asarray(days, float)[:, None]
    return path


@pytest.mark.parametrize("form", [*FORMATS, "NETCDF4"])
def test_history_is_the_same_in_any_format_and_unpacked(form, tmp_path):
    write_tape(tmp_path / "m.clm2.h0a.2004-01-02-00000.nc", form, range(30))
    write_tape(tmp_path / "m.clm2.h0a.2004-02-01-00000.nc", form, range(30, 40), scale_factor=0.5)
    found = history.read(tmp_path, ["GPP"], "m")
    np.testing.assert_array_equal(found["GPP"], np.arange(40))
    assert found["GPP"].attrs == {"units": "g m-2 d-1"}
    with pytest.raises(ModelFailed, match="has no ET; it has time, time_bounds, GPP") as caught:
        history.read(tmp_path, ["GPP", "ET"], "m")
    assert caught.value.kind == Status.MISSING_VARIABLE


@pytest.mark.parametrize("fault", ["gap", "overlap", "another origin"])
def test_history_that_does_not_hang_together_is_refused(fault, tmp_path):
    write_tape(tmp_path / "m.clm2.h0a.2004-01-02-00000.nc", FORMATS[2], range(30))
    origin = "2003-01-01" if fault == "another origin" else "2004-01-01"
    first = {"gap": 31, "overlap": 29, "another origin": 30}[fault]
    last = write_tape(tmp_path / "m.clm2.h0a.2004-02-01-00000.nc", FORMATS[2], range(first, 40), origin)
    with pytest.raises(ModelFailed, match="does not begin where the file before it ends") as caught:
        history.read(tmp_path, ["GPP"], "m")
    assert caught.value.kind == Status.TRUNCATED
    shutil.move(last, tmp_path / "other.clm2.h0a.2004-02-01-00000.nc")
    assert history.read(tmp_path, ["GPP"], "m").sizes["time"] == 30
