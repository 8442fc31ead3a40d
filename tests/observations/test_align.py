"""Alignment: every record in the right window, in the right unit, or a refusal in words."""

from __future__ import annotations

import cProfile
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from fatescal.base.errors import ModelFailed, Status
from fatescal.observations import calendars, units
from fatescal.observations.align import align
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.windows import grid_of

GPP = ObservedVariable("GPP", "g C m-2 d-1", ErrorModel(sd=1.2))
ET = ObservedVariable("ET", "mm d-1", ErrorModel(sd=0.5))
NAMES = {"GPP": "FATES_GPP", "ET": "QFLX_EVAP_TOT"}
YEARS = ("2004-01-01", "2005-12-31"), ("2006-01-01", "2006-12-31")


def output(n_days=3 * 365, per_day=1, calendar="noleap", stamp="middle", first="2004-01-01", seed=0):
    """A history as CLM writes it: undecoded, one point, with bounds unless `stamp` is 'start'."""
    rng = np.random.default_rng(seed)
    n = n_days * per_day
    lower = np.arange(n) / per_day
    upper = (np.arange(n) + 1) / per_day
    attrs = {"units": f"days since {first} 00:00:00", "calendar": calendar}
    history = xr.Dataset(
        {
            "FATES_GPP": (("time", "lndgrid"), rng.uniform(0, 1e-7, (n, 1)), {"units": "kg m-2 s-1"}),
            "QFLX_EVAP_TOT": (("time", "lndgrid"), rng.uniform(0, 5e-5, (n, 1)), {"units": "kg m-2 s-1"}),
        },
        coords={
            "time": ("time", {"start": lower, "middle": (lower + upper) / 2, "end": upper}[stamp], attrs)
        },
    )
    if stamp != "start":
        history["time_bounds"] = (("time", "hist_interval"), np.column_stack([lower, upper]))
        history["time"].attrs["bounds"] = "time_bounds"
    return history


def daily(history, per_day=1):
    gpp, et = (history[name].values.reshape(-1, per_day).mean(axis=1) for name in NAMES.values())
    return np.concatenate([gpp * 86400e3, et * 86400])


@pytest.mark.parametrize("stamp", ["start", "middle", "end"])
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("per_day", [1, 8])
def test_each_day_gets_its_own_mean_whatever_the_stamps(stamp, decode, per_day):
    history = output(per_day=per_day, stamp=stamp)
    expected = daily(history, per_day)
    predictions = align(
        xr.decode_cf(history) if decode else history,
        grid_of([GPP, ET], "1D", *YEARS, "noleap"),
        NAMES,
        "noleap",
    )
    np.testing.assert_allclose(predictions, expected, rtol=1e-13)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["1D", "5D", "MS", "QS-DEC", "3h"]),
    st.sampled_from(["noleap", "standard"]),
    st.integers(0, 99),
)
def test_window_means_are_those_of_a_plain_loop(window, calendar, seed):
    history = output(n_days=3 * 366, per_day=8, calendar=calendar, seed=seed)
    grid = grid_of([GPP], window, *YEARS, calendar)
    grid = grid.select(np.random.default_rng(seed).permutation(len(grid))[:20])
    predictions = align(history, grid, NAMES, calendar)
    hours = calendars.clock("2004-01-01", calendar) + np.arange(history.sizes["time"]) * 10800
    for k in range(len(grid)):
        inside = (hours >= calendars.clock(grid.start[k], calendar)) & (
            hours < calendars.clock(grid.end[k], calendar)
        )
        mean = history["FATES_GPP"].values[inside, 0].mean() * 86400e3
        assert predictions[k] == pytest.approx(mean, rel=1e-12)


def test_a_zero_length_first_record_is_left_out():
    history = output(stamp="end")
    first = history.isel(time=[0]) * 0 + 1e36
    first["time"] = ("time", [0.0])
    first["time_bounds"] = (("time", "hist_interval"), [[0.0, 0.0]])
    joined = xr.concat([first, history], "time")
    joined["time"].attrs, joined["FATES_GPP"].attrs = history["time"].attrs, history["FATES_GPP"].attrs
    joined["QFLX_EVAP_TOT"].attrs = history["QFLX_EVAP_TOT"].attrs
    grid = grid_of([GPP, ET], "1D", *YEARS, "noleap")
    np.testing.assert_allclose(align(joined, grid, NAMES, "noleap"), daily(history), rtol=1e-13)


