"""`fatescal build` with the stand-in CIME: one case from a config, only what a change needs, traps,
interruptions.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import standin_cime
import standin_slurm
import yaml
from clm_problem import write_config
from ctsm_case import COMPSETS, FATES, XML, Case, write_site
from standin_checkout import git

from fatescal import config
from fatescal.base.errors import BadInput, RunFailed
from fatescal.cli import model_verbs
from fatescal.models.clm_fates import namelist, streams
from fatescal.models.clm_fates.cime import running_builds
from fatescal.models.clm_fates.clm_options import BuildOptions, ClmFatesOptions
from fatescal.models.clm_fates.site_folder import SiteFolder
from fatescal.workflow import problem, site_models


class Built:
    """A config with `source` and `build`, its machine file, and what was built from it."""

    def __init__(self, folder: Path, data: Path, version: str) -> None:
        self.folder, self.version = folder, version
        self.root, self.case, self.output = (
            folder / "CTSM",
            folder / "cases" / "hyy",
            folder / "scratch" / "hyy",
        )
        machine = standin_cime.Machine(folder / "scratch")
        standin_cime.install(self.root, version, data, {"mymachine": machine})
        parameters = self.root / "src" / "fates" / "parameter_files"
        parameters.mkdir(parents=True)
        suffix = ".json" if version == "A" else ".cdl"
        shutil.copy(data / "fates" / FATES[version], parameters / f"fates_params_default{suffix}")
        self.cime: dict[str, Any] = {"machine": "mymachine", "compiler": "gnu", "project": "nn1234k"}
        self.config = write_config(folder, Case(folder, folder, version))
        self.edit(self._pose)

    def _pose(self, content: dict[str, Any]) -> None:
        model = content["model"]
        del model["run_directory"], model["executable"]
        model["source"] = {"path": str(self.root)}
        flags = {"use_fates_sp": True, "use_fates_nocomp": True} if self.version == "B" else {}
        xml = {**XML, "CCSM_CO2_PPMV": 389.8}
        compset = COMPSETS[self.version]
        model["build"] = {"case": "cases/hyy", "compset": compset, "xml": xml, "user_nl_clm": flags}

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        content = yaml.safe_load(self.config.read_text())
        change(content)
        self.config.write_text(yaml.safe_dump(content, sort_keys=False))

    def set(self, section: str, **values: object) -> None:
        """Change keys of `build`, or of a section in it; None removes one."""

        def change(content: dict[str, Any]) -> None:
            build = content["model"]["build"]
            target = build.setdefault(section, {}) if section else build
            target.update(values)
            for name in [name for name, value in values.items() if value is None]:
                del target[name]

        self.edit(change)

    def build(self, *, download: bool = False) -> str:
        machine = self.folder / "machine.yaml"
        machine.write_text(yaml.safe_dump({"cime": self.cime}))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert model_verbs.of_models("build", self.config, str(machine), download=download) == 0
        return said.getvalue()

    def refused(self, error: type[Exception] = BadInput) -> str:
        with pytest.raises(error) as caught:
            self.build()
        return str(caught.value)

    @property
    def lnd_in(self) -> str:
        return (self.output / "run" / "lnd_in").read_text()

    @property
    def builds(self) -> int:
        return (self.case / "CaseStatus").read_text().count("case.build success")


@pytest.fixture
def built(data, tmp_path) -> Built:
    return Built(tmp_path, data, "A")


def test_a_case_is_built_once_and_a_change_costs_what_it_must(built):
    with pytest.raises(BadInput, match=r"hyy is not built. Try: python -m fatescal build"):
        site_models.located(config.load(built.config))
    said = built.build()
    assert [line.split()[0] for line in said.splitlines()] == [
        *("case", "xml", "set", "namelists", "namelists", "build", "build", "case"),
    ]
    status = (built.case / "CaseStatus").read_text()
    assert "git repository" not in status
    values = {
        key: namelist.get(built.lnd_in, key)
        for key in ("co2_ppmv", "hist_fincl1", "hist_empty_htapes", "hist_nhtfrq", "use_fates_sp")
    }
    fields = "'FATES_GPP','QFLX_EVAP_TOT'"
    assert values == dict(zip(values, ["389.8", fields, ".true.", "-24", ".true."], strict=True))
    located = site_models.located(config.load(built.config)).by_site[""].model
    assert isinstance(located, ClmFatesOptions)
    assert located.run_directory == str(built.output / "run")
    problem.checked_parts(site_models.located(config.load(built.config)))

    assert built.build().endswith("is as the config says, nothing to do\n")
    assert (built.case / "CaseStatus").read_text() == status

    built.set("user_nl_clm", fates_spitfire_mode=1)  # namelists alone
    with pytest.raises(BadInput, match=r"user_nl_clm changed since .* was built"):
        site_models.located(config.load(built.config))
    built.build()
    assert namelist.get(built.lnd_in, "fates_spitfire_mode") == "1"
    built.set("xml", CCSM_CO2_PPMV=420, NTHRDS=2)  # setup again, and build
    said = built.build()
    assert "xml           CCSM_CO2_PPMV=420, NTHRDS=2\nset up        case.setup --reset\n" in said
    assert (namelist.get(built.lnd_in, "co2_ppmv"), built.builds) == ("420", 2)
    built.set(
        "xml", CCSM_CO2_PPMV=None, DEBUG=True, NTHRDS=2
    )  # a value no longer given goes back; a clean build
    built.set("user_nl_clm", fates_spitfire_mode=None)
    built.build()
    assert (namelist.get(built.lnd_in, "co2_ppmv"), built.builds) == ("367.0", 3)
    assert namelist.get(built.lnd_in, "fates_spitfire_mode") == "0"
    (built.case / "SourceMods" / "src.clm").mkdir(parents=True)
    (built.case / "SourceMods" / "src.clm" / "mine.F90").write_text("! mine")
    assert "since the last build: SourceMods/src.clm/mine.F90\nbuild " in built.build()
    assert built.builds == 4
    assert built.build().endswith("nothing to do\n")
    built.set("", compset=COMPSETS["A"].replace("CLM60", "CLM50"))  # another case
    assert "hyy.before-1 is the old one" in built.build()
    assert built.builds == 1
    assert built.build().endswith("nothing to do\n")


def test_an_interrupted_build_goes_on(built, monkeypatch):
    built.case.parent.mkdir()
    (built.case.parent / ".hyy.being_made").touch()  # create_newcase was killed
    built.case.mkdir()
    monkeypatch.setenv("STANDIN_CIME_DIE", "case.build")
    built.refused()
    monkeypatch.delenv("STANDIN_CIME_DIE")
    with pytest.raises(BadInput, match="is not built"):
        site_models.located(config.load(built.config))
    said = built.build()
    assert "made" not in said
    assert "set up" not in said
    assert "cesm.exe in" in said
    monkeypatch.setenv("STANDIN_BUILD_FAIL", "1")
    built.set("xml", DEBUG=True)
    said = built.refused(RunFailed)
    assert "BUILD FAIL: clm.buildlib failed" in said
    assert "Can't open module file 'pio.mod'" in said
    monkeypatch.delenv("STANDIN_BUILD_FAIL")
    built.build()
    assert built.builds == 2


def test_a_shared_library_that_does_not_compile_is_quoted_and_no_key_is_blamed(built, monkeypatch):
    monkeypatch.setenv("STANDIN_BUILD_FAIL", "pio")
    said = built.refused(RunFailed)
    assert said.startswith("the model does not compile: case.build says: ERROR: ")
    assert "mpi-serial" in said  # a part of the log's path
    assert "mpilib" not in said
    assert "CMake Error at cmake/FindNetCDF.cmake:12 (message):" in said
    assert "Werror" not in said
    assert "Performing" not in said


def test_the_first_build_knows_of_no_last_one(built):
    git(built.root.parent, "init", "-q", str(built.root))
    git(built.root, "add", "-A")
    git(built.root, "commit", "-qm", "as released")
    (built.root / "src" / "mine.F90").write_text("! mine")
    said = built.build()
    assert "source        edited by you: src/mine.F90\n" in said
    assert "last build" not in said
    (built.root / "src" / "mine.F90").unlink()
    assert "source        edited, or put back, since the last build: src/mine.F90\n" in built.build()


def test_a_corrected_description_of_the_machine_is_used(built, tmp_path, monkeypatch):
    own = tmp_path / "home" / ".cime"
    own.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(own.parent))
    (own / "config_machines.xml").write_text("BROKEN")
    assert "buildlib.pio FAILED" in built.refused(RunFailed)
    (own / "config_machines.xml").write_text("corrected")
    said = built.build()
    assert "config_machines.xml changed since the case was made, which never compiled" in said
    assert built.builds == 1

    (own / "mymachine.cmake").write_text('string(APPEND SLIBS " -llapack")')  # compiled differently
    said = built.build()
    assert "mymachine.cmake changed; CIME_OUTPUT_ROOT" in said
    assert (built.case / "cmake_macros" / "mymachine.cmake").is_file()
    assert built.builds == 2
    assert built.build().endswith("nothing to do\n")
    (own / "notes.txt").write_text("not CIME's")
    assert built.build().endswith("nothing to do\n")


def case_builds(case: Path) -> list[int]:
    """Return the processes that build a case, of stand-ins that work for another process as well."""
    numbers = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(process / "cwd")) == case:
                numbers.append(int(process.name))
    return numbers


def test_a_killed_build_takes_case_build_with_it(built):
    built.build()
    built.set("xml", DEBUG=True)
    environment = os.environ | {"STANDIN_BUILD_SECONDS": "60"}
    command = [sys.executable, "-m", "fatescal", "build", built.config, "--machine", "machine.yaml"]
    with subprocess.Popen(command, cwd=built.folder, env=environment, stdout=-3, stderr=-3) as first:
        while not running_builds(built.case):
            assert first.poll() is None
            time.sleep(0.1)
        first.kill()
    for _ in range(100):
        if not case_builds(built.case):
            break
        time.sleep(0.1)
    assert case_builds(built.case) == []
    assert "cesm.exe in" in built.build()


def test_a_case_build_that_runs_already_is_not_joined_by_another(built):
    built.build()
    built.set("xml", DEBUG=True)
    environment = os.environ | {"STANDIN_BUILD_SECONDS": "60"}
    with subprocess.Popen("./case.build", cwd=built.case, env=environment, stdout=-3, stderr=-3) as other:
        while not running_builds(built.case):
            time.sleep(0.05)
        said = built.refused()
        assert f"is running (process {other.pid}" in said
        assert f"or end it: kill {other.pid}" in said
        other.kill()
    time.sleep(0.5)
    built.build()


def test_a_multi_instance_case_is_not_changed_under_its_job_and_gets_one_instance_again(built, monkeypatch):
    for name, value in standin_slurm.install(built.folder / "slurm").items():
        monkeypatch.setenv(name, value)
    built.set("", mpilib="openmpi")
    built.set("xml", BATCH_SYSTEM="slurm")
    built.build()
    for words in ("xmlchange NINST=3,MULTI_DRIVER=TRUE", "case.setup --reset --disable-git", "case.build"):
        subprocess.run(["./" + words.split()[0], *words.split()[1:]], cwd=built.case, check=True, stdout=-3)
    monkeypatch.setenv("STANDIN_SLURM_WAIT", "60")
    subprocess.run(["./case.submit"], cwd=built.case, check=True, stdout=-3)
    built.set("user_nl_clm", fates_spitfire_mode=1)
    before = (built.case / "CaseStatus").read_text()
    assert "has job 1000 in the queue" in built.refused()
    assert (built.case / "CaseStatus").read_text() == before
    subprocess.run(["scancel", "1000"], check=True)
    said = built.build()
    assert "NINST=1" in said
    assert not list(built.case.glob("user_nl_clm_0*"))
    assert built.build().endswith("nothing to do\n")
    assert "Expected 1: members run by themselves" in (built.set("xml", NINST=4), built.refused())[1]


def test_missing_input_data_is_named_at_once_and_fetched_when_asked(built, monkeypatch):
    root, server, mods = (built.folder / name for name in ("inputdata", "server", "mods"))
    snow, aerosol = root / "snicar_x.nc", root / "aero_x.nc"
    mods.mkdir()
    (mods / "user_nl_clm").write_text(f"fsnowaging = '{snow}'\n")
    (mods / "user_nl_datm_streams").write_text(f"presaero.clim_2000:datafiles={aerosol}\n")
    built.set("", user_mods=[str(mods)])
    (unread,) = root.rglob("clmforc.Li_2025*hdm*.nc")
    unread.unlink()
    said = built.refused()
    assert "2 input files are missing: " in said
    assert f"{snow} (fsnowaging), {aerosol} (stream presaero.clim_2000)" in said
    assert "Try: python -m fatescal build CONFIG --download" in said
    assert built.builds == 0
    server.mkdir()
    (server / snow.name).touch()
    monkeypatch.setenv("STANDIN_INPUT_SERVER", str(server))
    with pytest.raises(BadInput, match=r"1 input file is .*aero_x\.nc.*fatescal_inputdata\.log tells why"):
        built.build(download=True)
    (server / aerosol.name).touch()
    said = built.build(download=True)
    assert f"not read by this run: {unread} (ctsm: stream_fldfilename_popdens)\n" in said
    assert built.builds == 1
    built.set("user_nl_clm", fates_spitfire_mode=4)  # a run that burns does read it
    assert f"1 input file is missing: {unread} (stream_fldfilename_popdens)" in built.refused()


def test_a_marker_of_create_newcase_does_not_stay(built):
    built.cime["compiler"] = "pgi"
    assert "Compiler pgi not supported" in built.refused()
    assert [path.name for path in built.case.parent.iterdir()] == []


def test_a_case_that_is_not_fatescal_s_is_left_alone(built):
    built.case.mkdir(parents=True)
    assert "fatescal did not make it" in built.refused()
    built.edit(lambda content: content["model"].update(case=str(built.case)))
    assert "goes before model.build: nothing is built" in built.build()


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown variable": ("xml", {"NO_SUCH": 1}, r"model\.build\.xml\.NO_SUCH: xmlquery says: ERROR"),
    "not valid": (
        "xml",
        {"STOP_OPTION": "banana"},
        r"xml\.STOP_OPTION: .*Did not find banana in valid values",
    ),
    "no number": ("xml", {"STOP_N": "abc"}, r"model\.build\.xml\.STOP_N: .*is not valid int"),
    "another CLM": ("xml", {"LND_TUNING_MODE": "clm5_1_GSWP3v1"}, r"Expected clm6_0_\.\.\., for CLM60"),
    "leap days": ("xml", {"CALENDAR": "GREGORIAN"}, r"Expected NO_LEAP"),
    "no place": ("xml", {"PTS_LAT": None}, "does not say where the point is"),
    "no weather": ("xml", {"DATM_YR_END": 2004}, r"within 2004 to 2004"),
    "co2 in vain": ("user_nl_clm", {"co2_ppmv": 700.0}, r"co2_ppmv would do nothing.*CCSM_CO2_PPMV"),
    "unknown key": (
        "user_nl_clm",
        {"no_such_key": 1},
        r"model\.build\.user_nl_clm\.no_such_key: .*not found in",
    ),
    "no file": (
        "user_nl_clm",
        {"fates_paramfile": "/gone.json"},
        r"user_nl_clm\.fates_paramfile: there is no",
    ),
    "two files": (
        "user_nl_clm",
        {"fates_paramfile": "/gone.json", "fsurdat": "/lost.nc"},
        r"fates_paramfile: there is no /gone\.json; .*fsurdat: there is no /lost\.nc\. Try: correct the path",
    ),
    "unknown stream": (
        "user_nl_datm_streams",
        {"CLM.Solar:mapalgo": "none"},
        r"model\.build\.user_nl_datm_streams\.CLM\.Solar:mapalgo: .*not part of valid streamnames",
    ),
    "compset of B": ("", {"compset": COMPSETS["B"]}, r"model\.build\.compset: create_newcase says: .*CLM51"),
    "resolution": ("", {"res": "f09_g17"}, r"model\.build\.res: create_newcase says: .*f09_g17"),
}


def test_what_cime_refuses_or_would_take_without_a_word_comes_with_its_key(built):
    right = built.config.read_text()
    for section, change, words in REFUSED.values():
        built.config.write_text(right)
        built.set(section, **change)
        assert re.search(words, built.refused())
    assert not (built.output / "bld" / "cesm.exe").exists()
    built.config.write_text(right)
    built.build()


def test_the_machine_is_named_where_it_is_wrong(built):
    built.cime["machine"] = "fran"
    assert (
        "cime.machine of the machine file: create_newcase says: ERROR: No machine fran found"
        in built.refused()
    )
    with pytest.raises(BadInput, match=r"what CIME calls this machine"):
        model_verbs.of_models("build", built.config)
    shutil.rmtree(built.root)
    built.cime["machine"] = "mymachine"
    assert "Try: python -m fatescal install" in built.refused()


def test_a_newer_model_has_no_clm51(built):
    def tagged(content: dict[str, Any]) -> None:
        content["model"]["source"].update(url="https://host/CTSM", tag="ctsm5.4.053")
        content["model"]["build"]["compset"] = COMPSETS["B"]

    built.edit(tagged)
    assert "ctsm5.4.053 has no CLM51. Expected CLM60 or CLM50" in built.refused()


def test_a_site_folder_may_hold_links_to_folders(built, data, tmp_path):
    site = write_site(tmp_path / "kept & elsewhere" / "site", data, (2004, 2005))
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "surface.d").symlink_to(site, target_is_directory=True)
    (site / "loop").symlink_to(site, target_is_directory=True)
    found = SiteFolder.of(linked)
    assert found.years == (2004, 2005)
    assert {len(paths) for paths in found.forcing.values()} == {24}
    assert found.user_mods == linked / "surface.d" / "user_mods"


def test_a_mistyped_stream_is_blamed_and_not_one_of_the_valid_ones(built, data, tmp_path):
    site = write_site(tmp_path / "site", data, (2004, 2005))
    built.edit(lambda content: content["model"].update(site={"path": str(site)}))
    built.set("", xml={"CCSM_CO2_PPMV": 389.8})
    built.set("user_nl_datm_streams", **{"CLMGSWP3v1.Solr:mapalgo": "none"})
    said = built.refused()
    assert said.startswith("model.build.user_nl_datm_streams.CLMGSWP3v1.Solr:mapalgo: preview_namelists says")
    change = {
        "CLMGSWP3v1.Solr:mapalgo": None,
        "topo.observed:mapalgoo": "none",
        "topo.observed:taxmode": "cycle",
    }
    built.set("user_nl_datm_streams", **change)
    assert built.refused().startswith("model.build.user_nl_datm_streams.topo.observed:mapalgoo: ")


def test_user_is_set_for_cime(built, monkeypatch):
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setenv("LOGNAME", "me")
    built.set("xml", NO_SUCH=1)
    assert "NO_SUCH" in built.refused()  # got as far as that


def test_yaml_s_own_ideas_of_words_and_times_are_turned_back():
    given = yaml.safe_load(
        "{CLM_FORCE_COLDSTART: on, DEBUG: no, RUN_STARTDATE: 1994-01-01, JOB_WALLCLOCK_TIME: 12:00:00}"
    )
    build = BuildOptions(case="c", compset="x", xml=given)
    assert list(build.xml.values()) == ["on", "FALSE", "1994-01-01", "12:00:00"]


def test_a_case_may_be_named_by_a_variable_that_need_not_be_set(built, monkeypatch):
    built.edit(lambda content: content["model"].update(case="${MY_CASE:-}"))
    monkeypatch.delenv("MY_CASE", raising=False)
    model = config.load(built.config).by_site[""].model
    assert isinstance(model, ClmFatesOptions)
    assert model.case is None
    monkeypatch.setenv("MY_CASE", "/cases/mine")
    model = config.load(built.config).by_site[""].model
    assert isinstance(model, ClmFatesOptions)
    assert model.case == "/cases/mine"


def test_a_site_folder_gives_place_surface_forcing_and_user_mods(built, data, tmp_path):
    site = write_site(tmp_path / "site", data, (2004, 2005))
    (site / "user_mods" / "user_nl_clm").write_text("use_bedrock = .false.\n")
    built.edit(lambda content: content["model"].update(site={"path": str(site)}))
    built.set("", xml={"CCSM_CO2_PPMV": 389.8})
    built.build()
    assert namelist.get(built.lnd_in, "fsurdat") == str(site / "surfdata_62N.nc")
    assert namelist.get(built.lnd_in, "use_bedrock") == ".false."
    run_directory = built.output / "run"
    assert " scol_lat = 62.0\n" in (run_directory / "nuopc.runconfig").read_text()
    weather = [s for s in streams.parse((run_directory / "datm.streams.xml").read_text()) if s.is_weather]
    assert [(s.year_first, s.year_last, s.year_align, len(s.files)) for s in weather] == [
        (2004, 2005, 2004, 24)
    ] * 3
    assert all(file.parent == site / "datmdata" for stream in weather for file in stream.files)
    (site / "user_mods" / "user_nl_clm").write_text("use_bedrock = .true.\n")
    assert "hyy.before-1 is the old one" in built.build()


@pytest.mark.parametrize(("name", "version"), [("hyytiala_clm_fates", "A"), ("hyytiala_keetz2025", "B")])
def test_the_ready_made_configs_build(name, version, data, tmp_path, monkeypatch):
    monkeypatch.delenv("FATESCAL_CTSM_CASE", raising=False)
    built = Built(tmp_path, data, version)
    content = yaml.safe_load((Path(__file__).parents[2] / "config" / f"{name}.yaml").read_text())
    built.root.parent.joinpath("models").mkdir()
    built.root.rename(tmp_path / "models" / content["model"]["source"]["tag"])
    built.config = tmp_path / "config" / f"{name}.yaml"
    built.config.parent.mkdir()
    built.config.write_text(
        yaml.safe_dump(
            {**content, "run": {"name": "hyy", "directory": str(tmp_path / "run")}}, sort_keys=False
        )
    )
    assert "is built" in built.build()
    parts = problem.checked_parts(site_models.located(config.load(built.config)))
    assert list(parts.space.default.values()) == [62.0, 58.0, 78.0, 8.0, 8.0, 8.0]
