"""Keys set from outside the file: read as YAML, checked as the file's own, told where they cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from linear import write_problem

from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.cli.arguments import DEFAULT_CONFIG
from fatescal.cli.run_folder import load_config


def test_a_key_that_is_set_takes_the_place_of_the_files(tmp_path: Path) -> None:
    path = write_problem(tmp_path)
    changes = settings.from_text(["calibrate.members=31", "run.name=other", "parameters.wave.label=a wave"])
    plain = settings.load(path, changes).plain()
    assert (plain["calibrate"]["members"], plain["run"]["name"]) == (31, "other")
    assert plain["parameters"]["wave"]["label"] == "a wave"
    assert plain["parameters"]["mean"] == settings.load(path).plain()["parameters"]["mean"]
    assert settings.load(path).plain()["calibrate"]["members"] == 20


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("calibrate.membres=3", "calibrate.membres: unknown key; did you mean 'members'?"),
        ("calibrate.members=1", "calibrate.members"),
        ("calibrate.members", "Expected KEY=VALUE"),
        ("=3", "Expected KEY=VALUE"),
        ("run.name.below=3", "run.name.below: name is no section, it is 'linear'"),
        ("calibrate.members=[1", "the value is no YAML"),
        ("machine=fram", "machine"),
    ],
)
def test_a_mistake_in_a_set_key_is_told(tmp_path: Path, item: str, words: str) -> None:
    path = write_problem(tmp_path)
    with pytest.raises(BadInput) as told:
        settings.load(path, settings.from_text([item]))
    assert words in str(told.value)


def test_a_run_is_below_the_folder_of_its_config_wherever_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_problem(tmp_path, run={"directory": "runs/a"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for start in (tmp_path, elsewhere):
        monkeypatch.chdir(start)
        named = Path(os.path.relpath(path, start))
        assert load_config(named).run.directory == tmp_path / "runs" / "a"
        assert load_config(named, (1, 2)).run.directory == tmp_path / "runs" / "a" / "fold-1-of-2"
    above = settings.from_text(["run.directory=../b"])
    assert load_config(path, changes=above).run.directory == tmp_path.parent / "b"
    assert load_config(DEFAULT_CONFIG).run.directory == elsewhere / "runs" / "hyytiala_twin"


def test_a_run_that_an_earlier_version_put_elsewhere_is_not_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    path = write_problem(tmp_path / "config", run={"directory": "runs/a"})
    (tmp_path / "runs" / "a" / "stages").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=f"mv {tmp_path}/runs/a {tmp_path}/config/runs/a"):
        load_config(path)
    there = settings.from_text([f"run.directory={tmp_path}/runs/a"])
    assert load_config(path, changes=there).run.directory == tmp_path / "runs" / "a"


def test_the_configs_of_the_project_name_one_place() -> None:
    for path in sorted((Path(__file__).parents[2] / "config").glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        if "run" in content and path.name != "hyytiala_twin.yaml":  # the demo's is where one starts
            place = (path.parent / content["run"]["directory"]).resolve()
            assert place == path.parents[1] / "runs" / content["run"]["name"]
