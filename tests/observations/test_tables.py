"""Formats, times and units as flux people have them, found out or told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from linear import fatescal, write_problem

from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.observations import measurements, readers, units
from fatescal.observations.missing_codes import suspects
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.quality import QualityColumn
from fatescal.observations.readers.registry import READERS
from fatescal.observations.windows import build

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
    table, layout = readers.read(write(tmp_path, REDDYPROC), ["NEE", "LE"])
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
    assert readers.detect(path).units == {"GPP": "g C m-2 d-1", "NEE": "g C m-2 d-1", "ET": "mm d-1"}


SMEAR = """# FI-Hyy (Hyytiala SMEAR II) daily fluxes (local winter time, UTC+2)
# units: GPP,NEE g C m-2 d-1; ET mm d-1; P hPa (the source says kPa)
date,GPP,ET,NEE,P
2000-01-01,0,-0.056,0.792,999.39
"""


def test_a_smear_file_is_known_by_its_header(tmp_path):
    path = write(tmp_path, SMEAR)
    table, layout = readers.read(path, ["GPP", "ET"])
    assert layout.summary == "smear, comma-separated, 5 columns, stamps name whole days"
    assert layout.units == {
        "GPP": "g C m-2 d-1",
        "NEE": "g C m-2 d-1",
        "ET": "mm d-1",
        "P": "hPa",
    }
    assert str(table.index[0]) == "2000-01-01 00:00:00"
    with pytest.raises(BadInput, match="header lines with # that name SMEAR"):
        readers.detect(write(tmp_path, "date,GPP\n2004-01-01,1\n"), "smear")


def test_a_guess_can_be_overridden_and_a_wrong_word_is_refused(tmp_path):
    path = write(tmp_path, "TIMESTAMP,GPP_NT_VUT_REF\n20040101,4\n")
    assert readers.detect(path, "csv").units == {}
    with pytest.raises(BadInput, match="no reddyproc file"):
        readers.detect(path, "reddyproc")
    with pytest.raises(BadInput, match="time_column"):
        readers.read(path, ["GPP_NT_VUT_REF"], format="csv")


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
    assert readers.read(path, ["x"], "t", zone)[0].index[0] == pd.Timestamp(expected)


def test_an_unknown_zone_and_an_hour_that_never_was_are_refused(tmp_path):
    path = write(tmp_path, "t,x\n2004-03-28 03:30,1\n")
    for zone in ("Hyytiala", "Europe/Helsinki"):
        with pytest.raises(BadInput, match="winter time") as refusal:
            readers.read(path, ["x"], "t", zone)
        assert "argument" not in str(refusal.value)  # of pandas, which the user never calls


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
    assert readers.read(path, ["x"], "t")[0].index[0] == pd.Timestamp(first)


@pytest.mark.parametrize(
    "times", [["01/02/2004", "02/02/2004"], ["1.2.2004", "1.3.2004"], ["13/01/2004", "01/14/2004"]]
)
def test_dates_that_can_be_read_in_two_ways_are_refused(tmp_path, times):
    path = write(tmp_path, "t,x\n" + "".join(f"{time},1\n" for time in times))
    with pytest.raises(BadInput, match="2004-01-31"):
        readers.read(path, ["x"], "t")


# dates told apart by the whole column


def column(times: list[str], name: str = "t", values: list[object] | None = None) -> str:
    """A table of times and numbers."""
    cells = values or [k % 7 + 0.5 for k in range(len(times))]
    return f"{name};x\n" + "".join(f"{time};{cell}\n" for time, cell in zip(times, cells, strict=True))


def texts(form: str, n: int = 75, step: str = "1D", begin: str = "2004-01-01") -> list[str]:
    return [moment.strftime(form) for moment in pd.date_range(begin, periods=n, freq=step)]


@pytest.mark.parametrize(
    ("form", "step"),
    [
        ("%Y", "YS"), ("%Y%m", "MS"), ("%y%m%d", "1D"), ("%d%m%y", "1D"), ("%m%d%y", "1D"), ("%Y%j", "1D"),
        ("%Y%m%d", "1D"), ("%d%m%Y", "1D"), ("%Y%m%d%H", "1h"), ("%y%m%d%H%M", "30min"),
        ("%Y%m%d%H%M", "30min"),
        ("%d%m%Y%H%M", "1h"), ("%Y%m%d%H%M%S", "30min"), ("%d-%b-%Y", "1D"), ("%d-%B-%y", "1D"),
        ("%B %d, %Y", "1D"),
        ("%d%b%Y", "1D"), ("%d%b%Y:%H:%M:%S", "1h"), ("%a %d %b %Y", "1D"), ("%b %Y", "MS"),
        ("%Y/%m/%d %H:%M", "30min"),
        ("%d/%m/%y", "1D"), ("%m/%d/%Y %I:%M %p", "30min"), ("%d.%m.%Y %H:%M", "30min"), ("%m/%Y", "MS"),
        ("%Y-%m", "MS"), ("%Y-%m-%dT%H:%M:%SZ", "1h"),
    ],
)  # fmt: skip
def test_every_form_of_dates_is_read_back(tmp_path, form, step):
    path = write(tmp_path, column(texts(form, step=step)))
    index = readers.read(path, ["x"], "t")[0].index
    assert index.equals(pd.date_range("2004-01-01", periods=75, freq=step))


def test_months_of_fluxnet_are_no_days(tmp_path):
    """200901 to 201212 may be days of 2020 or years 2001 to 2012 as well: FLUXNET has the year first."""
    months = texts("%Y%m", 48, "MS", "2009-01-01")
    path = write(tmp_path, column(months, "TIMESTAMP", [int(month[4:]) for month in months]))
    table, layout = readers.read(path, ["x"])
    assert table.index[0] == pd.Timestamp("2009-01-01")
    year = table.loc["2010"]
    assert (len(year), year["x"].mean()) == (12, 6.5)
    assert layout.summary == "fluxnet, semicolon-separated, 2 columns, stamps name whole months"
    months[5] = "200913"
    with pytest.raises(BadInput, match="'200913' in data row 6"):
        readers.read(write(tmp_path, column(months, "TIMESTAMP")), ["x"])


def test_a_guess_is_stated_and_a_column_that_can_be_read_in_two_ways_is_refused(tmp_path):
    two_years = column(texts("%Y%m", 24, "MS", "2009-01-01"))
    assert "200901 read as YYYYMM" in readers.read(write(tmp_path, two_years), ["x"], "t")[1].summary
    path = write(tmp_path, column(texts("%Y%m", 12, "MS", "2009-01-01")))
    with pytest.raises(BadInput, match=r"2009-01-01 \(YYYYMM\) or 2020-09-01 \(YYMMDD\).*time_format"):
        readers.read(path, ["x"], "t")
    assert readers.read(path, ["x"], "t", time_format="%Y%m")[0].index[-1] == pd.Timestamp("2009-12-01")
    with pytest.raises(BadInput, match=r"'200901' in data row 1.*time_format '%Y-%m'"):
        readers.read(path, ["x"], "t", time_format="%Y-%m")


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["01-May-2004", "01-Mai-2004"], "'01-Mai-2004' in data row 2"),
        (["1012004", "10012004"], "7 or 8 digits"),
        (["123", "124"], "t alone does not tell the time"),
        (["20040230", "20040301"], "'20040230' in data row 1"),
        (["2004-02-28", "2004-02-30"], "'2004-02-30' in data row 2"),
        (["2004-01-01", "01/02/2004"], "several ways, '2004-01-01' and '01/02/2004'"),
        (["01-May-2004", "05-06-2004"], "several ways"),
        (["2.00401E+11", "2.00401E+11"], "spreadsheet"),
        (["2004.1", "2004.2"], "decimal years"),
        (["2004-01-01 00:00Z", "2004-01-01 01:00"], "some times have an offset"),
        (["2004-01-01 12:00", "2004-01-01 24:00"], "24:00 end an interval"),
    ],
)  # fmt: skip
def test_times_that_can_not_be_known_are_refused(tmp_path, times, words):
    with pytest.raises(BadInput, match=words):
        readers.read(write(tmp_path, column(times)), ["x"], "t")


def test_names_of_months_are_short_and_long_in_one_column(tmp_path):
    path = write(tmp_path, column(["01-May-2004", "01-Jun-2004", "1-Sept-2004", "01-October-2004"]))
    months = pd.DatetimeIndex(readers.read(path, ["x"], "t")[0].index).month
    assert months.tolist() == [5, 6, 9, 10]


# where a stamp stands in its interval


def begins(path: Path, *arguments: object, **keys: object) -> list[str]:
    table, _ = readers.read(path, ["x"], *arguments, **keys)  # type: ignore[arg-type]
    return [str(moment)[5:16] for moment in table.index]


@pytest.mark.parametrize(
    ("form", "step", "begin", "where", "first"),
    [
        ("%Y-%m-%d %H:%M", "30min", "2004-01-01 00:30", "end", ["01-01 00:00", "01-01 00:30"]),
        ("%Y-%m-%d %H:%M", "30min", "2004-01-01 00:15", "middle", ["01-01 00:00", "01-01 00:30"]),
        ("%Y-%m-%d", "1D", "2004-01-02", "end", ["01-01 00:00", "01-02 00:00"]),
        ("%Y-%m-%d", "1D", "2004-01-01", "middle", ["01-01 00:00", "01-02 00:00"]),
        ("%Y-%m-%d", "7D", "2004-01-04", "middle", ["01-01 00:00", "01-08 00:00"]),
        ("%Y-%m-%d", "ME", "2004-01-31", "end", ["01-01 00:00", "02-01 00:00", "03-01 00:00"]),
        ("%Y-%m-%d", "MS", "2004-02-01", "end", ["01-01 00:00", "02-01 00:00", "03-01 00:00"]),
        ("%Y-%m-%d", "YE", "2004-12-31", "end", ["01-01 00:00", "01-01 00:00"]),
        ("%Y%m%d%H%M", "1h", "2004-01-01 01:00", "end", ["01-01 00:00", "01-01 01:00"]),
    ],
)  # fmt: skip
def test_stamps_of_the_end_or_middle(tmp_path, form, step, begin, where, first):
    path = write(tmp_path, column(texts(form, 9, step, begin)))
    assert begins(path, "t", time_stamp=where)[: len(first)] == first
    assert "time_stamp: " + where in readers.read(path, ["x"], "t", time_stamp=where)[1].summary


@pytest.mark.parametrize("name", ["TIMESTAMP_END", "time_end", "EndTime", "date (end of interval)"])
def test_a_name_tells_the_end(tmp_path, name):
    path = write(tmp_path, column(texts("%Y-%m-%d %H:%M", 48, "30min", "2005-06-01 00:30"), name))
    table, layout = readers.read(path, ["x"], name)
    assert (str(table.index[0]), str(table.index[-1])) == ("2005-06-01 00:00:00", "2005-06-01 23:30:00")
    assert "is the end of an interval: the first begins 2005-06-01 00:00" in layout.summary
    with pytest.raises(BadInput, match="time_stamp is start"):
        readers.read(path, ["x"], name, time_stamp="start")


def test_an_assumed_start_is_stated(tmp_path):
    path = write(tmp_path, column(texts("%Y-%m-%d %H:%M", 9, "30min")))
    assert "stamps taken as the start of an interval (assumed" in readers.read(path, ["x"], "t")[1].summary


def test_a_half_hourly_timestamp_is_not_taken_for_a_start_by_the_format(tmp_path):
    """FLUXNET's TIMESTAMP names days, months and years; that of half-hours is anyone's."""
    path = write(tmp_path, column(texts("%Y%m%d%H%M", 9, "30min"), "TIMESTAMP"))
    table, layout = readers.read(path, ["x"])
    assert (layout.format, str(table.index[0])) == ("fluxnet", "2004-01-01 00:00:00")
    assert "(assumed" in layout.summary
    assert begins(path, time_stamp="end")[0] == "12-31 23:30"


def test_offsets_in_the_text_are_stated(tmp_path):
    path = write(tmp_path, column(["2004-07-01 02:00+02:00", "2004-07-01 04:00+02:00"]))
    assert begins(path, "t") == ["07-01 00:00", "07-01 02:00"]
    assert "offsets of the times turned to UTC" in readers.read(path, ["x"], "t")[1].summary


def test_each_row_has_the_length_of_its_own_step(tmp_path):
    """Hourly ends, then half-hourly ones, with gaps of 5 hours in both."""
    hourly, half = (
        texts("%Y-%m-%d %H:%M", 40, "1h", "2004-01-01 01:00"),
        texts("%Y-%m-%d %H:%M", 40, "30min", "2004-01-02 16:30"),
    )
    del hourly[10:14], half[20:29]
    made = begins(write(tmp_path, column(hourly + half)), "t", time_stamp="end")
    ends = pd.to_datetime(hourly + half)
    lengths = (ends - pd.to_datetime([f"2004-{text}" for text in made])).total_seconds().to_numpy() / 3600
    assert lengths.tolist() == [1.0] * 36 + [0.5] * 31


def test_ends_of_fluxnet_weeks_hold_their_last_day(tmp_path):
    both = "TIMESTAMP_START,TIMESTAMP_END,x\n20110101,20110107,1\n20110108,20110114,2\n20110115,20110122,2\n"
    first = ["01-01 00:00", "01-08 00:00", "01-15 00:00"]
    assert begins(write(tmp_path, both)) == first
    assert begins(write(tmp_path, both), "TIMESTAMP_END") == first
    alone = "TIMESTAMP_END,x\n20110107,1\n20110114,2\n20110121,2\n"
    assert begins(write(tmp_path, alone), "TIMESTAMP_END") == first


def test_intervals_that_can_not_be_known_are_refused(tmp_path):
    for times, words in (
        (["2004-01-01 00:30"], "single row"),
        (["2004-01", "2004-02"], "whole months"),
        (texts("%Y-%m-%d", 5, "8D"), "8 days"),
        (["2004-01-01 00:00", "2004-01-01 01:00", "2004-01-01 03:00", "2004-01-01 06:00"], "no two rows"),
    ):
        with pytest.raises(BadInput, match=words):
            readers.read(write(tmp_path, column(times)), ["x"], "t", time_stamp="middle")


def test_ends_are_turned_to_utc_before_the_clock_is_changed(tmp_path):
    path = write(
        tmp_path, column(["2004-03-28 02:00", "2004-03-28 04:00", "2004-03-28 05:00", "2004-03-28 06:00"])
    )
    made = begins(path, "t", "Europe/Helsinki", time_stamp="end")
    assert made == ["03-27 23:00", "03-28 00:00", "03-28 01:00", "03-28 02:00"]


# times in several columns


def in_columns(names: str, rows: list[tuple[object, ...]]) -> str:
    return f"{names};x\n" + "".join(";".join(map(str, row)) + f";{k}\n" for k, row in enumerate(rows))


CLOCK = [(2018, 1, 31, 23, 0), (2018, 1, 31, 23, 30), (2018, 2, 1, 0, 0)]


@pytest.mark.parametrize(
    ("names", "rows", "chosen"),
    [
        ("year;month;day;hour;minute", CLOCK, ["year", "month", "day", "hour", "minute"]),
        ("Year;Month;Day;Hour;Minute", CLOCK, ["year", "month", "day", "hour", "minute"]),
        ("year;month;day;hour;minute", CLOCK, None),
        ("YYYY;MM;DD;HH;mm", CLOCK, None),
        ("Year;Month;Day;Hour;Minute;Second", [(*row, 0) for row in CLOCK], None),
        ("year;month;day;hour", [(2018, 1, 31, 23), (2018, 1, 31, 23.5), (2018, 2, 1, 0)], None),
        ("Year;DoY;Hour", [(2018, 31, 23), (2018, 31, 23.5), (2018, 32, 0)], None),
        ("Year;DOY;HRMIN", [(2018, 31, 2300), (2018, 31, 2330), (2018, 32, 0)], ["Year", "DOY", "HRMIN"]),
        ("Year;DoY", [(2018, 31 + 23 / 24), (2018, 31 + 23.5 / 24), (2018, 32)], ["Year", "DoY"]),
        ("date;time", [("2018-01-31", "23:00"), ("2018-01-31", "23:30"), ("2018-02-01", "00:00")], None),
        ("Date;Time (UTC)", [("31/01/2018", "23:00"), ("31/01/2018", "23:30"), ("01/02/2018", "0:00")], None),
        ("date;time", [(20180131, 2300), (20180131, 2330), (20180201, 0)], None),
        ("date;time", [("31-Jan-2018", "11:00 PM"), ("31-Jan-2018", "11:30 PM"),
        ("01-Feb-2018", "12:00 AM")], None),
    ],
)  # fmt: skip
def test_a_time_in_several_columns(tmp_path, names, rows, chosen):
    table, layout = readers.read(write(tmp_path, in_columns(names, rows)), ["x"], chosen)
    assert [str(t) for t in table.index] == [
        "2018-01-31 23:00:00",
        "2018-01-31 23:30:00",
        "2018-02-01 00:00:00",
    ]
    assert chosen or f"times from {', '.join(names.split(';'))}" in layout.summary


def test_the_first_of_these_columns_may_do(tmp_path):
    path = write(tmp_path, in_columns("yr;mo", [(2004, 1), (2004, 2)]))
    table, layout = readers.read(path, ["x"], ["yr", "mo"])
    assert table.index[1] == pd.Timestamp("2004-02-01")
    assert "whole months" in layout.summary
    path = write(tmp_path, in_columns("year", [(2004,), (2005,)]))
    assert readers.read(path, ["x"], "year")[0].index[1] == pd.Timestamp("2005-01-01")


@pytest.mark.parametrize(
    ("names", "rows", "chosen", "words"),
    [
        ("year;month;day;hour;minute", CLOCK, "year", r"time_column: \[year, month, day, hour, minute\]"),
        ("year;month;day;hour;minute", CLOCK, "minute", r"time_column: \[year, month, day, hour, minute\]"),
        ("date;time", [("2018-01-31", "23:00"),
        ("2018-01-31", "23:30")], "date", r"Try: time_column: \[date, time\]"),
        ("year;day", [(2018, 1), (2018, 2)], ["year", "day"], "do not make up a time"),
        ("a;b", [(2018, 1), (2018, 2)], ["a", "b"], "do not make up a time"),
        ("year;month;day", [(2018, 2, 28), (2018, 2, 29)], None, "data row 2.*year 2018, month 2, day 29"),
        ("year;month;day;hour", [(2018, 2, 28, -9999)], None, "hour is '-9999'"),
        ("year;month;day;hour", [(2018, 2, 28, "noon")], None, "hour is 'noon'"),
        ("year;month;day;hour;minute", [(2018, 2, 28, 1, 60)], None, "minute is '60'"),
        ("year;doy", [(2018, 0), (2018, 1)], None, "doy is '0'"),
        ("year;doy", [(2018, 366), (2019, 1)], None, "doy is '366'"),
        ("year;doy;hour", [(2018, 1.5, 12), (2018, 2, 0)], None, "doy is '1.5'"),
        ("year;doy;hour", [(2018, 1, 23.5), (2018, 1, 24)], None, "24:00 end an interval"),
        ("year;month;day;date;time", [(2018, 1, 1, "2018-01-01", "00:00")], None, "need `time_column`"),
    ],
)  # fmt: skip
def test_columns_that_are_no_time_are_refused(tmp_path, names, rows, chosen, words):
    with pytest.raises(BadInput, match=words):
        readers.read(write(tmp_path, in_columns(names, rows)), ["x"], chosen)


# header rows


def stamps(n: int = 4) -> list[str]:
    return texts("%Y-%m-%d %H:%M", n, "30min", "2004-01-01 00:30")


EDDYPRO = (
    "file_info,,,,,,,corrected_fluxes_and_quality_flags,,,\n"
    "filename,date,time,DOY,daytime,file_records,used_records,Tau,LE,qc_LE,co2_flux\n"
    ",[yyyy-mm-dd],[HH:MM],[ddd.ddd],[1=daytime],[#],[#],[kg+1m-1s-2],[W+1m-2],[#],[µmol+1s-1m-2]\n"
    + "".join(
        f"a.ghg,{t[:10]},{t[11:]},1.02,0,36000,36000,-0.1,{k},0,{k and -k}.5\n"
        for k, t in enumerate(stamps())
    )
)
TOA5 = (
    '"TOA5","CR1000","CR1000","12345","CR1000.Std.32.07","CPU:flux.CR1","1234","Flux"\n'
    '"TIMESTAMP","RECORD","co2_flux","LE"\n"TS","RN","umol m-2 s-1","W/m^2"\n"","","Avg","Avg"\n'
    + "".join(f'"{t}:00",{k},{k and -k}.5,{"NAN" if k == 3 else k}\n' for k, t in enumerate(stamps()))
)
DIIVE = "TIMESTAMP_END,co2_flux,LE\n[yyyy-mm-dd HH:MM:SS],[umol m-2 s-1],[W m-2]\n" + "".join(
    f"{t}:00,{k and -k}.5,{k}\n" for k, t in enumerate(stamps())
)


@pytest.mark.parametrize(("format", "text"), [("eddypro", EDDYPRO), ("toa5", TOA5), ("diive", DIIVE)])
def test_several_header_rows(tmp_path, format, text):
    """Stamps of all three are the end of the half hour."""
    table, layout = readers.read(write(tmp_path, text), ["co2_flux", "LE"])
    assert layout.format == format
    assert (str(table.index[0]), len(table)) == ("2004-01-01 00:00:00", 4)
    assert table["co2_flux"].tolist() == [0.5, -1.5, -2.5, -3.5]
    assert units.same(layout.units["co2_flux"], "umol CO2 m-2 s-1")
    assert units.same(layout.units["LE"], "W m-2")
    assert "the end of an interval" in layout.summary
    shifted = readers.read(write(tmp_path, text.replace("TIMESTAMP_END", "TIMESTAMP_MIDDLE")), ["LE"])[
        0
    ].index[0]
    assert str(shifted)[11:16] == ("00:15" if format == "diive" else "00:00")


def test_a_biomet_file_of_eddypro_has_two_header_rows(tmp_path):
    layout = readers.detect(write(tmp_path, EDDYPRO.partition("\n")[2]))
    assert (layout.format, layout.units["LE"]) == ("eddypro", "W m-2")


def test_a_row_of_units_of_any_table(tmp_path):
    path = write(tmp_path, "date,GPP,TA\n-,g C m-2 d-1,°C\n2004-01-01,1,2\n2004-01-02,3,4\n")
    table, layout = readers.read(path, ["GPP"], "date")
    assert (table["GPP"].tolist(), layout.units) == ([1.0, 3.0], {"GPP": "g C m-2 d-1", "TA": "degC"})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("none", ["-", "--"])
def test_reddyproc_files_of_any_system(tmp_path, end, none):
    path = tmp_path / "fluxes.txt"
    path.write_bytes(REDDYPROC.replace("--", none).replace("\n", end).encode())
    table, layout = readers.read(path, ["NEE", "LE"])
    assert (layout.format, layout.units) == ("reddyproc", {"NEE": "umol CO2 m-2 s-1", "LE": "W m-2"})
    assert table["NEE"].tolist() == [-1.5, -2.5, 1.5, 2.5]
    assert "the end of an interval, as reddyproc writes them" in layout.summary


PLAIN_R = '"date" "GPP"\n"2004-01-01" 1.5\n"2004-01-02" 2.5\n'


@pytest.mark.parametrize(
    "text",
    [
        PLAIN_R,
        '"date" "GPP"\n"1" "2004-01-01" 1.5\n"2" "2004-01-02" 2.5\n',
        '"date","GPP"\n"1","2004-01-01",1.5\n"2","2004-01-02",2.5\n',
        '"","date","GPP"\n"1","2004-01-01",1.5\n"2","2004-01-02",2.5\n',
        '"date"\t"GPP"\n"a"\t"2004-01-01"\t1.5\n"b"\t"2004-01-02"\t2.5\n',
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_tables_of_r_with_and_without_names_of_rows(tmp_path, text, quote):
    time, name = (f"{quote}{word}{quote}" for word in ("date", "GPP"))
    table, _ = readers.read(write(tmp_path, text), [name], time)
    assert (table[name].tolist(), str(table.index[1].date())) == ([1.5, 2.5], "2004-01-02")


def test_names_of_rows_may_be_the_times(tmp_path):
    path = write(tmp_path, '"GPP" "LE"\n"2004-01-01 00:30" 1.5 3\n"2004-01-01 01:00" 2.5 4\n')
    assert str(readers.read(path, ["LE"], "row.names")[0].index[1]) == "2004-01-01 01:00:00"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2004-01-01,1.5\n2004-01-02,2.5\n", "no row with the names"),
        ("# date,GPP\n2004-01-01,1.5\n", "no # before the names"),
        ("date GPP\n2004-01-01 00:30 1.5\n", "more cells than names.*quotes around what holds blanks"),
        ("date,GPP\n2004-01-01,1,5\n2004-01-02,2,5\n", "more cells than names.*decimal points, not commas"),
        ("date,GPP\n2004-01-01,1\n2004-01-02,2\n2004-01-03,2,5\n", "data row 3 has more cells"),
        ("date,GPP,GPP\n2004-01-01,1,2\n", "2 columns are called 'GPP'"),
    ],
)
def test_tables_that_do_not_fit_their_names_are_refused(tmp_path, text, words):
    with pytest.raises(BadInput, match=words):
        readers.read(write(tmp_path, text), ["GPP"], "date")


# encodings, decimal commas


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "fluxes.csv"
    path.write_bytes("date;Flux µ;x\n2004-01-01;1.5;1\n2004-01-02;2.5;2\n".encode(encoding))
    table, layout = readers.read(path, ["Flux µ"], "date")
    assert table["Flux µ"].tolist() == [1.5, 2.5]
    assert ("encoding" in layout.summary) == (not encoding.startswith("utf-8"))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,5", "-0,25", "3", "NA"], [1.5, -0.25, 3.0, np.nan]),
        (["0,123", "1,234"], [0.123, 1.234]),
        (["1,5", "2.5"], "is '2.5' in data row 2"),
        (["1.234,5", "2,5"], "is '1.234,5' in data row 1"),
        (["1,234", "2,345"], "decimals or thousands"),
    ],
)
def test_decimal_commas_are_read_where_the_whole_column_has_them(tmp_path, cells, expected):
    path = write(tmp_path, column(texts("%Y-%m-%d", len(cells)), values=cells))
    if isinstance(expected, str):
        with pytest.raises(BadInput, match=expected):
            readers.read(path, ["x"], "t")
        return
    table, layout = readers.read(path, ["x"], "t")
    np.testing.assert_array_equal(table["x"], expected)
    assert "decimal commas in x" in layout.summary


# missing values


def coded(*codes: object) -> str:
    """Twenty days of plausible numbers, the last of them replaced."""
    return column(texts("%Y-%m-%d", 20), values=[*(k % 7 + 0.5 for k in range(20 - len(codes))), *codes])


@pytest.mark.parametrize(
    "code",
    [
        *("-9999", "-9999.0", "-9999.9", "-9999.99", "-6999", "-99999", "9.96921e36"),
        *("9.969209968386869e+36", "1e20"),
        *("1.0E+36", "9.999E20", "NA", "NaN", "nan", "N/A", "null", "NULL", "-", "--", "#N/A", "None", ""),
        "-1.#IND",
        *("-999", "-999.9", "99999", "9999", "-888", "-99.99"),
    ],
)  # fmt: skip
def test_codes_for_missing_are_never_data(tmp_path, code):
    for times in (1, 3):
        table, _ = readers.read(write(tmp_path, coded(*[code] * times)), ["x"], "t")
        assert np.isnan(table["x"]).sum() == times
        assert table["x"].max() == 6.5


def test_a_value_that_repeats_far_outside_is_refused_until_the_config_says_what_it_is(tmp_path):
    path = write(tmp_path, coded(12345, 12345, -1.5))
    with pytest.raises(BadInput, match=r"x is 12345 in 2 rows.*missing value.*missing: \[12345\]"):
        readers.read(path, ["x"], "t")
    assert np.isnan(readers.read(path, ["x"], "t", missing=[12345])[0]["x"]).sum() == 2
    assert readers.read(path, ["x"], "t", not_missing=[12345])[0]["x"].max() == 12345
    path = write(tmp_path, coded("BDL", "-9999"))
    with pytest.raises(BadInput, match=r"missing: \['BDL'\]"):
        readers.read(path, ["x"], "t")
    table, _ = readers.read(path, ["x"], "t", missing=["BDL"], not_missing=[-9999])
    assert (np.isnan(table["x"]).sum(), table["x"].min()) == (1, -9999)


def test_a_code_that_may_be_a_measurement_is_stated(tmp_path):
    assert (
        "2 x -999 of x taken as missing"
        in readers.read(write(tmp_path, coded(-999, -999)), ["x"], "t")[1].summary
    )


def test_a_column_of_one_code_alone_is_no_data(tmp_path):
    path = write(tmp_path, column(texts("%Y-%m-%d", 9), values=[99999] * 9))
    with pytest.raises(BadInput, match=r"no valid value, 9 x 99999 of x taken as missing.*not_missing"):
        readers.read(path, ["x"], "t")
    assert readers.read(path, ["x"], "t", not_missing=[99999])[0]["x"].min() == 99999


@pytest.mark.parametrize(
    "values",
    [
        98000 + 250.0 * np.arange(12),  # a pressure [Pa] that passes 99999 or so
        np.r_[np.zeros(300), 0.2, 0.2, 0.4, 4.2, 4.2],  # rain of a dry month
        np.r_[np.zeros(30), np.full(5, 3.0)],  # flags
        np.r_[np.linspace(-150, 900, 50), -99.9],  # latent heat
        -np.geomspace(10, 1500, 40).round(-1),  # a potential [kPa] that comes near -999
        np.r_[np.zeros(20), 50.0, 50.0, 7.0, 3.0],
        np.full(9, 5.0),
        np.array([999.0]),
    ],
)  # fmt: skip
def test_measurements_are_not_suspected(values):
    assert suspects(np.asarray(values, dtype=float)) == []


def test_several_codes_on_both_sides_are_suspected_at_once():
    values = np.r_[
        np.random.default_rng(1).normal(5.0, 3.0, 1000), -777.0, -777.0, -999.0, 32767.0, 5555.0, 5555.0
    ]
    assert [(s.value, s.number) for s in suspects(values)] == [(-999, 1), (-777, 2), (5555, 2), (32767, 1)]


# what a file is by its first bytes


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, PLAIN_R)
    return made.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(PLAIN_R.encode()), bz2.compress(PLAIN_R.encode()), lzma.compress(PLAIN_R.encode()),
        zipped("r.txt"), zipped("r.txt", "__MACOSX/._r.txt"),
    ],
    ids=["gz", "bz2", "xz", "zip", "zip of a Mac"],
)  # fmt: skip
def test_a_packed_table_is_read(tmp_path, content):
    path = tmp_path / "fluxes.csv"
    path.write_bytes(content)
    table, layout = readers.read(path, ["GPP"], "date")
    assert table["GPP"].tolist() == [1.5, 2.5]
    assert any(word in layout.summary for word in ("gzip", "bzip2", "xz", "zip"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"CDF\x01\0\0\0\0", "can't be read as netCDF: .*truncated"),
        (b"\x89HDF\r\n\x1a\n\0", "can't be read as netCDF"),
        (gzip.compress(b"CDF\x01\0\0\0\0"), "is a netCDF file.*unpack"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook.*save the sheet as csv"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"), (b"%PDF-1.7\n", "a PDF"),
        (b"\n<!DOCTYPE html><html>", "a web page"), (b"<HTML>", "a web page"),
        (zipped("a.csv", "b.csv"), "zip archive of 2 files"),
        (gzip.compress(zipped("a.csv")), "archive within an archive"),
        (gzip.compress(PLAIN_R.encode() * 99)[:-20], "damaged"),
        (gzip.compress(np.random.default_rng(1).bytes(200000).hex().encode())[:150000], "damaged"),
        (zipped("a.csv")[:40], "damaged"), (bytes(range(256)), "binary file"), (b"", "no row with the names"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (gzip.compress(b"RDX3\nX\n"), "R data file"),
        (b"date,GPP\n2004-01-01," + b"1" * 200_000, "fluxes.csv can't be read as a table.*131072"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # bytes hold the time of day
)  # fmt: skip
def test_other_kinds_of_files_are_told_what_they_are(tmp_path, content, words):
    path = tmp_path / "fluxes.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        readers.read(path, ["GPP"], "date")


def test_only_the_columns_that_are_asked_for_are_kept(tmp_path):
    """A file of 60 MB costs a few MB of memory beyond pandas: a wide row is a small part of it."""
    path = tmp_path / "wide.csv"
    row = ",".join(f"{k}.25" for k in range(300))
    with path.open("w") as file:
        file.write("date," + ",".join(f"V{k}" for k in range(300)) + "\n")
        file.writelines(f"{day},{row}\n" for day in texts("%Y-%m-%d %H:%M", 40_000, "30min"))
    import tracemalloc

    tracemalloc.start()
    table, _ = readers.read(path, ["V7"], "date")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (table["V7"] == 7.25).all()
    assert len(table) == 40_000
    assert peak < path.stat().st_size / 2


# filter and units


def days(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.date_range("2004-01-01", periods=n, freq="1D"))


def test_quality_refuses_measurements_and_says_how_many():
    table = days(x=[1.0, 2.0, 3.0, np.nan, 5.0], flag=[0.0, 1.0, np.nan, 3.0, 0.5])
    x = ObservedVariable("x", "mm d-1", ErrorModel(sd=1.0), "x", quality=QualityColumn("flag", high=0.5))
    made, (summary,) = build(table, [x], "1D", ("2004-01-01", "2004-01-05"), None, "noleap")
    assert made.y.tolist() == [1.0, 5.0]
    assert summary.refused == 2


def test_the_share_of_valid_measurements_is_each_variables_own():
    hours = pd.DataFrame(
        {"x": [1.0] * 12 + [np.nan] * 12}, index=pd.date_range("2004-01-01", periods=24, freq="1h")
    )
    x, y = (
        ObservedVariable(n, "1", ErrorModel(sd=1.0), "x", min_valid=m) for n, m in (("x", 0.4), ("y", None))
    )
    made, _ = build(hours, [x], "1D", ("2004-01-01", "2004-01-01"), None, "noleap", 0.9)
    assert len(made) == 1
    with pytest.raises(BadInput, match="y: no window"):
        build(hours, [x, y], "1D", ("2004-01-01", "2004-01-01"), None, "noleap", 0.9)


def test_latent_heat_follows_the_measured_temperature():
    table = days(LE=[100.0, 100.0, 100.0], TA=[0.0, 30.0, np.nan])
    et = ObservedVariable("ET", "mm d-1", ErrorModel(sd=0.1), "LE", measured_in="W m-2", temperature="TA")
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
    columns = ["GPP_NT_VUT_REF", "LE_F_MDS", "TA_F", "NEE_VUT_REF_QC", "LE_F_MDS_QC"]
    table, layout = readers.read(path, columns, time_zone="UTC-9")
    assert layout.format == "fluxnet"
    units_ = measurements.Source.of(table, layout).units
    assert (units_["GPP_NT_VUT_REF"], units_["LE_F_MDS"]) == ("g C m-2 d-1", "W m-2")
    assert len(table) == 1826
    variables = [
        ObservedVariable(
            "GPP", units_["GPP_NT_VUT_REF"], ErrorModel(sd=0.5), "GPP_NT_VUT_REF",
            quality=QualityColumn("NEE_VUT_REF_QC", low=0.5),
        ),
        ObservedVariable(
            "ET", "mm d-1", ErrorModel(sd=0.3), "LE_F_MDS", measured_in="W m-2", temperature="TA_F",
            quality=QualityColumn("LE_F_MDS_QC", low=0.5),
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


def test_check_reads_the_keys_of_a_table(tmp_path):
    """Ends of days, in two columns, one value a code that the config alone knows."""
    keys = {"time_column": ["date", "time"], "time_stamp": "end", "missing": 77.5}
    config = write_problem(tmp_path, observations=keys)
    fluxes = tmp_path / "fluxes.csv"
    lines = fluxes.read_text().splitlines()
    rows = [line.split(",") for line in lines[2:]]
    rows[1][1] = "77.5"
    made = [",".join([str(np.datetime64(row[0]) + 1), "00:00", *row[1:]]) for row in rows]
    fluxes.write_text("\n".join([lines[1].replace("date", "date,time"), *made]) + "\n")
    said = fatescal(0, "check", config)
    assert said.returncode == 0, said.stderr
    assert f"time_stamp: end of an interval: the first begins {rows[0][0]} 00:00" in said.stdout
    assert "GPP, calibration" in said.stdout
    assert "1 dropped: no valid measurement" in said.stdout


def test_the_config_knows_every_format():
    described = str(settings.schema()["$defs"]["ObservationsSection"]["properties"]["format"])
    assert all(repr(name) in described for name in READERS)


def test_check_states_format_zone_and_units(tmp_path):
    config = write_problem(tmp_path, observations={"time_zone": "UTC+2"})
    said = fatescal(0, "check", config)
    assert said.returncode == 0, said.stderr
    assert (
        "fluxes.csv: csv, comma-separated, 3 columns, stamps name whole days, a row each 1 d; "
        "times of UTC+2 turned to UTC; GPP in g C m-2 d-1" in said.stdout
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
    assert words in measurements.observe(chosen.by_site[""], "noleap")[3]
