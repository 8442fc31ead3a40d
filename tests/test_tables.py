"""Formats, times and units as flux people have them, found out or told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from linear import fatescal, write_problem

from fatescal import measurements, settings, tables, units
from fatescal.errors import BadInput
from fatescal.noise import ErrorModel
from fatescal.observations import Quality, Variable, build

PRR = Path("fluxnet2015") / "FLX_US-Prr_FLUXNET2015_SUBSET_DD_2010-2014_1-4.csv"
REDDYPROC = """Year\tDoY\tHour\tNEE\tLE\tqcNEE
--\t--\t--\tumolm-2s-1\tWm-2\t--
2004\t1\t0.5\t-1.5\t-9999\t0
2004\t1\t1\t-2.5\t12\t1
2004\t1\t24\t1.5\t13\t2
2004\t2\t0.5\t2.5\t14\t0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fluxes.csv"
    path.write_text(text)
    return path


def test_a_reddyproc_file_with_its_row_of_units(tmp_path):
    """Hour is the end of the half hour, 24 the last of the day."""
    table, layout = tables.read(write(tmp_path, REDDYPROC), ["NEE", "LE"])
    assert layout.format == "reddyproc"
    assert layout.units == {"NEE": "umol CO2 m-2 s-1", "LE": "W m-2"}
    assert [str(t) for t in table.index] == [
        "2004-01-01 00:00:00",
        "2004-01-01 00:30:00",
        "2004-01-01 23:30:00",
        "2004-01-02 00:00:00",
    ]
    np.testing.assert_array_equal(table["LE"], [np.nan, 12, 13, 14])


def test_units_of_a_header_line(tmp_path):
    path = write(tmp_path, "# units: GPP,NEE g C m-2 d-1; ET mm d-1\ndate,GPP,ET,NEE\n2004-01-01,1,2,3\n")
    assert tables.detect(path).units == {"GPP": "g C m-2 d-1", "NEE": "g C m-2 d-1", "ET": "mm d-1"}


SMEAR = """# FI-Hyy (Hyytiala SMEAR II) daily fluxes (local winter time, UTC+2)
# units: GPP,NEE g C m-2 d-1; ET mm d-1; P hPa (the source says kPa)
date,GPP,ET,NEE,P
2000-01-01,0,-0.056,0.792,999.39
"""


def test_a_smear_file_is_known_by_its_header(tmp_path):
    path = write(tmp_path, SMEAR)
    table, layout = tables.read(path, ["GPP", "ET"])
    assert layout.words == "smear, comma-separated, 5 columns"
    assert layout.units == {
        "GPP": "g C m-2 d-1",
        "NEE": "g C m-2 d-1",
        "ET": "mm d-1",
        "P": "hPa",
    }
    assert str(table.index[0]) == "2000-01-01 00:00:00"
    with pytest.raises(BadInput, match="header lines with # that name SMEAR"):
        tables.detect(write(tmp_path, "date,GPP\n2004-01-01,1\n"), "smear")


def test_a_guess_can_be_overridden_and_a_wrong_word_is_refused(tmp_path):
    path = write(tmp_path, "TIMESTAMP,GPP_NT_VUT_REF\n20040101,4\n")
    assert tables.detect(path, "csv").units == {}
    with pytest.raises(BadInput, match="no reddyproc file"):
        tables.detect(path, "reddyproc")
    with pytest.raises(BadInput, match="time_column"):
        tables.read(path, ["GPP_NT_VUT_REF"], format="csv")


@pytest.mark.parametrize(
    ("time", "zone", "expected"),
    [
        ("2004-07-01 00:00", "UTC+2", "2004-06-30 22:00"),
        ("2004-07-01 00:00", "UTC-9", "2004-07-01 09:00"),
        ("2004-07-01 00:00", "+05:30", "2004-06-30 18:30"),
        ("2004-07-01 00:00", "UTC", "2004-07-01 00:00"),
        ("2004-07-01 00:00", "Europe/Helsinki", "2004-06-30 21:00"),
        ("2004-07-01T00:00+02:00", "UTC-9", "2004-06-30 22:00"),
    ],
)
def test_local_time_is_turned_to_utc_once(tmp_path, time, zone, expected):
    path = write(tmp_path, f"t,x\n{time},1\n")
    assert tables.read(path, ["x"], "t", zone)[0].index[0] == pd.Timestamp(expected)


