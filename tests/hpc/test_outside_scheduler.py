"""A scheduler of another package: one class, one entry point of group `fatescal.schedulers`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from linear import run_program

CLASS = '''
from pathlib import Path

from fatescal.hpc.schedulers.base import End, Job, Scheduler


class LSF(Scheduler):
    """The job that LSF_JOB names, which has two minutes left of ten."""

    kind = "lsf"
    variables = ("LSB_",)

    @property
    def job(self):
        return self.environment.get("LSB_JOBID")

    @property
    def node(self):
        return "lsf-node"

    def seconds_left(self):
        return 120.0, 600.0

    def look(self, number):
        return Job(number, "DONE", end=End.SUCCEEDED)

    def named(self, name):
        return []

    def in_folder(self, name, folder: Path):
        return []


class Half(Scheduler):
    kind = "half"
'''
ASKED = """
from fatescal.cli.run import wall_time_limit
from fatescal.base.errors import BadInput
from fatescal.hpc.launch import HIDDEN_PREFIXES
from fatescal.hpc.schedulers.registry import current, node_name, scheduler

print(current().kind, node_name(), wall_time_limit(), "LSB_" in HIDDEN_PREFIXES)
print(scheduler("lsf")().look("7"))
for kind in ("half", "lost", "other"):
    try:
        scheduler(kind)
    except BadInput as error:
        print(error)
"""


def asked(folder: Path, points: str, job: dict[str, str]) -> list[str]:
    """Return what a program says that has the package on its path."""
    (folder / "queues.py").write_text(CLASS)
    metadata = folder / "queues-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: queues\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[fatescal.schedulers]\n{points}")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment: dict[str, Any] = {"PYTHONPATH": path, **job}
    done = run_program([sys.executable, "-c", ASKED], folder, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("inside", [True, False])
def test_a_scheduler_of_another_package_is_used_as_those_here(tmp_path: Path, inside: bool) -> None:
    points = "lsf = queues:LSF\nhalf = queues:Half\nlost = gone:Class\n"
    first, job, half, lost, other = asked(tmp_path, points, {"LSB_JOBID": "7"} if inside else {})
    if inside:
        assert first == "lsf lsf-node 60.0 True"
    else:
        assert first.startswith("none ")
        assert first.endswith(" None True")
    assert job == "job 7 DONE"
    assert "one of slurm, pbs, none, lsf" in other
    assert "entry point of group fatescal.schedulers" in other
    assert (
        "queues brings it by queues:Half, which cannot be used: the class lacks in_folder, job, look, named"
        in half
    )
    assert "which cannot be used: ModuleNotFoundError: No module named 'gone'" in lost
