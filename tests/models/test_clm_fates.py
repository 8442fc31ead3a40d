"""CLM-FATES as forward model: members' inputs, and whole calibrations over MPI with a stand-in program."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import yaml
from clm_problem import NEEDLELEAF, SLOPE, VCMAX, write_config
from ctsm_case import FATES, SAMPLES, Case, write_case, write_site
from linear import fatescal, run_program
from running import require_scored

from fatescal import config as settings
from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.random_streams import stream
from fatescal.ensemble.preparation import idle as idle_ones
from fatescal.ensemble.preparation import prepare
from fatescal.hpc.communicator import Communicator
from fatescal.models.clm_fates import case_plan, cdl, forcing, history, outcome, parameter_file, streams
from fatescal.models.clm_fates.clm_model import ClmFates
from fatescal.models.clm_fates.clm_options import ClmFatesOptions
from fatescal.models.clm_fates.template import FILES, Template
from fatescal.workflow import cost as costs
from fatescal.workflow import site_models
from fatescal.workflow.problem import assemble, calibrated_space, checked_parts

NAME = f"{VCMAX}_{NEEDLELEAF}"


@pytest.fixture(params=["A", "B"])
def case(request, data, tmp_path) -> Case:
    return write_case(tmp_path / "case", data, request.param)


@pytest.fixture
def case_a(data, tmp_path) -> Case:
    return write_case(tmp_path / "case", data, "A")


def model_of(config: Path) -> ClmFates:
    model = site_models.model(settings.load(config).by_site[""], lambda: False)
    assert isinstance(model, ClmFates)
    return model


def differences(old: str, new: str) -> list[str]:
    return [
        line
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), n=0)
        if re.match(r"[-+](?![-+])", line)
    ]


def test_a_members_inputs_differ_from_the_templates_in_what_is_meant_alone(case, tmp_path):
    sample = case.run_directory
    folder = tmp_path / "member"
    folder.mkdir()
    template = Template(case.run_directory, case.executable, {})
    template.write(
        folder,
        date(2005, 1, 1),
        date(2005, 12, 31),
        variables=("FATES_GPP", "QFLX_EVAP_TOT"),
        changes={"fates_paramfile": "/member/p.json"},
        finidat=Path("/spun/up.nc"),
        restart=False,
    )
    changed = {n: differences((sample / n).read_text(), (folder / n).read_text()) for n in FILES}
    assert [n for n, lines in changed.items() if lines] == ["lnd_in", "nuopc.runconfig"]
    keys = Counter(re.sub(r"^[-+]\s*(\w+) =.*", r"\1", line) for line in changed["lnd_in"])
    assert keys.pop("hist_fincl2") == 1  # gone
    assert keys.pop("hist_fincl1") == keys.pop("hist_empty_htapes") == 1  # new
    edited = {"fates_paramfile", "finidat", "hist_nhtfrq", "hist_mfilt"}
    edited |= {"hist_ndens", "fates_history_dimlevel"} if case.version == "A" else set()
    assert keys == dict.fromkeys(edited, 2)
    text = (folder / "lnd_in").read_text()
    for line in (
        "hist_fincl1 = 'FATES_GPP','QFLX_EVAP_TOT'",
        "hist_mfilt = 366",
        "finidat = '/spun/up.nc'",
        "hist_empty_htapes = .true.",
    ):
        assert f" {line}\n" in text
    driver = [line.split() for line in changed["nuopc.runconfig"] if line.startswith("+")]
    assert {line[1]: line[3] for line in driver} == {
        "case_name": "fatescal",
        "start_ymd": "20050101",
        "stop_n": "365",
        "stop_option": "ndays",
        "restart_n": "365",
        "restart_option": "never",
        **({"write_restart_at_endofrun": ".false."} if case.version == "A" else {}),
    }


def test_version_b_loses_the_phase_that_aborts_and_logs_lose_their_lid(data, tmp_path):
    case = write_case(tmp_path / "case", data, "B")
    sequence = case.run_directory / "nuopc.runseq"
    original = sequence.read_text()
    sequence.write_text(original.replace("@ \n", "  MED med_phases_profile              \n@ \n"))
    runconfig = case.run_directory / "nuopc.runconfig"
    text = runconfig.read_text().replace("diro = .", "diro = /gone/run")
    runconfig.write_text(re.sub(r"(logfile = \w+\.log)", r"\1.261122-090816", text))
    model = model_of(write_config(tmp_path, case, model={"spinup": {"years": 0}, "end": "2005-01-20"}))
    folder = tmp_path / "member"
    folder.mkdir()
    model.run({}, folder)
    assert (folder / "nuopc.runseq").read_text() == original
    assert model.read(folder).sizes["time"] == 20


def test_a_value_without_meaning_never_reaches_the_model(case_a, tmp_path):
    model = model_of(write_config(tmp_path, case_a, model={"spinup": {"years": 0}}))
    for value in (-5.0, 1e4, float("nan")):
        folder = tmp_path / str(value)
        folder.mkdir()
        with pytest.raises(ModelFailed, match="is not possible"):
            model.run({NAME: value}, folder)
        assert list(folder.iterdir()) == []


REAL_ENDS = {  # sample: exit code, status and words; None for a success
    "f_missing": (1, Status.MODEL_ERROR, "no parameter fates_leaf_stomatal_slope_ballberry"),
    "f_nofile": (1, Status.MODEL_ERROR, "/nofile.json cannot be opened"),
    "f_trunc": (1, Status.MODEL_ERROR, "unreadable at fates_leafn_vert_scaler_coeff2: truncated?"),
    "f_short": (1, Status.MODEL_ERROR, "wrong size of parameter fates_leaf_vcmax25top"),
    "f_ncpar": (1, Status.MODEL_ERROR, "unreadable: this version expects JSON"),
    "f_nan": (1, Status.MODEL_ERROR, "stopped itself in src/fates/biogeochem/EDPhysiologyMod.F90, line 1953"),
    "g_fin": (1, Status.MODEL_ERROR, "the input file /cluster/work/users/me/ctsm/none.nc is missing"),
    "g_nl": (1, Status.MODEL_ERROR, "a mistake in the namelist clm_inparm"),
    "g_force": (134, Status.MODEL_ERROR, "aborted in parallel I/O: a file is missing"),
    "g_kill": (124, Status.TIME_OUT, "it came to 2004-01-31"),
    "of_missing": (233, Status.MODEL_ERROR, "no parameter fates_leaf_stomatal_slope_ballberry"),
    "of_json": (134, Status.MODEL_ERROR, "a parameter file in JSON, where this version expects netCDF"),
    **dict.fromkeys(("f_neg", "f_huge", "g_notim", "g_past"), (0, None, "")),
}


@pytest.mark.parametrize("sample", REAL_ENDS)
def test_real_runs_are_judged_as_they_ended(sample, data, tmp_path):
    code, status, words = REAL_ENDS[sample]
    for path in (data / "ctsm" / "failures" / sample).iterdir():
        shutil.copy(path, tmp_path / path.name.removesuffix(".tail"))
    if status is None:
        outcome.judge(tmp_path, code, lambda: 1, expected=1)
        with pytest.raises(ModelFailed, match="holds 0 records") as caught:
            outcome.judge(tmp_path, code, lambda: 0, expected=1)
        assert caught.value.kind == Status.TRUNCATED
        return
    with pytest.raises(ModelFailed) as caught:
        outcome.judge(tmp_path, code, lambda: 1, expected=1)
    assert caught.value.kind == status
    assert words in caught.value.reason


@pytest.mark.parametrize(("version", "prefix", "gpp"), [("A", "hyy", 1216), ("B", "old", 1474)])
def test_real_history_has_the_right_days_and_sums(version, prefix, gpp, data, tmp_path):
    for path in (data / "ctsm" / SAMPLES[version]).glob("*.h1*.nc"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / f"{prefix}.clm2.h0i.2004-02-01-00000.nc").write_text("of instants, and not looked at")
    found = history.read(tmp_path, ("FATES_GPP", "QFLX_EVAP_TOT"), prefix)
    assert found.sizes["time"] == 365
    assert found["time"].attrs["calendar"] == "noleap"
    np.testing.assert_array_equal(found["time_bounds"], np.arange(365)[:, None] + [0, 1])
    assert found["time"].attrs["units"] == "days since 2004-01-01 00:00:00"
    assert round(float(found["FATES_GPP"].sum()) * 86.4e6) == gpp


@pytest.mark.parametrize(
    ("source", "n_pfts"),
    [(FATES["A"], 14), (FATES["B"], 12), ("fates_params_default_last_cdl_2026-01.cdl", 14)],
)
def test_parameter_files_keep_every_other_byte_and_name_what_is_in_them(source, n_pfts, data, tmp_path):
    path = data / "fates" / source
    if path.suffix == ".cdl":
        path = tmp_path / "fates.nc"
        cdl.convert(data / "fates" / source, path)
    file = parameter_file.read(path)
    assert (file.pfts[1], len(file.pfts)) == (NEEDLELEAF, n_pfts)
    assert file.defaults[f"{VCMAX}_broadleaf_hydrodecid_tropical_tree"] == 58.0  # the study's table says 41
    assert file.units[NAME] == "umol CO2/m^2/s"
    node = f"fates_hydro_thetas_node_absorbing_root_{NEEDLELEAF}"
    values = {NAME: 0.1 + 0.2, f"{SLOPE}_cool_c3_grass": 6.4, node: 0.7, "fates_vai_top_bin_width": 1.25}
    copy = tmp_path / f"copy{path.suffix}"
    file.write(copy, values)
    np.testing.assert_equal(parameter_file.read(copy).defaults, file.defaults | values)
    if path.suffix == ".json":
        changed = differences(path.read_text(), copy.read_text())
        assert len(changed) == 2 * 4
        assert any("0.30000000000000004" in line for line in changed)
    else:
        old, new = path.read_bytes(), copy.read_bytes()
        assert len(old) == len(new)
        assert 0 < sum(a != b for a, b in zip(old, new, strict=True)) <= 8 * 4


def test_a_json_file_may_be_written_in_any_style(case_a, tmp_path):
    path = case_a.run_directory.parent / "fates.json"
    content = json.loads(path.read_text())
    content["attributes"]["history"] = f'changed "{VCMAX}" by hand'
    path.write_text(json.dumps(content, indent=1))
    file = parameter_file.read(path)
    node = f"fates_hydro_thetas_node_absorbing_root_{NEEDLELEAF}"
    file.write(tmp_path / "copy.json", {NAME: 50.5, node: 0.7})
    assert len(differences(path.read_text(), (tmp_path / "copy.json").read_text())) == 4


def test_a_failure_quotes_the_model(case_a, tmp_path):
    lnd_in = case_a.run_directory / "lnd_in"
    lnd_in.write_text(re.sub(r"finidat = ' '", "finidat = '/nowhere/none.nc'", lnd_in.read_text()))
    model = model_of(write_config(tmp_path, case_a, model={"spinup": {"years": 0}}))
    (tmp_path / "member").mkdir()
    with pytest.raises(ModelFailed, match=r"exit code 1: the input file /nowhere/none.nc is missing"):
        model.run({}, tmp_path / "member")


def test_parameters_of_three_places_change_the_output_and_an_idle_one_is_named(case_a, tmp_path, caplog):
    config = write_config(
        tmp_path,
        case_a,
        parameters={
            "csoilc": {"prior": {"kind": "log-normal", "scale": 0.3}},
            "fates_vai_width_increase_factor": {
                "prior": {"kind": "logit-normal", "scale": 0.3, "bounds": {"relative": 0.1}}
            },
            "zetamaxstable": {"prior": {"kind": "log-normal", "scale": 0.3}},
        },
        model={"end": "2005-07-31", "spinup": {"years": 0}},
        observations={
            "calibration": ["2005-01-01", "2005-07-31"],
            "synthetic": {"truth": {"csoilc": {"scale": 1.1}}},
        },
    )
    problem = assemble(settings.load(config), Communicator().alone())
    prepare(problem.members.sites, Communicator().alone(), None)
    idle = {"fates_vai_width_increase_factor": [""], "zetamaxstable": [""]}  # the stand-in knows neither
    assert "fates_vai_width_increase_factor has no effect on the output" in caplog.text
    assert idle_ones(problem.members.sites) == idle
    written = tmp_path / "calibration/members/preparation/canary-zetamaxstable/lnd_in"
    assert " zetamaxstable = 0.67" in written.read_text()  # 0.5 exp(0.3)

    site, folder = problem.members.sites[0], tmp_path / "by hand"
    folder.mkdir()
    theta = site.space.named(site.space.moved(site.space.names.index("csoilc")))
    files = {path.name: path for path in site.model.parameter_files(theta, folder)}
    note = dict(line.split(" = ") for line in files["user_nl_clm"].read_text().splitlines()[1:])
    assert float(note["zetamaxstable"]) == pytest.approx(theta["zetamaxstable"])
    named = {note[key].strip("'") for key in ("fates_paramfile", "paramfile")}
    assert named == set(files) - {"user_nl_clm"}
    with netCDF4.Dataset(files["paramfile.nc"]) as clm:
        assert float(clm["csoilc"][...]) == pytest.approx(theta["csoilc"])


MISTAKES = {
    "another place": ("nuopc.runconfig", "scol_lat = 61.8474", "scol_lat = 60.0", "is of another place"),
    "years that cycle": (
        "datm.streams.xml",
        "<year_first>2004",
        "<year_first>2006",
        "has no weather of 2005: the model",
    ),
    "years without files": (
        "datm.streams.xml",
        "<year_last>2010",
        "<year_last>2020",
        "has no file of 2011-2020",
    ),
    "no surface data": (
        "lnd_in",
        "/surfdata_HYY_ctsm54.nc",
        "/gone.nc",
        "1 input file is missing: .*gone.nc .lnd_in: fsurdat.",
    ),
    "no initial state": (
        "lnd_in",
        "finidat = ' '",
        "finidat = '/gone/r.nc'",
        r"/gone/r.nc \(lnd_in: finidat\)",
    ),
    "no aerosols": (
        "datm.streams.xml",
        "/aero_hyy.nc",
        "/gone.nc",
        r"1 input file is missing: \S*/gone.nc \(stream presaero.clim_2000\)",
    ),
    "leap years": ("nuopc.runconfig", "calendar = NO_LEAP", "calendar = GREGORIAN", "NO_LEAP"),
    "no parameter file": ("lnd_in", "fates.json", "gone.json", "gone.json"),
    "no executable": (None, "", "", "there is no executable"),
    "a file missing": ("drv_flds_in", None, "", "drv_flds_in cannot be read"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_check_finds_what_would_fail_or_be_silently_wrong(case_a, tmp_path, mistake):
    name, old, new, words = MISTAKES[mistake]
    if name is None:
        case_a.executable.unlink()
    elif old is None:
        (case_a.run_directory / name).unlink()
    else:
        path = case_a.run_directory / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=words):
        checked_parts(settings.load(write_config(tmp_path, case_a)))


def test_all_files_that_are_missing_are_named_at_once(case_a, tmp_path):
    lnd_in, xml = case_a.run_directory / "lnd_in", case_a.run_directory / "datm.streams.xml"
    lnd_in.write_text(
        lnd_in.read_text().replace("/clm_params_hyy.nc", "/a.nc").replace("fates.json", "b.json")
    )
    xml.write_text(xml.read_text().replace("Solr.HYY.2009", "Solr.HYY.1999"))
    with pytest.raises(BadInput) as caught:
        checked_parts(settings.load(write_config(tmp_path, case_a)))
    for words in (
        "14 input files are missing",
        "/a.nc (lnd_in: paramfile)",
        "/b.json",
        "Solr.HYY.1999-01.nc",
    ):
        assert words in str(caught.value)
    assert "popdens" not in str(
        caught.value
    )  # named, and read by no run of a single point with satellite phenology


SOLAR, PRECIPITATION = "CLMGSWP3v1.Solar", "CLMGSWP3v1.Precip"


def write_forcing(
    path: Path, data: Path, late: float = 0.0, lacking: slice = slice(0), bounds: float = np.nan
) -> Path:
    """Write radiation and precipitation with the dimensions the data atmosphere reads, `late` by hours."""
    with (
        netCDF4.Dataset(data / "hyytiala" / "gswp3_2004_2013.nc") as source,
        netCDF4.Dataset(path, "w") as out,
    ):
        keep = np.delete(np.arange(7 * 2920), lacking)
        for name, size in (("time", None), ("lat", 1), ("lon", 1), ("nv", 2)):
            out.createDimension(name, size)
        time = out.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 2004-01-01", "noleap"
        time[:] = source["time"][keep] - 0.0625 + late / 24
        if np.isfinite(bounds):
            time.bounds = "b"
            out.createVariable("b", "f8", ("time", "nv"))[:] = time[:][:, None] + [-bounds, 0.125 - bounds]
        for name in ("FSDS", "PRECTmms"):
            out.createVariable(name, "f4", ("time", "lat", "lon"))[:] = source[name][keep][:, None, None]
    return path


def described(case: Case, name: str, file: Path, **changes: Any) -> str:
    """Return the line of a stream of a case, read from one file, or what is wrong with it."""
    template = Template(case.run_directory, case.executable, {})
    stream = next(s for s in template.streams if s.name == name)
    stream = dataclasses.replace(stream, files=(file,), **changes)
    first, last = date(2005, 1, 1), date(2005, 12, 31)
    try:
        return forcing.describe(stream, (61.8474, 24.295), first, first, last)
    except BadInput as error:
        return str(error)


def test_forcing_without_two_dimensions_is_refused_as_the_model_dies_of_it(case, data, tmp_path):
    one = data / "hyytiala" / "gswp3_2004_2013.nc"
    said = described(case, SOLAR, one)
    assert "got FSDS(time=29200)" in said
    assert "Expected FSDS(time, lat, lon) with lat = lon = 1" in said
    assert "has no variable FSDS" in described(case, SOLAR, data / "ctsm" / "inputs" / "aero_hyy.nc")
    xml = case.run_directory / "datm.streams.xml"
    solar = r"(<file>[^<]*\.Solr\.[^<]*</file>\s*)+"
    xml.write_text(re.sub(solar, f"<file>{one}</file>\n", xml.read_text()))
    config = write_config(tmp_path, case, model={"spinup": {"years": 0}})
    with pytest.raises(BadInput, match=r"got FSDS\(time=29200\)"):
        checked_parts(settings.load(config))
    (tmp_path / "member").mkdir()
    with pytest.raises(ModelFailed, match="exit code 134") as caught:
        model_of(config).run({}, tmp_path / "member")
    words = {"A": "free(): invalid pointer", "B": "corrupted size vs. prev_size"}[case.version]
    assert f"The first lines of {tmp_path / 'member' / 'cesm.err'}:" in caught.value.reason
    assert words in caught.value.reason
    assert "0x7ff4164218c2" not in caught.value.reason


def test_a_stamp_elsewhere_in_the_interval_than_the_stream_takes_it_to_be_is_refused(case_a, data, tmp_path):
    def said(name: str, late: float, **changes: Any) -> str:
        bounds = changes.pop("bounds", np.nan)
        return described(case_a, name, write_forcing(tmp_path / "f.nc", data, late, bounds=bounds), **changes)

    assert "1 files, stamped at the start of the interval" in said(SOLAR, 0)
    middle = said(SOLAR, 1.5)
    assert "would be read 1.5 h too late: its records are stamped at the middle of their intervals" in middle
    assert f"{SOLAR}:offset = -5400" in middle
    assert "stamped at the start" in said(SOLAR, 1.5, offset=-5400.0)
    assert "read 3 h too late" in said(SOLAR, 3)
    assert "stamped at the end" in said(SOLAR, 3, interpolation="upper")
    assert "centred on 10.6 h" in said(SOLAR, 0, interpolation="nearest", bounds=0.0625)  # bounds that lie
    assert "centred on 14.1 h" in said(SOLAR, 2, bounds=0.0)  # local time, UTC+2
    assert "where in its interval a record is stamped is not known" in said(SOLAR, 0.5)
    assert "stamped at the middle" in said(PRECIPITATION, 1.5)
    assert "read 1.5 h too early: its records are stamped at the start" in said(PRECIPITATION, 0)
    assert "stamped at the start" in said(PRECIPITATION, 0, interpolation="linear")  # perhaps of an instant
    assert "stamped at the start" in said(PRECIPITATION, 0, interpolation="lower")


def test_a_gap_in_the_forcing_is_named(case_a, data, tmp_path):
    gap = write_forcing(tmp_path / "f.nc", data, lacking=slice(3000, 3008))
    words = "2005-01-10 21:00 is followed by 2005-01-12 00:00. Expected a record every 3 h"
    assert words in described(case_a, SOLAR, gap)
    assert "has no file of 2011-2013" in described(case_a, SOLAR, gap, year_last=2013)


def test_check_finds_libraries_that_are_in_a_module_not_loaded(case_a, tmp_path, monkeypatch):
    ldd = tmp_path / "bin" / "ldd"
    ldd.parent.mkdir()
    ldd.write_text(
        "#!/bin/sh\nprintf '\\tlibc.so.6 => /lib/libc.so.6 (0x1)\\n\\tlibnetcdff.so.7 => not found\\n'\n"
    )
    ldd.chmod(0o755)
    config = write_config(tmp_path, case_a)
    model_of(config).check()
    monkeypatch.setenv("PATH", str(ldd.parent), prepend=":")
    with pytest.raises(BadInput, match=r"not found here: libnetcdff\.so\.7"):
        model_of(config).check()


def test_check_refuses_absent_plants_unknown_fields_and_impossible_priors(case_a, data, tmp_path):
    prior = {"kind": "logit-normal", "scale": 0.3, "bounds": {"relative": 0.5}}

    def problem(**changes) -> str:
        with pytest.raises(BadInput) as caught:
            checked_parts(settings.load(write_config(tmp_path, case_a, **changes)))
        return str(caught.value)

    absent = {VCMAX: {"pfts": ["c4_grass"], "prior": prior}}
    assert "c4_grass does not grow at the site" in problem(parameters=absent)
    normal = {VCMAX: {"pfts": [NEEDLELEAF], "prior": {"kind": "normal", "sd": 40}}}
    assert "is not possible" in problem(parameters=normal)
    fields = [f"  {n:>3} FIELD_{n}            m" for n in range(200)] + [
        "  829 FATES_GPP         kg m-2 s-1           "
    ]
    (case_a.run_directory / "lnd.log").write_text("\n".join(fields))
    assert "the model has no history field QFLX_EVAP_TOT" in problem()
    (case_a.run_directory / "lnd.log").unlink()
    other = tmp_path / "fates.nc"
    cdl.convert(data / "fates" / FATES["B"], other)
    assert "is of another version of FATES" in problem(model={"parameter_file": str(other)})
    assert "no 29 February" in problem(model={"start": "2004-02-29"})


DEFINITION = """<?xml version="1.0"?>
<namelist_definition>
<entry id="fates_stomatal_model" type="char*30" category="physics" group="clm_inparm"
       valid_values="ballberry1987,medlyn2011">Set the FATES stomatal model.</entry>
