"""A broken member fails with its reason, whatever it has done to its folder; it never ends the run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from fatescal.base.errors import BadInput, Status
from fatescal.ensemble.marker import MARKER
from fatescal.ensemble.member import Members
from fatescal.ensemble.wall_time import WallTimeGuard
from fatescal.models import output
from fatescal.models.base import Model
from fatescal.models.command import Command
from fatescal.parameters.derived import Expression
from fatescal.parameters.priors import Normal
from fatescal.parameters.space import ParameterSpace

FOREVER = float("inf")


class Spoiled(Model):
    """A model that writes its parameter to a file, then does to its folder what it is told."""

    calendar = "standard"
    identity: Mapping[str, object] = {"model": "test"}

    def __init__(self, spoil: Callable[[Path], object]) -> None:
        self.spoil, self.runs = spoil, 0

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        self.runs += 1
        with netCDF4.Dataset(folder / "output.nc", "w") as data:
            data.createDimension("time", 2)
            data.createVariable("y", "f8", ("time",))[:] = theta["a"]
        self.spoil(folder)

    def read(self, folder: Path) -> xr.Dataset:
        return output.read(folder / "output.nc", ["y"])


def members(folder: Path, model: Any, derived: str = "") -> Members:
    rules = {"b": Expression(derived)} if derived else {}
    space = ParameterSpace(("a",), (Normal(mean=0.0, sd=1.0),), {"a": 0.0}, None, rules)
    return Members(model, space, lambda data: data["y"].values, 2, folder / "members")


def marker(of: Members) -> dict[str, Any]:
    return json.loads((of.member_folder("evaluation-00", 1) / MARKER).read_text())


def n_runs(of: Members) -> int:
    return getattr(of.model, "runs", 0)


def ran(of: Members, a: float = 1.0) -> dict[str, Any]:
    row = of.member("evaluation-00", 1, np.array([a]), WallTimeGuard(lambda: FOREVER))
    found = marker(of)
    assert row["status"] == found["status"]
    assert np.isnan(row["predictions"]).all() == (row["status"] != Status.OK)
    # nothing is run again when the run is started again
    runs = n_runs(of)
    again = of.member("evaluation-00", 1, np.array([a]), WallTimeGuard(lambda: FOREVER))
    assert (again["status"], n_runs(of)) == (row["status"], runs)
    return found


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def by_a_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("/nowhere")


def by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def and_reads(folder: Path) -> None:
    shutil.rmtree(folder)
    (folder / "x").read_text()


def closed(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner").chmod(0)
    folder.chmod(0)


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (shutil.rmtree, Status.TRUNCATED, "it is missing"),
        (lambda f: replaced(f / "output.nc", lambda p: p.mkdir()), Status.TRUNCATED, "it is a directory"),
        (lambda f: replaced(f / "output.nc", lambda p: p.symlink_to("x")), Status.TRUNCATED, "link to x"),
        (lambda f: replaced(f / "output.nc", lambda p: p.write_text("1,2")), Status.TRUNCATED, "is text"),
        (by_a_file, Status.TRUNCATED, "cannot be read"),
        (by_a_link, Status.TRUNCATED, "it is missing"),
        (lambda f: (f / MARKER).mkdir(), Status.OK, ""),
        (lambda f: (f / MARKER).symlink_to("elsewhere.json"), Status.OK, ""),
        (lambda f: (f / MARKER).write_bytes(b"\xff\xfe"), Status.OK, ""),
        (and_reads, Status.MODEL_ERROR, "removed its own folder"),
    ],
)
def test_whatever_a_model_does_to_its_folder_is_a_reason(tmp_path, spoil, status, words):
    of = members(tmp_path, Spoiled(spoil))
    found = ran(of)
    assert found["status"] == status
    assert words in found["reason"]
    assert ".part-" not in found["reason"]
    assert n_runs(of) == (1 if status == Status.OK else 2)  # tried again once
    assert sorted(p.name for p in (tmp_path / "members/evaluation-00").iterdir() if ".part" in p.name) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_the_model_closed_is_opened_again(tmp_path):
    assert "Permission denied" in ran(members(tmp_path, Spoiled(closed)))["reason"]


def test_a_member_of_other_parameters_is_refused_and_stays_as_it_is(tmp_path):
    before = ran(members(tmp_path, Spoiled(lambda f: None)))
    with pytest.raises(BadInput, match=r"it differs in parameters\.a"):
        ran(members(tmp_path, Spoiled(lambda f: None)), a=2.0)
    assert marker(members(tmp_path, Spoiled(lambda f: None))) == before


def test_a_reader_that_raises_anything_fails_its_member(tmp_path):
    model = Spoiled(lambda f: None)

    def read(folder: Path) -> xr.Dataset:
        raise KeyError("x")

    model.read = read  # type: ignore[method-assign]
    found = ran(members(tmp_path, model))
    assert (found["status"], "KeyError: 'x'" in found["reason"]) == (Status.TRUNCATED, True)


@pytest.mark.parametrize(
    ("derived", "a"), [("log(a)", -1.0), ("1 / a", 0.0), ("exp(a)", 1e4), ("a ** 0.5", -2.0), ("", np.inf)]
)
def test_a_parameter_without_a_value_fails_the_member_before_it_runs(tmp_path, derived, a):
    of = members(tmp_path, Spoiled(lambda f: None), derived)
    found = ran(of, a)
    assert found["status"] == Status.NON_FINITE
    assert ("b has no finite value" if derived else "a has no finite value") in found["reason"]
    assert n_runs(of) == 0


def command(folder: Path, script: str) -> Command:
    return Command(["/bin/sh", "-c", script], folder, timeout=60)


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ('rm -r "$PWD"; exit 3', Status.MODEL_ERROR, "exit code 3. There is no log"),
        ('rm -r "$PWD"', Status.TRUNCATED, "left no output.nc; its folder"),
        ("rm member.log; mkdir member.log; exit 3", Status.MODEL_ERROR, "not a regular file any more"),
        ("rm member.log; mkfifo member.log; exit 3", Status.MODEL_ERROR, "not a regular file any more"),
        ("rm member.log; exit 3", Status.MODEL_ERROR, "There is no log"),
        ("head -c 3000 /dev/urandom; printf '\\n\\033[31mred\\000'; exit 3", Status.MODEL_ERROR, "?[31mred?"),
        ("yes | head -c 20000000; exit 3", Status.MODEL_ERROR, "\n    y\n"),
        ("echo 1,2 >output.csv", Status.TRUNCATED, "left no output.nc; it left member.log, output.csv"),
        ("mkdir output.nc", Status.TRUNCATED, "it is a directory"),
        ("echo date,y >output.nc", Status.TRUNCATED, "it is text ('date,y' ...)"),
    ],
)
def test_whatever_a_command_does_to_log_and_folder_is_a_reason(tmp_path, script, status, words):
    found = ran(members(tmp_path, command(tmp_path, script)))
    assert (found["status"], words in found["reason"]) == (status, True), found["reason"]
    assert len(found["reason"]) < 6000
    assert ".part-" not in found["reason"]


def test_the_log_a_reason_quotes_is_there(tmp_path):
    of = members(tmp_path, command(tmp_path, "echo the cause; exit 3"))
    reason = ran(of)["reason"]
    log = of.member_folder("evaluation-00", 1) / "member.log"
    assert f"The last lines of {log}:\n    the cause" in reason
    assert log.read_text() == "the cause\n"
    first = of.member_folder("evaluation-00", 1).with_name("0001.failed-1")
    assert str(first / "member.log") in json.loads((first / MARKER).read_text())["reason"]


def test_only_the_end_of_a_log_is_read(tmp_path, monkeypatch):
    """A sparse log of 1 TB takes no memory."""
    script = "truncate -s 1T member.log; echo the end >>member.log; exit 3"
    found = ran(members(tmp_path, command(tmp_path, script)))
    assert "the end" in found["reason"]
    assert sys.getsizeof(found["reason"]) < 20000
