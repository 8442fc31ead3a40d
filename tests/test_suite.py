"""What the suite promises of itself: it says what it did not test, and judges nothing by the clock on the wall."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent


@pytest.mark.parametrize(
    ("folder", "code", "last"),
    [(None, 0, "NOT TESTED: 1 tests, for FATESCAL_DATA is not set"), ("empty", 1, "1 failed")],
)
def test_a_test_without_its_data_is_told_last_or_fails(
    tmp_path: Path, folder: str | None, code: int, last: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FATESCAL_DATA"}
    if folder is not None:
        (tmp_path / folder).mkdir()
        environment["FATESCAL_DATA"] = str(tmp_path / folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "test_observations.py"),
         "-k", "baseline"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert last in "\n".join(done.stdout.splitlines()[-2:])


def test_no_test_asserts_how_long_something_took() -> None:
    """A wait may have a limit (`< end`); a duration that must be short fails on a busy machine."""
    clock = re.compile(r"assert .*(monotonic|perf_counter|time\.time)\(\) *-")
    for path in TESTS.glob("test_*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not clock.search(line), f"{path.name}, line {number}: {line.strip()}"
