"""The stand-in CIME against what the real one left: its words, CaseStatus, return codes, files and traps."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import netCDF4
import pytest
import standin_cime
from ctsm_case import FATES, SURFDATA

from fatescal.models.clm_fates import cdl, namelist, runconfig
from fatescal.models.clm_fates.template import FILES

COMPSETS = {
    "A": "2000_DATM%GSWP3v1_CLM60%FATES-SP_SICE_SOCN_SROF_SGLC_SWAV",
    "B": "2000_DATM%GSWP3v1_CLM51%FATES_SICE_SOCN_SROF_SGLC_SWAV",
}
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture(params=["A", "B"])
def version(request) -> str:
    return request.param


class Cime:
    """A checkout, and one case made from it."""

    def __init__(self, folder: Path, data: Path, version: str) -> None:
        self.folder, self.data, self.version = folder, data, version
        machine = standin_cime.Machine(folder / "scratch", inputdata=folder / "inputdata")
        slurm = standin_cime.Machine(folder / "scratch", batch="slurm")
        self.create = standin_cime.install(
            folder / "CTSM", version, data, {"mymachine": machine, "fram": slurm}
        )
        self.case = folder / "cases" / "hyy"

    def newcase(self, *more: str, **changes: str) -> subprocess.CompletedProcess[str]:
        options = {
            "case": str(self.case),
            "compset": COMPSETS[self.version],
            "res": "CLM_USRDAT",
            "machine": "mymachine",
            "compiler": "gnu",
            "mpilib": "mpi-serial",
            "driver": "nuopc",
        } | changes
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        command = [str(self.create), *words, "--run-unsupported", "--handle-preexisting-dirs", "r", *more]
        return subprocess.run(command, capture_output=True, text=True, env={"USER": "me"} | os.environ)

    def __call__(self, tool: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"./{tool}", *arguments],
            cwd=self.case,
            capture_output=True,
            text=True,
            env=os.environ | environment,
        )

    def ok(self, tool: str, *arguments: str) -> str:
        done = self(tool, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def built(self) -> None:
        """Make a case that runs for two days."""
        assert self.newcase().returncode == 0
        self.ok("xmlchange", "PTS_LON=24.295,PTS_LAT=61.8474,CALENDAR=NO_LEAP,STOP_N=2,STOP_OPTION=ndays")
        self.ok(
            "xmlchange", "RUN_STARTDATE=2004-01-01,DATM_YR_START=2004,DATM_YR_END=2005,DATM_YR_ALIGN=2004"
        )
        self.ok("case.setup", *(["--disable-git"] if self.version == "A" else []))
        keys = "hist_fincl2='FATES_GPP','QFLX_EVAP_TOT'\nhist_nhtfrq=0,-24\nhist_mfilt=12,30\n"
        with (self.case / "user_nl_clm").open("a") as file:
            file.write(keys + f"fates_paramfile='{self.parameters()}'\n")
        assert "MODEL BUILD HAS FINISHED SUCCESSFULLY" in self.ok("case.build", "--skip-provenance-check")

    def parameters(self) -> Path:
        """A FATES parameter file."""
        source = self.data / "fates" / FATES[self.version]
        target = self.folder / f"parameters{'.json' if self.version == 'A' else '.nc'}"
        if self.version == "A":
            target.write_bytes(source.read_bytes())
        else:
            cdl.convert(source, target)
        return target

    def run_file(self, name: str) -> Path:
        return self.folder / "scratch" / "hyy" / "run" / name

    @property
    def status(self) -> str:
        return (self.case / "CaseStatus").read_text()


@pytest.fixture
def cime(data, tmp_path, version) -> Cime:
    return Cime(tmp_path, data, version)


@pytest.fixture
def cime_a(data, tmp_path) -> Cime:
    return Cime(tmp_path, data, "A")


def entries(text: str) -> list[str]:
    """Return the entries of a CaseStatus without times, run numbers and folders."""
    text = re.sub(r"\d{6}-\d{6}", "LID", re.sub(r"(?<=[ '])/\S*/(?=[\w$.]+)", "", text))
    return [re.sub(TIME, "TIME", entry) for entry in text.split(standin_cime.LINE)]


def part(entries_: list[str], first: str, last: str) -> list[str]:
    """Return the entries from one that has `first` in it to the next that has `last`."""
    begin = next(i for i, entry in enumerate(entries_) if first in entry)
    end = next(i for i, entry in enumerate(entries_) if i > begin and last in entry)
    return entries_[begin : end + 1]


def test_a_case_writes_the_eight_files_and_runs(cime):
    cime.built()
    assert {path.name for path in cime.case.glob("user_nl_*")} == {
        f"user_nl_{c}" for c in ("clm", "cpl", "datm", "datm_streams")
    }
    assert all(cime.run_file(name).is_file() for name in FILES)
    text = cime.run_file("nuopc.runconfig").read_text()
    assert [runconfig.get(text, k) for k in ("case_name", "scol_lat", "start_ymd")] == [
        "hyy",
        "61.8474",
        "20040101",
    ]
    assert Path(cime.ok("xmlquery", "--value", "EXEROOT"), "cesm.exe").is_file()
    assert "med_phases_profile" in cime.run_file("nuopc.runseq").read_text()


def test_a_crash_is_no_error_to_the_one_who_submits_and_old_files_are_archived(cime_a):
    cime_a.built()
    cime_a.ok("case.submit", "--no-batch")
    sample = entries((cime_a.data / "ctsm" / "cime" / "CaseStatus").read_text())
    run = "case.run starting", "case.submit success"
    assert part(entries(cime_a.status), *run) == part(sample, *run)
    with netCDF4.Dataset(next(cime_a.run_file("").glob("hyy.clm2.h1a.*.nc"))) as file:
        assert file["FATES_GPP"].shape[0] == 2
    archive = Path(cime_a.ok("xmlquery", "--value", "DOUT_S_ROOT")) / "lnd" / "hist"
    archived = next(archive.glob("*.h1a.*"))
    archived.unlink()
    with (cime_a.case / "user_nl_clm").open("a") as file:
        file.write("fates_paramfile = '/nowhere/none.json'\n")
    cime_a.ok("preview_namelists")  # which does not mind
    before = len(cime_a.status)
    done = cime_a("case.submit", "--no-batch")
    assert done.returncode == 0
    assert "Exception from case_run: ERROR: RUN FAIL: Command" in done.stdout
    assert archived.exists()
    made = entries(cime_a.status[before:])
    words = sample[0].splitlines()  # the sample begins in the middle of this entry
    assert made[3].splitlines()[1:] == words
    assert made[3].startswith("TIME: case.run error ")
    assert made[4:8] == sample[1:5]


def test_instances_have_files_of_their_own_and_a_lock(cime_a):
    assert cime_a.newcase().returncode == 0
    cime_a.ok("xmlchange", "--force", "PTS_LON=24.295")
    cime_a.ok("xmlchange", "MULTI_DRIVER=TRUE,NINST=3")
    cime_a.ok("case.setup")
    cime_a.ok("xmlchange", "NINST=4")
    refused = cime_a("case.build")
    assert refused.returncode == 1
    assert (
        "Detected diff in locked file 'env_mach_pes.xml'\n\t'NINST' has changed from '3' to '4'"
        in refused.stderr
    )
    sample = entries((cime_a.data / "ctsm" / "cime" / "CaseStatus.multi").read_text())
    made = entries(cime_a.status)
    assert made[0] == sample[0]
    assert made[1:-1] == part(sample, "MULTI_DRIVER", "case.build error")
    cime_a.ok("case.setup", "--reset")
    (cime_a.case / "user_nl_clm").open("a").write("hist_mfilt = 99\n")  # too late for the instances
    (cime_a.case / "user_nl_clm_0002").open("a").write("hist_mfilt = 7\n")
    cime_a.ok("preview_namelists")
    found = [namelist.get(cime_a.run_file(f"lnd_in_000{i}").read_text(), "hist_mfilt") for i in (1, 2, 4)]
    assert found == [None, "7", None]
    assert {f"datm_in_000{i}" for i in range(1, 5)} < {p.name for p in cime_a.run_file("").iterdir()}
    cime_a.ok("xmlchange", "NINST=2")
    cime_a.ok("case.setup", "--reset")
    assert (cime_a.case / "user_nl_clm_0004").exists()  # stale, without a word


def test_all_instances_run_and_one_that_fails_takes_all_down(cime_a):
    cime_a.built()
    cime_a.ok("xmlchange", "NINST=2,DOUT_S=FALSE")
    cime_a.ok("case.setup", "--reset", "--disable-git")
    cime_a.ok("case.build")  # which --reset asks for
    (cime_a.case / "user_nl_clm_0002").open("a").write("fates_paramfile = '/nowhere/none.json'\n")
    cime_a.ok("case.submit", "--no-batch")
    assert "model execution error" in cime_a.status
    assert not list(cime_a.run_file("").glob("hyy.clm2_0002.*"))
    (log,) = cime_a.run_file("").glob("cesm.log.*")
    assert "task 1: Exited with exit code 1" in log.read_text()
    assert list(cime_a.run_file("").glob("lnd_0002.log.*"))


MISTAKES = [
    ("xmlchange", "NO_SUCH=1", "No variable NO_SUCH found in case"),
    ("xmlchange", "STOP_OPTION=banana", "Did not find banana in valid values for STOP_OPTION: ['none', "),
    ("xmlchange", "STOP_N=abc", "Entry STOP_N was listed as type int but value 'abc' is not valid int"),
    ("xmlquery", "NO_SUCH", "No results found for variable NO_SUCH"),
    ("case.build", "", "must invoke case.setup script before calling build script"),
    ("preview_namelists", "", "must invoke case.setup"),
]


def test_mistakes_end_with_one_error_line(cime_a):
    assert cime_a.newcase().returncode == 0
    for tool, arguments, words in MISTAKES:
        done = cime_a(tool, *arguments.split())
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("ERROR: ")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_create_newcase_refuses_what_the_version_has_not(cime_a, monkeypatch):
    def said(*more: str, **changes: str) -> str:
        done = cime_a.newcase(*more, **changes)
        assert done.returncode == 1
        return done.stderr

    assert "CLM51" in said(compset=COMPSETS["B"])
    assert "No machine nowhere found" in said(machine="nowhere")
    assert not cime_a.case.exists()
    assert cime_a.newcase().returncode == 0
    assert "already exists" in said()
    assert "valid values for LND_TUNING_MODE" in cime_a("xmlchange", "LND_TUNING_MODE=clm5_1_GSWP3v1").stderr
    monkeypatch.delenv("USER", raising=False)
    done = subprocess.run(
        [cime_a.create, "--case", "x", "--compset", "c", "--res", "r"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "USER" in done.stderr


def test_namelists_refuse_unknown_names_and_ignore_co2_without_a_word(cime_a):
    assert cime_a.newcase().returncode == 0
    assert "use_fates_sp = .true." in (cime_a.case / "user_nl_clm").read_text()
    cime_a.ok("xmlchange", "CCSM_CO2_PPMV=389.8")
    cime_a.ok("case.setup", "--disable-git")
    (cime_a.case / "user_nl_clm").open("a").write("co2_ppmv = 700.\n")
    cime_a.ok("preview_namelists")
    assert namelist.get(cime_a.run_file("lnd_in").read_text(), "co2_ppmv") == "389.8"
    sample = (cime_a.data / "ctsm" / "cime" / "user_nl_datm_streams").read_text()
    (cime_a.case / "user_nl_datm_streams").write_text(sample)
    cime_a.ok("preview_namelists")
    assert "Solr.HYY.2005-12.nc</file>" in cime_a.run_file("datm.streams.xml").read_text()
    (cime_a.case / "user_nl_clm").open("a").write("no_such_key = 1\n")
    assert "Variable name no_such_key not found in " in cime_a("preview_namelists").stderr


def test_user_mods_are_appended_and_their_commands_run(cime, tmp_path):
    mods = tmp_path / "user_mods"
    mods.mkdir()
    (mods / "user_nl_clm").write_text(f"fsurdat = '/x/{SURFDATA}'\n")
    (mods / "shell_commands").write_text("#!/bin/sh\n./xmlchange PTS_LAT=61.8474\n")
    assert cime.newcase("--user-mods-dirs", str(mods)).returncode == 0
    assert cime.ok("xmlquery", "--value", "PTS_LAT") == "61.8474"
    assert (cime.case / "user_nl_clm").read_text().endswith(f"fsurdat = '/x/{SURFDATA}'\n")
    assert cime.ok("xmlquery", "--value", "NTASKS").startswith("['CPL:1', 'ATM:1', ")
    assert cime.ok("xmlquery", "--value", "JOB_WALLCLOCK_TIME") == "0:20:00,0:20:00"


def test_submission_to_slurm_leaves_job_ids_and_no_case_run(cime_a, tmp_path, monkeypatch):
    cime_a.built()
    executable = Path(cime_a.ok("xmlquery", "--value", "EXEROOT"), "cesm.exe")
    executable.write_text("#!/bin/sh\n")  # runs well, in no time
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "sbatch").write_text(
        '#!/bin/sh\necho "$@" >> sbatch.log\necho Submitted batch job $((40 + $(wc -l < sbatch.log)))\n'
    )
    (bin_ / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    cime_a.ok("xmlchange", "BATCH_SYSTEM=slurm")
    told = cime_a.ok("case.submit")
    assert "Submitted job case.run with id 41\nSubmitted job case.st_archive with id 42\n" in told
    assert cime_a.ok("xmlquery", "--value", "JOB_IDS") == "case.run:41, case.st_archive:42"
    assert "case.submit success 42" in cime_a.status
    assert "case.run starting" not in cime_a.status
    assert "--dependency=afterok:41" in (cime_a.case / "sbatch.log").read_text()
    done = subprocess.run([cime_a.case / ".case.run"], env=os.environ | {"SLURM_JOB_ID": "41"})
    assert done.returncode == 0
    assert "case.run starting 41" in cime_a.status


def test_input_data_is_named_fetched_and_wanted_at_submission(cime_a, tmp_path, monkeypatch):
    cime_a.built()
    assert "Loading input file list: 'Buildconf/ctsm.input_data_list'" in cime_a.ok("check_input_data")
    (unread,) = (tmp_path / "inputdata").rglob("clmforc.Li_2025*hdm*.nc")
    (tmp_path / "server").mkdir()
    unread.rename(tmp_path / "server" / unread.name)
    done = cime_a("check_input_data")
    assert done.returncode == 1
    assert f"Model ctsm missing file stream_fldfilename_popdens = '{unread}'\n" in done.stdout
    refused = cime_a("case.submit", "--no-batch")
    assert refused.returncode == 1
    assert refused.stderr == "ERROR: Could not find all inputdata on any server\n"
    target = tmp_path / "server" / unread.relative_to(tmp_path / "inputdata")
    target.parent.mkdir(parents=True)
    (tmp_path / "server" / unread.name).rename(target)
    monkeypatch.setenv("STANDIN_INPUT_SERVER", str(tmp_path / "server"))
    cime_a.ok("check_input_data", "--download")
    assert unread.is_file()


def test_the_case_s_copies_of_the_machine_s_description_stay_until_a_reset(cime_a, tmp_path, monkeypatch):
    own = tmp_path / "home" / ".cime"
    own.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(own.parent))
    (own / "config_machines.xml").write_text("BROKEN")
    (own / "mymachine.cmake").write_text("# one")
    assert cime_a.newcase().returncode == 0
    cime_a.ok("xmlchange", "PTS_LON=24.295,PTS_LAT=61.8474")
    cime_a.ok("case.setup")
    done = cime_a("case.build")
    assert done.returncode == 1
    assert re.search(r"^ERROR: \S+buildlib\.pio FAILED, cat \S+/gnu/mpi-serial/\S+pio\.bldlog", done.stderr)
    (own / "config_machines.xml").write_text("corrected")
    (own / "mymachine.cmake").write_text("# two")
    assert cime_a("case.build").returncode == 1
    cime_a.ok("case.setup", "--reset")
    assert (cime_a.case / "cmake_macros" / "mymachine.cmake").read_text() == "# two"
    cime_a.ok("case.build")
    cime_a.ok("case.setup", "--reset")
    assert cime_a.ok("xmlquery", "--value", "BUILD_COMPLETE") == "FALSE"
