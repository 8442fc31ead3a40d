"""The embedded land model: balances, independence, directions of response, forcing readers, the seam."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import cftime
import numpy as np
import pytest

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.models.base import Model
from fatescal.models.canopy import Canopy, kernel, leaf, weather
from fatescal.models.canopy.drivers import CO2, drive
from fatescal.models.canopy.smear_weather import disaggregate, read_forcing
from fatescal.models.canopy.solar import solar_geometry
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.weather_generator import synthetic

DATA = Path(os.environ.get("FATESCAL_DATA", "absent")) / "hyytiala"
needs_data = pytest.mark.skipif("FATESCAL_DATA" not in os.environ, reason="FATESCAL_DATA is not set")
NEEDLE, BROAD, GRASS = Stand.load().pfts
PER_YEAR = 86400 * 365


@pytest.fixture(scope="module")
def model():
    return Canopy("synthetic", date(2004, 1, 1), date(2005, 12, 31), spinup_years=1, seed=3)


def defaults(model, **changes):
    """Return the default row (P) with some parameters multiplied."""
    theta = dict(model.defaults)
    for name, factor in changes.items():
        theta[name] *= factor
    return np.array(list(theta.values()))


def test_is_a_forward_model(model):
    assert set(model.units) == set(model.defaults)
    assert model.calendar == "noleap"
    assert isinstance(model, Model)


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_energy_and_water_balances_close_at_every_step(model, factor):
    names = [n for n in model.names if "vcmax" in n or "slope" in n or "canopy_storage" in n]
    energy, water = model.simulate(defaults(model, **dict.fromkeys(names, factor)))["imbalance"][0]
    assert energy < 1e-6  # W m-2
    assert water < 1e-6  # mm


def test_parts_of_evaporation_add_up(model):
    daily = model.simulate(defaults(model))
    parts = daily["transpiration"] + daily["interception"] + daily["ground"]
    np.testing.assert_allclose(parts, daily["evaporation"], atol=1e-18)


def test_member_does_not_depend_on_its_batch_mates(model):
    rng = np.random.default_rng(1)
    theta = defaults(model) * rng.uniform(0.7, 1.3, (5, len(model.names)))
    together = model.simulate(theta)
    alone = model.simulate(theta[3])
    backwards = model.simulate(theta[::-1])
    for name in ("gpp", "evaporation"):
        assert np.array_equal(together[name][3], alone[name][0])
        assert np.array_equal(together[name], backwards[name][::-1])


def test_boreal_fluxes_are_sane(model):
    daily = model.simulate(defaults(model))
    gpp = daily["gpp"][0].reshape(-1, 365) * 86400e3  # gC m-2 d-1
    evaporation = daily["evaporation"][0].reshape(-1, 365) * 86400  # mm d-1
    assert np.all((gpp.sum(1) > 700) & (gpp.sum(1) < 1500))
    assert np.all((evaporation.sum(1) > 200) & (evaporation.sum(1) < 450))
    assert gpp[:, :45].max() < 0.5 < 5 < gpp[:, 181:212].mean()
    assert 2 < daily["snow"][0].reshape(-1, 365)[:, 40:70].mean() < 300
    assert daily["snow"][0].reshape(-1, 365)[:, 160:250].max() == 0.0
    assert daily["gpp"].min() >= 0.0


# sign of the response of (annual GPP, annual evaporation) to a rise by a tenth
DIRECTIONS = [
    *[(f"fates_leaf_vcmax25top_{p}", +1, +1) for p in (NEEDLE, BROAD, GRASS)],
    *[(f"fates_leaf_stomatal_slope_ballberry_{p}", +1, +1) for p in (NEEDLE, BROAD, GRASS)],
    (f"fates_leaf_stomatal_intercept_{NEEDLE}", +1, +1),
    ("photosynthesis_recovery_range", -1, -1),
    ("fnps", -1, -1),
    ("csoilc", 0, +1),
    ("d_max", 0, -1),
    ("maximum_leaf_wetted_fraction", 0, +1),
    ("liq_canopy_storage_scalar", 0, +1),
]


@pytest.mark.parametrize(("name", "gpp", "evaporation"), DIRECTIONS)
def test_fluxes_respond_in_the_right_direction_to_parameters(model, name, gpp, evaporation):
    daily = model.simulate(np.array([defaults(model), defaults(model, **{name: 1.1})]))
    for flux, sign in (("gpp", gpp), ("evaporation", evaporation)):
        before, after = daily[flux].sum(axis=1)
        if sign:
            assert sign * (after - before) > 1e-5 * before


@pytest.mark.parametrize(("name", "sign"), [("fates_turb_z0mr", +1), ("fates_turb_leaf_diameter", -1)])
def test_better_ventilated_canopies_lose_more_intercepted_water(model, name, sign):
    """Transpiration may go either way: wind cools sunlit leaves and dries shaded ones."""
    daily = model.simulate(np.array([defaults(model), defaults(model, **{f"{name}_{NEEDLE}": 1.2})]))
    before, after = daily["interception"].sum(axis=1)
    assert sign * (after - before) > 1e-3 * before


def test_earlier_recovery_start_gives_more_spring_photosynthesis(model):
    theta = np.array([defaults(model), defaults(model, photosynthesis_recovery_start=1.5)])  # to -7 degC
    early, late = (model.simulate(theta)["gpp"][i].reshape(-1, 365)[:, 90:140].sum() for i in (1, 0))
    assert early > late


def test_dry_soil_closes_stomata(model):
    """A soil that opens stomata only when nearly saturated costs transpiration and assimilation."""
    names = [f"fates_nonhydro_{s}_{p}" for p in model.pfts for s in ("smpso", "smpsc")]
    daily = model.simulate(np.array([defaults(model), defaults(model, **dict.fromkeys(names, 0.005))]))
    assert daily["stress"][1].min() < 0.8 < daily["stress"][0].mean()
    assert daily["transpiration"][1].sum() < daily["transpiration"][0].sum()
    assert daily["gpp"][1].sum() < daily["gpp"][0].sum()


@pytest.mark.parametrize(
    ("name", "change", "flux", "sign"),
    [
        ("FSDS", lambda x: 1.1 * x, "gpp", +1),
        ("FSDS", lambda x: 1.1 * x, "evaporation", +1),
        ("TBOT", lambda x: x + 1.0, "evaporation", +1),  # at the same specific humidity: drier air
        ("QBOT", lambda x: 0.9 * x, "evaporation", +1),
        ("QBOT", lambda x: 0.9 * x, "gpp", -1),
        ("PRECTmms", lambda x: 1.3 * x, "interception", +1),
        ("PRECTmms", lambda x: 1.3 * x, "soil_water", +1),
        ("WIND", lambda x: 1.3 * x, "interception", +1),
        ("FLDS", lambda x: 1.05 * x, "evaporation", +1),
        ("TBOT", lambda x: x + 2.0, "snow", -1),
    ],
)
def test_fluxes_respond_in_the_right_direction_to_weather(model, name, change, flux, sign):
    other = Canopy("synthetic", model.start, model.end, spinup_years=1, seed=3)
    values = dict(model.weather.values)
    other.weather = replace(model.weather, values=values | {name: change(values[name])})
    before, after = (m.simulate(defaults(m))[flux].sum() for m in (model, other))
    assert sign * (after - before) > 1e-4 * abs(before)


def test_leaf_solution_satisfies_both_equations():
    rng = np.random.default_rng(2)
    ca, pressure, gamma, km = CO2 * 1e5, 1e5, 3.5, 60.0
    for _ in range(500):
        par, vcmax = rng.uniform(30, 1200), rng.uniform(5, 120)
        gb, g0, m, humidity = (
            rng.uniform(0.2, 3),
            rng.uniform(1e-4, 0.03),
            rng.uniform(1, 20),
            rng.uniform(0.1, 1),
        )
        rd, jmax = 0.015 * vcmax, 1.9 * vcmax
        photons = 0.5 * (1 - 0.15) * par
        gross, gs = leaf.leaf(photons, vcmax, jmax, rd, gamma, km, ca, pressure, gb, g0, m, humidity)
        net = gross - rd
        if net <= 0:
            assert gs == g0
            continue
        ci = ca - 1e-6 * net * pressure * (1.4 / gb + 1.6 / gs)
        electrons = min(np.roots([leaf.THETA_PSII, -(photons + jmax), photons * jmax]))
        rubisco = vcmax * (ci - gamma) / (ci + km)
        light = electrons * (ci - gamma) / (4 * ci + 8 * gamma)
        colimited = min(np.roots([leaf.THETA_CJ, -(rubisco + light), rubisco * light]))
        assert gross == pytest.approx(colimited, rel=1e-6)
        cs = ca - 1.4e-6 * net * pressure / gb
        surface = (gs + gb * humidity) / (gs + gb)  # saturated inside the leaf, air outside
        assert gs == pytest.approx(g0 + 1e-6 * m * net * surface * pressure / cs, rel=1e-6)


def test_the_cache_on_disk_knows_all_compiled_sources():
    """Numba watches the kernel's own file alone; a change of another one must not run the old code."""
    folder = Path(kernel.__file__).parent
    watched = {Path(str(module.__file__)).stem for module in kernel.COMPILED} | {"kernel"}
    compiled = {path.stem: path.read_text() for path in folder.glob("*.py") if "@njit" in path.read_text()}
    used = {name for text in compiled.values() for name in re.findall(r"canopy\.(\w+) import", text)}
    assert compiled.keys() | used <= watched | {"stand"}  # the last one for a type alone


