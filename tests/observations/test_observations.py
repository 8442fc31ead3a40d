"""Tables, windows and calendars: each measurement in its window, once; a gap costs only itself."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import cftime
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fatescal.base.errors import BadInput
from fatescal.observations import calendars, readers
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.windows import build, climatology, describe, grid_of, synthesise, with_errors

GPP = ObservedVariable("GPP", "g C m-2 d-1", ErrorModel(sd=1.2), "GPP")
ET = ObservedVariable("ET", "mm d-1", ErrorModel(sd=0.5), "ET")
ERRORS = {"GPP": GPP.error, "ET": ET.error}


def read_table(path, time, columns):
    return readers.read(path, columns, time)[0]


YEARS = (date(2003, 1, 1), date(2006, 12, 31))
DAYS = st.dates(*YEARS)
CALENDARS = st.sampled_from(["noleap", "standard"])


def table(first="2004-01-01", last="2004-12-31", step="1D", **columns):
    index = pd.date_range(first, pd.Timestamp(last) + pd.Timedelta("1D"), freq=step, inclusive="left")
    columns = columns or {"GPP": np.arange(len(index)), "ET": np.arange(len(index)) / 10}
    return pd.DataFrame(
        {k: np.broadcast_to(v, len(index)).astype(float) for k, v in columns.items()}, index=index
    )


def write(folder: Path, text: str) -> Path:
    path = folder / "fluxes.csv"
    path.write_text(text)
    return path


# calendars and windows


@given(st.lists(st.datetimes(pd.Timestamp(1950, 1, 1), pd.Timestamp(2100, 12, 31)), min_size=1), CALENDARS)
def test_clock_and_date_are_inverse_and_agree_with_cftime(times, calendar):
    moments = np.array(times, dtype="datetime64[s]")
    moments = moments[calendars.exists(moments, calendar)]
    clock = calendars.clock(moments, calendar)
    assert (calendars.date(clock, calendar) == moments).all()
    decoded = cftime.num2date(clock, "seconds since 1970-01-01", calendar)
    assert (calendars.components(np.array(decoded)) == moments).all()


@given(
    DAYS,
    st.integers(750, 1500),
    st.sampled_from(["1D", "3D", "7D", "8D", "15D", "36h", "3h", "1M", "2MS", "QS-DEC", "YS"]),
    CALENDARS,
)
def test_windows_follow_each_other_within_the_period(first, n_days, frequency, calendar):
    assume(calendars.exists(first, calendar))
    last = first + timedelta(n_days)
    start, end = calendars.windows(first, last, frequency, calendar)
    begin, stop = calendars.period(first, last, calendar)
    assert (start[1:] == end[:-1]).all()
    length = calendars.clock(end, calendar) - calendars.clock(start, calendar)
    assert (length > 0).all()
    assert begin <= start[0]
    assert end[-1] <= stop
    if frequency[-1] in "Dh":
        assert start[0] == begin
        assert len(set(length)) == 1
        assert calendars.clock(stop, calendar) - calendars.clock(end[-1], calendar) < length[0]


@pytest.mark.parametrize("frequency", ["MS", "2MS", "QS", "QS-DEC", "YS", "8D", "30min"])
def test_windows_are_those_of_pandas_in_the_real_calendar(frequency):
    start, _ = calendars.windows("2004-01-01", "2006-12-31", frequency, "standard")
    edges = pd.date_range("2004-01-01", "2007-01-01", freq=frequency)
    np.testing.assert_array_equal(start, edges[:-1].to_numpy().astype("datetime64[s]"))


def test_a_noleap_year_has_no_29_february():
    start, end = calendars.windows("2004-01-01", "2004-12-31", "1D", "noleap")
    assert len(start) == 365
    assert np.datetime64("2004-02-29") not in start
    assert end[start == np.datetime64("2004-02-28")] == np.datetime64("2004-03-01")
    assert len(calendars.windows("2004-01-01", "2004-12-31", "1D", "standard")[0]) == 366


@pytest.mark.parametrize("frequency", ["", "W", "B", "0D", "-1D", "1.5D", "fortnight", "QE-DEC", "D-JAN"])
def test_unusable_windows_are_refused(frequency):
    with pytest.raises(BadInput, match="can't be used"):
        calendars.windows("2004-01-01", "2004-12-31", frequency, "noleap")


def test_calendars_with_days_nobody_measured_are_refused():
    with pytest.raises(BadInput, match="360_day"):
        calendars.windows("2004-01-01", "2004-12-31", "1D", "360_day")


# aggregation


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["3h", "1D", "3D", "7D", "8D", "15D", "MS"]),
    st.sampled_from(["30min", "3h", "1D"]),
    CALENDARS,
    st.floats(0.05, 1.0),
)
def test_window_means_are_those_of_a_plain_loop(seed, window, step, calendar, min_valid):
    assume(pd.Timedelta(step) <= pd.Timedelta("3h") or window != "3h")
    rng = np.random.default_rng(seed)
    data = table("2004-02-10", "2004-04-20", step)
    for name in data:
        data[name] = np.where(rng.random(len(data)) < rng.random(), np.nan, rng.normal(size=len(data)))
    data = data[rng.random(len(data)) < 0.95]  # rows that were never written
    periods = (date(2004, 2, 12), date(2004, 3, 31)), (date(2004, 4, 1), date(2004, 4, 30))
    if window == "3h":  # around the leap day: a loop over months of them takes too long
        periods = (date(2004, 2, 28), date(2004, 3, 1)), (date(2004, 3, 2), date(2004, 3, 2))
    grid = grid_of([GPP, ET], window, *periods, calendar)
    length = pd.Timedelta(step)
    expected = []
    for k in range(len(grid)):
        inside = (data.index >= grid.start[k]) & (data.index < grid.end[k])
        if calendar == "noleap":
            inside &= ~((data.index.month == 2) & (data.index.day == 29))
        values = data.loc[inside, str(grid.variable[k])].dropna()
        days = (grid.end[k] - grid.start[k]) / np.timedelta64(1, "D")
        days -= calendar == "noleap" and grid.start[k] < np.datetime64("2004-02-29") < grid.end[k]
        if len(values) and len(values) >= min_valid * days * (pd.Timedelta("1D") / length) - 1e-6:
            expected.append((k, values.mean()))
    try:
        observed, summaries = build(data, [GPP, ET], window, *periods, calendar, min_valid)
    except BadInput:
        used = {(str(grid.variable[k]), str(grid.period[k])) for k, _ in expected}
        assert not {("GPP", "calibration"), ("ET", "calibration")} <= used or len({p for _, p in used}) < 2
        return
    rows = [k for k, _ in expected]
    np.testing.assert_array_equal(observed.start, grid.start[rows])
    np.testing.assert_array_equal(observed.variable, grid.variable[rows])
    np.testing.assert_allclose(observed.y, [mean for _, mean in expected], rtol=1e-12, atol=1e-12)
    assert sum(s.used for s in summaries) == len(rows)


def resampled(values: pd.Series, window: str, calendar: str) -> np.ndarray:
    """Sums over whole windows by pandas alone: on a noleap calendar, days are renamed to those of years
    without 29 February.
    """
    if calendar == "noleap":
        values = values[pd.DatetimeIndex(values.index).strftime("%m-%d") != "02-29"]
        if window != "MS":  # pandas counts days: 2005 and 2006 are a stretch without a leap day
            values = values.set_axis(
                pd.date_range("2005-01-01", periods=len(values), freq=values.index[1] - values.index[0])
            )
    sums = values.resample(window, origin="start" if window != "MS" else "start_day").sum(min_count=1)
    return sums.to_numpy()


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["3h", "1D", "3D", "7D", "15D", "MS"]),
    st.sampled_from([("30min", "mm"), ("3h", "mm"), ("30min", "kg H2O m-2"), ("30min", "g C m-2")]),
    CALENDARS,
)
def test_amounts_per_record_are_summed_over_windows_as_pandas_sums_them(seed, window, record, calendar):
    """Rain in mm a half hour: a window's rate is its sum over its length, whatever the window and the
    calendar.
    """
    step, unit = record
    target = "g C m-2 d-1" if "C" in unit else "mm d-1"
    data = table("2004-02-01", "2004-04-30", step, x=0.0)
    data["x"] = np.random.default_rng(seed).gamma(0.3, size=len(data))
    x = ObservedVariable("x", target, ErrorModel(sd=1.0), "x", measured_in=unit)
    observed, _ = build(data, [x], window, ("2004-02-01", "2004-04-30"), None, calendar)
    length = calendars.clock(observed.end, calendar) - calendars.clock(observed.start, calendar)
    sums = resampled(data["x"], window, calendar)[: len(observed)]  # the last one may be no whole window
    np.testing.assert_allclose(observed.y * length / 86400.0, sums, rtol=1e-9, atol=1e-12)


def test_a_sum_over_a_gap_is_that_of_the_time_measured():
    data = table("2004-01-01", "2004-01-01", "30min", x=0.25)  # 12 mm a day
    data.iloc[:20] = np.nan
    x = ObservedVariable("x", "mm d-1", ErrorModel(sd=1.0), "x", measured_in="mm")
    observed, _ = build(data, [x], "1D", ("2004-01-01", "2004-01-01"), None, "noleap")
    np.testing.assert_allclose(observed.y, [12.0], rtol=1e-12)


def test_a_stock_stays_a_mean():
    data = table("2004-01-01", "2004-01-01", "30min", x=200.0)
    observed, _ = build(
        data,
        [ObservedVariable("x", "mm", ErrorModel(sd=1.0), "x")],
        "1D",
        ("2004-01-01", "2004-01-01"),
        None,
        "noleap",
    )
    assert observed.y.tolist() == [200.0]


def test_a_gap_in_one_variable_costs_the_other_nothing():
    data = table()
    data.loc["2004-03-10":"2004-03-19", "ET"] = np.nan
    observed, summaries = build(
        data, [GPP, ET], "1D", ("2004-01-01", "2004-06-30"), ("2004-07-01", "2004-12-31"), "noleap"
    )
    used = {(s.variable, s.period): s.used for s in summaries}
    assert used == {
        ("GPP", "calibration"): 181,
        ("ET", "calibration"): 171,
        ("GPP", "validation"): 184,
        ("ET", "validation"): 184,
    }
    assert "10 dropped: no valid measurement" in describe(summaries)
    assert "1 dropped: 29 February" in describe(summaries)
    assert len(observed) == 720


def test_rows_go_by_variable_then_time_even_if_validation_comes_first():
    grid = grid_of([ET, GPP], "1D", ("2005-01-01", "2005-01-03"), ("2004-01-01", "2004-01-02"), "noleap")
    assert grid.variable.tolist() == ["ET"] * 5 + ["GPP"] * 5
    assert grid.period.tolist() == (["validation"] * 2 + ["calibration"] * 3) * 2
    assert (np.diff(grid.start[:5]) > np.timedelta64(0)).all()
    assert with_errors(grid, np.zeros(10), ERRORS).noise.tolist() == [0.5] * 5 + [1.2] * 5


def test_a_day_measured_from_22_utc_is_the_local_day():
    data = table(GPP=np.arange(366))
    data.index -= pd.Timedelta("2h")
    observed, _ = build(data, [GPP], "1D", ("2004-01-01", "2004-01-10"), None, "noleap")
    assert observed.y.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"calibration": ("2004-03-01", "2004-02-01")}, "reversed"),
        ({"validation": ("2004-06-30", "2004-12-31")}, "overlap"),
        ({"validation": ("2011-01-01", "2011-12-31")}, "no variable has measurements in the validation"),
        ({"calibration": ("2001-01-01", "2001-12-31")}, "no variable has measurements in the calibration"),
        (
            {"variables": [GPP, ObservedVariable("ET", "mm d-1", ErrorModel(relative=0.1), "ET")]},
            "error sd of ET",
        ),
        ({"variables": [ObservedVariable("GPP", "gramms", ErrorModel(sd=1.0), "GPP")]}, "not known"),
        ({"window": "30min"}, "shorter than the step"),
        ({"calibration": ("2004-01-01", "soon")}, "can't be read"),
    ],
)
def test_bad_input_is_refused(change, word):
    given_ = {
        "variables": [GPP, ET],
        "window": "1D",
        "calibration": ("2004-01-01", "2004-06-30"),
        "validation": ("2004-07-01", "2004-12-31"),
        "calendar": "noleap",
    }
    with pytest.raises(BadInput, match=word):
        build(table(), **{**given_, **change})


def test_a_variable_without_calibration_values_is_refused():
    data = table()
    data.loc[:"2004-06-30", "ET"] = np.nan
    with pytest.raises(BadInput, match="ET: no window of the calibration period"):
        build(data, [GPP, ET], "1D", ("2004-01-01", "2004-06-30"), ("2004-07-01", "2004-12-31"), "noleap")


# tables


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "  ", ", "])
def test_any_separator_with_header_lines_and_missing_values(tmp_path, separator):
    rows = [
        ["day", "GPP", "ET"],
        ["2004-01-02", "2.5", "-9999"],
        ["2004-01-01", "NaN", "0.5"],
        ["2004-01-03", "1e0", "1"],
    ]
    path = write(
        tmp_path,
        "# FI-Hyy, a; b | c\n#units: ,,,\n\n" + "\n".join(separator.join(row) for row in rows) + "\n",
    )
    data = read_table(path, "day", ["ET", "GPP"])
    assert [str(day.date()) for day in data.index] == ["2004-01-01", "2004-01-02", "2004-01-03"]
    np.testing.assert_array_equal(data["GPP"], [np.nan, 2.5, 1.0])
    np.testing.assert_array_equal(data["ET"], [0.5, np.nan, 1.0])


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["20040101", "20040102"], "2004-01-02"),
        (["200401010030", "200401010100"], "2004-01-01 01:00"),
        (["2004-01-01", "2004-01-01 00:30"], "2004-01-01 00:30"),
        (["2004-01-01T00:00+02:00", "2004-01-01T00:30+02:00"], "2003-12-31 22:30"),
    ],
)
def test_times_as_people_write_them(tmp_path, times, expected):
    path = write(tmp_path, "t,GPP\n" + "".join(f"{time},1\n" for time in times))
    assert read_table(path, "t", ["GPP"]).index[-1] == pd.Timestamp(expected)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("date,GPP,NEE\n2004-01-01,1,2\n", r"no column 'ET'.*one of date, GPP, NEE"),
        ("date,GPP,ETT\n2004-01-01,1,2\n", "did you mean 'ETT'"),
        ("date,GPP,ET\n2004-01-01,1,2\nyesterday,1,2\n", "'yesterday' in data row 2"),
        ("date,GPP,ET\n31/12/2004,1,2\n01/01/2005,1,2\n,1,2\n", "data row 3"),
        ("date,GPP,ET\n2004-01-01,1,2\n2004-01-01,1,3\n", "given more than once, the first is 2004-01-01"),
        ("date,GPP,ET\n2004-01-01,1,x\n", "ET is 'x' in data row 1"),
        ("date;GPP;ET\n2004-01-01;1;0,5\n2004-01-02;1;0.5\n", "numbers with a decimal point"),
        ("date,GPP,ET\n2004-01-01,1,inf\n", "ET is 'inf'"),
        ("date,GPP,ET\n2004-01-01,1,-9999\n2004-01-02,1,\n", "column ET has no valid value"),
        ("date,GPP,ET\n2004-01-01,1,2,3\n", "can't be read as a table"),
        ("date,GPP,ET\n", "no rows"),
        ("# nothing\n", "no row with the names"),
        ("", "no row with the names"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, word):
    with pytest.raises(BadInput, match=word):
        read_table(write(tmp_path, text), "date", ["GPP", "ET"])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_table(tmp_path / "none.csv", "date", ["GPP"])


# synthetic truth and climatology


def test_synthetic_observations_have_the_error_that_is_claimed():
    grid = grid_of([GPP, ET], "1D", ("2000-01-01", "2019-12-31"), None, "noleap")
    truth = np.sin(np.arange(len(grid)))
    observed = synthesise(np.random.default_rng(1), grid, truth, ERRORS)
    z = observed.whiten(observed.y - truth)
    for variable in ("GPP", "ET"):
        mine = z[observed.variable == variable]
        assert abs(mine.mean()) < 3.3 / np.sqrt(len(mine))
        assert abs(mine.std() - 1) < 3.3 / np.sqrt(2 * len(mine))
    again = synthesise(np.random.default_rng(1), grid, truth, ERRORS)
    np.testing.assert_array_equal(observed.y, again.y)


def test_climatology_is_the_mean_of_near_calibration_days_at_the_same_time_of_day():
    rng = np.random.default_rng(3)
    data = table("2003-01-01", "2006-12-31", "12h")
    data["GPP"] = rng.normal(size=len(data))
    observed, _ = build(
        data, [GPP], "12h", ("2003-01-01", "2004-12-31"), ("2005-01-01", "2006-12-31"), "standard"
    )
    predictions = climatology(observed)
    day = np.minimum(calendars.day_of_year(observed.start), 364)
    for k in rng.integers(len(observed), size=50):
        distance = np.abs(day - day[k])
        near = np.minimum(distance, 365 - distance) <= 7
        same_time = (observed.start - observed.start[k]).astype(int) % 86400 == 0
        known = observed.start < np.datetime64("2005-01-01")
        assert predictions[k] == pytest.approx(observed.y[near & same_time & known].mean(), rel=1e-9)


def test_climatology_is_nan_where_nothing_near_was_measured():
    observed, _ = build(
        table(), [GPP], "1D", ("2004-01-01", "2004-01-31"), ("2004-05-01", "2004-05-31"), "noleap"
    )
    assert np.isnan(climatology(observed)[observed.period == "validation"]).all()


@pytest.mark.parametrize("window", ["1D", "MS"])
def test_a_window_that_a_leap_day_lengthens_has_a_climatology(window):
    """The only leap year validates: its 28 February, which holds the 29th that noleap lacks, is the same
    day as in any other.
    """
    periods = (("2003-01-01", "2003-12-31"), ("2004-01-01", "2004-12-31"))
    observed, _ = build(table("2003-01-01"), [GPP], window, *periods, "noleap")
    assert np.isfinite(climatology(observed)).all()


DATA = os.environ.get("FATESCAL_DATA", "")


@pytest.mark.skipif(not DATA, reason="FATESCAL_DATA is not set")
def test_the_baseline_of_hyytiala():
    path = Path(DATA) / "hyytiala" / "smear_daily_2000_2010.csv"
    data = read_table(path, "date", ["GPP", "ET"])
    observed, summaries = build(
        data, [GPP, ET], "1D", ("2004-01-01", "2008-12-31"), ("2009-01-01", "2010-12-31"), "noleap"
    )
    assert [s.used for s in summaries] == [1825, 1823, 730, 730]
    square = (observed.y - climatology(observed)) ** 2
    validation = observed.period == "validation"
    assert np.sqrt(square[validation & (observed.variable == "GPP")].mean()) == pytest.approx(1.045, abs=5e-4)
    assert np.sqrt(square[validation & (observed.variable == "ET")].mean()) == pytest.approx(0.492, abs=5e-4)


def test_every_day_of_a_year_is_in_one_window_of_eight_days():
    start, end = calendars.windows("2004-01-01", "2004-12-30", "8D", "noleap")
    days = np.array([date(2004, 1, 1) + timedelta(k) for k in range(366)], dtype="datetime64[s]")
    days = calendars.clock(days[calendars.exists(days, "noleap")], "noleap")
    lo, hi = calendars.spans(days, calendars.clock(start, "noleap"), calendars.clock(end, "noleap"))
    assert (hi - lo == 8).all()
