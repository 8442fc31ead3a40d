"""`fatescal install` from local bare repositories: both kinds of externals, interruptions, and what is in the way."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from ctsm_case import FATES
from standin_checkout import git, write_repositories

from fatescal import run
from fatescal.errors import BadInput, RunFailed
from fatescal.forward.clm_fates import cdl
from fatescal.forward.clm_fates.install import edits


class Installation:
    """A config whose source is a local repository."""

    def __init__(self, folder: Path, data: Path, version: str) -> None:
        self.folder, self.log = folder, folder / "tools.log"
        self.url, self.tag = write_repositories(folder / "git", version, data, {})
        self.root = folder / "models" / "ctsm"

    def __call__(self, tag: str = "", url: str = "", **environment: str) -> str:
        """Install; return what was said."""
        source = {"url": url or self.url, "tag": tag or self.tag, "path": str(self.root)}
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
            assert run.install(path) == 0
        return said.getvalue()

    def refused(self, error: type[Exception], **given: str) -> str:
        with pytest.raises(error) as caught:
            self(**given)
        return str(caught.value)

    @property
    def tools_run(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0


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
    assert "git clone file:///nowhere failed" in installation.refused(RunFailed, url="file:///nowhere")
    installation.root.mkdir(parents=True)
    (installation.root / "thesis.tex").touch()
    assert "is no git checkout, and not empty" in installation.refused(BadInput)
    (installation.root / "thesis.tex").unlink()
    installation()
    fates = installation.root / "src" / "fates"
    git(fates, "checkout", "-q", "master")
    (fates / "mine").touch()
    git(fates, "add", "-A")
    said = installation.refused(BadInput)
    assert "src/fates is at another version than the model wants. Expected sci.1.0_api.0" in said
    assert (fates / "mine").exists()
    assert "is at another version. Expected master" in installation.refused(BadInput, tag="master")


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