<entry id="use_bedrock" type="logical" category="clm_physics" group="clm_inparm"
       valid_values="" >Soil depth.</entry>
<entry id="zetaMaxStable" type="real" category="clm_physics"
       group="friction_velocity" >Stable conditions.</entry>
<entry id="int_snow_max" type="real" group="scf_swenson_lawrence_2012_inparm">Snow.</entry>
<entry id="snow_days" type="integer" group="atm2lnd_inparm" valid_values="1,2">In another group.</entry>
<entry id="res" type="char*30" group="default_settings">Of the build alone.</entry>
</namelist_definition>
"""


def write_checkout(folder: Path, case: Case) -> Path:
    """Write what a checkout tells about keys and fields, and name it in lnd_in as build-namelist does."""
    source = folder / "CTSM"
    for path, text in {
        "bld/namelist_files/namelist_definition_ctsm.xml": DEFINITION,
        "bld/namelist_files/namelist_definition_drv_flds.xml": DEFINITION.replace(
            "use_bedrock", "megan_specifier"
        ),
        "src/biogeophys/WaterFluxType.F90": "call hist_addfld1d ( &\n"
        " fname=this%info%fname('QFLX_EVAP_TOT'), &\n",
        "src/fates/main/FatesHistoryInterfaceMod.F90": "call this%set_history_var(vname='FATES_GPP', &\n",
        "src/main/many.F90": "".join(
            f"call hist_addfld1d (fname = 'FIELD{i}', units='m')\n" for i in range(200)
        ),
    }.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    (folder / "SourceMods" / "src.clm").mkdir(parents=True)
    (folder / "SourceMods" / "src.clm" / "mine.F90").write_text("call hist_addfld1d (fname='MINE')")
    lnd_in = case.run_directory / "lnd_in"
    text = re.sub(r"/\S+/bld/CLM build-namelist", f"{source}/bld/CLM build-namelist", lnd_in.read_text())
    lnd_in.write_text(re.sub(r"-envxml_dir \S+", f"-envxml_dir {folder}", text))
    return source


def test_keys_and_values_are_those_of_the_checkout(case_a, tmp_path):
    write_checkout(tmp_path / "hyy", case_a)

    def said(**keys: Any) -> str:
        config = write_config(tmp_path, case_a, model={"namelist": keys})
        try:
            checked_parts(settings.load(config))
        except BadInput as error:
            return str(error)
        return model_of(config).template.lnd_in

    wrong = said(fates_stomatal_model="ballberry")
    assert "expected" in wrong.lower()
    assert "one of ballberry1987, medlyn2011, got 'ballberry'" in wrong
    assert "did you mean ballberry1987?" in wrong
    assert "use_bedrok: the model has no such key. Try: did you mean use_bedrock?" in said(use_bedrok=True)
    assert "the model has no such key" in said(megan_specifier="x")  # of another file than lnd_in
    assert "Expected true or false, got 'on'" in said(use_bedrock="on")
    assert "Expected a number, got True" in said(zetamaxstable=True)
    assert "Expected a whole number, got 1.5" in said(snow_days=1.5)
    assert "Expected one of 1, 2, got 3" in said(snow_days=3)
    assert "res: lnd_in has no group default_settings" in said(res="0.9x1.25")
    assert "is set by fatescal for each member" in said(hist_nhtfrq=0)
    text = said(fates_stomatal_model="medlyn2011", zetaMaxStable=1, snow_days=2)
    assert " fates_stomatal_model = 'medlyn2011'\n" in text
    assert text.count("zetamaxstable = 1\n") == 1
    assert "&atm2lnd_inparm\n snow_days = 2\n" in text


def test_without_the_checkout_keys_are_those_of_the_case(case_a, tmp_path):
    def lines(**keys: Any) -> str:
        return "\n".join(model_of(write_config(tmp_path, case_a, model={"namelist": keys})).looked_at)

    assert (
        "fates_stomatal_model: whether these values are valid is not known (no checkout at /cluster"
        in lines(fates_stomatal_model="medlyn2011")
    )
    assert "history       FATES_GPP, QFLX_EVAP_TOT cannot be checked: the case has not run" in lines()
    with pytest.raises(BadInput, match=r"lnd_in of the case has no such key\. Try: did you mean use_bedrock"):
        lines(use_bedrok=True)
    with pytest.raises(BadInput, match=r"Expected a text, as 'net' in the case, got 1"):
        lines(fates_stomatal_assimilation=1)
    with pytest.raises(BadInput, match=r"Expected a number, as 42 in the case, got '42'"):
        lines(expensive="42")


def test_history_fields_are_those_of_the_source_where_the_case_has_not_run(case_a, tmp_path):
    write_checkout(tmp_path / "hyy", case_a)

    def lines(name: str) -> str:
        observed = {"GPP": {"model": name, "unit": "g C m-2 d-1", "error": {"sd": 0.5}}}
        config = write_config(tmp_path, case_a, observations={"variables": observed})
        return "\n".join(model_of(config).looked_at)

    assert "history       FATES_GPP are in the source; the first run shows" in lines("FATES_GPP")
    assert "MINE are in the source" in lines("MINE")
    with pytest.raises(BadInput, match=r"no history field FATES_GP\. Try: did you mean FATES_GPP\?"):
        lines("FATES_GP")
    with pytest.raises(BadInput, match="no history field BANANA"):
        lines("BANANA")


def test_a_parameter_with_plant_types_needs_them_and_one_without_has_none(case_a, tmp_path):
    prior = {"kind": "logit-normal", "scale": 0.3, "bounds": {"relative": 0.5}}

    def said(name: str, **more: Any) -> str:
        with pytest.raises(BadInput) as caught:
            calibrated_space(
                settings.load(write_config(tmp_path, case_a, parameters={name: {"prior": prior, **more}}))
            )
        return str(caught.value)

    assert f"parameters.{VCMAX} needs pfts: the model has a value for each plant type" in said(VCMAX)
    assert "needleleaf_evergreen_extratrop_tree" in said(VCMAX)
    words = "parameters.fates_vai_top_bin_width has one value for all plant types"
    assert words in said("fates_vai_top_bin_width", pfts=[NEEDLELEAF])
    several = said("fates_stoich_nitr", pfts=[NEEDLELEAF])
    assert "parameters.fates_stoich_nitr: the model has several values" in several
    assert "fates_stoich_nitr_leaf" in several


def test_check_tells_what_it_looked_at_and_what_it_will_cost(case_a, tmp_path):
    config = write_config(
        tmp_path, case_a, model={"end": "2006-12-31", "spinup": {"years": 10, "reuse": "none"}}
    )
    chosen = settings.load(config)
    lines = "\n".join(costs.describe_model(chosen, model_of(config), 29, 10))
    assert "61.8474 N 24.2950 E" in lines
    assert (
        "CLMGSWP3v1.TPQW: 2004 to 2010, 84 files, stamped at the middle of the interval; the spin-up reads "
        "2009-2010, 2004-2010, 2004" in lines
    )
    cost = "about 4.2 to 7.7 core-hours for 348 model years (43 to 80 s each), 1.4 to 2.7 h"
    assert cost in lines  # 29 x 12 x 43 to 80 s; 10 x 12 x 43 to 80 s
    assert "disk          about 1.4 GB" in lines  # 348 x 4 MB
    assert "time-out      300 s may be too short: a run of 12 model years takes 516 to 960 s" in lines
    default = tmp_path / "calibration/members/preparation/canary-default"
    default.mkdir(parents=True)
    (default / "member.json").write_text(json.dumps({"status": 0, "seconds": 5.0}))
    lines = "\n".join(costs.describe_model(chosen, model_of(config), 29, 10))
    assert "about 0.48 core-hours for 348 model years (5 s each, as the default run took), 0.17 h" in lines
    assert "time-out" not in lines


def test_small_costs_have_digits_and_a_time_out_shorter_than_any_run_is_refused(case_a, tmp_path):
    short = {"start": "2005-05-01", "end": "2005-05-10", "spinup": {"years": 1}}
    config = write_config(
        tmp_path, case_a, model=short, observations={"calibration": ["2005-05-01", "2005-05-10"]}
    )
    lines = "\n".join(costs.describe_model(settings.load(config), model_of(config), 3, 1))
    assert "about 0.013 to 0.024 core-hours for 1.1 model years" in lines
    assert "disk          about 0.0043 GB" in lines
    assert "the spin-up reads 2004-2005" in lines  # 2004-05-01 to 2005-04-30
    config = write_config(tmp_path, case_a, model={**short, "timeout": "20 s"})
    with pytest.raises(
        BadInput, match=r"time-out of 20 s is shorter than any run: a run of 1 model years takes 43 to 80 s"
    ):
        model_of(config).check()


def test_plant_types_are_called_by_the_numbers_of_the_case_s_own_file(case, tmp_path):
    grass = {"A": 13, "B": 11}[case.version]
    prior = {"kind": "logit-normal", "scale": 0.3, "bounds": {"relative": 0.5}}
    one = {VCMAX: {"pfts": [2, grass], "prior": prior, "default": {2: 60, grass: 70}}}
    space = calibrated_space(settings.load(write_config(tmp_path, case, parameters=one)))
    assert space.default == {NAME: 60.0, f"{VCMAX}_cool_c3_grass": 70.0}
    wrong = {VCMAX: {"pfts": [15], "prior": prior}}
    with pytest.raises(BadInput, match=f"no PFT number 15.*{grass} cool_c3_grass"):
        calibrated_space(settings.load(write_config(tmp_path, case, parameters=wrong)))


def test_submitting_the_case_makes_no_member_run_again(case_a, tmp_path):
    config = write_config(tmp_path, case_a)
    before = model_of(config).identity
    runconfig = case_a.run_directory / "nuopc.runconfig"
    text = re.sub(r"(logfile = \w+\.log)", r"\1.261123-101010", runconfig.read_text())
    runconfig.write_text(text.replace("stop_n = 1", "stop_n = 5"))
    assert model_of(config).identity == before
    runconfig.write_text(text.replace("orb_iyear = 2000", "orb_iyear = 1850"))
    assert model_of(config).identity != before


def cime_case(folder: Path, case: Case) -> Path:
    """Return the folder of a CIME case that answers xmlquery for these two."""
    folder.mkdir(parents=True)
    query = folder / "xmlquery"
    query.write_text(
        "#!/bin/sh\n"
        f'case "$1 $2" in "--value RUNDIR") echo {case.run_directory};;\n'
        f'"--value EXEROOT") echo {case.executable.parent};;\n'
        '*) for last; do :; done; echo "ERROR:  No results found for variable $last" >&2; exit 1;; esac\n'
    )
    query.chmod(0o755)
    return folder


def test_paths_in_streams_are_escaped(case_a):
    template = Template(case_a.run_directory, case_a.executable, {})
    odd = (Path("/data/a & b/<Hyytiälä>.nc"),)
    text = streams.with_forcing(template.files["datm.streams.xml"], {"Faxa_swdn": odd}, (2004, 2005))
    assert "<file>/data/a &amp; b/&lt;Hyytiälä&gt;.nc</file>" in text
    assert streams.parse(text)[0].files == odd


def test_the_checks_of_a_real_case_pass_on_the_stand_in(case_a, tmp_path):
    real = Path(__file__).parents[1] / "real_ctsm" / "test_real_case.py"
    done = run_program(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(real)],
        tmp_path,
        FATESCAL_CTSM_CASE=str(cime_case(tmp_path / "cases" / "hyy", case_a)),
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d passed", done.stdout)
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_a_case_is_asked_for_its_run_directory(case_a, tmp_path):
    folder = cime_case(tmp_path / "cases" / "hyy", case_a)
    config = write_config(tmp_path, case_a)
    content = yaml.safe_load(config.read_text())
    del content["model"]["run_directory"], content["model"]["executable"]
    content["model"]["case"] = str(folder)
    config.write_text(yaml.safe_dump(content))
    found = site_models.located(settings.load(config)).by_site[""].model
    assert isinstance(found, ClmFatesOptions)
    assert (found.run_directory, found.executable) == (str(case_a.run_directory), str(case_a.executable))
    content["model"]["case"] = str(tmp_path)
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(BadInput, match=r"does not answer \./xmlquery"):
        site_models.located(settings.load(config))


def test_a_site_on_the_web_gives_place_surface_and_forcing(case_a, data, tmp_path):
    site = write_site(tmp_path / "site & <more>", data, (2004, 2005))
    archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", site))
    given = {"url": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    config = write_config(
        tmp_path,
        case_a,
        model={"site": given, "spinup": {"years": 1}, "end": "2005-01-20"},
        observations={"calibration": ["2005-01-01", "2005-01-20"]},
    )
    chosen = site_models.located(settings.load(config))
    assert site_models.located(settings.load(config)) == chosen  # unpacked once
    checked_parts(chosen)
    model = site_models.model(chosen.by_site[""], lambda: False)
    assert isinstance(model, ClmFates)
    folder = tmp_path / "member"
    folder.mkdir()
    model.effect_run({}, folder)
    unpacked = tmp_path / "calibration" / "site" / given["sha256"][:16]
    assert f"fsurdat = '{unpacked}/surfdata_62N.nc'" in (folder / "lnd_in").read_text()
    assert " scol_lat = 62.0\n" in (folder / "nuopc.runconfig").read_text()
    assert model.read(folder).sizes["time"] == 20
    weather = [stream for stream in model.template.streams if stream.is_weather]
    assert [(s.year_first, s.year_last, len(s.files)) for s in weather] == [(2004, 2005, 24)] * 3
    assert all(file.is_relative_to(unpacked) for stream in weather for file in stream.files)


def test_a_site_that_is_not_whole_is_refused(case_a, data, tmp_path):
    def problem(**site: str) -> str:
        with pytest.raises(BadInput) as caught:
            checked_parts(
                site_models.located(settings.load(write_config(tmp_path, case_a, model={"site": site})))
            )
        return str(caught.value)

    assert "there is no folder" in problem(path="nowhere")
    compact = tmp_path / "compact"
    compact.mkdir()
    shutil.copy(data / "ctsm" / "inputs" / "surfdata_HYY_ctsm54.nc", compact / "surfdata.nc")
    shutil.copy(data / "hyytiala" / "gswp3_2004_2013.nc", compact)
    said = problem(path=str(compact))
    assert "Expected FSDS(time, lat, lon) with lat = lon = 1" in said
    assert "gswp3_2004_2013.nc cannot be read by the data atmosphere" in said
    assert "got FSDS(time=29200)" in said
    site = write_site(tmp_path / "site", data, (2005,))
    (site / "datmdata" / "clmforc.GSWP3.c2011.0.5x0.5.Prec.HYY.2005-03.nc").unlink()
    assert "look at 2005-03" in problem(path=str(site))
    (site / "surfdata_62N.nc").unlink()
    assert "0 surface data sets" in problem(path=str(site))
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as packed:
        packed.writestr("../outside.nc", "x")
    digest = hashlib.sha256(bad.read_bytes()).hexdigest()
    assert "wants to write outside" in problem(url=bad.as_uri(), sha256=digest)
    assert "another file than expected" in problem(url=bad.as_uri(), sha256="0" * 64)
    assert "cannot be downloaded" in problem(url=(tmp_path / "none.zip").as_uri(), sha256="0" * 64)
    assert list((tmp_path / "calibration" / "site").glob("*")) == []


@pytest.mark.parametrize("name", ["hyytiala_clm_fates", "hyytiala_keetz2025"])
def test_the_ready_made_configs_check(name, data, tmp_path, monkeypatch):
    version = {"hyytiala_clm_fates": "A", "hyytiala_keetz2025": "B"}[name]
    case = write_case(tmp_path / "case", data, version)
    monkeypatch.setenv("FATESCAL_CTSM_CASE", str(cime_case(tmp_path / "hyy", case)))
    monkeypatch.setenv("FATESCAL_DATA", str(data))
    chosen = settings.load(Path(__file__).parents[2] / "config" / f"{name}.yaml")
    parts = checked_parts(site_models.located(chosen))
    options = chosen.by_site[""].model
    assert isinstance(options, ClmFatesOptions)
    build = options.build
    assert build is not None
    weather = [s for s in Template(case.run_directory, case.executable, {}).streams if s.is_weather]
    for looked_at in weather:  # a case that is built from the config gets the same files
        key = f"{looked_at.name}:datafiles"
        files = case_plan.expanded(key, build.user_nl_datm_streams[key])
        assert files == [str(path) for path in looked_at.files]
        assert len(files) == 84
    assert [build.xml[f"DATM_YR_{end}"] for end in ("START", "END")] == ["2004", "2010"]
    with pytest.raises(BadInput, match="no file is called /nowhere/"):
        case_plan.expanded(f"{SOLAR}:datafiles", "/nowhere/*.nc")
    expected = [62.0, 58.0, 78.0, 8.0, 8.0, 8.0]
    assert (
        list(parts.space.default.values()) == expected
    )  # broadleaf 58: the file counts, not the study's table


# ---- whole calibrations


def statuses(run: Path, stage: str) -> list[int]:
    with h5py.File(run / "stages" / f"{stage}.h5") as file:
        return file["status"][:].tolist()


def runs_of(log: Path) -> list[list[str]]:
    """Return start, days, initial state and folder (stage, member) of each run of the executable."""
    found = []
    for line in log.read_text().splitlines():
        _, start, length, _, finidat, folder = line.split()
        stage, member = Path(folder).parts[-2:]
        found.append([start, length, finidat, stage, member.split(".")[0]])
    return found


@pytest.mark.mpi
@pytest.mark.slow
def test_a_calibration_survives_members_that_fail_hang_and_tear(data, tmp_path):
    case = write_case(tmp_path / "case", data, "A", years=(2004, 2005))
    config = write_config(
        tmp_path, case, model={"timeout": "22 s"}, calibrate={"iterations": 1, "members": 9}
    )
    theta = 62.0, 8.0
    prior = calibrated_space(settings.load(config))
    drawn = [prior.theta(stream(3, "prior", j).standard_normal(2))[0, 0] for j in range(1, 9)]
    crash, hang, tear = sorted(range(8), key=lambda j: -abs(drawn[j] - theta[0]))[:3]
    faults: dict[str, Any] = {
        f"STANDIN_{word}": f"{VCMAX} {NEEDLELEAF} {drawn[j] - 0.001:.4f} {drawn[j] + 0.001:.4f}"
        for word, j in (("CRASH", crash), ("HANG", hang), ("TRUNCATE", tear))
    }
    done = fatescal(3, config, STANDIN_LOG=str(tmp_path / "log"), **faults)
    require_scored(done)
    run = tmp_path / "calibration"
    expected = np.zeros(9, int)
    expected[[crash + 1, hang + 1, tear + 1]] = Status.MODEL_ERROR, Status.TIME_OUT, Status.TRUNCATED
    assert statuses(run, "evaluation-00") == expected.tolist()
    hung = json.loads((run / f"members/evaluation-00/{hang + 1:04d}/member.json").read_text())["reason"]
    assert hung.startswith("still running after 22 s, ended\nit came to 2005-07-02")
    reason = json.loads((run / f"members/evaluation-00/{crash + 1:04d}/member.json").read_text())["reason"]
    assert "BalanceCheckMod.F90 at line 742" in reason

    runs = runs_of(tmp_path / "log")
    spin_ups = [r for r in runs if r[3] == "preparation" and r[4] == "spin-up"]
    assert [r[:3] for r in spin_ups] == [["20040101", "365", "cold"]]
    state = run / "members/preparation/spin-up/fatescal.clm2.r.2005-01-01-00000.nc"
    assert state.is_file()
    assert {tuple(r[:3]) for r in runs if r[3] != "preparation"} == {("20050101", "365", str(state))}
    left = {path.name for path in (run / "members/evaluation-00/0000").iterdir()}
    assert "fatescal.clm2.h0a.2005-01-02-00000.nc" in left
    assert not any(".r." in name or "rpointer" in name for name in left)

    told = fatescal(0, "status", run).stdout
    assert "prepared: canary-default, canary-" in told
    assert "under way" not in told

    with open(run / "posterior.csv") as file:
        rows = list(csv.DictReader(file))
    draws = np.array([[float(r[f"{n}_{NEEDLELEAF}"]) for n in (VCMAX, SLOPE)] for r in rows])
    sd = draws.std(axis=0)
    assert (np.abs(draws.mean(axis=0) - [0.85 * 62, 0.8 * 8]) < 4 * sd).all()


@pytest.mark.mpi
@pytest.mark.slow
def test_members_go_on_from_their_own_state_whatever_the_ranks_and_interruptions(data, tmp_path):
    case = write_case(tmp_path / "case", data, "B", years=(2004, 2005))
    config = write_config(
        tmp_path,
        case,
        model={"spinup": {"years": 1, "reuse": "member"}},
        calibrate={"iterations": 1, "members": 5},
        posterior={"members": 3},
    )
    first = fatescal(2, "run", "--time-limit", "5s", config, STANDIN_LOG=str(tmp_path / "log"))
    assert first.returncode == 75, first.stderr
    done = fatescal(4, config, STANDIN_LOG=str(tmp_path / "log"))
    require_scored(done)
    runs = runs_of(tmp_path / "log")
    finished = Counter((stage, member) for *_, stage, member in runs)
    assert sum(finished.values()) - len(finished) <= 2  # interrupted ones alone ran again

    members = tmp_path / "calibration/members"
    for start, length, finidat, stage, member in runs:
        if stage == "preparation":
            continue
        if stage == "evaluation-01":
            state = members / "evaluation-00" / member / "fatescal.clm2.r.2006-01-01-00000.nc"
            assert [start, length, finidat] == ["20050101", "365", str(state)]
        else:
            assert [start, length, finidat] == ["20040101", "730", "cold"]

    again = members / "evaluation-01" / "0002.part-again"
    again.mkdir()
    lnd_in = (members / "evaluation-01" / "0002" / "lnd_in").read_text()
    assert " fates_paramfile = 'fates_paramfile.nc'\n" in lnd_in  # the folder had another name while it ran
    assert ".part-" not in lnd_in
    assert "repeat itself" not in done.stdout
    theta = json.loads((members / "evaluation-01/0002/member.json").read_text())["parameters"]
    model = model_of(config)
    model.run(theta, again, members / "evaluation-00" / "0002")
    assert model.read(again).identical(model.read(members / "evaluation-01" / "0002"))
