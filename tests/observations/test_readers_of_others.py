"""A format that another package brings: one class and one entry point, used in a config by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from linear import write_problem

MODULE = '''
from typing import Literal
import pandas as pd
from fatescal.observations.readers.base import Layout, Reader

class Parquetish(Reader):
    """Tables of the Other package."""

    kind: Literal["other"] = "other"
    factor: float = 1.0
    """What values are multiplied by."""

    def fits(self, head):
        return head.first.startswith(b"OTHER")

    def layout(self, head):
        names = head.path.read_text().splitlines()[1].split("|")
        return Layout("other", tuple(names[1:]), {}, written="bars")

    def read(self, head, request):
        table = pd.read_csv(head.path, sep="|", skiprows=1, index_col=0, parse_dates=True)
        layout = self.layout(head)
        columns = [layout.names[layout.index(name, head.path)] for name in request.columns]
        return self.factor * table[columns], layout

class NoReader:
    pass

class Misnamed(Parquetish):
    kind: Literal["misnamed"] = "misnamed"
'''
POINTS = """[fatescal.readers]
other = other_formats:Parquetish
none = other_formats:NoReader
gone = no_such_module:Reader
wrong = other_formats:Misnamed
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with an installed package that brings formats."""
    folder = tmp_path / "site"
    about = folder / "other_formats-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "other_formats.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-formats\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    return folder


def fatescal(package: Path, *arguments: object) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])])
    return subprocess.run(
        [sys.executable, "-m", "fatescal", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def problem(folder: Path, format: object, factor: float = 1.0) -> Path:
    """The linear problem with its observations in the format of the other package."""
    config = write_problem(folder)
    table = pd.read_csv(folder / "fluxes.csv", comment="#", index_col="date") / factor
    (folder / "fluxes.other").write_text("OTHER\n" + table.to_csv(sep="|"))
    content = yaml.safe_load(config.read_text())
    given = content["observations"] | {"file": "fluxes.other", "format": format}
    unused = {"time_column"} | ({"format"} if format is None else set())
    content["observations"] = {key: value for key, value in given.items() if key not in unused}
    config.write_text(yaml.safe_dump(content))
    return config


def mean(text: str) -> float:
    """The mean GPP of the calibration period that `check` states."""
    line = next(line for line in text.splitlines() if "GPP, calibration" in line)
    return float(line.partition("mean ")[2].split(",")[0])


def test_a_format_of_another_package_is_used_by_its_name(tmp_path, package):
    for format, factor in (("other", 1.0), (None, 1.0), ({"kind": "other", "factor": 10}, 10.0)):
        said = fatescal(package, "check", problem(tmp_path, format, factor))
        assert said.returncode == 0, said.stderr
        assert "fluxes.other: other, bars" in said.stdout
        expected = pd.read_csv(tmp_path / "fluxes.csv", comment="#", index_col="date")
        assert mean(said.stdout) == pytest.approx(expected["GPP"][:"2004-02-29"].mean(), rel=1e-3)


def test_the_schema_lists_it_with_its_options(package):
    described = json.loads(fatescal(package, "schema").stdout)
    options = described["$defs"]["Parquetish"]["properties"]
    assert options["factor"]["description"] == "What values are multiplied by."
    names = described["$defs"]["ObservationsSection"]["properties"]["format"]["anyOf"][0]["enum"]
    assert {"other", "netcdf", "csv"} <= set(names)
    assert {"none", "gone", "wrong"} & set(names) == set()


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("othr", "unknown kind 'othr'; did you mean 'other'?"),
        ({"kind": "other", "facto": 2}, "unknown key; did you mean 'factor'?"),
        ({"kind": "other", "factor": "x"}, "factor: input should be a number"),
        ({"factor": 2}, "kind"),
        ("none", "by other_formats:NoReader, which cannot be used: it is no class of the family"),
        ("gone", "cannot be used: ModuleNotFoundError: No module named 'no_such_module'"),
        ("wrong", 'another name than the class. Expected kind: Literal["wrong"] = "wrong", got misnamed'),
    ],
)
def test_what_is_wrong_with_it_is_refused(tmp_path, package, format, words):
    said = fatescal(package, "check", problem(tmp_path, format))
    assert (said.returncode, "Traceback" in said.stderr) == (2, False), said.stderr
    assert words in " ".join(said.stderr.split())


def test_a_name_of_an_own_format_is_refused(tmp_path, package):
    points = package / "other_formats-1.0.dist-info" / "entry_points.txt"
    points.write_text(f"{POINTS}csv = other_formats:Parquetish\n")
    said = fatescal(package, "check", write_problem(tmp_path))
    assert (said.returncode, "Traceback" in said.stderr) == (2, False), said.stderr
    assert "'csv' is brought by two packages, fatescal and other-formats" in said.stderr
