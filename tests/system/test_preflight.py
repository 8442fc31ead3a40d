"""`check` tries out what a first job needs of the machine, with all its ranks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MPIRUN
from linear import fatescal, run_program, write_problem

from fatescal.workflow.preflight import Finding, space

pytestmark = pytest.mark.mpi
ITEMS = ["nodes", "MPI", "file system", "checkpoint", "members", "launching", "clocks", "space"]


def verdicts(text: str) -> dict[str, bool]:
    """Return which of the items are ok."""
    found = re.findall(rf"^({'|'.join(ITEMS)}) +(ok|WRONG): ", text, re.MULTILINE)
    return {item: word == "ok" for item, word in found}


def test_all_is_tried_and_nothing_is_left_behind(tmp_path):
    done = fatescal(2, "check", "--machine", "local", write_problem(tmp_path))
    assert done.returncode == 0, done.stderr
    assert verdicts(done.stdout) == dict.fromkeys(ITEMS, True), done.stdout
    assert "2 ranks" in done.stdout
    assert not list((tmp_path / "run").glob(".*"))
    assert not (tmp_path / "run" / "stages").exists()


def test_without_a_config_the_machine_alone_is_tried_on_its_scratch_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"scratch: {tmp_path}/scratch\n")
    done = fatescal(2, "check", "--machine", tmp_path / "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert verdicts(done.stdout) == dict.fromkeys(ITEMS, True), done.stdout
    assert f"{tmp_path}/scratch" in done.stdout
    assert "parameter" not in done.stdout


def test_a_launcher_that_does_not_work_and_leaks_is_told(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"scratch: {tmp_path}\nlauncher: ['false']\n")
    done = fatescal(2, "check", "--machine", path)
    assert done.returncode == 1
    assert verdicts(done.stdout) == dict.fromkeys(ITEMS, True) | {"launching": False}
    assert "2 of 2 ranks cannot launch a member through false: rank 0 on" in done.stdout
    assert "Try: the machine file's launcher" in done.stdout
    assert "fatescal: 1 of 8 things" in done.stderr
    path.write_text(f"scratch: {tmp_path}\nlauncher: [env, PMI_RANK=0]\n")
    done = fatescal(1, "check", "--machine", path)
    assert done.returncode == 1
    assert "see variables PMI_* that are to be hidden" in done.stdout
    path.write_text(f"scratch: {tmp_path}\nlauncher: [no-such-launcher]\n")
    done = fatescal(1, "check", "--machine", path)
    assert done.returncode == 2
    assert "no-such-launcher is not found" in done.stderr


def test_a_folder_that_the_nodes_do_not_share_is_told(tmp_path):
    own = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(tmp_path / "local")]
    (tmp_path / "local").mkdir()
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("only root can give a rank a file system of its own")
    (tmp_path / "mine.yaml").write_text(f"scratch: {tmp_path}/local\n")
    check = [sys.executable, "-m", "fatescal", "check", "--machine", str(tmp_path / "mine.yaml")]
    done = run_program([MPIRUN, "-n", "1", *check, ":", "-n", "1", *own, *check], tmp_path)
    assert done.returncode == 1, done.stderr
    assert not verdicts(done.stdout)["file system"]
    assert "Try: a run.directory or scratch that all nodes share" in done.stdout
    assert os.listdir(tmp_path / "local") == []


def test_too_little_space_is_told():
    assert not space(Path("/"), None, None).wrong
    assert not space(Path("/"), 1000, None).wrong
    found = space(Path("/"), 1000, 1e18)
    assert found.wrong
    assert "the run needs about 1000000000.0 GB. Try: keep: predictions" in str(found)
    assert str(Finding("x", "fine")) == "x             ok: fine"
