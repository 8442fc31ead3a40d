"""Lines of progress while the members of a stage run."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path

from fatescal.base.errors import Status
from fatescal.ensemble.marker import MARKER
from fatescal.ensemble.progress import MemberProgress, reported


def finish(folder: Path, name: str, status: Status) -> None:
    """Write a finished member's marker."""
    (folder / name).mkdir(parents=True)
    content = {"fingerprint": "", "status": int(status), "seconds": 2.0}
    (folder / name / MARKER).write_text(json.dumps(content))


def test_the_log_says_how_many_members_are_finished_and_when_all_will_be(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "evaluation-01"
    with reported("evaluation-01", 8, [MemberProgress(folder)], interval=0.05):
        while not caplog.messages:  # nothing is there yet, not even the folder
            time.sleep(0.01)
        finish(folder, "0000", Status.OK)
        finish(folder, "0001", Status.MODEL_ERROR)
        while "2 of 8" not in caplog.messages[-1]:
            time.sleep(0.01)
    assert caplog.messages[0] == "evaluation-01: 0 of 8 members are finished, 0 failed"
    assert re.fullmatch(
        r"evaluation-01: 2 of 8 members are finished, 1 failed, all about \d\d:\d\d", caplog.messages[-1]
    )
    n_lines = len(caplog.messages)
    time.sleep(0.2)
    assert len(caplog.messages) == n_lines


def test_members_of_an_earlier_start_say_nothing_of_the_pace(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("0000", "0001", "0002"):
        finish(tmp_path, name, Status.OK)
    with reported("evaluation-02", 4, [MemberProgress(tmp_path)], interval=0.05):
        while not caplog.messages:
            time.sleep(0.01)
    assert caplog.messages[0] == "evaluation-02: 3 of 4 members are finished, 0 failed"
