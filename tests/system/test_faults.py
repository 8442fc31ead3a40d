"""What happens on a cluster, in every stage: the job ends with one message, and goes on to the same bits.

By default one cell of the matrix for each fault. FATESCAL_FAULTS=FILE runs all cells and writes their table
into FILE (`make faults`), FATESCAL_SOAK=N adds N random kills of one run of the embedded model (`make soak`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import mpi_command, mpi_environment
from linear import QUICK, fatescal, write_problem
from running import children, digests, job, wait_for

from fatescal.cli.arguments import DEFAULT_CONFIG
from fatescal.hpc.communicator import Communicator
from fatescal.storage.discarded import discard
from fatescal.storage.store import Store

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
HERE = Path(__file__).parents[1]
PACKAGE = HERE.parent / "fatescal"
TABLE, SOAK = os.environ.get("FATESCAL_FAULTS"), int(os.environ.get("FATESCAL_SOAK", 0))
BOUND = 60.0  # s from a fault to the end of the job
STAGES = {
    "prior ensemble": "evaluation-00",
    "update": "ensemble-02",
    "emulator": "surrogate-00",
    "sampling": "chains-00-000",
    "posterior ensemble": "evaluation-posterior-00",
    "report": "report",
}


@dataclass
class Job:
    """A job that has paused: its folder, its mpirun, and the process of the rank that waits."""

    folder: Path
    mpirun: subprocess.Popen[bytes]
    paused: Path

    def kill(self, number: int) -> None:
        os.kill(int(self.paused.read_text()), number)

    def signal(self, number: int) -> None:
        self.mpirun.send_signal(number)
        time.sleep(1.0)  # until it has come to the ranks
        self.paused.unlink()

    def fill_the_disk(self) -> None:
        with contextlib.suppress(OSError), open(self.folder / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        self.paused.unlink()

    def make_read_only(self) -> None:
        run = str(self.folder / "run")
        subprocess.run(["mount", "--bind", run, run], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", run], check=True)
        self.paused.unlink()

    def take_away(self) -> None:
        (self.folder / "run").rename(self.folder / "elsewhere")
        self.paused.unlink()


def nothing(folder: Path) -> None:
    """What has to be done in many cases before the run goes on."""


def write_again(folder: Path) -> None:
    subprocess.run(["umount", str(folder / "run")], check=True)


def put_back(folder: Path) -> None:
    assert not (folder / "run").exists(), "it has begun anew"
    (folder / "elsewhere").rename(folder / "run")


@dataclass(frozen=True)
class Fault:
    """What is done to a job while `rank` waits in a stage (`written`: in its file), and what (a regular
    expression) it says then.
    """

    act: Callable[[Job], None]
    says: str
    rank: int = 0
    written: bool = False
    codes: tuple[int, ...] = ()  # of the exit; none: any but 0
    undo: Callable[[Path], None] = nothing


FAULTS = {
    "kill -9 of rank 0": Fault(lambda job: job.kill(signal.SIGKILL), "rank 0 "),
    "kill -9 of another rank": Fault(lambda job: job.kill(signal.SIGKILL), "rank 1 ", rank=1),
    "kill -9 of rank 0 in mid-write": Fault(lambda job: job.kill(signal.SIGKILL), "rank 0 ", written=True),
    "full disk": Fault(
        Job.fill_the_disk, "No space left on device", undo=lambda folder: (folder / "ballast").unlink()
    ),
    "folder turns read-only": Fault(
        Job.make_read_only,
        "Read-only file system|file is read only",  # the system's words, or those of MPI
        codes=(1,),
        undo=write_again,
    ),
    "folder vanishes": Fault(
        Job.take_away, "No such file or directory|has vanished", codes=(1,), undo=put_back
    ),
    "rank 1 hangs": Fault(lambda job: job.kill(signal.SIGSTOP), "hangs: no sign of life for 4 s", rank=1),
    "SIGTERM": Fault(lambda job: job.signal(signal.SIGTERM), ""),
    "SIGUSR1": Fault(lambda job: job.signal(signal.SIGUSR1), "start the same command again", codes=(75,)),
    "truncated newest stage": Fault(lambda job: None, "is damaged", codes=(1,)),
}
CELLS = [(stage, fault) for stage in STAGES for fault in FAULTS]
SLICE = CELLS if TABLE else [CELLS[i * len(FAULTS) % len(CELLS) + i] for i in range(len(FAULTS))]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = fatescal(2, write_problem(folder, "--count", emulate=QUICK), LINEAR_LOG=str(folder / "runs.log"))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def table() -> Iterator[dict[tuple[str, str], str]]:
    """Take what came of each cell, and write it down at the end."""
    cells: dict[tuple[str, str], str] = {}
    yield cells
    if TABLE:
        page = Path(TABLE)
        marked = re.compile("<!-- matrix -->.*<!-- end of matrix -->", re.DOTALL)
        page.write_text(marked.sub(rendered(cells), page.read_text()))


def rendered(cells: dict[tuple[str, str], str]) -> str:
    """Return the matrix as it stands in the docs."""
    rows = ["| fault | " + " | ".join(STAGES) + " |", "|---" * (1 + len(STAGES)) + "|"]
    rows += [
        f"| {fault} | " + " | ".join(cells.get((stage, fault), "FAILED") for stage in STAGES) + " |"
        for fault in FAULTS
    ]
    passed = f"{len(cells)} of {len(CELLS)} cells passed."
    return "\n".join(["<!-- matrix -->", passed, "", *rows, "", "<!-- end of matrix -->"])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB where one can be mounted, else a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def begun(reference: Path, folder: Path, stage: str, including: bool) -> Path:
    """Copy the unbroken run as it was before (or just after) a stage; return the config that continues it."""
    run = folder / "run"
    config = write_problem(folder, "--count", emulate=QUICK)
    shutil.copytree(reference / "run", run)
    finished = Store(run / "stages", Communicator()).keys()
    first = finished.index(stage) + including if stage in finished else len(finished)
    if first < len(finished):
        discard(run, finished[first], finished)
        shutil.rmtree(run / "discarded")
    for name in ("posterior.csv", "posterior.nc", "scorecard.csv", "scorecard.txt"):
        (run / name).unlink()
    shutil.rmtree(run / "report")
    return config


def members(run: Path) -> set[str]:
    """Return the finished members of a run."""
    return {
        str(p.parent.relative_to(run)) for p in run.glob("members/*/*/member.json") if p.parent.name.isdigit()
    }


def broken(config: Path, fault: Fault, stage: str, folder: Path) -> tuple[int, str, float]:
    """Start the job, let the fault happen in `stage`; return exit code, what was said, seconds to the end."""
    (folder / "pausing").touch()
    place = f"{stage} written" if fault.written else stage
    words = [str(HERE / "pausing.py"), str(folder), place, str(fault.rank), "run", "--heartbeat", "4s"]
    environment = {**mpi_environment(), "LINEAR_LOG": str(folder / "before.log")}
    with job(mpi_command(2, *words, str(config)), environment) as program:
        if fault.act is not FAULTS["truncated newest stage"].act:
            wait_for(folder / "paused", program)
            fault.act(Job(config.parent, program, folder / "paused"))
        begin = time.monotonic()
        _, said = program.communicate(timeout=BOUND)
        return program.returncode, said.decode(), time.monotonic() - begin


@pytest.mark.parametrize(("stage", "fault"), SLICE)
def test_a_fault_ends_the_job_with_one_message_and_the_run_goes_on(
    reference, table, disk, tmp_path, stage, fault
):
    if fault in ("full disk", "folder turns read-only") and not os.path.ismount(disk):
        pytest.skip("only root can mount")
    truncated = fault == "truncated newest stage"
    config = begun(reference, disk, STAGES[stage], including=truncated)
    run = disk / "run"
    if truncated:
        newest = run / "stages" / f"{Store(run / 'stages', Communicator()).keys()[-1]}.h5"
        os.truncate(newest, newest.stat().st_size // 2)

    code, said, seconds = broken(config, FAULTS[fault], STAGES[stage], tmp_path)
    if fault == "SIGUSR1" and stage == "report":
        assert code == 0, said  # nothing was left to stop
    else:
        assert code in FAULTS[fault].codes if FAULTS[fault].codes else code != 0, said
        told = [line for line in said.splitlines() if line.startswith("fatescal:")]
        assert len(told) == 1 or (fault == "SIGTERM" and not told), said
        assert re.search(FAULTS[fault].says, "".join(told))
    assert f'File "{PACKAGE}' not in said  # no traceback but that of a model that met the fault, quoted
    FAULTS[fault].undo(disk)
    kept = members(run)
    if truncated:
        assert f"Try: rm {newest}" in said
        newest.unlink()

    done = fatescal(2, config, LINEAR_LOG=str(tmp_path / "after.log"))
    assert done.returncode == 0, done.stderr
    assert digests(run) == digests(reference / "run")
    for name in ("posterior.csv", "scorecard.csv"):
        assert (run / name).read_bytes() == (reference / "run" / name).read_bytes()
    log = tmp_path / "after.log"
    n_runs = len(log.read_text().splitlines()) if log.exists() else 0
    assert n_runs == len(members(run)) - len(kept)
    table[stage, fault] = f"{'75, ' if code == 75 else ''}{seconds:.0f} s; {len(kept)} + {n_runs}"


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long jump(void) { /* seconds, as the file $CLOCK says */
    long seconds = 0;
    const char *path = getenv("CLOCK");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += jump();
    return code;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    int code = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return code;
}
time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
"""


