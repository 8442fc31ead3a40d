"""What the suite promises of itself and of the texts beside it.

It says what it did not test, judges nothing by the clock on the wall, and keeps lines of prose readable.
"""

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
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         str(TESTS / "observations" / "test_observations.py"), "-k", "baseline"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert last in "\n".join(done.stdout.splitlines()[-2:])


def test_no_test_is_skipped_for_want_of_a_file() -> None:
    """Where the folder of data is named, a file that it lacks fails the test."""
    absent = re.compile(r"(exists|is_file)\(\):\n +pytest\.skip")
    for path in {*TESTS.rglob("test_*.py")} - {
        *TESTS.glob("real_ctsm/*")
    }:  # which have variables of their own
        assert not absent.search(path.read_text()), path.name


def test_no_test_asserts_how_long_something_took() -> None:
    """A wait may have a limit (`< end`); a duration that must be short fails on a busy machine."""
    clock = re.compile(r"assert .*(monotonic|perf_counter|time\.time)\(\) *-")
    for path in TESTS.rglob("test_*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not clock.search(line), f"{path.name}, line {number}: {line.strip()}"


LONGEST = 110
# To be written again; then they are taken off.
LONG: set[str] = set()


def too_long(path: Path) -> list[int]:
    """Return the numbers of the lines of prose that are too long: tables, code and bare links cannot be
    broken.
    """
    code, found = False, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        breakable = " " in line.strip().lstrip("-*> ")
        if len(line) > LONGEST and not code and not line.lstrip().startswith("|") and breakable:
            found.append(number)
    return found


def test_lines_of_markdown_are_short() -> None:
    texts = {
        str(path.relative_to(ROOT)): path
        for path in ROOT.rglob("*.md")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    assert "README.md" in texts
    for name, path in texts.items():
        lines = too_long(path)
        assert not lines or name in LONG, f"{name}: lines {lines} have more than {LONGEST} characters"
        assert lines or name not in LONG, f"{name} has no long line any more: take it off LONG"


NAMED_PATH = re.compile(
    r"(?<![\w./-])(?:fatescal|tests|benchmarks|docs|jobscripts)/[\w./-]*\.(?:py|md|sh|yaml)\b"
)
HISTORY = "NEWS.md"  # names files as they were called at the time


def test_files_that_the_texts_name_exist() -> None:
    for text in [path for path in ROOT.glob("*.md") if path.name != HISTORY] + [*ROOT.glob("docs/*.md")]:
        for name in NAMED_PATH.findall(text.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{text.name} names {name}, which does not exist"