def test_absorbed_light_never_exceeds_the_incoming(model):
    drivers, fsds = drive(model.weather, model.site), model.weather.values["FSDS"]
    daylight, leaves = drivers.step["daylight"], drivers.type
    absorbed = leaves["sw_canopy"] + leaves["sw_ground"]
    assert np.all(absorbed <= fsds[:, None] * (1 + 1e-12))
    assert np.all(absorbed[fsds > 200] > 0.6 * fsds[fsds > 200, None])
    day = daylight > 0
    assert np.all(leaves["sun_par"][day] >= 0.99 * leaves["shade_par"][day])
    umol = leaves["sun_par"] * leaves["sun_lai"] + leaves["shade_par"] * (leaves["lai"] - leaves["sun_lai"])
    assert np.all(umol * daylight[:, None] <= 4.6 * 0.5 * fsds[:, None] * (1 + 1e-9))


def test_sun_shines_on_average_as_it_must():
    sun = solar_geometry(365, 8, 61.85, 24.3)
    assert sun["daylight"].mean() == pytest.approx(0.5, abs=0.005)
    day = sun["toa"].reshape(365, 8)
    centre = (day * (np.arange(8) * 3 + 1.5)).sum() / day.sum()
    assert centre == pytest.approx(12 - 24.3 / 15, abs=0.1)  # local solar noon in UTC


