"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from fatescal.storage import atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def fails(part: Path) -> None:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, fails)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_file_and_folder_are_on_the_disk_before_and_after_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append(f"sync {os.readlink(f'/proc/self/fd/{descriptor}').rpartition('/')[2]}")
        sync(descriptor)

    def replaced(part: Path, path: Path) -> None:
        done.append(f"replace {path.name}")
        replace(part, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    atomic.write_json(tmp_path / "b.json", {"ä": 1}, indent=1)
    assert done == ["sync .b.json.part", "replace b.json", f"sync {tmp_path.name}"]
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == {"ä": 1}


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_folder_that_cannot_be_synced_is_no_failure_but_a_broken_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    sync = os.fsync

    def folder_fails(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", folder_fails)
    if passes:
        atomic.write_text(tmp_path / "c", "whole")
    else:
        with pytest.raises(OSError, match="Input/output"):
            atomic.write_text(tmp_path / "c", "whole")
    assert (tmp_path / "c").read_text() == "whole"