def test_an_unknown_zone_and_an_hour_that_never_was_are_refused(tmp_path):
    path = write(tmp_path, "t,x\n2004-03-28 03:30,1\n")
    for zone in ("Hyytiala", "Europe/Helsinki"):
        with pytest.raises(BadInput, match="winter time"):
            tables.read(path, ["x"], "t", zone)


@pytest.mark.parametrize(
    ("times", "first"),
    [
        (["31/12/2004", "01/01/2005"], "2004-12-31"),
        (["01.12.2004", "13.12.2004"], "2004-12-01"),
        (["12/31/2004", "01/01/2005"], "2004-12-31"),
    ],
)
def test_day_or_month_first_is_read_off_the_whole_table(tmp_path, times, first):
    path = write(tmp_path, "t,x\n" + "".join(f"{time},1\n" for time in times))
    assert tables.read(path, ["x"], "t")[0].index[0] == pd.Timestamp(first)


@pytest.mark.parametrize(
    "times", [["01/02/2004", "02/02/2004"], ["1.2.2004", "1.3.2004"], ["13/01/2004", "01/14/2004"]]
)
def test_dates_that_can_be_read_in_two_ways_are_refused(tmp_path, times):
    path = write(tmp_path, "t,x\n" + "".join(f"{time},1\n" for time in times))
    with pytest.raises(BadInput, match="2004-01-31"):
        tables.read(path, ["x"], "t")


# filter and units


def days(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.date_range("2004-01-01", periods=n, freq="1D"))


def test_quality_refuses_measurements_and_says_how_many():
    table = days(x=[1.0, 2.0, 3.0, np.nan, 5.0], flag=[0.0, 1.0, np.nan, 3.0, 0.5])
    x = Variable("x", "mm d-1", ErrorModel(1.0), "x", quality=Quality("flag", high=0.5))
    made, (summary,) = build(table, [x], "1D", ("2004-01-01", "2004-01-05"), None, "noleap")
    assert made.y.tolist() == [1.0, 5.0]
    assert summary.refused == 2


def test_the_share_of_valid_measurements_is_each_variables_own():
    hours = pd.DataFrame(
        {"x": [1.0] * 12 + [np.nan] * 12}, index=pd.date_range("2004-01-01", periods=24, freq="1h")
    )
    x, y = (Variable(n, "1", ErrorModel(1.0), "x", min_valid=m) for n, m in (("x", 0.4), ("y", None)))
    made, _ = build(hours, [x], "1D", ("2004-01-01", "2004-01-01"), None, "noleap", 0.9)
    assert len(made) == 1
    with pytest.raises(BadInput, match="y: no window"):
        build(hours, [x, y], "1D", ("2004-01-01", "2004-01-01"), None, "noleap", 0.9)


def test_latent_heat_follows_the_measured_temperature():
    table = days(LE=[100.0, 100.0, 100.0], TA=[0.0, 30.0, np.nan])
    et = Variable("ET", "mm d-1", ErrorModel(0.1), "LE", measured_in="W m-2", temperature="TA")
    made, _ = build(table, [et], "1D", ("2004-01-01", "2004-01-03"), None, "noleap")
    np.testing.assert_allclose(
        made.y, 100.0 * 86400.0 / np.array([2.501e6, 2.501e6 - 2361.0 * 30.0]), rtol=1e-12
    )
    with pytest.raises(BadInput, match="degC"):
        build(table.assign(TA=290.0), [et], "1D", ("2004-01-01", "2004-01-03"), None, "noleap")


