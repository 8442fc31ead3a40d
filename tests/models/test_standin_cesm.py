"""The stand-in executable against what the real one left: the same words, exit codes, files and days."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from ctsm_case import SAMPLES, Case, write_case


@pytest.fixture(params=["A", "B"])
def version(request) -> str:
    return request.param


def make_case(folder: Path, data: Path, version: str, days: int = 2) -> Case:
    case = write_case(folder, data, version)
    edit(case, "nuopc.runconfig", r"stop_option = nyears", "stop_option = ndays")
    edit(case, "nuopc.runconfig", r"stop_n = 1", f"stop_n = {days}")
    return case


def edit(case: Case, name: str, pattern: str, new: str) -> None:
    path = case.run_directory / name
    text, n = re.subn(pattern, new, path.read_text())
    assert n, f"{pattern} is not in {name}"
    path.write_text(text)


def run(case: Case) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [case.executable], cwd=case.run_directory, capture_output=True, text=True, timeout=60
    )


def edit_json(case: Case, change: Callable[[dict], object]) -> None:
    path = case.run_directory.parent / "fates.json"
    content = json.loads(path.read_text())
    change(content["parameters"])
    path.write_text(json.dumps(content))


def missing(case: Case) -> None:
    edit_json(case, lambda p: p.pop("fates_leaf_stomatal_slope_ballberry"))


def short(case: Case) -> None:
    edit_json(case, lambda p: p["fates_leaf_vcmax25top"]["data"][0].pop())


def not_a_number(case: Case) -> None:
    edit_json(case, lambda p: p["fates_leaf_vcmax25top"]["data"].__setitem__(0, [float("nan")] * 14))


def negative(case: Case) -> None:
    edit_json(case, lambda p: p["fates_leaf_vcmax25top"]["data"].__setitem__(0, [-5.0] * 14))


def truncated(case: Case) -> None:
    path = case.run_directory.parent / "fates.json"
    path.write_bytes(path.read_bytes()[:20000])


def no_file(case: Case) -> None:
    edit(case, "lnd_in", r"fates\.json", "nofile.json")


def netcdf(case: Case) -> None:
    with netCDF4.Dataset(case.run_directory.parent / "fates.json", "w", format="NETCDF3_CLASSIC") as data:
        data.createDimension("fates_pft", 12)


def no_finidat(case: Case) -> None:
    edit(case, "lnd_in", r"finidat = ' '", "finidat = '/nowhere/none.nc'")


def bad_namelist(case: Case) -> None:
    edit(case, "lnd_in", r"&clm_inparm\n", "&clm_inparm\n no_such_key = 1\n")


def no_forcing(case: Case) -> None:
    edit(case, "datm.streams.xml", r"Solr\.HYY\.2004-01\.nc", "gone.nc")


def in_the_past(case: Case) -> None:
    edit(case, "nuopc.runconfig", r"start_ymd = 20040101", "start_ymd = 19500101")


PROVOKED = {  # sample: what provokes it, exit code, log and words in it
    "f_missing": (missing, 1, "lnd.log", "Cant find: fates_leaf_stomatal_slope_ballberry"),
    "f_nofile": (no_file, 1, "lnd.log", "ERROR: Could not open parameter file: "),
    "f_trunc": (truncated, 1, "lnd.log", "no separator found?"),
    "f_short": (short, 1, "lnd.log", "2d parameter size does not match dimension size"),
    "f_ncpar": (netcdf, 1, "lnd.log", 'JSONFindTagPos, tag:"dimensions" not found?'),
    "f_nan": (not_a_number, 1, "lnd.log", "src/fates/biogeochem/EDPhysiologyMod.F90 at line 1953"),
    "g_fin": (no_finidat, 1, "lnd.log", "GETFIL: FAILED to get "),
    "g_nl": (bad_namelist, 1, "lnd.log", "ERROR reading clm_inparm namelist"),
    "g_force": (
        no_forcing,
        -signal.SIGABRT,
        "cesm.err",
        "Abort with message No such file or directory in file",
    ),
    "f_neg": (negative, 0, "drv.log", "SUCCESSFUL TERMINATION OF CESM"),
    "g_past": (in_the_past, 0, "med.log", "SUCCESSFUL TERMINATION OF CMEPS"),
}


@pytest.mark.parametrize("sample", PROVOKED)
def test_it_refuses_what_the_real_one_refuses_in_the_same_words(sample, data, tmp_path):
    provoke, code, log, words = PROVOKED[sample]
    case = make_case(tmp_path, data, "A")
    provoke(case)
    done = run(case)
    (case.run_directory / "cesm.err").write_text(done.stderr)
    assert done.returncode == code, done.stderr
    real = data / "ctsm" / "failures" / sample
    said = next(path for path in (real / log, real / f"{log}.tail") if path.exists())
    assert words in said.read_text()
    assert words in (case.run_directory / log).read_text()
    finished = "SUCCESSFUL" in (case.run_directory / "drv.log").read_text()
    assert finished == (code == 0)


def test_version_b_refuses_a_missing_parameter_and_a_json_file(data, tmp_path):
    case = make_case(tmp_path / "missing", data, "B")
    with netCDF4.Dataset(tmp_path / "missing" / "fates.nc", "a") as file:
        file.renameVariable("fates_leaf_stomatal_slope_ballberry", "other")
    assert run(case).returncode == 233
    words = "Error reading.  Var:fates_leaf_stomatal_slope_ballberry"
    assert words in (case.run_directory / "lnd.log").read_text()
    assert words in (data / "ctsm" / "failures" / "of_missing" / "lnd.log.tail").read_text()
    case = make_case(tmp_path / "json", data, "B")
    (tmp_path / "json" / "fates.nc").write_text("{}")
    done = run(case)
    assert (done.returncode, "NetCDF: Unknown file format" in done.stderr) == (-signal.SIGABRT, True)


@pytest.mark.parametrize("name", ["nuopc.runconfig", "lnd_in", "fd.yaml", "datm.streams.xml"])
def test_each_of_the_eight_files_is_needed(data, tmp_path, name):
    case = make_case(tmp_path, data, "A")
    (case.run_directory / name).unlink()
    assert run(case).returncode in (1, 2)


def test_a_year_has_the_files_records_and_formats_of_the_real_one(version, data, tmp_path):
    case = make_case(tmp_path, data, version, days=365)
    assert run(case).returncode == 0
    real = sorted((data / "ctsm" / SAMPLES[version]).glob("*.h1*.nc"))
    made = sorted(case.run_directory.glob("*.h1*.nc"))
    assert [path.name for path in made] == [path.name for path in real]
    for one, other in zip(made, real, strict=True):
        with netCDF4.Dataset(one) as stand_in, netCDF4.Dataset(other) as sample:
            assert stand_in.data_model == sample.data_model
            for name in ("time", "time_bounds"):
                np.testing.assert_array_equal(stand_in[name][:], sample[name][:])
            for name in ("time", "FATES_GPP"):
                keys = ("units", "calendar", "bounds") if name == "time" else ("units", "_FillValue")
                assert stand_in[name].dtype == sample[name].dtype
                assert stand_in[name].dimensions == sample[name].dimensions
                for key in keys:
                    assert stand_in[name].getncattr(key) == sample[name].getncattr(key)
    pointer = "rpointer.lnd" + (".2005-01-01-00000" if version == "A" else "")
    sample = data / "ctsm" / SAMPLES[version] / pointer
    assert (case.run_directory / pointer).read_text().rstrip() == sample.read_text().rstrip()


def test_it_remembers_through_its_restart_file(version, data, tmp_path):
    def first_gpp(folder: str, finidat: str) -> tuple[float, Path]:
        case = make_case(tmp_path / folder, data, version, days=365)
        edit(case, "lnd_in", r"finidat = ' '", f"finidat = '{finidat}'")
        assert run(case).returncode == 0
        last = sorted(case.run_directory.glob("*.h1*.nc"))[6]
        with netCDF4.Dataset(last) as history:
            return float(history["FATES_GPP"][:].sum()), next(case.run_directory.glob("*.clm2.r.*"))

    cold, restart = first_gpp("cold", " ")
    warm, _ = first_gpp("warm", str(restart))
    assert cold < warm < 1.2 * cold
