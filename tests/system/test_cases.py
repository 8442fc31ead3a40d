"""The small cases that once went wrong, as their users have them: the right value, or the right refusal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NO_CASES

CASES = Path(os.environ.get("FATESCAL_DATA", "")).parent / "cases"
pytestmark = pytest.mark.skipif(not os.environ.get("FATESCAL_DATA") or not CASES.is_dir(), reason=NO_CASES)

CHECKED = {  # exit code of `check`, and what it must say
    "date-columns": (2, ["Try: time_column: [year, month, day, hour, minute]"]),
    "fluxnet-monthly-dates": (0, ["12 windows 2010-01-01 to 2010-12-31, mean 6.5", "g C m-2 d-1"]),
    "fluxnet-weekly-unit": (0, ["3 windows", "mean 2,", "g C m-2 d-1", "a row each 7 d"]),
    "monthly-amounts": (0, ["12 windows", "mean 1,", "a row each month"]),
    "name-chain": (2, ["the name 'chain' cannot be used"]),
    "outlier": (2, ["y 2001-01-04 = 1e+06 m", "observations.outliers: drop"]),
    "qc-half-hourly": (2, ["`min: 0.5`", "NEE_VUT_REF_QC, a flag", "Try: qc: {column: NEE_VUT_REF_QC, max:"]),
    "r-table": (0, ["2 windows", "mean 2,"]),
    "stamps-end": (0, ["48 windows", "TIMESTAMP_END is the end of an interval"]),
}
RUN = {  # what the log of a run that ends well must say
    "days-since": ["12 of 12 members ran"],
    "folder-removed": ["9 of 12 members ran"],
    "time-empty": ["9 of 12 members ran", "has no record: the model stopped before it wrote the first"],
    "unitless": ["12 of 12 members ran"],
}


def case(name: str, where: Path) -> Path:
    """Return a copy of a case's folder, without what a run left there."""
    return Path(shutil.copytree(CASES / name, where / name, ignore=shutil.ignore_patterns("run")))


def fatescal(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder; `python` in a config is the Python of the tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "fatescal", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", CHECKED)
def test_check_reads_it_right_or_refuses_it_in_words(tmp_path, name):
    code, expected = CHECKED[name]
    done = fatescal(case(name, tmp_path), "check", "case.yaml")
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    for text in expected:
        assert text in said


@pytest.mark.parametrize("name", RUN)
def test_a_broken_member_fails_alone_and_a_sound_one_counts(tmp_path, name):
    done = fatescal(case(name, tmp_path), "case.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    for text in RUN[name]:
        assert text in done.stderr


def test_edited_observations_are_refused_by_name(tmp_path):
    folder = case("obs-edited", tmp_path)
    shutil.copy(folder / "obs1.csv", folder / "obs.csv")
    assert fatescal(folder, "prior.yaml").returncode == 0
    shutil.copy(folder / "obs2.csv", folder / "obs.csv")
    done = fatescal(folder, "case.yaml")
    assert done.returncode == 2
    assert "observations.file has changed since stage observations" in done.stderr
    shutil.copy(folder / "obs1.csv", folder / "obs.csv")
    assert fatescal(folder, "prior.yaml").returncode == 0
