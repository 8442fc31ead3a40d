"""The sdist and the wheel: built, installed into an empty environment far from the checkout, and used there.

The dependencies come from the environment of the tests: what is tried is what is in the packages.
"""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import yaml
from conftest import MPIRUN, NO_MPI, mpi_environment
from running import require_scored

ROOT = Path(__file__).parents[2]
LEFT_OUT = (
    ".git",
    ".venv",
    ".ci",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    "runs",
)
BUILD = "from setuptools import build_meta; import sys; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, code: int | None = 0, **variables: str) -> str:
    """Return what a command prints, errors too; it must end with `code`, where that is not None."""
    inherited = {k: v for k, v in mpi_environment().items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=inherited | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert code is None or done.returncode == code, done.stdout
    return done.stdout


def build(kind: str, source: Path, folder: Path) -> Path:
    """Return the `sdist` or `wheel` that setuptools makes of a source folder, as `python -m build` does."""
    printed = run(sys.executable, "-c", BUILD, f"build_{kind}", folder, cwd=source)
    return folder / printed.split()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, without git."""
    folder = tmp_path_factory.mktemp("source") / "fatescal"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    return folder


@pytest.fixture(scope="module")
def packages(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from what is in the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    sdist = build("sdist", source, folder)
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    return sdist, build("wheel", next(unpacked.iterdir()), folder)


@pytest.fixture(scope="module")
def fatescal(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, installed from the wheel into an environment that has the dependencies and no fatescal."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    here = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip())
    (here / "dependencies.pth").write_text("\n".join(site.getsitepackages()))  # whose own .pth are not read
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet"]
    run(*pip, packages[1], cwd=folder)
    return folder / "bin" / "fatescal"


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_the_wheel_holds_all_that_the_program_needs(source, packages):
    with zipfile.ZipFile(packages[1]) as archive:
        names = set(archive.namelist())
    of_package = {
        str(path.relative_to(source))
        for path in (source / "fatescal").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "shipped" not in path.parts
    }
    assert of_package <= names
    shipped = {
        f"fatescal/config/shipped/{path.relative_to(source)}"
        for name, pattern in (("config", "*.yaml"), ("machines", "*.yaml"), ("jobscripts", "*.sh"))
        for path in (source / name).glob(pattern)
    }
    others = {name for name in names - of_package if ".dist-info/" not in name}
    assert others == shipped
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "docs/", "config/")) for name in names)


def test_the_metadata_say_what_a_registry_shows(packages):
    told = metadata(packages[1])
    assert told["Requires-Python"] == ">=3.11"
    assert told["License"] == "MIT" or told["License-Expression"] == "MIT"
    assert told["Description-Content-Type"] == "text/markdown"
    assert "Topic :: Scientific/Engineering :: Atmospheric Science" in (told.get_all("Classifier") or [])
    assert told.get_all("Project-URL")


def test_the_sdist_has_tests_and_documentation(source, packages):
    with tarfile.open(packages[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"Makefile", "README.md", "LICENSE", "machines/setup.sh", "tests/conftest.py", "docs/trust.md"}
    assert wanted <= names
    assert {str(path.relative_to(source)) for path in (source / "tests").rglob("*.py")} <= names


def test_without_git_the_version_is_that_of_the_citation(packages):
    coming = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert metadata(packages[1])["Version"] == coming


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_version_comes_from_tags(source, tmp_path):
    copy = tmp_path / "tagged"
    shutil.copytree(source, copy)
    coming = yaml.safe_load((copy / "CITATION.cff").read_text())["version"]

    def version() -> str:
        return run(sys.executable, "setup.py", "--quiet", "--version", cwd=copy).split()[-1]

    run("git", "init", "--quiet", cwd=copy)
    run(*GIT, "add", "setup.py", "setup.cfg", "CITATION.cff", "README.md", cwd=copy)
    run(*GIT, "commit", "--quiet", "-m", "first", cwd=copy)
    assert re.fullmatch(re.escape(coming) + r"\.dev1\+g[0-9a-f]+", version())
    run(*GIT, "tag", "v9.8.7", cwd=copy)
    assert version() == "9.8.7"
    run(*GIT, "commit", "--quiet", "--allow-empty", "-m", "second", cwd=copy)
    assert re.fullmatch(re.escape(coming) + r"\.dev1\+g[0-9a-f]+", version())
    (copy / "README.md").write_text("changed")
    assert re.fullmatch(re.escape(coming) + r"\.dev1\+g[0-9a-f]+\.dirty", version())


def test_the_installed_program_finds_what_comes_with_it(fatescal, packages, tmp_path):
    assert run(fatescal, "--version", cwd=tmp_path).split()[-1] == metadata(packages[1])["Version"]
    assert "hyytiala_twin: can be written" in run(fatescal, "check", cwd=tmp_path)
    assert "space         ok" in run(fatescal, "check", "--machine", "fram", cwd=tmp_path)
    known = run(fatescal, "check", "--machine", "farm", cwd=tmp_path, code=2)
    assert "betzy, casper, derecho, fram, local, template" in known
    where = run(fatescal.with_name("python"), "-c", "import fatescal; print(fatescal.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(fatescal.parents[1])


def test_the_shipped_files_are_copied_and_never_overwritten(fatescal, tmp_path):
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "fram.yaml").write_text("retries: 5\n")
    told = run(fatescal, "files", "--copy", ".", cwd=tmp_path)
    assert "machines/fram.yaml: is there already" in told
    assert (tmp_path / "machines" / "fram.yaml").read_text() == "retries: 5\n"
    for name in ("config/hyytiala_smear.yaml", "jobscripts/ces_fram.sh", "jobscripts/common.sh"):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()
    assert os.access(tmp_path / "jobscripts" / "ces_fram.sh", os.X_OK) == os.access(
        ROOT / "jobscripts" / "ces_fram.sh", os.X_OK
    )
    refused = run(fatescal, "files", "--copy", "/proc/nowhere", cwd=tmp_path, code=2)
    assert "/proc/nowhere cannot be written" in refused


def test_install_of_a_model_starts_from_the_copied_config(fatescal, tmp_path):
    """As far as git: the checkout of the config is to be made beside the copied folders."""
    run(fatescal, "files", "--copy", ".", cwd=tmp_path)
    config = tmp_path / "config" / "hyytiala_clm_fates.yaml"
    nowhere = tmp_path / "nowhere.git"
    config.write_text(config.read_text().replace("https://github.com/ESCOMP/CTSM", str(nowhere)))
    told = run(fatescal, "install", config, cwd=tmp_path, code=None, FATESCAL_DATA=str(tmp_path))
    assert str(nowhere) in told
    assert "Traceback" not in told


@pytest.mark.mpi
@pytest.mark.skipif(shutil.which(MPIRUN) is None, reason=f"{MPIRUN} {NO_MPI}")
def test_the_installed_program_calibrates_and_reports(fatescal, tmp_path):
    run(fatescal, "files", "--copy", ".", cwd=tmp_path)
    small = yaml.safe_load((tmp_path / "config" / "hyytiala_twin.yaml").read_text())
    small["calibrate"] |= {"members": 12, "iterations": 1}
    small["sample"] |= {"max_steps": 2000, "rhat": 1.5, "ess": 20}
    small |= {"emulate": {"force": True, "rounds": 1}, "posterior": {"members": 4}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    command = [MPIRUN, "-n", "2", str(fatescal), "run", "small.yaml", "--machine", "local"]
    done = subprocess.run(
        command, cwd=tmp_path, env=mpi_environment(), capture_output=True, text=True, timeout=300
    )
    require_scored(done)
    folder = tmp_path / "runs" / "hyytiala_twin"
    (folder / "report" / "index.html").unlink()
    run(fatescal, "report", folder, cwd=tmp_path)
    assert (folder / "report" / "index.html").is_file()
    assert "scorecard" in run(fatescal, "status", "small.yaml", cwd=tmp_path)


def test_a_job_without_a_venv_beside_it_takes_the_environment_of_its_user(fatescal, tmp_path):
    """The job scripts' `environment`, where fatescal was installed by pip and the files were copied."""
    run(fatescal, "files", "--copy", ".", cwd=tmp_path)
    script = "machine=machines/local.yaml; . jobscripts/common.sh; environment; python -m fatescal --version"
    system = "/usr/bin:/bin"
    told = run("bash", "-uc", script, cwd=tmp_path, PATH=f"{fatescal.parent}:{system}")
    assert told.startswith("fatescal ")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(shutil.which("false") or "/bin/false")
    refused = run("bash", "-uc", script, cwd=tmp_path, code=2, PATH=f"{tmp_path}/bin:{system}")
    assert "make setup, or activate" in refused