def test_synthetic_weather_is_boreal_and_repeats_itself():
    site = Stand.load()
    long = synthetic(7, date(2004, 1, 1), date(2013, 12, 31), site)
    short = synthetic(7, date(2006, 3, 1), date(2006, 5, 31), site)
    again = long.period(date(2006, 3, 1), date(2006, 5, 31))
    for name in weather.VARIABLES:
        assert np.array_equal(short.values[name], again.values[name])
    weather.mend(long.first_day, dict(long.values), {})  # within the range of real weather
    daily = long.values["TBOT"].reshape(-1, 365, 8).mean(axis=2) - 273.15
    assert 2 < daily.mean() < 6
    assert -11 < daily[:, :31].mean() < -4
    assert 14 < daily[:, 181:212].mean() < 19
    assert 500 < long.values["PRECTmms"].mean() * PER_YEAR < 900
    assert 85 < long.values["FSDS"].mean() < 125
    other = synthetic(8, date(2006, 3, 1), date(2006, 5, 31), site)
    assert not np.array_equal(other.values["TBOT"], short.values["TBOT"])


def test_run_writes_what_read_gives_back(model, tmp_path):
    theta = {f"fates_leaf_vcmax25top_{NEEDLE}": 50.0}
    model.run(theta, tmp_path)
    first = (tmp_path / "output.nc").read_bytes()
    model.run(theta, tmp_path)
    assert (tmp_path / "output.nc").read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["output.nc"]
    data = model.read(tmp_path)
    assert data.FATES_GPP.units == data.QFLX_EVAP_TOT.units == "kg m-2 s-1"
    assert data.FATES_GPP.long_name
    days = cftime.num2date(data.time.values, data.time.units, data.time.calendar)
    assert (days[0].year, days[0].month, days[0].day) == (2004, 1, 1)
    assert (days[-1].year, days[-1].month, days[-1].day) == (2005, 12, 31)
    assert not any((day.month, day.day) == (2, 29) for day in days)
    assert data.time_bounds.shape == (730, 2)
    row = defaults(model, **{f"fates_leaf_vcmax25top_{NEEDLE}": 50 / 62})
    np.testing.assert_allclose(data.FATES_GPP.values, model.simulate(row)["gpp"][0], rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_impossible_parameters_fail_the_member_only(model, value, tmp_path):
    with pytest.raises(ModelFailed, match="vcmax25top") as failure:
        model.run({f"fates_leaf_vcmax25top_{NEEDLE}": value}, tmp_path)
    assert failure.value.kind == Status.MODEL_ERROR
    assert not list(tmp_path.iterdir())


def test_closure_potential_must_lie_below_opening(model, tmp_path):
    with pytest.raises(ModelFailed, match="smpsc"):
        model.run({f"fates_nonhydro_smpsc_{NEEDLE}": -1000.0}, tmp_path)


def test_unknown_parameter_is_bad_input(model):
    with pytest.raises(BadInput, match=f"fates_leaf_vcmax25top_{NEEDLE}"):
        model.check_names([f"fates_leaf_vcmax25_{NEEDLE}"])
    model.check_names(model.names)


def test_spinup_repeats_the_first_years():
    model = Canopy("synthetic", date(2004, 1, 1), date(2005, 12, 31), spinup_years=3)
    steps = model._order.reshape(-1, 365 * 8)
    assert [row[0] // (365 * 8) for row in steps] == [0, 1, 0, 0, 1]
    assert len(model.simulate(defaults(model))["gpp"][0]) == 730


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"end": date(2003, 1, 1)}, "before"),
        ({"start": date(2004, 2, 29)}, "noleap"),
        ({"spinup_years": -1}, "negative"),
        ({"end": date(2004, 3, 1)}, "shorter"),
        ({"forcing": "/nowhere/forcing.nc"}, "no forcing"),
    ],
)
def test_bad_input_says_what_is_wrong(changes, word):
    arguments = {"forcing": "synthetic", "start": date(2004, 1, 1), "end": date(2005, 12, 31)} | changes
    with pytest.raises(BadInput, match=word):
        Canopy(**arguments).check()