CARBON = ("g C m-2 d-1", "kg C m-2 s-1", "umol CO2 m-2 s-1", "g CO2 m-2 d-1", "kg m-2 s-1")
WATER = ("mm d-1", "mm s-1", "kg m-2 s-1", "kg H2O m-2 s-1", "mmol H2O m-2 s-1", "W m-2")
PAIRS = [(a, b) for group in (CARBON, WATER) for a in group for b in group if a != b]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_every_pair_of_units_converts_there_and_back(a, b):
    x, temperature = np.array([-3.0, 0.0, 1e-3, 40.0]), np.array([-20.0, 0.0, 10.0, 35.0])
    there = units.convert(x, a, b, temperature)
    np.testing.assert_allclose(units.convert(there, b, a, temperature), x, rtol=1e-12, atol=1e-15)


# real files


def test_us_prr_as_it_is(data):
    """Black spruce of Alaska; QC is the share of good half-hours in a daily file."""
    path = data / PRR
    if not path.exists():
        pytest.skip(f"{path} is absent")
    columns = ["GPP_NT_VUT_REF", "LE_F_MDS", "TA_F", "NEE_VUT_REF_QC", "LE_F_MDS_QC"]
    table, layout = tables.read(path, columns, time_zone="UTC-9")
    assert layout.format == "fluxnet"
    units_ = measurements.Source.of(table, layout).units
    assert (units_["GPP_NT_VUT_REF"], units_["LE_F_MDS"]) == ("g C m-2 d-1", "W m-2")
    assert len(table) == 1826
    variables = [
        Variable(
            "GPP", units_["GPP_NT_VUT_REF"], ErrorModel(0.5), "GPP_NT_VUT_REF",
            quality=Quality("NEE_VUT_REF_QC", low=0.5),
        ),
        Variable(
            "ET", "mm d-1", ErrorModel(0.3), "LE_F_MDS", measured_in="W m-2", temperature="TA_F",
            quality=Quality("LE_F_MDS_QC", low=0.5),
        ),
    ]  # fmt: skip
    made, summaries = build(
        table, variables, "1D", ("2011-01-01", "2013-12-31"), ("2014-01-01", "2014-12-31"), "noleap"
    )
    assert all(s.used + s.dropped.get("no valid measurement", 0) in (1095, 365) for s in summaries)
    assert all(s.refused for s in summaries if s.period == "calibration")
    summer = np.isin(made.start.astype("datetime64[M]").astype(int) % 12, (5, 6, 7))
    gpp, et = (made.y[summer & (made.variable == name)].mean() for name in ("GPP", "ET"))
    assert 1.0 < gpp < 6.0
    assert 0.5 < et < 3.0


def test_check_states_format_zone_and_units(tmp_path):
    config = write_problem(tmp_path, observations={"time_zone": "UTC+2"})
    said = fatescal(0, "check", config)
    assert said.returncode == 0, said.stderr
    assert (
        "fluxes.csv: csv, comma-separated, 3 columns, a row each 1 d; times of UTC+2 turned to UTC; GPP in g C m-2 d-1"
        in said.stdout
    )


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ({"unit": "kg C m-2 d-1"}, "GPP in kg C m-2 d-1 (THE FILE SAYS g C m-2 d-1)"),
        ({"unit": "gC/m2/d"}, "GPP in gC/m2/d, ET"),
        (
            {"unit": "g C m-2", "compare_in": "g C m-2 d-1"},
            "a row, summed over windows, compared in g C m-2 d-1",
        ),
        ({"unit": "g C m-2"}, "GPP in g C m-2 (THE FILE SAYS g C m-2 d-1) (taken as a state"),
    ],
)
def test_check_states_what_a_unit_is_taken_for(tmp_path, variable, words):
    given = {"GPP": {"model": "GPP", "error": {"sd": 1.5}, **variable}}
    given["ET"] = {"model": "ET", "error": {"sd": 0.8}}
    config = write_problem(tmp_path, observations={"variables": given})
    fluxes = tmp_path / "fluxes.csv"
    fluxes.write_text("# units: GPP g C m-2 d-1; ET mm d-1\n" + fluxes.read_text())
    chosen = settings.load(config)
    assert words in measurements.observe(chosen.places[""], "noleap")[3]
