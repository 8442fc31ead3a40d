"""SIGUSR1 at any moment of the start: a clean stop, not the death of a rank."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import mpi_environment
from linear import write_problem

# The signal comes when a module is first asked for: the moment does not depend on the speed of the machine.
START = """
import os, runpy, signal, sys

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[3]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGUSR1)

sys.meta_path.insert(0, Signal())
runpy.run_module("fatescal", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("moment", ["fatescal.cli.command_line", "mpi4py"])
def test_a_signal_during_the_start_ends_it_cleanly(moment, tmp_path):
    config = write_problem(tmp_path)
    start = START.replace("sys.argv[3]", repr(moment))
    done = subprocess.run(
        [sys.executable, "-c", start, "run", str(config)],
        env=mpi_environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    assert "start the same command again" in done.stderr
    assert not list(tmp_path.glob("run/members/evaluation-00/[0-9]*/member.json"))