def test_description_tells_runs_apart(model):
    same = Canopy("synthetic", model.start, model.end, spinup_years=1, seed=3)
    assert same.identity == model.identity
    for other in (
        Canopy("synthetic", model.start, model.end, spinup_years=1, seed=4),
        Canopy("synthetic", model.start, model.end, spinup_years=2, seed=3),
        Canopy("synthetic", model.start, date(2006, 12, 31), spinup_years=1, seed=3),
    ):
        assert other.identity != model.identity


def write_forcing(path, calendar="noleap", units="K", days=2, drop=None, tbot=280.0):
    """Write a minimal forcing file."""
    import netCDF4

    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("time", days * 8)
        time = data.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 2004-01-01 00:00:00", calendar
        time[:] = (np.arange(days * 8) + 0.5) / 8
        for name, (unit, low, high) in weather.VARIABLES.items():
            if name == drop:
                continue
            variable = data.createVariable(name, "f4", ("time",))
            variable.units = units if name == "TBOT" else unit[0]
            variable[:] = tbot if name == "TBOT" else 0.5 * (low + high) if name != "PRECTmms" else 0.0


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"calendar": "standard"}, "noleap"),
        ({"units": "degC"}, "unit of TBOT"),
        ({"drop": "WIND"}, "no WIND"),
        ({"tbot": 7.0}, "out of range"),
        ({"days": 1}, "covers 2004-01-01 .. 2004-01-01"),
    ],
)
def test_faulty_forcing_is_bad_input(tmp_path, fault, word):
    write_forcing(tmp_path / "forcing.nc", **fault)
    with pytest.raises(BadInput, match=word):
        Canopy(str(tmp_path / "forcing.nc"), date(2004, 1, 1), date(2004, 1, 2), spinup_years=0).check()
    write_forcing(tmp_path / "forcing.nc")
    Canopy(str(tmp_path / "forcing.nc"), date(2004, 1, 1), date(2004, 1, 2), spinup_years=0).check()


