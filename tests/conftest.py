"""Fixtures shared by the suite: real mpirun, real data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

MPIRUN = os.environ.get("MPIRUN", "mpirun")
NO_DATA = "FATESCAL_DATA is not set"
NO_MPI = "is not on the PATH"
NO_CASES = "there is no folder `cases` beside FATESCAL_DATA"

# The same examples every time; others: make test ARGS="--hypothesis-profile=default"
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def mpi_environment() -> dict[str, str]:
    """The environment in which any user, root too, may start more ranks than there are cores."""
    return os.environ | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",  # containers forbid it, and it says so at length
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def mpi_command(n_ranks: int, *arguments: str) -> list[str]:
    """The command line that starts this Python on `n_ranks` ranks."""
    return [MPIRUN, "-n", str(n_ranks), sys.executable, *arguments]


@pytest.fixture
def mpirun(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python source on n ranks: mpirun(n, source, *arguments) -> finished process."""
    if shutil.which(MPIRUN) is None:
        pytest.skip(f"{MPIRUN} {NO_MPI}")

    def start(
        n_ranks: int, source: str, *arguments: object, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "ranks.py"
        script.write_text(textwrap.dedent(source))
        return subprocess.run(
            mpi_command(n_ranks, str(script), *map(str, arguments)),
            env=mpi_environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return start


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; where one is named, what is missing from it is a failure."""
    folder = os.environ.get("FATESCAL_DATA")
    if not folder:
        pytest.skip(NO_DATA)
    if not Path(folder).is_dir():
        pytest.fail(f"FATESCAL_DATA names {folder}, which is no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as a checkout, from which jobs go to a Slurm of two nodes that is a PBS too; its `slurm.conf`
    is there.
    """
    if shutil.which("slurmctld") is None:
        pytest.skip("Slurm is not installed")
    folder, tests = tmp_path_factory.mktemp("checkout"), Path(__file__).parent
    folder.chmod(0o755)
    for name in ("jobscripts", "machines", ".venv"):
        (folder / name).symlink_to(tests.parent / name)
    command = tests / "slurm_cluster.sh"
    started = subprocess.run(
        [command, "start", folder],
        env=on_two_nodes(folder),
        capture_output=True,
        text=True,
        timeout=600,
    )
    if started.returncode != 0:
        pytest.skip(f"Slurm does not start on this machine: {started.stderr}")
    try:
        yield folder
    finally:
        subprocess.run([command, "stop", folder], check=True, timeout=60)


def on_two_nodes(cluster: Path) -> dict[str, str]:
    """Return the environment of a user of the cluster; shared memory confuses two nodes of one name."""
    return mpi_environment() | {"SLURM_CONF": str(cluster / "slurm.conf"), "OMPI_MCA_btl": "tcp,self"}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say in the last lines how many tests had no data or no MPI: without them a suite proves less."""
    yield
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    remedies = {
        NO_DATA: "export FATESCAL_DATA=FOLDER",
        NO_MPI: "export MPIRUN=PROGRAM",
        NO_CASES: "put it there",
    }
    for lacking, remedy in remedies.items():
        n_tests = sum(count for reason, count in reasons.items() if lacking in reason)
        if n_tests:
            terminalreporter.write_line(f"NOT TESTED: {n_tests} tests, for {lacking}: {remedy}", yellow=True)
