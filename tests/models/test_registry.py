"""A model of another package: found by its entry point, in the schema, refused where it is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from linear import MODEL, fatescal, write_problem

from fatescal.base.errors import BadInput
from fatescal.models.registry import MODELS, kind_of, options_of

LINE = '''
"""A package as somebody else may write it."""
import sys
from typing import Annotated, Literal
from pydantic import Field
from fatescal.models.base import ModelOptions, Verb
from fatescal.models.command import Command

def told(sites, say, *, loud=False):
    for options, context in sites:
        say(f"{options.steps} steps, {context.variables}" + ("!" if loud else ""))

class Line(ModelOptions):
    """A straight line."""
    verbs = (Verb("explain", "tell what the line is", told, {"loud": "with a mark"}),)
    kind: Literal["line"]
    program: str
    """The program that is the model."""
    steps: Annotated[int, Field(ge=1)] = 3
    """How many steps it takes."""

    def make(self, context):
        words = [sys.executable, "-SE", self.program]
        return Command(words, context.folder, variables=context.variables, **context.launching())
'''
OLDER = '''
"""A model written before there was a base class."""
from fatescal.models.command import Command
import sys

class Older:
    defaults, pfts, calendar = {}, (), "standard"
    def __init__(self, options, folder):
        self.inner = Command([sys.executable, "-SE", options["program"]], folder)
    description = {"model": "older"}
    def check(self): self.inner.check()
    def run(self, theta, folder): return self.inner.run(theta, folder)
    def read(self, folder): return self.inner.read(folder)
'''


@pytest.fixture
def package(tmp_path) -> Path:
    """Return a folder for PYTHONPATH: a package of two models, and one that cannot be imported."""
    folder = tmp_path / "site-packages"
    info = folder / "lines-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fatescal.models]\nline = lines:Line\nbroken = nowhere_at_all:Model\n"
        "[fatescal.forward_models]\nolder = older:Older\n"
    )
    (folder / "lines.py").write_text(LINE)
    (folder / "older.py").write_text(OLDER)
    return folder


def with_model(config: Path, model: dict[str, object]) -> Path:
    content = yaml.safe_load(config.read_text())
    content["model"] = model
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


def said(package: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    here = str(Path(__file__).parents[2])
    return fatescal(0, *arguments, PYTHONPATH=f"{package}:{here}")


def test_a_model_from_outside_runs_with_what_the_program_tells_it(package, tmp_path):
    config = with_model(write_problem(tmp_path), {"kind": "line", "program": str(MODEL)})
    machine = tmp_path / "machine.yaml"
    machine.write_text("launcher: [env, SEEN=launcher]\ntimeout: 60 s\n")
    done = said(package, "check", "--try", "--machine", machine, config)
    assert "model         line: ok, standard calendar" in done.stdout, done.stderr
    assert "default run   ok in" in done.stdout
    done = said(package, "explain", "--loud", config)
    assert done.stdout == "3 steps, ('GPP', 'ET')!\n", done.stderr
    other = with_model(config, {"kind": "command", "command": [sys.executable, str(MODEL)]})
    done = said(package, "explain", other)
    assert (done.returncode, "model.kind is command. Expected line" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "line", "program": "x", "stepz": 1}, "model.stepz: unknown key; did you mean 'steps'?"),
        ({"kind": "line", "program": "x", "steps": 0}, "model.steps: input should be greater than or equal"),
        ({"kind": "line"}, "model.program: field required"),
        ({"kind": "lime", "program": "x"}, "model.kind lime is unknown. Expected one of canopy, command"),
        ({"kind": "broken"}, "model.kind broken: nowhere_at_all:Model cannot be imported"),
    ],
)
def test_its_mistakes_are_told_as_those_of_any_model(package, tmp_path, model, message):
    done = said(package, "check", with_model(write_problem(tmp_path), model))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_its_options_are_in_the_schema(package, tmp_path):
    done = said(package, "schema")
    kinds = {
        kind["properties"]["kind"]["const"]: kind
        for kind in json.loads(done.stdout)["properties"]["model"]["anyOf"]
    }
    assert list(kinds) == [*MODELS, "line"]
    assert kinds["line"]["properties"]["steps"]["description"] == "How many steps it takes."
    assert kinds["line"]["properties"]["steps"]["minimum"] == 1


def test_a_model_without_the_base_class_goes_on_working(package, tmp_path):
    config = with_model(write_problem(tmp_path), {"kind": "older", "program": str(MODEL)})
    done = said(package, "check", "--try", config)
    assert "default run   ok in" in done.stdout, done.stderr


@pytest.mark.parametrize("kind", MODELS)
def test_every_key_of_every_model_is_explained(kind):
    described = MODELS[kind].model_json_schema()
    assert kind_of(MODELS[kind]) == kind
    assert options_of(kind) is MODELS[kind]
    assert described["description"]
    lacking = [k for k, v in described["properties"].items() if k != "kind" and "description" not in v]
    assert not lacking


def test_an_unknown_kind_is_kept_as_it_is_and_not_made(tmp_path):
    options = options_of("nobody_s").model_validate({"kind": "nobody_s", "a": [1]})
    assert options.model_dump(exclude={"fallback"}) == {"kind": "nobody_s", "a": [1]}
    with pytest.raises(BadInput, match=r"model\.kind nobody_s is unknown"):
        options.make(None)  # type: ignore[arg-type]