def test_missing_humidity_is_interpolated_and_said():
    real = synthetic(1, date(2004, 1, 1), date(2004, 1, 10), Stand.load())
    values = dict(real.values)
    values["QBOT"] = values["QBOT"].copy()
    values["QBOT"][20] = 0.0
    mended = weather.mend(real.first_day, values, {})
    assert mended.values["QBOT"][20] == pytest.approx(
        0.5 * (real.values["QBOT"][19] + real.values["QBOT"][21])
    )
    assert "QBOT" in mended.notes[0]
    values["QBOT"][:50] = 0.0
    with pytest.raises(BadInput, match="QBOT"):
        weather.mend(real.first_day, values, {})


@needs_data
def test_datm_folder_equals_the_compact_file():
    compact = weather.read(DATA / "gswp3_2004_2013.nc").period(date(2004, 1, 1), date(2010, 12, 31))
    monthly = weather.read(DATA / "datm")
    assert monthly.first_day == compact.first_day
    for name in weather.VARIABLES:
        assert np.array_equal(monthly.values[name].astype("f4"), compact.values[name].astype("f4")), name


@needs_data
def test_real_weather_gives_the_measured_year():
    model = Canopy(str(DATA / "gswp3_2004_2013.nc"), date(2004, 1, 1), date(2010, 12, 31), spinup_years=1)
    daily = model.simulate(defaults(model))
    gpp = daily["gpp"][0].reshape(-1, 365).sum(axis=1) * 86400e3
    evaporation = daily["evaporation"][0].reshape(-1, 365).sum(axis=1) * 86400
    assert np.all((gpp > 900) & (gpp < 1400))  # measured 1003 .. 1131 gC m-2 a-1
    assert np.all((evaporation > 230) & (evaporation < 400))  # measured 294 .. 387 mm a-1
    assert np.all(daily["imbalance"] < 1e-6)
    assert any("QBOT is 0 at 1 step" in note for note in model.weather.notes)


def test_disaggregated_days_keep_their_means():
    rng = np.random.default_rng(5)
    n = 365
    daily = {
        "PAR": rng.uniform(1, 500, n),
        "Tair": rng.uniform(-25, 22, n),
        "VPD": rng.uniform(0, 0.05, n),
        "Precip_FMI": rng.gamma(1, 3, n),
        "U": rng.uniform(0.5, 5, n),
        "P": rng.uniform(960, 1030, n),
        "Rnet": rng.uniform(-60, 150, n),
    }
    steps = disaggregate(daily, 0, Stand.load())
    mean = {name: values.reshape(n, 8).mean(axis=1) for name, values in steps.items()}
    np.testing.assert_allclose(mean["TBOT"] - 273.15, daily["Tair"], atol=1e-9)
    np.testing.assert_allclose(mean["FSDS"] * 2.06, daily["PAR"], rtol=1e-9)
    np.testing.assert_allclose(mean["PRECTmms"] * 86400, daily["Precip_FMI"], rtol=1e-9)
    np.testing.assert_allclose(mean["PSRF"], 100 * daily["P"], rtol=1e-9)
    np.testing.assert_allclose(mean["WIND"], daily["U"], rtol=1e-9)
    assert np.all(steps["TBOT"].reshape(n, 8).argmax(axis=1) == 4)  # 12-15 h UTC


