"""CF netCDF observations: real flux files against an independent reading, and what files get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cftime
import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.observations import measurements, readers
from fatescal.observations.readers.netcdf import NetCDF

SITES = (
    *("AU-How", "CA-Qfo", "CH-Dav", "DE-Hai", "DE-Tha", "DK-Sor", "FI-Hyy", "FR-Pue", "IT-MBo", "IT-Noe"),
    *("NL-Loo", "RU-Fyo", "US-MMS", "US-NR1", "US-SRG", "US-SRM", "US-Ton", "US-Whs"),
)
FLUXES = {"NEE": "gC/m2/d", "Qle": "W/m2", "Qh": "W/m2"}
FORMS = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4", "NETCDF4_CLASSIC")
T0 = np.datetime64("2004-01-01", "s")


def flux_file(data: Path, site: str) -> Path:
    """The daily flux file of a site of CalLMIP."""
    paths = list((data / "callmip" / "flux").glob(f"{site}_daily_aggregated_*_FLUXNET2015_Flux.nc"))
    assert len(paths) == 1, f"{site}: {paths}"
    return paths[0]


def made(
    path: Path,
    values: Mapping[str, Any],
    unit: str = "days since 2004-01-01",
    stamps: Any = None,
    dims: tuple[str, ...] = ("time", "y", "x"),
    sizes: dict[str, int] | None = None,
    form: Any = "NETCDF4",
    time: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> Path:
    """Write a file of series; `attributes` by variable, `time` those of the time axis."""
    n = len(np.asarray(next(iter(values.values()))))
    sizes = {"y": 1, "x": 1} | (sizes or {})
    with netCDF4.Dataset(path, "w", format=form) as data:
        data.createDimension("time", n)
        for name, size in sizes.items():
            data.createDimension(name, size)
        axis = data.createVariable("time", "f8", ("time",))
        axis.units = unit
        axis.setncatts(time or {})
        axis[:] = np.arange(n) if stamps is None else stamps
        for name, series in values.items():
            own = dict(attributes.get(name, {}))
            variable = data.createVariable(name, "f4", dims, fill_value=own.pop("_FillValue", None))
            variable.setncatts(own)
            shape = tuple(n if d == "time" else sizes[d] for d in dims)
            array = np.asarray(series, dtype=float)
            variable[:] = (
                array if array.shape == shape else array.reshape([n if d == "time" else 1 for d in dims])
            )
    return path


def observe(folder: Path, observations: Mapping[str, Any]):
    """Observations, summaries and words of a config with these observations."""
    config: dict[str, Any] = {
        "run": {"name": "t", "directory": "run", "seed": 1},
        "model": {"kind": "command", "command": ["/bin/true"]},
        "parameters": {"a": {"prior": {"kind": "normal", "mean": 0, "sd": 1}}},
        "observations": observations,
        "calibrate": {"members": 8, "iterations": 1},
        "posterior": {"members": 8},
    }
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump(config))
    return measurements.observe(settings.load(path).by_site[""], "standard")[1:]


def variable(column: str, **error: Any) -> dict[str, Any]:
    return {"column": column, "model": "x", "error": error or {"sd": 1}}


# real files


@pytest.mark.parametrize("site", SITES)
def test_days_values_and_uncertainties_of_a_site_are_those_of_xarray(data, site):
    path = flux_file(data, site)
    names = [f"{flux}{kind}_daily" for flux in FLUXES for kind in ("", "_uc")]
    table, layout = readers.read(path, names)
    with xr.open_dataset(path) as expected:
        assert (table.index == expected.time.to_index()).all()
        for name in names:
            np.testing.assert_array_equal(table[name], expected[name].to_numpy().ravel().astype(float))
            assert layout.units[name] == FLUXES[name.split("_")[0]]
    assert layout.format == "netcdf"
    assert "stamps taken as the start of an interval (assumed" in layout.summary


@pytest.mark.parametrize("site", SITES)
def test_windows_and_their_errors_of_a_site_are_those_of_a_loop_over_days(data, tmp_path, site):
    path = flux_file(data, site)
    with xr.open_dataset(path) as file:
        frame = file[[f"{f}{k}_daily" for f in FLUXES for k in ("", "_uc")]].squeeze().to_dataframe()
    first, last = frame.index[0], frame.index[-1]
    given: dict[str, Any] = {
        "file": str(path),
        "window": "MS",
        "min_valid": 0.03,
        "outliers": "keep",
        "calibration": [first.date(), last.date()],
        "variables": {
            f: variable(f"{f}_daily", measured=f"{f}_uc_daily", discrepancy="estimate") for f in FLUXES
        },
    }
    observed, _, words = observe(tmp_path, given)
    for flux in FLUXES:
        mine, n = observed.variable == flux, 0
        months = pd.DatetimeIndex(frame.index).to_period("M")
        for month in months.unique():
            days = frame[months == month]
            good = days[f"{flux}_daily"].notna() & (days[f"{flux}_uc_daily"] > 0)
            if good.sum() < 0.03 * month.days_in_month:
                continue
            row = np.flatnonzero(mine & (observed.start == np.datetime64(month.start_time, "s")))
            value = days[f"{flux}_daily"][good].astype(float).mean()
            sd = np.sqrt((days[f"{flux}_uc_daily"][good].astype(float) ** 2).sum()) / good.sum()
            assert (observed.y[row[0]], observed.noise[row[0]]) == pytest.approx((value, sd), rel=1e-12)
            n += 1
        assert n == mine.sum() > 0
    assert f"NEE_uc_daily the sd of each NEE_daily, independent, in {FLUXES['NEE']}" in words
    assert "times as written (no time_zone)" in words


def test_a_file_with_a_dimension_that_is_a_scalar_variable_too(data):
    path = data / "callmip" / "CLASSIC.v2_Phase1b_Scen1_DK-Sor_Cal_Prior.nc"
    with pytest.raises(Exception, match="lat"), xr.open_dataset(path) as file:
        file.load()
    table, layout = readers.read(path, ["nep", "hfls"])
    assert (len(table), str(table.index[0].date()), layout.units["nep"]) == (
        6574,
        "1997-01-01",
        "kgC m-2 s-1",
    )
    assert "lat" not in layout.names
    with netCDF4.Dataset(path) as file:
        np.testing.assert_array_equal(table["hfls"], np.asarray(file["hfls"][:, 0, 0]))


def test_half_hours_of_plumber2_with_their_quality(data):
    path = data / "callmip" / "FI-Hyy_Met_first_five_steps.nc"
    table, layout = readers.read(path, ["Tair"])
    assert np.diff(table.index.to_numpy()).astype("timedelta64[m]").astype(int).tolist() == [30] * 4
    assert (layout.quality_of("Tair"), layout.quality_of("LAI")) == ("Tair_qc", None)
    assert {"IGBP_veg_short", "elevation", "time", "x", "latitude"} & set(layout.names) == set()
    with pytest.raises(BadInput, match=r"no column 'Tairr'.*did you mean 'Tair'"):
        readers.read(path, ["Tairr"])


# what a file tells


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dims", [("time",), ("time", "y", "x"), ("y", "time", "x")])
def test_forms_and_orders_of_dimensions(tmp_path, form, dims):
    path = made(tmp_path / "f.nc", {"NEE": [1.5, -2.5, 3.0]}, dims=dims, form=form, NEE={"units": "gC/m2/d"})
    table, layout = readers.read(path, ["NEE"])
    assert table["NEE"].tolist() == [1.5, -2.5, 3.0]
    assert layout.summary.startswith("netcdf, HDF5" if "4" in form[:7] else "netcdf, classic")
    assert layout.units == {"NEE": "gC/m2/d"}


def test_missing_values_by_attribute_nan_code_and_range(tmp_path):
    values = [1.0, -8888.5, np.nan, -9999.0, 50.0, 2.0, 77.0]
    attributes = {"_FillValue": -8888.5, "valid_max": np.float32(60), "missing_value": np.float32(50)}
    path = made(tmp_path / "f.nc", {"NEE": values}, NEE=attributes)
    table, layout = readers.read(path, ["NEE"])
    assert table["NEE"].dropna().tolist() == [1.0, 2.0]
    assert "1 values of NEE outside the file's valid range taken as missing" in layout.summary


@pytest.mark.parametrize(
    ("unit", "stamps", "first", "said"),
    [
        ("hours since 2003-12-31 12:00", [12, 36, 60], "2004-01-01 00:00", "assumed"),
        ("minutes since 2004-01-01", [0, 30, 60], "2004-01-01 00:00", "assumed"),
        ("days since 2004-01-01 02:00:00 +2:00", [0, 1, 2], "2004-01-01 00:00", "turned to UTC"),
        ("hours since 2004-01-01 00:00 UTC", [0, 1, 2], "2004-01-01 00:00", "turned to UTC"),
        ("hours since 2004-01-01 00:00 -03", [0, 1, 2], "2004-01-01 03:00", "turned to UTC"),
    ],
)
def test_units_of_time(tmp_path, unit, stamps, first, said):
    table, layout = readers.read(made(tmp_path / "f.nc", {"x": [1, 2, 3]}, unit, stamps), ["x"])
    assert str(table.index[0])[:16] == first
    assert said in layout.summary


def test_a_noleap_calendar_is_read_by_its_days(tmp_path):
    path = made(tmp_path / "f.nc", {"x": np.arange(70.0)}, time={"calendar": "noleap"})
    table, layout = readers.read(path, ["x"])
    expected = [str(d)[:10] for d in cftime.num2date(np.arange(70), "days since 2004-01-01", "noleap")]
    assert [str(day.date()) for day in table.index] == expected
    assert "calendar noleap" in layout.summary
    assert "2004-02-29" not in expected


@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_bounds_tell_the_interval_wherever_the_stamp_stands(tmp_path, where):
    shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[where]
    path = made(
        tmp_path / "f.nc", {"x": [1, 2, 3]}, stamps=np.arange(3) + shift, time={"bounds": "time_bnds"}
    )
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("two", 2)
        file.createVariable("time_bnds", "f8", ("time", "two"))[:] = np.arange(3)[:, None] + [0, 1]
    table, layout = readers.read(path, ["x"])
    assert str(table.index[0]) == "2004-01-01 00:00:00"
    assert "intervals by time_bnds" in layout.summary
    assert layout.names == ("x",)
    readers.read(path, ["x"], time_stamp=where)
    other = "end" if where == "start" else "start"
    with pytest.raises(BadInput, match=f"time_stamp is {other}, but the bounds"):
        readers.read(path, ["x"], time_stamp=other)


def test_a_comment_of_cell_methods_tells_that_stamps_are_ends(tmp_path):
    told = {"cell_methods": "time: mean (interval: 1 day comment: stamp at the end)"}
    table, layout = readers.read(made(tmp_path / "f.nc", {"x": [1, 2, 3]}, x=told), ["x"])
    assert str(table.index[0].date()) == "2003-12-31"
    assert "time is the end of an interval" in layout.summary


@pytest.mark.parametrize(
    ("name", "unit", "more", "expected"),
    [
        ("NEE", "umol/m2/s", {}, "umol CO2/m2/s"),
        ("flux", "umol m-2 s-1", {"standard_name": "surface_upward_mole_flux_of_carbon_dioxide"}, "CO2"),
        ("Qle", "W/m2\u200b", {}, "W/m2"),
        ("TA", "deg C", {}, "degC"),
    ],
)
def test_units_as_files_write_them(tmp_path, name, unit, more, expected):
    attributes: dict[str, Any] = {name: {"units": unit, **more}}
    path = made(tmp_path / "f.nc", {name: [1, 2, 3]}, **attributes)
    assert expected in readers.detect(path).units[name]
    assert "\u200b" not in readers.detect(path).units[name]


def test_a_point_of_several(tmp_path):
    field = np.arange(12.0).reshape(3, 2, 2)
    path = made(tmp_path / "f.nc", {"x": field}, sizes={"y": 2, "x": 2})
    with pytest.raises(BadInput, match=r"which point of x \(time 3, y 2, x 2\).*point: \{y: 0\}"):
        readers.read(path, ["x"])
    table, _ = readers.read(path, ["x"], format=NetCDF(point={"y": 1, "x": 0}))
    assert table["x"].tolist() == [2.0, 6.0, 10.0]
    with pytest.raises(BadInput, match=r"place 2 of dimension y.*0 to 1"):
        readers.read(path, ["x"], format=NetCDF(point={"y": 2, "x": 0}))
    with pytest.raises(BadInput, match=r"no dimension 'yy'.*did you mean 'y'"):
        readers.read(path, ["x"], format=NetCDF(point={"yy": 0}))


# what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": "months since 2004-01-01"}, "can't be read.*days, hours, minutes or seconds since"),
        ({"unit": "days since nevermore"}, "can't be read"),
        ({"unit": "d"}, "has no time axis"),
        ({"time": {"calendar": "360_day"}}, "360_day"),
        ({"time": {"calendar": "nonsense"}}, "nonsense"),
        ({"time": {"climatology": "cb"}}, "climatology"),
        ({"time": {"bounds": "time_bnds"}}, "names bounds 'time_bnds', which the file lacks"),
        ({"stamps": [0, 1, 1]}, "more than once"),
        ({"stamps": [0, np.nan, 1]}, "missing in row 2"),
        ({"stamps": [0.5, 1.5, 2.5]}, "is not told; the first is 2004-01-01T12:00:00.*time_stamp"),
        ({"stamps": [14, 45, 74]}, "is not told"),
        ({"stamps": [182, 547, 912]}, "is not told; the first is 2004-07-01"),
        ({"stamps": [], "values": []}, "has no rows"),
        ({"unit": "minutes since 2004-01-01", "stamps": [15, 45, 75]}, "is not told"),
        ({"x": {"_FillValue": 1.0}, "values": [1, 1, 1]}, "x has no valid value"),
        ({"values": [1, np.inf, 1]}, "x is infinite in row 2"),
    ],
)
def test_what_cannot_be_known_is_refused(tmp_path, changes, words):
    changes = dict(changes)
    path = made(tmp_path / "f.nc", {"x": changes.pop("values", [1, 2, 3])}, **changes)
    with pytest.raises(BadInput, match=words):
        readers.read(path, ["x"])


def test_stamps_at_noon_are_read_with_the_key(tmp_path):
    path = made(tmp_path / "f.nc", {"x": [1, 2, 3]}, stamps=[0.5, 1.5, 2.5])
    assert str(readers.read(path, ["x"], time_stamp="middle")[0].index[0]) == "2004-01-01 00:00:00"


@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_short_is_refused_not_read_as_zeros(tmp_path, form):
    path = made(tmp_path / "f.nc", {"x": np.arange(1.0, 5000.0)}, form=form)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(BadInput, match="can't be read as netCDF"):
        readers.read(path, ["x"])


def test_times_in_single_precision_that_miss_the_minute_are_refused(tmp_path):
    path = tmp_path / "f.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", 4)
        axis = file.createVariable("time", "f4", ("time",))
        axis.units, axis[:] = "days since 1900-01-01", 38000 + np.arange(4) / 48
        file.createVariable("x", "f4", ("time",))[:] = np.arange(4)
        file.createVariable("days", "f4", ("time",))
    with pytest.raises(BadInput, match=r"single precision.*2004-01-16T00:28:08"):
        readers.read(path, ["x"])
    with netCDF4.Dataset(path, "a") as file:
        file["time"][:] = 38000 + np.arange(4)
    assert str(readers.read(path, ["x"])[0].index[1].date()) == "2004-01-17"


@pytest.mark.parametrize("format", [None, "netcdf", {"kind": "netcdf", "point": {"y": 1}}])
def test_a_config_with_a_format_is_the_same_when_it_is_read_again(tmp_path, format):
    given = {
        "file": str(made(tmp_path / "f.nc", {"x": np.arange(9.0)}, sizes={"y": 2}, dims=("time",))),
        "calibration": ["2004-01-01", "2004-01-09"],
        "variables": {"x": variable("x", measured="x") | {"unit": "1"}},
    }
    observe(tmp_path, given | ({} if format is None else {"format": format}))
    chosen = settings.load(tmp_path / "t.yaml")
    plain = chosen.plain()
    assert plain["observations"]["format"] == format
    again = settings.revived(plain)
    assert again.plain() == plain
    assert again.by_site[""].observations == chosen.by_site[""].observations


def test_two_time_axes(tmp_path):
    path = made(tmp_path / "f.nc", {"x": [1, 2, 3]})
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("t30", 4)
        axis = file.createVariable("t30", "f8", ("t30",))
        axis.units, axis[:] = "minutes since 2004-01-01", np.arange(4) * 30
        file.createVariable("half", "f4", ("t30",))[:] = np.arange(4)
        again = file.createVariable("local_time", "f8", ("time",))
        again.units, again[:] = "days since 2004-01-02", np.arange(3)
    assert len(readers.read(path, ["half"])[0]) == 4
    assert str(readers.read(path, ["x"])[0].index[0].date()) == "2004-01-01"
    assert str(readers.read(path, ["x"], "local_time")[0].index[0].date()) == "2004-01-02"
    with pytest.raises(BadInput, match="no time axis for x"):
        readers.read(path, ["x", "half"])
    with pytest.raises(BadInput, match="did you mean 'time'"):
        readers.read(path, ["x"], "tme")


# quality and uncertainty in a config


def half_hours(path: Path, flags: np.ndarray, **more: Any) -> Path:
    n = len(flags)
    unit, stamps = "minutes since 2004-01-01", np.arange(n) * 30
    attributes = {"units": "umol/m2/s", "ancillary_variables": "NEE_qc"}
    flag = {"standard_name": "quality_flag", "units": "1"}
    values = {"NEE": np.arange(n) % 7.0, "NEE_qc": flags, **more}
    return made(path, values, unit, stamps, NEE=attributes, NEE_qc=flag)


def test_the_quality_column_of_the_file_is_taken_where_none_is_named(tmp_path):
    flags = np.tile([0, 0, 1, 101], 24)
    given: dict[str, Any] = {
        "file": str(half_hours(tmp_path / "f.nc", flags)),
        "calibration": ["2004-01-01", "2004-01-02"],
        "variables": {"NEE": variable("NEE", sd=1) | {"qc": {"max": 0}}},
    }
    observed, summary, words = observe(tmp_path, given)
    day = (np.arange(48) % 7.0)[flags[:48] == 0]
    assert observed.y[0] == pytest.approx(day.mean())
    assert summary[0].refused == 48
    assert "NEE_qc is a flag (0, 1, 101): `max: 0` keeps 48 of 96 rows" in words
    assert "a row each 30 min" in words or "0.5 h" in words
    given["variables"]["NEE"]["column"] = "NEE_qc"
    with pytest.raises(BadInput, match=r"NEE\.qc needs `column`"):
        observe(tmp_path, given)


def test_uncertainties_of_a_table_are_combined_as_independent_ones(tmp_path):
    days = pd.date_range("2004-01-01", periods=8)
    table = pd.DataFrame(
        {"date": days, "x": [1, 2, 3, 4, 5, 6, 7, 8.0], "u": [0.3, 0.4, 0, "", 0.6, 0.6, 0.6, 0.6]}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    given: dict[str, Any] = {
        "file": "t.csv", "time_column": "date", "window": "4D", "min_valid": 0.5,
        "calibration": ["2004-01-01", "2004-01-08"],
        "variables": {"x": variable("x", measured="u", systematic=0.4) | {"unit": "g C m-2 d-1"}},
    }  # fmt: skip
    observed, summary, words = observe(tmp_path, given)
    assert observed.y.tolist() == [1.5, 6.5]
    assert observed.noise == pytest.approx([np.hypot(0.25, 0.4), np.hypot(0.3, 0.4)])
    assert summary[0].uncertain == 2
    assert (
        "u the sd of each x, independent, in g C m-2 d-1 (assumed, that of x), 1 of zero taken as missing"
        in words
    )
    given["variables"]["x"]["error"] = {"measured": {"column": "u", "unit": "mg C m-2 d-1"}}
    assert observe(tmp_path, given)[0].noise == pytest.approx([0.25e-3, 0.3e-3])
    given["variables"]["x"]["compare_in"] = "umol CO2 m-2 s-1"
    by_mole = observe(tmp_path, given)[0]
    assert (by_mole.noise / by_mole.y) == pytest.approx([0.25e-3 / 1.5, 0.3e-3 / 6.5])


def test_uncertainties_of_rows_of_unequal_length_count_by_their_time(tmp_path):
    stamps = pd.to_datetime(["2004-01-01 00:00", "2004-01-01 06:00", "2004-01-01 12:00", "2004-01-02 00:00",
                             "2004-01-02 12:00", "2004-01-03 00:00"])  # fmt: skip
    pd.DataFrame({"date": stamps, "x": [1, 2, 3, 4, 5, 6.0], "u": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    given: dict[str, Any] = {
        "file": "t.csv", "time_column": "date", "calibration": ["2004-01-01", "2004-01-02"],
        "variables": {"x": variable("x", measured="u") | {"unit": "W m-2"}},
    }  # fmt: skip
    observed, _, _ = observe(tmp_path, given)
    lengths = np.array([6, 6, 12])
    assert observed.y[0] == pytest.approx((lengths * [1, 2, 3]).sum() / 24)
    assert observed.noise[0] == pytest.approx(np.sqrt(((lengths * [0.1, 0.2, 0.3]) ** 2).sum()) / 24)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            {"measured": "neg"},
            "neg, the uncertainty of x, is -2 in the row of 2004-01-02.*standard deviations",
        ),
        ({"measured": "uu"}, "no column 'uu'.*did you mean 'u'"),
        ({"measured": {"column": "u", "unit": "K"}}, "'K' can't be converted"),
        ({"measured": "u", "sd": 1}, "leave `sd`, `random` out"),
        ({"measured": "u", "random": 1}, "leave `sd`, `random` out"),
        ({"measured": {"colum": "u"}}, "colum: unknown key"),
        ({"discrepancy": "estimate"}, "give `sd`, or parts of it"),
    ],
)
def test_uncertainties_that_are_none_are_refused(tmp_path, error, words):
    (tmp_path / "t.csv").write_text("date,x,u,neg\n2004-01-01,1,1,1\n2004-01-02,2,1,-2\n2004-01-03,3,1,1\n")
    given: dict[str, Any] = {
        "file": "t.csv", "time_column": "date", "calibration": ["2004-01-01", "2004-01-03"],
        "variables": {"x": {"model": "x", "unit": "W m-2", "error": error}},
    }  # fmt: skip
    with pytest.raises(BadInput, match=words):
        observe(tmp_path, given)