def test_windows_without_29_february_leave_out_that_of_a_real_calendar():
    history = output(n_days=366, calendar="standard")
    grid = grid_of([GPP], "1D", ("2004-01-01", "2004-12-31"), None, "noleap")
    expected = np.delete(history["FATES_GPP"].values[:, 0] * 86400e3, 59)
    for form in (history, xr.decode_cf(history)):
        np.testing.assert_allclose(align(form, grid, NAMES, "noleap"), expected, rtol=1e-13)


def test_only_the_records_of_the_windows_count():
    history = output()
    history["FATES_GPP"][:10] = np.nan
    grid = grid_of([GPP], "1D", ("2004-01-11", "2004-12-31"), None, "noleap")
    np.testing.assert_allclose(align(history, grid, NAMES, "noleap"), daily(history)[10:365], rtol=1e-13)


def spoil(history, **changes):
    for name, attrs in changes.items():
        history[name].attrs = attrs
    return history


def broken(value):
    history = output()
    history["QFLX_EVAP_TOT"][400] = value
    return history


def timed(change):
    """Return an output without bounds, its stamps changed."""
    history = output(stamp="start")
    stamps = np.asarray(change(history["time"].values))
    return history.assign_coords(time=("time", stamps, history["time"].attrs))


def edged(change):
    """Return an output whose bounds are changed."""
    history = output()
    history["time_bounds"] = (("time", "hist_interval"), change(history["time_bounds"].values))
    return history