def test_jumps_of_the_clock_by_years_change_nothing(reference, tmp_path):
    """All programs of the job, mpirun and the members too, see another clock than the machine's."""
    source, library, clock = (tmp_path / name for name in ("clock.c", "clock.so", "clock"))
    source.write_text(CLOCK)
    compiled = ["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    if shutil.which("cc") is None or subprocess.run(compiled, capture_output=True).returncode:
        pytest.skip("there is no C compiler")
    clock.write_text("0")
    config = write_problem(tmp_path, "--sleep", "0.1", emulate=QUICK)
    options = ["run", "--time-limit", "1h", "--heartbeat", "20s"]
    environment = {**mpi_environment(), "LD_PRELOAD": str(library), "CLOCK": str(clock)}
    with job(mpi_command(2, "-m", "fatescal", *options, str(config)), environment) as program:
        for stage, jump in (("evaluation-00", 2), ("evaluation-01", -3), ("evaluation-posterior-00", 1)):
            wait_for(tmp_path / "run" / "members" / stage / "0003", program)
            (tmp_path / "next").write_text(str(jump * 365 * 86400))
            (tmp_path / "next").rename(clock)
        _, said = program.communicate(timeout=300)
    assert program.returncode == 0, said.decode()
    years = {
        int(line[:4]) for line in (tmp_path / "run" / "run.log").read_text().splitlines() if "INFO" in line
    }
    assert max(years) - min(years) >= 3, years  # so it has jumped
    assert digests(tmp_path / "run") == digests(reference / "run")


def test_a_model_that_met_a_full_disk_is_not_to_blame(tmp_path):
    full = {"command": ["/bin/sh", "-c", "echo 'forrtl: No space left on device' >&2; exit 2"]}
    done = fatescal(0, write_problem(tmp_path, model=full))
    assert done.returncode == 1
    assert done.stderr.count("No space left on device") == 1, done.stderr
    assert members(tmp_path / "run") == set()


@pytest.mark.skipif(not SOAK, reason="FATESCAL_SOAK says how many kills; make soak")
def test_random_kills_of_one_run_change_no_bit(tmp_path):
    def config(name: str) -> Path:
        content = yaml.safe_load(DEFAULT_CONFIG.read_text())
        content["run"]["directory"] = str(tmp_path / name)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    begin = time.monotonic()
    unbroken = fatescal(2, config("unbroken"))
    assert unbroken.returncode == 0, unbroken.stderr
    work = float(unbroken.stderr.rsplit("done in ", 1)[1].split()[0])
    print(f"unbroken: {work:.0f} s of work, {time.monotonic() - begin:.0f} s in all", file=sys.stderr)
    chance, path, killed = random.Random(1), config("killed"), 0
    while killed < SOAK:
        program = subprocess.Popen(
            mpi_command(2, "-m", "fatescal", str(path)),
            env=mpi_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert program.stderr is not None
        for line in program.stderr:
            if line.startswith(b"run "):
                break
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(chance.expovariate(2 * SOAK / work))
            assert program.returncode == 0, program.stderr.read().decode()
            break
        victim = chance.choice([*children(program.pid), program.pid])
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        program.communicate(timeout=BOUND)
        killed += 1
    done = fatescal(2, path)
    assert done.returncode == 0, done.stderr
    assert killed == SOAK, f"the run was at its end after {killed} kills"
    assert digests(tmp_path / "killed") == digests(tmp_path / "unbroken")
    first, second = ((tmp_path / name / "posterior.csv").read_bytes() for name in ("killed", "unbroken"))
    assert first == second
    marks = {
        p: json.loads(p.read_text())["status"] for p in (tmp_path / "killed").glob("members/*/*/member.json")
    }
    print(f"{killed} kills, {len(marks)} members, {time.monotonic() - begin:.0f} s", file=sys.stderr)
