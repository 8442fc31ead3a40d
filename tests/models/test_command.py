"""Launching members, and any executable as forward model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import alive

from fatescal.base.errors import BadInput, ModelFailed, OutOfTime, Status
from fatescal.hpc import launch as process
from fatescal.hpc.launch import launch, seconds
from fatescal.models.base import Model
from fatescal.models.command import Command

# A member with a child in its own group and a grandchild in a group of its own, both deaf to SIGTERM;
# their pids are left in the folder.
FAMILY = """
import os, signal, subprocess, sys
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
own_group = subprocess.Popen(["sleep", "60"], process_group=0)
shared_group = subprocess.Popen(["sleep", "60"])
Path("pids.part").write_text(f"{os.getpid()} {own_group.pid} {shared_group.pid}")
Path("pids.part").rename("pids")
shared_group.wait()
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def until(condition: Callable[[], bool], limit: float = 10.0) -> bool:
    """Wait up to `limit` seconds for `condition` and return it."""
    end = time.monotonic() + limit
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def gone(pids: list[int]) -> bool:
    """Whether all are dead, or die at once: after a kill the kernel may take a moment."""
    return until(lambda: not any(alive(pid) for pid in pids), limit=1)


def family(folder: Path) -> list[int]:
    assert until((folder / "pids").exists)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_launch_hides_the_launchers_variables(tmp_path, monkeypatch):
    for name in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_JOB_ID", "MPI_LOCALRANKID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("NETCDF_HOME", "kept")
    launch(["env"], tmp_path, timeout=10, extra={"OMP_NUM_THREADS": "3"})
    seen = dict(line.split("=", 1) for line in (tmp_path / "member.log").read_text().splitlines())
    assert seen["NETCDF_HOME"] == "kept"
    assert seen["OMP_NUM_THREADS"] == "3"
    assert not [name for name in seen if name.startswith(("OMPI_", "PMI", "SLURM_", "MPI_"))]


def test_launch_runs_in_the_folder_as_session_leader_without_input(tmp_path):
    launch(
        python("""
            import os, sys
            assert sys.stdin.read() == ""
            assert os.getsid(0) == os.getpid() == os.getpgid(0)
            assert sorted(os.listdir("/proc/self/fd"))[:3] == ["0", "1", "2"]
            open("here", "w").close()
            print("a word", file=sys.stderr)
        """),
        tmp_path,
        timeout=10,
    )
    assert (tmp_path / "here").exists()
    assert (tmp_path / "member.log").read_text() == "a word\n"


def test_arguments_are_passed_on_as_they_are(tmp_path):
    words = ["a b", "$HOME", "*", "'", '"', "", "-n"]
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    launch([sys.executable, "-c", code, *words], tmp_path, timeout=10)
    assert json.loads((tmp_path / "member.log").read_text()) == words


def test_failure_tells_code_and_last_lines(tmp_path):
    with pytest.raises(ModelFailed, match=r"(?s)exit code 3\..*line 29$") as failed:
        launch(python("[print('line', n) for n in range(30)]; raise SystemExit(3)"), tmp_path, timeout=10)
    assert failed.value.kind is Status.MODEL_ERROR
    assert "line 20" in failed.value.reason
    assert "line 19" not in failed.value.reason


def test_failure_tells_signal(tmp_path):
    with pytest.raises(ModelFailed, match="killed by SIGSEGV"):
        launch(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), tmp_path, timeout=10)
    with pytest.raises(ModelFailed, match=r"exit code 127 \(not found\)"):
        launch(["./nothing-here"], tmp_path, timeout=10)


def test_an_end_is_noticed_soon_by_looking_rarely(tmp_path, monkeypatch):
    slept, sleep = [], time.sleep

    def counted(seconds):
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(process.time, "sleep", counted)
    launch(["sleep", "1"], tmp_path, timeout=60)
    assert max(slept) <= 0.02  # later than this no end is noticed
    assert len(slept) < 250  # the first second is looked at more often: 120 times on an idle machine


def test_timeout_ends_the_whole_tree(tmp_path):
    with pytest.raises(ModelFailed, match="still running after 1 s") as failed:
        launch(python(FAMILY), tmp_path, timeout=1, grace=0.2)
    assert failed.value.kind is Status.TIME_OUT
    assert gone(family(tmp_path))


def test_timeout_lets_the_model_end_itself(tmp_path):
    with pytest.raises(ModelFailed, match="last words"):
        launch(["sh", "-c", "trap 'echo last words; exit' TERM; sleep 60 & wait"], tmp_path, timeout=0.3)


def test_stop_ends_the_whole_tree(tmp_path):
    with pytest.raises(OutOfTime):
        launch(python(FAMILY), tmp_path, timeout=60, grace=0.2, stop=(tmp_path / "pids").exists)
    assert gone(family(tmp_path))


def test_nothing_stays_behind_after_a_good_end(tmp_path):
    launch(["sh", "-c", "sleep 60 & echo $!"], tmp_path, timeout=10)
    assert gone([int((tmp_path / "member.log").read_text())])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphans_when_the_rank_is_killed(tmp_path, number):
    code = f"""
        import sys
        from pathlib import Path
        from fatescal.hpc.launch import launch
        launch([sys.executable, "-c", {FAMILY!r}], Path({str(tmp_path)!r}), timeout=None)
    """
    with subprocess.Popen(python(code), start_new_session=True) as rank:
        pids = family(tmp_path)
        assert all(alive(pid) for pid in pids)
        rank.send_signal(number)
    assert gone(pids)


