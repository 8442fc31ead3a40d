"""What must not grow with the square of the number of members, and names of more than four digits."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fatescal.base.errors import Status
from fatescal.ensemble.leftovers import Leftovers
from fatescal.ensemble.marker import mark_folder, markers
from fatescal.ensemble.progress import begun

DONE = {"fingerprint": "f", "status": int(Status.OK), "seconds": 1.0, "model": {"inputs": {"a": "digest"}}}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each folder has been listed."""
    count: Counter[str] = Counter()
    original = os.scandir

    def scandir(path: Any = ".") -> Any:
        count[str(path)] += 1
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return count


def test_markers_are_those_of_finished_members_of_any_number_at_any_site(tmp_path):
    for name in ("0000", "9999", "10000", "12345/north", "12345/south"):
        mark_folder(tmp_path / name, DONE)
    for name in ("0001.part-abc", "0002.failed-1", "12346/north.part-abc", "notes"):
        mark_folder(tmp_path / name, DONE)
    found = {(number, site) for number, site, _ in markers(tmp_path)}
    assert found == {("0000", ""), ("9999", ""), ("10000", ""), ("12345", "north"), ("12345", "south")}
    assert all(content == DONE for _, _, content in markers(tmp_path))
    assert list(markers(tmp_path / "nowhere")) == []


def test_the_folders_of_models_are_not_walked_through(tmp_path, listed):
    stage = tmp_path / "members" / "evaluation-00"
    for j in range(20):
        mark_folder(stage / f"{j:04d}", DONE)
        (stage / f"{j:04d}" / "of the model" / "deep").mkdir(parents=True)
    listed.clear()
    assert begun(tmp_path / "members", [])["evaluation-00"].files == {"a": "digest"}
    assert not any("of the model" in path for path in listed)
    assert not any(str(stage / "0003") == path for path in listed)


def test_a_stage_is_listed_once_for_what_its_members_left(tmp_path, listed):
    names = [f"{j:04d}.part-{j:08x}" for j in range(30)] + ["0003.failed-1", "10000.part-ab"]
    kept = ["0005.notes", "0000.before-1"]  # the latter a default run of another model, set aside
    for name in [*names, *kept]:
        (tmp_path / name).mkdir()
    leftovers = Leftovers()
    taken = {path.name for j in (*range(30), 10000) for path in leftovers.take(tmp_path / f"{j:04d}")}
    assert taken == set(names)
    assert listed[str(tmp_path)] == 1


def test_a_member_that_is_tried_again_finds_what_its_own_attempts_left(tmp_path):
    leftovers = Leftovers()
    assert leftovers.take(tmp_path / "0001") == []
    (tmp_path / "0001.failed-1").mkdir()
    assert leftovers.take(tmp_path / "0001") == [tmp_path / "0001.failed-1"]
    assert Leftovers().take(Path("/nowhere/stage/0001")) == []
