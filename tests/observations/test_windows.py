"""From a table's rows to windows: each row's own length, units by the file's step, quality columns,
outliers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from linear import fatescal

from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.observations import calendars, measurements
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.outliers import outliers
from fatescal.observations.quality import QualityColumn, kind, verdict
from fatescal.observations.record_lengths import interval_lengths
from fatescal.observations.windows import build
from fatescal.storage.records import Observations

DAY = calendars.DAY


def rows(*parts: pd.DatetimeIndex) -> np.ndarray:
    return np.concatenate([part.to_numpy().astype("datetime64[s]") for part in parts])


def runs(lengths: np.ndarray) -> list[tuple[float, int]]:
    """Lengths in hours with how many follow each other."""
    edges = np.flatnonzero(np.diff(lengths)) + 1
    parts = np.split(lengths, edges)
    return [(float(part[0]) / 3600, len(part)) for part in parts]


def observe(folder: Path, table: pd.DataFrame | str, variable: dict, **options):
    """Observations, summary and words of a table, as a config of one variable x reads them."""
    text = table if isinstance(table, str) else table.to_csv(index=False)
    (folder / "t.csv").write_text(text)
    config = {
        "run": {"name": "t", "directory": "run", "seed": 1},
        "model": {"kind": "command", "command": ["/bin/true"]},
        "parameters": {"a": {"prior": {"kind": "normal", "mean": 0, "sd": 1}}},
        "observations": {
            "file": "t.csv", "variables": {"x": {"model": "x", "error": {"sd": 1}, **variable}}, **options
        },
        "calibrate": {"members": 8, "iterations": 1},
        "posterior": {"members": 8},
    }  # fmt: skip
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump(config))
    _, observed, summary, words = measurements.observe(settings.load(path).by_site[""], "standard")
    return observed, summary, words


# lengths of rows


@hypothesis_settings(deadline=None, max_examples=30)
@given(
    st.integers(200, 600),
    st.integers(200, 600),
    st.sampled_from([("1h", "30min"), ("30min", "1h"), ("3h", "1h"), ("1D", "7D"), ("7D", "1D")]),
)
def test_a_step_that_changes_within_a_table_is_each_rows_own(first, second, steps):
    a = pd.date_range("2004-01-01", periods=first, freq=steps[0])
    b = pd.date_range(a[-1] + pd.Timedelta(steps[0]), periods=second, freq=steps[1])
    hours = [pd.Timedelta(step) / pd.Timedelta("1h") for step in steps]
    assert runs(interval_lengths(rows(a, b))) == [(hours[0], first), (hours[1], second)]


@hypothesis_settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.2), st.sampled_from(["30min", "1h", "1D"]))
def test_missing_rows_lengthen_no_other(seed, share, step):
    index = pd.date_range("2004-01-01", periods=2000, freq=step)
    index = index[np.random.default_rng(seed).random(2000) >= share]
    lengths = interval_lengths(rows(index))
    assert np.mean(lengths == pd.Timedelta(step).total_seconds()) > 0.99  # of 1500 seeds 0.9968 at worst


def test_months_and_years_have_their_own_days_and_gaps_are_no_part_of_them():
    months = [pd.Timestamp(year, month, 1) for year in (2003, 2004) for month in (1, 2, 3, 7, 12)]
    days = interval_lengths(rows(pd.DatetimeIndex(months))) // DAY
    assert days.tolist() == [31, 28, 31, 31, 31, 31, 29, 31, 31, 31]
    years = interval_lengths(rows(pd.date_range("2003-01-01", periods=3, freq="YS"))) // DAY
    assert years.tolist() == [365, 366, 365]


@pytest.mark.parametrize(
    "zone", ["Etc/GMT-2", "Etc/GMT+8", "Etc/GMT-13", "Europe/Helsinki", "America/New_York"]
)
@pytest.mark.parametrize("step", ["MS", "D"])
def test_time_zones_and_summer_time_change_no_length(zone, step):
    local = pd.date_range("2003-01-01", "2004-12-31", freq=step)
    utc = local.tz_localize(zone).tz_convert("UTC").tz_localize(None)
    expected = local.days_in_month if step == "MS" else np.ones(len(local))
    np.testing.assert_array_equal(interval_lengths(rows(utc)) / DAY, expected)


def test_composites_that_begin_anew_each_year():
    weeks = [day for year in (2010, 2011) for day in pd.date_range(f"{year}-01-01", periods=52, freq="7D")]
    assert runs(interval_lengths(rows(pd.DatetimeIndex(weeks)))) == [
        (168, 51),
        (192, 1),
        (168, 52),
    ]
    modis = [day for year in (2010, 2011) for day in pd.date_range(f"{year}-01-01", periods=46, freq="8D")]
    assert runs(interval_lengths(rows(pd.DatetimeIndex(modis)))) == [
        (192, 45),
        (120, 1),
        (192, 46),
    ]


def test_months_stamped_by_their_last_day_are_refused():
    with pytest.raises(BadInput, match=r"stamped by their last day.*time_stamp: end"):
        interval_lengths(rows(pd.date_range("2003-01-31", periods=12, freq="ME")))


# amounts and means over windows


@pytest.mark.parametrize(("step", "unit"), [("MS", "g C m-2"), ("YS", "g C m-2")])
@pytest.mark.parametrize("window", ["MS", "QS", "YS"])
@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_amounts_of_months_and_years_are_a_gram_a_day(step, unit, window, calendar):
    if (step, window) in (("YS", "MS"), ("YS", "QS")):
        pytest.skip("windows shorter than the rows")
    index = pd.date_range("2003-01-01", "2005-12-31", freq=step)
    ends = index + pd.offsets.MonthBegin(1 if step == "MS" else 12)
    table = pd.DataFrame({"x": (ends - index).days.astype(float)}, index=index)
    x = ObservedVariable("x", "g C m-2 d-1", ErrorModel(sd=1.0), "x", measured_in=unit)
    made, _ = build(table, [x], window, ("2003-01-01", "2005-12-31"), None, calendar, min_valid=1.0)
    np.testing.assert_allclose(made.y, 1.0, rtol=1e-12)
    assert len(made) == {"MS": 36, "QS": 12, "YS": 3}[window]


def test_amounts_of_hours_then_half_hours_are_one_rate():
    a = pd.date_range("2004-01-01", "2004-01-31 23:00", freq="1h")
    b = pd.date_range("2004-02-01", "2004-02-29 23:30", freq="30min")
    table = pd.DataFrame({"x": np.r_[np.full(len(a), 1.0), np.full(len(b), 0.5)]}, index=a.append(b))
    x = ObservedVariable("x", "mm d-1", ErrorModel(random=3.0), "x", measured_in="mm")
    made, _ = build(table, [x], "1D", ("2004-01-01", "2004-02-29"), None, "standard", min_valid=1.0)
    assert len(made) == 60
    np.testing.assert_allclose(made.y, 24.0, rtol=1e-12)
    n = np.repeat([24, 48], [31, 29])  # the random error is of a measurement, however long
    np.testing.assert_allclose(made.noise, 3.0 / np.sqrt(n), rtol=1e-12)


def test_a_mean_weighs_rows_by_their_length_and_min_valid_by_the_time_they_fill():
    a = pd.date_range("2004-01-01", periods=12, freq="1h")  # 12 hours of 2
    b = pd.date_range("2004-01-01 12:00", periods=24, freq="30min")  # 12 hours of 6
    c = pd.date_range("2004-01-02", periods=48, freq="30min")
    values = np.r_[np.full(12, 2.0), np.full(24, 6.0), np.full(48, 1.0)]
    table = pd.DataFrame({"x": values}, index=a.append(b).append(c))
    x = [ObservedVariable("x", "1", ErrorModel(sd=1.0), "x")]
    period = ("2004-01-01", "2004-01-02")
    assert build(table, x, "1D", period, None, "standard")[0].y.tolist() == [4.0, 1.0]
    table.iloc[12:36] = np.nan  # a third of the day's rows are left, and half of its time
    assert build(table, x, "1D", period, None, "standard", 0.5)[0].y.tolist() == [2.0, 1.0]
    assert build(table, x, "1D", period, None, "standard", 0.51)[0].y.tolist() == [1.0]


def test_windows_shorter_than_the_rows_of_their_time_are_dropped():
    a, b = (
        pd.date_range("2004-01-01", periods=24, freq="1h"),
        pd.date_range("2004-01-02", periods=48, freq="30min"),
    )
    table = pd.DataFrame({"x": 1.0}, index=a.append(b))
    x = [ObservedVariable("x", "1", ErrorModel(sd=1.0), "x")]
    made, (summary,) = build(table, x, "30min", ("2004-01-01", "2004-01-02"), None, "standard")
    assert len(made) == 48
    assert summary.dropped["shorter than its measurements"] == 24


# units by the step of the file


def fluxnet_table(index: pd.DatetimeIndex, stamps: str) -> pd.DataFrame:
    return pd.DataFrame({"TIMESTAMP": index.strftime(stamps), "GPP_NT_VUT_REF": 2.0, "NEE_VUT_REF_QC": 1})


@pytest.mark.parametrize(
    ("freq", "stamps", "unit", "window", "mean"),
    [
        ("30min", "%Y%m%d%H%M", "umol CO2 m-2 s-1", "1D", 2 * 1.03775),
        ("1h", "%Y-%m-%d %H:%M", "umol CO2 m-2 s-1", "1D", 2 * 1.03775),
        ("1D", "%Y%m%d", "g C m-2 d-1", "1D", 2.0),
        ("1D", "%Y-%m-%d", "g C m-2 d-1", "1D", 2.0),  # saved again by a spreadsheet
        ("1D", "%Y-%m-%d %H:%M:%S", "g C m-2 d-1", "1D", 2.0),
        ("7D", "%Y%m%d", "g C m-2 d-1", "7D", 2.0),
        ("MS", "%Y-%m-%d", "g C m-2 d-1", "MS", 2.0),
    ],
)
def test_the_unit_of_a_fluxnet_name_is_that_of_the_files_step(tmp_path, freq, stamps, unit, window, mean):
    index = pd.date_range("2010-01-01", "2010-12-31 23:30", freq=freq)
    variable = {"column": "GPP_NT_VUT_REF", "compare_in": "g C m-2 d-1"}
    period = ["2010-01-01", "2010-12-31"]
    made, _, words = observe(
        tmp_path, fluxnet_table(index, stamps), variable, window=window, calibration=period
    )
    np.testing.assert_allclose(made.y, mean, rtol=1e-5)
    assert f"GPP_NT_VUT_REF in {unit} by its FLUXNET name and a row each" in words


def test_sums_of_fluxnet_years_are_divided_by_their_own_days(tmp_path):
    table = fluxnet_table(pd.date_range("2003-01-01", periods=3, freq="YS"), "%Y-%m-%d")
    table["GPP_NT_VUT_REF"] = [365.0, 366.0, 365.0]
    variable, options = (
        {"column": "GPP_NT_VUT_REF"},
        {"window": "YS", "calibration": ["2003-01-01", "2005-12-31"]},
    )
    made, _, words = observe(tmp_path, table, variable | {"compare_in": "g C m-2 d-1"}, **options)
    np.testing.assert_allclose(made.y, 1.0, rtol=1e-12)
    assert "in g C m-2 by its FLUXNET name and a row each year a row" in words
    made, _, _ = observe(tmp_path, table, variable, **options)
    assert (made.unit[0], made.y.tolist()) == ("g C m-2 y-1", [365.0, 366.0, 365.0])


@pytest.mark.parametrize("freq", ["3h", "2D", "QS"])
def test_a_step_that_fluxnet_does_not_have_needs_a_unit(tmp_path, freq):
    table = fluxnet_table(pd.date_range("2010-01-01", "2011-12-31", freq=freq), "%Y-%m-%d %H:%M")
    options = {"window": "YS", "calibration": ["2010-01-01", "2010-12-31"]}
    with pytest.raises(BadInput, match=r"needs `unit`.*no step of FLUXNET"):
        observe(tmp_path, table, {"column": "GPP_NT_VUT_REF"}, **options)
    assert (
        len(observe(tmp_path, table, {"column": "GPP_NT_VUT_REF", "unit": "g C m-2 d-1"}, **options)[0]) == 1
    )


# quality columns


FLAG, SHARE = np.array([0.0, 0.0, 1.0, 3.0, np.nan]), np.array([0.0, 0.5, 1.0, 0.021])
BINARY, PERCENT = np.array([0.0, 1.0, 1.0]), np.array([0.0, 55.5, 100.0])


@pytest.mark.parametrize(
    ("quality", "values", "known", "word"),
    [
        (QualityColumn("q", low=0.5), FLAG, "", "values 0, 1, 3.*max: 0"),
        (QualityColumn("q", low=1.0), np.arange(1.0, 10.0), "", "expected `max`|Expected `max`"),
        (QualityColumn("q", low=0.5), BINARY, "flag", "a flag with the values 0, 1"),
        (QualityColumn("q", high=0.0), SHARE, "share", "keep the worst.*min: 0.5"),
        (QualityColumn("q", high=0.5), BINARY, "share", "keep the worst"),
        (QualityColumn("q", high=1.0), SHARE, "", "every row is kept"),
        (QualityColumn("q", high=2.0), SHARE, "", "no flag: every row is kept"),
        (QualityColumn("q", low=50.0), SHARE, "", "no row is kept"),
        (QualityColumn("q", low=0.5), PERCENT, "", "percent"),
    ],
)
def test_bounds_that_contradict_a_quality_column_are_refused(quality, values, known, word):
    with pytest.raises(BadInput, match=word):
        verdict(quality, values, "x", known)


@pytest.mark.parametrize(
    ("quality", "values", "known", "word"),
    [
        (QualityColumn("q", high=1.0), FLAG, "flag", "q is a flag (0, 1, 3): `max: 1` keeps 3 of 4 rows"),
        (
            QualityColumn("q", low=1.0, high=3.0),
            FLAG,
            "",
            "keeps 2 of 4 rows",
        ),  # large flags are good ones: said by both
        (QualityColumn("q", low=0.5), SHARE, "share", "q is a share (0 to 1): `min: 0.5` keeps 2 of 4 rows"),
        (QualityColumn("q", high=0.2), SHARE, "", "keeps 2 of 4 rows"),  # of gap-filled half-hours
        (QualityColumn("q", low=50.0), PERCENT, "", "percent: `min: 50` keeps 2 of 3 rows"),
        (QualityColumn("q", low=0.5), BINARY, "", "HOLDS ONLY 0 AND 1, A FLAG (0 GOOD) OR A SHARE (1 GOOD)"),
        (QualityColumn("q", high=0.5), BINARY, "", "keeps 1 of 3 rows, THOSE WITH 0"),
    ],
)
def test_bounds_that_can_be_meant_are_stated(quality, values, known, word):
    assert word in verdict(quality, values, "x", known)


@pytest.mark.parametrize(
    ("freq", "qc", "word"), [("30min", {"min": 0.5}, "flag"), ("1D", {"max": 0}, "worst")]
)
def test_a_binary_fluxnet_flag_is_told_by_the_files_step(tmp_path, freq, qc, word):
    table = fluxnet_table(pd.date_range("2010-01-01", "2010-01-31 23:30", freq=freq), "%Y%m%d%H%M")
    table["NEE_VUT_REF_QC"] = np.arange(len(table)) % 2
    variable = {"column": "GPP_NT_VUT_REF", "qc": {"column": "NEE_VUT_REF_QC", **qc}}
    with pytest.raises(BadInput, match=word):
        observe(tmp_path, table, variable, calibration=["2010-01-01", "2010-01-31"])


def test_a_share_of_which_some_days_exceed_1_is_one():
    assert kind(np.r_[np.linspace(0, 1, 1000), 1.6]) == "share"


# outliers


def daily(y: np.ndarray, first: str = "2001-01-01") -> Observations:
    start = (np.datetime64(first) + np.arange(len(y))).astype("datetime64[s]")
    words = {"variable": np.repeat("x", len(y)), "unit": np.repeat("1", len(y))}
    words["period"] = np.repeat("calibration", len(y))
    return Observations(y=y, noise=np.full(len(y), 0.1), start=start, end=start + DAY, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [4, 20, 365, 1500])
@pytest.mark.parametrize("value", [1e6, -99.0])
def test_a_value_far_outside_all_others_is_an_outlier(n, value):
    season = 5 - 4 * np.cos(2 * np.pi * np.arange(n) / 365)
    y = season + 0.5 * np.random.default_rng(n).standard_normal(n)
    assert not outliers(daily(y))[0].any()
    y[n // 2] = value
    far, z = outliers(daily(y))
    assert np.flatnonzero(far).tolist() == [n // 2]
    assert abs(z[n // 2]) > 50


def test_a_winter_day_of_a_summers_flux_is_told_by_its_season_and_heavy_tails_are_none():
    rng = np.random.default_rng(1)
    season = 20 * np.maximum(0, np.sin(2 * np.pi * (np.arange(1460) - 100) / 365))
    y = season + 0.2 * rng.standard_normal(1460)
    y[10] = 19.0
    assert np.flatnonzero(outliers(daily(y))[0]).tolist() == [10]
    assert not outliers(daily(rng.lognormal(0, 1, 1460)))[0].any()
    assert not outliers(daily(rng.gamma(0.1, 5.0, 1460)))[0].any()  # rain


def test_real_fluxes_have_no_outliers_and_a_typing_error_among_them_is_one(data):
    files = {
        "hyytiala/smear_daily_2000_2010.csv": ("date", ["GPP", "NEE", "TER", "ET", "H"]),
        "fluxnet2015/FLX_US-Prr_FLUXNET2015_SUBSET_DD_2010-2014_1-4.csv": (
            "TIMESTAMP", ["GPP_NT_VUT_REF", "NEE_VUT_REF", "RECO_NT_VUT_REF", "LE_F_MDS", "H_F_MDS"],
        ),
    }  # fmt: skip
    for name, (time, columns) in files.items():
        table = pd.read_csv(data / name, comment="#", na_values="-9999")
        index = pd.to_datetime(table[time].astype(str))
        for column in columns:
            y = table[column].to_numpy()
            valid = np.isfinite(y)
            part = daily(y[valid])
            start = index[valid].to_numpy().astype("datetime64[s]")
            assert not outliers(Observations(
                y=y[valid], noise=part.noise, start=start, end=start + DAY,
                variable=part.variable, unit=part.unit, period=part.period,
            ))[0].any(), column  # fmt: skip


OUTLIER = pd.DataFrame({"date": pd.date_range("2001-01-01", periods=20).strftime("%Y-%m-%d"), "x": 1.0})
OUTLIER.loc[3, "x"] = 1e6


@pytest.mark.parametrize(("choice", "n"), [("drop", 19), ("keep", 20)])
def test_an_outlier_is_dropped_or_kept_by_a_key_and_named(tmp_path, choice, n):
    options = {"calibration": ["2001-01-01", "2001-01-20"], "time_column": "date", "outliers": choice}
    made, (summary,), _ = observe(tmp_path, OUTLIER, {"unit": "1"}, **options)
    assert (len(made), 1e6 in made.y) == (n, choice == "keep")
    assert summary.outliers.startswith(f"{choice}: x 2001-01-04 = 1e+06 1 (robust z-score ")


def test_an_outlier_ends_check_and_run_before_any_model_run(tmp_path):
    with pytest.raises(BadInput, match="2001-01-04"):
        observe(
            tmp_path, OUTLIER, {"unit": "1"}, calibration=["2001-01-01", "2001-01-20"], time_column="date"
        )
    for verb in (["check"], []):
        done = fatescal(0, *verb, tmp_path / "t.yaml")
        assert done.returncode == 2
        assert (
            "1 of 20 windows lie far outside all others of their variable: x 2001-01-04 = 1e+06"
            in done.stderr
        )
        assert "observations.outliers: drop" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "members").exists()