def test_no_orphan_whenever_the_rank_is_killed(tmp_path):
    """Kill at any moment of the launch: the member has not begun, or it goes too."""
    code = f"""
        from pathlib import Path
        from fatescal.hpc.launch import launch
        print("ready", flush=True)
        launch(["sh", "-c", "echo $$ > pid; exec sleep 60"], Path({str(tmp_path)!r}), timeout=None)
    """
    for delay in np.linspace(0, 0.012, 12):
        (tmp_path / "pid").unlink(missing_ok=True)
        with subprocess.Popen(python(code), stdout=subprocess.PIPE) as rank:
            assert rank.stdout is not None
            rank.stdout.readline()
            time.sleep(delay)
            rank.kill()
        time.sleep(0.1)
        begun = (tmp_path / "pid").read_text().split() if (tmp_path / "pid").exists() else []
        assert gone([int(pid) for pid in begun])


def test_seconds():
    assert [seconds(text) for text in (90, "90", "90 s", "1.5 min", "2h", "1 d")] == [90] * 4 + [7200, 86400]
    for wrong in ("", "60 seconds", "0 s", "-1", "1e3 s", "h"):
        with pytest.raises(BadInput, match="60 s"):
            seconds(wrong)


MODEL = """
import json, sys
import netCDF4
theta = json.load(open("parameters.json"))
with netCDF4.Dataset("output.nc", "w") as file:
    file.createDimension("time", 3)
    time = file.createVariable("time", "f8", ("time",))
    time.units, time.calendar = "days since 2004-02-27", "noleap"
    time[:] = [0.5, 1.5, 2.5]
    for name in ("GPP", "ET"):
        file.createVariable(name, "f8", ("time",))[:] = theta["slope"] * time[:] + theta["offset"]
        file[name].units = "g m-2 d-1"
"""


@pytest.fixture
def model(tmp_path):
    """A linear model beside the config, and an empty folder for a member."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "member").mkdir()
    return Command(
        [sys.executable, "model.py"], tmp_path, timeout="60 s", calendar="noleap", variables=["GPP"]
    )


def test_command_is_a_forward_model(model):
    assert isinstance(model, Model)


def test_run_and_read(model, tmp_path):
    model.check()
    theta = {"slope": 1 / 3, "offset": np.float64(0.1) + 0.2}
    model.run(theta, tmp_path / "member")
    written = json.loads((tmp_path / "member/parameters.json").read_text())
    assert list(written.items()) == list(theta.items())  # all digits, and the order
    data = model.read(tmp_path / "member")
    assert list(data.data_vars) == ["GPP"]
    assert data["GPP"].attrs["units"] == "g m-2 d-1"
    np.testing.assert_array_equal(data["GPP"], np.array([0.5, 1.5, 2.5]) / 3 + theta["offset"])
    assert data["time"].values.tolist() == [0.5, 1.5, 2.5]  # decoded where it is compared
    assert data["time"].attrs == {"units": "days since 2004-02-27", "calendar": "noleap"}
    (tmp_path / "member/output.nc").unlink()  # the file is closed and the data are in memory
    assert data["GPP"].sum() > 0


def test_missing_torn_or_foreign_output(model, tmp_path):
    folder = tmp_path / "member"
    lazy = Command(["true"], tmp_path)
    with pytest.raises(ModelFailed, match=r"left no output\.nc") as failed:
        lazy.run({"slope": 1.0}, folder)
    assert failed.value.kind is Status.TRUNCATED
    model.run({"slope": 1.0, "offset": 0.0}, folder)
    whole = (folder / "output.nc").read_bytes()
    for torn in (whole[: len(whole) // 2], b"", b"no netCDF"):
        (folder / "output.nc").write_bytes(torn)
        with pytest.raises(ModelFailed, match="cannot be read") as failed:
            model.read(folder)
        assert failed.value.kind is Status.TRUNCATED
    (folder / "output.nc").write_bytes(whole)
    other = Command(["true"], tmp_path, variables=["GPP", "LE"])
    with pytest.raises(ModelFailed, match="no LE; it has GPP, ET") as failed:
        other.read(folder)
    assert failed.value.kind is Status.MISSING_VARIABLE


def test_not_finite_parameters_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        model.run({"slope": float("nan"), "offset": 0.0}, tmp_path / "member")


def test_check_finds_the_executable(tmp_path):
    script = tmp_path / "model.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(BadInput, match="chmod"):
        Command(["./model.sh"], tmp_path).check()
    script.chmod(0o755)
    for name in ("./model.sh", "model.sh", str(script), "sh"):
        Command([name], tmp_path).check()
    with pytest.raises(BadInput, match="no executable"):
        Command(["no-such-model"], tmp_path).check()


@pytest.mark.parametrize("key", ["parameters_file", "output"])
@pytest.mark.parametrize("name", ["/tmp/shared", "../shared"])
def test_check_keeps_files_in_the_folder(tmp_path, key, name):
    with pytest.raises(BadInput, match=f"model.{key} leads out"):
        Command(["true"], tmp_path, **{key: name}).check()


def test_description_changes_with_the_model(tmp_path):
    def description():
        return Command([sys.executable, "model.py", "--fast"], tmp_path).identity

    (tmp_path / "model.py").write_text("pass\n")
    first = description()
    assert first == description() == json.loads(json.dumps(first))
    (tmp_path / "model.py").write_text("pass  # changed\n")
    assert description() != first