@pytest.mark.parametrize(
    ("history", "kind", "words"),
    [
        (
            output().drop_vars("FATES_GPP"),
            Status.MISSING_VARIABLE,
            "no variable 'FATES_GPP'; it has QFLX_EVAP_TOT",
        ),
        (output().rename(FATES_GPP="FATES_GPPX"), Status.MISSING_VARIABLE, "Try: 'FATES_GPPX'"),
        (output().drop_vars("time_bounds"), Status.MISSING_VARIABLE, "has no 'time_bounds'"),
        (output(stamp="start").drop_vars("time"), Status.MISSING_VARIABLE, "no time axis 'time'"),
        (
            output().isel(lndgrid=[0, 0]),
            Status.MISSING_VARIABLE,
            "Expected dimensions time and others of size 1, got {'time': 1095, 'lndgrid': 2}",
        ),
        (output().isel(time=0), Status.MISSING_VARIABLE, "no time axis 'time'"),
        (spoil(output(), FATES_GPP={}), Status.WRONG_UNIT, "no attribute 'units'"),
        (
            spoil(output(), FATES_GPP={"units": "W m-2"}),
            Status.WRONG_UNIT,
            "can't be converted to 'g C m-2 d-1'",
        ),
        (spoil(output(), FATES_GPP={"units": "kgs"}), Status.WRONG_UNIT, "FATES_GPP: "),
        (spoil(output(stamp="start"), time={"units": "days"}), Status.WRONG_UNIT, "days since"),
        (output(calendar="360_day"), Status.WRONG_UNIT, "360_day"),
        (
            output(n_days=900),
            Status.TRUNCATED,
            "195 of 1095 windows lack records, first 2006-06-20T00:00:00 to 2006-06-21T00:00:00. Expected "
            "records from 2004-01-01T00:00:00 to 2007-01-01T00:00:00, "
            "got 900 from 2004-01-01T12:00:00 to 2006-06-19T12:00:00",
        ),
        (output().isel(time=slice(0, 0)), Status.TRUNCATED, "got none"),
        (output(stamp="start").isel(time=slice(0, 0)), Status.TRUNCATED, "got none"),
        (xr.decode_cf(output()).load().isel(time=slice(0, 0)), Status.TRUNCATED, "got none"),
        (output(first="1994-01-01"), Status.TRUNCATED, "1095 of 1095 windows lack records"),
        (xr.concat([output(), output(10)], "time", data_vars="minimal"), Status.TRUNCATED, "records twice"),
        (
            broken(np.nan),
            Status.NON_FINITE,
            "QFLX_EVAP_TOT is NaN, infinite or a fill value in 1 of 1095 windows",
        ),
        (
            output().isel(time=[0, 2, 1, *range(3, 1095)]),
            Status.TRUNCATED,
            "twice or out of order: record 3 of",
        ),
        (
            output(stamp="start").isel(time=[0, 0, *range(1, 1095)]),
            Status.TRUNCATED,
            "record 2 of 2004-01-01",
        ),
        (
            timed(lambda t: np.where(t > 900, np.nan, t)),
            Status.TRUNCATED,
            "fill value in 194 of 1095 records",
        ),
        (timed(lambda t: np.where(t > 900, 9.96921e36, t)), Status.TRUNCATED, "in 194 of 1095 records"),
        (timed(lambda t: np.full(len(t), 1e20)), Status.TRUNCATED, "in 1095 of 1095 records"),
        (timed(lambda t: t * 1e25), Status.WRONG_UNIT, "is no time"),
        (timed(lambda t: [f"day {x:g}" for x in t]), Status.WRONG_UNIT, "it holds text"),
        (
            edged(lambda e: np.where(e > 900, np.nan, e)),
            Status.TRUNCATED,
            "'time_bounds' is NaN or a fill value",
        ),
        (edged(lambda e: e[:, ::-1]), Status.TRUNCATED, "1095 of 1095 records end before they begin"),
        (edged(lambda e: e + 400), Status.TRUNCATED, "do not hold their time, first of record 1"),
        (edged(lambda e: e + [[0, 2]]), Status.TRUNCATED, "the intervals of records 1 and 2 overlap"),
        (edged(lambda e: e * 0), Status.TRUNCATED, "1095 of 1095 records do not hold their time"),
        (broken(1e36), Status.NON_FINITE, "first 2005-02-05"),
        (broken(1e20), Status.NON_FINITE, "1 of 1095 windows"),
        (broken(-9999.0), Status.NON_FINITE, "fill value (-9999, which no attribute says"),
        (
            broken(np.float32(-9999.9)),
            Status.NON_FINITE,
            "which lies far outside all other values) in 1 of 1095",
        ),
        (broken(-np.inf), Status.NON_FINITE, "QFLX_EVAP_TOT"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(history, kind, words):
    grid = grid_of([GPP, ET], "1D", *YEARS, "noleap")
    with pytest.raises(ModelFailed) as caught:
        align(history, grid, NAMES, "noleap")
    assert caught.value.kind == kind
    assert words in caught.value.reason


@pytest.mark.parametrize("window", ["1D", "MS"])
def test_a_noleap_model_cannot_fill_a_29_february(window):
    grid = grid_of([GPP], window, *YEARS, "standard")
    with pytest.raises(ModelFailed, match="Its calendar is noleap") as caught:
        align(output(), grid, NAMES, "standard")
    assert "first 2004-02" in caught.value.reason
    assert caught.value.kind == Status.TRUNCATED


@pytest.mark.parametrize("missing", [0, 40, 1094])
def test_one_record_short_of_a_month_is_truncated(missing):
    grid = grid_of([GPP], "MS", *YEARS, "noleap")
    history = output().drop_isel(time=missing)
    with pytest.raises(ModelFailed, match="1 of 36 windows"):
        align(history, grid, NAMES, "noleap")


def test_records_longer_than_the_windows_are_truncated():
    history = output(n_days=36)
    edges = np.append(calendars.clock(grid_of([GPP], "MS", *YEARS, "noleap").start, "noleap"), 0) / 86400
    edges[-1] = edges[0] + 3 * 365
    edges -= edges[0]
    history["time_bounds"] = (("time", "hist_interval"), np.column_stack([edges[:-1], edges[1:]]))
    history["time"] = ("time", edges[1:], history["time"].attrs)
    monthly = align(history, grid_of([GPP], "MS", *YEARS, "noleap"), NAMES, "noleap")
    np.testing.assert_allclose(monthly, daily(history)[:36], rtol=1e-13)
    with pytest.raises(ModelFailed, match="1059 of 1095 windows lack records"):
        align(history, grid_of([GPP], "1D", *YEARS, "noleap"), NAMES, "noleap")


def monthly(year=2004, n=24, calendar="standard", stamp="middle"):
    """Return monthly means of a seasonal flux, with bounds, or with one stamp a month ('first', 'mid')."""
    first = np.arange(n + 1).astype("datetime64[M]") + np.datetime64(f"{year}-01", "M").astype(int)
    edges = calendars.clock(first.astype("datetime64[s]"), calendar) / 86400.0
    values = 1 + np.cos(2 * np.pi * (np.arange(n) % 12 - 6.5) / 12)
    attrs = {"units": "days since 1970-01-01", "calendar": calendar}
    stamps = {"middle": (edges[1:] + edges[:-1]) / 2, "first": edges[:-1], "mid": edges[:-1] + 14}
    history = xr.Dataset(
        {"FATES_GPP": ("time", values, {"units": "g m-2 d-1"})},
        coords={"time": ("time", stamps[stamp], attrs)},
    )
    if stamp == "middle":
        history["time_bounds"] = (("time", "nv"), np.column_stack([edges[:-1], edges[1:]]))
        history["time"].attrs["bounds"] = "time_bounds"
    return history, values, np.diff(edges)


@pytest.mark.parametrize("stamp", ["middle", "first", "mid"])
@pytest.mark.parametrize("calendar", ["standard", "noleap"])
@pytest.mark.parametrize("window", ["YS", "QS-DEC"])
def test_months_weigh_by_their_days(stamp, calendar, window):
    history, values, days = monthly(calendar=calendar, stamp=stamp)
    grid = grid_of([GPP], window, ("2004-01-01", "2005-12-31"), None, calendar)
    found = align(history, grid, NAMES, calendar)
    month = grid.start.astype("datetime64[M]").astype(int) - 12 * 34
    n = 12 if window == "YS" else 3
    expected = [np.average(values[k : k + n], weights=days[k : k + n]) for k in month]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    if window == "YS":  # what the mean of twelve months misses
        assert abs(found[1] / values[12:].mean() - 1) > 0.003


def test_equal_records_keep_their_plain_mean_bit_for_bit():
    history = output(per_day=8)
    grid = grid_of([GPP], "5D", *YEARS, "noleap")
    plain = history["FATES_GPP"].values[: 40 * len(grid), 0].reshape(len(grid), 40)
    sums = calendars.sums(plain.ravel(), np.arange(0, plain.size, 40), np.arange(40, plain.size + 40, 40))
    found = align(history, grid, NAMES, "noleap")
    assert (found == units.convert(sums / 40, "kg m-2 s-1", "g C m-2 d-1")).all()


@pytest.mark.parametrize("missing", [1, 3, 11, 12])
@pytest.mark.parametrize("stamp", ["middle", "first"])
def test_a_short_month_missing_from_a_year_is_noticed(missing, stamp):
    """February is shorter than the longest record, so that the days covered do not tell."""
    history, *_ = monthly(stamp=stamp)
    grid = grid_of([GPP], "YS", ("2004-01-01", "2005-12-31"), None, "standard")
    with pytest.raises(ModelFailed, match="1 of 2 windows lack records"):
        align(history.drop_isel(time=missing), grid, NAMES, "standard")


@pytest.mark.parametrize(("n", "lacking"), [(26, "1 of 8"), (25, "1 of 8")])
def test_a_season_that_lacks_its_last_month_is_noticed(n, lacking):
    history, *_ = monthly(n=n)
    grid = grid_of([GPP], "QS-DEC", ("2004-03-01", "2006-02-28"), None, "standard")
    with pytest.raises(ModelFailed, match=f"{lacking} windows lack records") if n < 26 else nullcontext():
        align(history, grid, NAMES, "standard")


def test_stamps_of_uneven_steps_without_bounds_are_not_guessed():
    history = output(stamp="start").isel(time=[*range(400), *range(400, 1095, 2)])
    with pytest.raises(ModelFailed, match="windows lack records"):
        align(history, grid_of([GPP], "MS", *YEARS, "noleap"), NAMES, "noleap")


def test_seven_years_are_aligned_in_as_many_calls_as_one():
    """Windows are averaged by arrays: in a loop over them 2555 days would take seven times the calls of
    365.
    """

    def calls(last_year, n_days):
        history = output(n_days=n_days)
        grid = grid_of([GPP, ET], "1D", ("2004-01-01", f"{last_year}-12-31"), None, "noleap")
        align(history, grid, NAMES, "noleap")  # what is done once for a process is done
        profile = cProfile.Profile()
        profile.runcall(align, history, grid, NAMES, "noleap")
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(2010, 7 * 365) < 1.2 * calls(2004, 365)


DATA = os.environ.get("FATESCAL_DATA", "")


@pytest.mark.skipif(not DATA, reason="FATESCAL_DATA is not set")
@pytest.mark.parametrize(
    ("version", "gpp", "et"), [("ctsm5.4_run", 1216.03, 266.849), ("ctsm5.1_run", 1474.17, 280.953)]
)
def test_a_real_year_of_clm_fates(version, gpp, et):
    """Middle stamps (5.4) and end stamps behind a zero-length record (5.1): each day gets its value."""
    files = sorted((Path(DATA) / "ctsm" / version).glob("*.clm2.*.nc"))
    assert files, f"FATESCAL_DATA has no history of {version}"
    wanted = ["FATES_GPP", "QFLX_EVAP_TOT", "time_bounds"]
    history = xr.concat([xr.load_dataset(file, decode_times=False)[wanted] for file in files], "time")
    grid = grid_of([GPP, ET], "1D", ("2004-01-01", "2004-12-31"), None, "noleap")
    predictions = align(history, grid, NAMES, "noleap")
    assert predictions[:365].sum() == pytest.approx(gpp, rel=1e-5)
    assert predictions[365:].sum() == pytest.approx(et, rel=1e-5)
    in_file = history["FATES_GPP"].values[-365:, 0] * 86400e3
    np.testing.assert_allclose(predictions[:365], in_file, rtol=1e-6)
