"""`fatescal install` from local bare repositories: both kinds of externals, interruptions, and what is in the
way.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import yaml
from ctsm_case import FATES
from running import alive
from standin_checkout import git, write_repositories

from fatescal.base.errors import BadInput, RunFailed
from fatescal.cli import model_verbs
from fatescal.models.clm_fates import cdl, watched_tool
from fatescal.models.clm_fates.externals import externals
from fatescal.models.clm_fates.install import edits
from fatescal.models.clm_fates.watched_tool import run_watched


class Installation:
    """A config whose source is a local repository."""

    def __init__(self, folder: Path, data: Path, version: str) -> None:
        self.folder, self.log = folder, folder / "tools.log"
        self.url, self.tag = write_repositories(folder / "git", version, data, {})
        self.root = folder / "models" / "ctsm"

    def __call__(self, tag: str = "", url: str = "", timeout: object = "10 min", **environment: str) -> str:
        """Install; return what was said."""
        source: dict[str, object] = {"url": url or self.url, "tag": tag or self.tag, "path": str(self.root)}
        source["no_output_timeout"] = timeout
        build = {"case": "cases/hyy", "compset": "any"}
        model = {
            "kind": "clm_fates",
            "source": source,
            "build": build,
            "start": "2005-01-01",
            "end": "2005-12-31",
        }
        gpp = {"model": "FATES_GPP", "unit": "g C m-2 d-1", "error": {"sd": 1.0}}
        config = {
            "run": {"name": "hyy", "directory": "run"},
            "model": model,
            "parameters": {"x": {"prior": {"kind": "uniform", "bounds": [0, 1]}}},
            "observations": {
                "synthetic": {"truth": {}},
                "calibration": ["2005-01-01", "2005-12-31"],
                "variables": {"GPP": gpp},
            },
            "calibrate": {"scheme": "ienks", "members": 8, "iterations": 2},
            "posterior": {"members": 5},
        }
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setenv("STANDIN_EXTERNALS_LOG", str(self.log))
            for name, value in environment.items():
                patch.setenv(name, value)
            assert model_verbs.of_models("install", path) == 0
        return said.getvalue()

    def refused(self, error: type[Exception], **given: Any) -> str:
        with pytest.raises(error) as caught:
            self(**given)
        return str(caught.value)

    @property
    def tools_run(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0

    @property
    def printed(self) -> str:
        """What git and the tool printed."""
        return self.root.with_name("ctsm.install.log").read_text()


@pytest.fixture(params=["A", "B"])
def installation(request, data, tmp_path) -> Installation:
    return Installation(tmp_path, data, request.param)


def test_an_installation_goes_on_where_it_was_interrupted_and_then_does_nothing(installation):
    torn = installation.root.with_name("ctsm.part")
    torn.mkdir(parents=True)  # a clone that was killed
    (torn / ".git").mkdir()
    assert "failed" in installation.refused(RunFailed, STANDIN_EXTERNALS_DIE="src/fates")
    assert git(installation.root, "describe", "--tags").strip() == installation.tag
    assert (installation.root / "src" / "fates" / ".git" / "index.lock").exists()
    said = installation()
    assert "is at ctsm5" in said
    assert "cime cime6.1.59" in said
    assert (installation.root / "cime" / "scripts" / "create_newcase").is_file()
    assert not (installation.root / "doc").exists()  # optional
    parameters = installation.root / "src" / "fates" / "parameter_files"
    suffix = "json" if installation.tag.startswith("ctsm5.4") else "nc"
    assert f"parameters    {parameters}/fates_params_default.{suffix}" in said
    made = {path: path.stat().st_mtime_ns for path in parameters.iterdir()}
    n = installation.tools_run
    again = installation()
    assert installation.tools_run == n
    assert "made from CDL" not in again
    assert {path: path.stat().st_mtime_ns for path in parameters.iterdir()} == made

    assert edits(installation.root) == {}  # the file made from CDL is none
    (installation.root / "src" / "fates" / "mine.F90").write_text("! mine")
    (installation.root / "cime" / "notes.txt").write_text("no part of the model")
    tool = installation.root / "cime" / "scripts" / "create_newcase"
    tool.write_text(tool.read_text() + "# mine")
    assert sorted(edits(installation.root)) == ["cime/scripts/create_newcase", "src/fates/mine.F90"]


def test_what_is_wrong_or_in_the_way_is_said(data, tmp_path):
    installation = Installation(tmp_path, data, "B")
    said = installation.refused(BadInput, tag="ctsm5.1.dev151-noresm_v2")
    assert f"did you mean {installation.tag}" in said
    assert not installation.root.exists()
    said = installation.refused(RunFailed, url="file:///nowhere")
    assert said.startswith("git clone failed: fatal: ")
    assert "Its log: " in said
    installation.root.mkdir(parents=True)
    (installation.root / "thesis.tex").touch()
    assert "is no git checkout, and not empty" in installation.refused(BadInput)
    (installation.root / "thesis.tex").unlink()
    installation()
    fates = installation.root / "src" / "fates"
    git(fates, "checkout", "-q", "master")
    (fates / "mine").touch()
    git(fates, "add", "mine")
    said = installation.refused(BadInput)
    assert (
        "src/fates has changes of your own (mine): manage_externals/checkout_externals checks out noth"
        in said
    )
    assert "Expected src/fates sci.1.0_api.0, got sci.1.0_api.0-1-g" in said
    git(fates, "commit", "-qm", "mine")
    said = installation.refused(BadInput, STANDIN_EXTERNALS_SKIP="src/fates")
    assert "src/fates is at another version than the model wants, and manage_externals/check" in said
    assert (fates / "mine").exists()
    assert "is at another version. Expected master" in installation.refused(BadInput, tag="master")


def test_git_fleximod_that_hangs_after_an_error_is_ended_with_the_reason(data, tmp_path, monkeypatch):
    installation = Installation(tmp_path, data, "A")
    monkeypatch.setattr(watched_tool, "AFTER_ERROR", 2.0)
    said = installation.refused(RunFailed, STANDIN_EXTERNALS_FAIL="src/fates")
    assert (
        "git-fleximod update printed nothing for 2 s and was ended: root - ERROR - Failed to checkout fates "
        "at tag" in said
    )
    assert "Successfully" not in said
    pids = installation.log.with_name("tools.log.pids").read_text().split()
    assert len(pids) == 2
    assert not any(alive(int(pid)) for pid in pids)
    assert "Failed to checkout fates" in installation.printed
    said = installation()  # the next start takes up the rest, and shows what the tool prints
    assert "externals     Successfully checked out" in said
    assert "components/cdeps/fox 4.1.2.1" in said


def test_a_program_that_prints_nothing_is_ended_with_all_that_it_started(tmp_path):
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\nsleep 3600 &\necho $! > pid\necho some progress\nwait\n")
    program.chmod(0o755)
    with pytest.raises(
        RunFailed, match=r"tool printed nothing for 3 s and was ended: some progress\. Its log"
    ):
        run_watched([str(program)], tmp_path, tmp_path / "log", 3.0)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_checkout_externals_that_fails_is_quoted_at_once(data, tmp_path):
    installation = Installation(tmp_path, data, "B")
    said = installation.refused(RunFailed, STANDIN_EXTERNALS_FAIL="components/cdeps/fox")
    assert "checkout_externals failed: ERROR: Failed to clone " in said
    assert "components/cdeps/fox" in installation()


def test_an_external_of_an_external_is_looked_at(installation):
    installation()
    fox = installation.root / "components" / "cdeps" / "fox"
    assert (fox / "wxml.F90").is_file()
    update = ("-c", "protocol.file.allow=always", "submodule", "update", "--init", "--recursive")
    fleximod = installation.tag.startswith("ctsm5.4")
    for spoil in (lambda: shutil.rmtree(fox), lambda: git(fox, "checkout", "-q", "master")):
        spoil()
        if not fleximod:  # manage_externals takes CDEPS for changed, and does nothing
            said = installation.refused(BadInput)
            assert f"{fox} is not at the version that components/cdeps records, and manage_ext" in said
            assert f"Try: git -C {fox.parent} submodule update --init --recursive" in said
            assert "remove" not in said
            git(fox.parent, *update)
        assert "components/cdeps/fox" in installation()
        assert (fox / "wxml.F90").is_file()
        assert git(fox, "describe", "--tags").strip() == "4.1.2.1"
    if fleximod:
        shutil.rmtree(fox)
        said = installation.refused(RunFailed, STANDIN_EXTERNALS_SKIP="components/cdeps/fox")
        assert "ended without an error, but did not check out components/cdeps/fox 4.1.2.1" in said
        assert "remove" not in said
        installation()
    (fox / "wxml.F90").write_text("! mine\n")
    assert sorted(edits(installation.root)) == ["components/cdeps/fox/wxml.F90"]
    assert "1 to check out" not in installation()  # changed files alone are the user's


def test_the_changed_external_that_stops_the_tool_is_blamed_and_not_another(data, tmp_path):
    installation = Installation(tmp_path, data, "B")
    installation()
    shutil.rmtree(installation.root / "src" / "fates")
    fox = installation.root / "components" / "cdeps" / "fox"
    (fox / "wxml.F90").write_text("! mine\n")
    said = installation.refused(BadInput)
    assert f"{fox} has changes of your own (wxml.F90)" in said
    assert "src/fates" not in said
    assert "checks out nothing" in said
    assert "remove" not in said
    git(fox, "stash")
    installation()
    assert (installation.root / "src" / "fates" / "parameter_files").is_dir()


def test_git_fleximod_leaves_a_changed_external_alone_and_that_one_is_blamed(data, tmp_path):
    installation = Installation(tmp_path, data, "A")
    installation()
    datm = installation.root / "components" / "cdeps" / "datm" / "datm.F90"
    datm.write_text("! mine\n")
    git(installation.root / "cime", "checkout", "-q", "master")
    installation()  # cime is brought back, the changed one is at its version
    git(datm.parent, "stash")
    git(datm.parent, "checkout", "-q", "-b", "mine")
    git(datm.parent, "commit", "-q", "--allow-empty", "-m", "mine")
    git(datm.parent, "stash", "pop")
    said = installation.refused(BadInput)
    assert (
        "components/cdeps has changes of your own (datm/datm.F90): bin/git-fleximod does not update it"
        in said
    )


def test_the_error_of_a_newer_git_fleximod_is_quoted_without_what_went_well(tmp_path):
    program = tmp_path / "tool"
    lines = (
        "fates up to date.",
        "Cmd('git') failed due to: exit code(128)",
        "  cmdline: git fetch origin v9",
    )
    last = "  stderr: 'fatal: could not find remote ref v9'"
    printed = "".join(f'echo "{line}"\n' for line in (*lines, last))
    program.write_text(f"#!/bin/sh\n{printed}exit 1\n")
    program.chmod(0o755)
    shown: list[str] = []
    with pytest.raises(RunFailed) as caught:
        run_watched([str(program)], tmp_path, tmp_path / "log", 60.0, shown.append)
    reason = " | ".join(line.strip() for line in (*lines[1:], last))
    assert str(caught.value).startswith(f"tool failed: {reason}. Its log: {tmp_path}/log")
    assert shown == [line.strip() for line in (*lines, last)]


def test_what_a_gitmodules_of_git_fleximod_asks_for(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git-fleximod").touch()
    entries = {"a": "AlwaysRequired", "b": "TopLevelRequired", "c": "AlwaysOptional", "d": ""}
    text = "".join(
        f'[submodule "{name}"]\npath = p/{name}\nfxtag = {"0" * 40}\n'
        + (f"fxrequired = {required}\n" if required else "")
        for name, required in entries.items()
    )
    (tmp_path / ".gitmodules").write_text(text)
    assert [str(e) for e in externals(tmp_path)] == [f"p/{name} {'0' * 12}" for name in "abd"]
    git(tmp_path, "init", "-q", "p/a")
    (tmp_path / "p" / "a" / ".gitmodules").write_text(text)
    assert [str(e.path) for e in externals(tmp_path)] == ["p/a", "p/a/p/a", "p/a/p/d", "p/b", "p/d"]


def test_cdl_becomes_the_file_that_ncgen_would_write(data, tmp_path):
    source = data / "fates" / FATES["B"]
    cdl.convert(source, tmp_path / "made.nc")
    with netCDF4.Dataset(tmp_path / "made.nc") as made:
        assert made.data_model == "NETCDF3_CLASSIC"
        assert len(made.variables) == source.read_text().count("\n\tdouble ") + source.read_text().count(
            "\n\tchar "
        )
        assert made["fates_leaf_vcmax25top"][:].tolist() == [[50, 62, 39, 61, 58, 58, 62, 54, 54, 78, 78, 78]]
        assert made["fates_leaf_vcmax25top"].units == "umol CO2/m^2/s"
        assert np.ma.is_masked(made["fates_dev_arbitrary_pft"][:])
        assert netCDF4.chartostring(made["fates_pftname"][:])[10].strip() == "cool_c3_grass"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("netcdf x { dimensions: n = UNLIMITED ;", "n = UNLIMITED"),
        ("netcdf x { dimensions: n = 2 ; variables: double a(n) ; data: a = 1, 2, 3 ; }", "a = 1, 2, 3"),
        ("netcdf x { dimensions: n = 2 ; variables: double a(n), b ; data: a = 1, 2 ; }", "double a"),
        (
            "netcdf x { dimensions: n = 1 ; variables: double a(n) ; double b(n) ; data: a = 1 ; }",
            "no values of b",
        ),
        ("netcdf x { dimensions: n = 1 ; variables: double a(n) ; data: a = 1", "middle of a statement"),
    ],
)
def test_cdl_that_is_not_understood_is_refused(text, words, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")  # no ncgen
    source = tmp_path / "x.cdl"
    source.write_text(text)
    with pytest.raises(BadInput, match=words):
        cdl.convert(source, tmp_path / "x.nc")
    assert not (tmp_path / "x.nc").exists()
