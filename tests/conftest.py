"""Fixtures shared by the suite: real mpirun, real data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

MPIRUN = os.environ.get("MPIRUN", "mpirun")

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
        pytest.skip(f"{MPIRUN} is not on the PATH")

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
    """The folder of real data, where there is one."""
    folder = os.environ.get("FATESCAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FATESCAL_DATA does not name the folder of real data")
    return Path(folder)