@needs_data
def test_tower_weather_drives_the_same_model():
    model = Canopy(str(DATA / "smear_daily_2000_2010.csv"), date(2004, 1, 1), date(2010, 12, 31))
    daily = model.simulate(defaults(model))
    gpp = daily["gpp"][0].reshape(-1, 365).sum(axis=1) * 86400e3
    evaporation = daily["evaporation"][0].reshape(-1, 365).sum(axis=1) * 86400
    assert np.all((gpp > 900) & (gpp < 1400))
    assert np.all((evaporation > 230) & (evaporation < 400))
    assert np.all(daily["imbalance"] < 1e-6)
    with pytest.raises(BadInput, match=r"covers 2000-01-01 \.\. 2010-12-31"):
        Canopy(str(DATA / "smear_daily_2000_2010.csv"), date(2004, 1, 1), date(2011, 12, 31)).check()


def test_tower_file_without_a_column_is_bad_input(tmp_path):
    (tmp_path / "tower.csv").write_text("# a header\ndate,PAR,Tair\n2004-01-01,1,2\n")
    with pytest.raises(BadInput, match="no column 'VPD'"):
        Canopy(str(tmp_path / "tower.csv"), date(2004, 1, 1), date(2004, 1, 1), spinup_years=0).check()


def write_half_hourly(path, values, start, hours_ahead=2, spoil=None):
    """Write weather of real, noleap-free days as a FLUXNET file of a clock ahead of UTC."""
    import pandas as pd

    rows = {name: np.repeat(series, 6) for name, series in values.items()}
    celsius = rows["TBOT"] - 273.15
    vapour = rows["QBOT"] * rows["PSRF"] / (0.622 + 0.378 * rows["QBOT"])
    times = pd.date_range(start, periods=len(celsius), freq="30min") + pd.Timedelta(hours=hours_ahead)
    table = pd.DataFrame(
        {
            "TIMESTAMP_START": times.strftime("%Y%m%d%H%M"),
            "TIMESTAMP_END": (times + pd.Timedelta(minutes=30)).strftime("%Y%m%d%H%M"),
            "TA_F": celsius,
            "SW_IN_F": rows["FSDS"],
            "LW_IN_F": rows["FLDS"],
            "VPD_F": (611.0 * np.exp(17.625 * celsius / (243.04 + celsius)) - vapour) / 100,
            "PA_F": rows["PSRF"] / 1e3,
            "P_F": rows["PRECTmms"] * 1800,
            "WS_F": rows["WIND"],
        }
    )
    for column, row in spoil or ():
        table.loc[row, column] = -9999
    table.to_csv(path, index=False)


def test_half_hourly_tower_weather_becomes_the_steps_it_was_made_of(tmp_path):
    site = Stand.load()
    known = synthetic(4, date(2005, 12, 31), date(2006, 1, 13), site)
    write_half_hourly(tmp_path / "tower.csv", known.values, "2005-12-31")
    found = read_forcing(tmp_path / "tower.csv", site)
    assert weather.noleap_date(found.first_day) == date(2006, 1, 1)  # 2005-12-31 begins at two o'clock
    inner = slice(8, 8 + 12 * 8)  # the last day ends with two hours of the day before
    for name in weather.VARIABLES:
        np.testing.assert_allclose(
            found.values[name][: 12 * 8], known.values[name][inner], rtol=1e-9, err_msg=name
        )
    assert found.n_days == 13
    model = Canopy(str(tmp_path / "tower.csv"), date(2006, 1, 1), date(2006, 1, 13), spinup_years=0)
    assert np.all(model.simulate(defaults(model))["imbalance"] < 1e-6)


def test_missing_half_hours_are_named_and_refused(tmp_path):
    known = synthetic(4, date(2006, 1, 1), date(2006, 1, 3), Stand.load())
    spoil = [("TA_F", 60), ("P_F", 60), ("TA_F", 61)]
    write_half_hourly(tmp_path / "tower.csv", known.values, "2006-01-01", 0, spoil)
    with pytest.raises(
        BadInput, match=r"2 of TA_F, 1 of P_F of 144 values, from 2006-01-02T06:00 to 2006-01-02T06:30"
    ):
        read_forcing(tmp_path / "tower.csv", Stand.load())
