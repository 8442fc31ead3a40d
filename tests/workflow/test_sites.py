"""Several sites in one calibration: linear ones, of which the exact posterior is known, and two of the
embedded model.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from linear import QUICK, fatescal, require_exact, write_problem
from running import digests, start, wait_for

from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.diagnostics.prior_check import assess
from fatescal.hpc.communicator import Communicator
from fatescal.workflow.problem import assemble

ROOT = Path(__file__).parents[2]
SITES = {"north": "GPP", "south": "ET"}
ET = {"model": "ET", "unit": "mm d-1", "error": {"sd": 0.8}}
SYNTHETIC = {"synthetic": {"truth": {"mean": 6}}, "variables": {"ET": ET}}
COUNTED = {"north": ["--count"], "south": ["--count"]}


def write_sites(folder: Path, options: dict[str, list[str]] | None = None, **changes: Any) -> Path:
    """Write the linear problem as one of two sites: the north has measured GPP alone, the south ET alone."""
    config = yaml.safe_load(write_problem(folder, emulate=QUICK).read_text())
    shared = config["observations"].pop("variables")
    command = config["model"]["command"]
    config["sites"] = {
        site: {
            "model": {"command": [*command, *(options or {}).get(site, [])]},
            "observations": {"variables": {variable: shared[variable]}},
        }
        for site, variable in SITES.items()
    }
    config |= changes
    path = folder / "sites.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """The folder of an unbroken run on two ranks."""
    folder = tmp_path_factory.mktemp("sites")
    done = fatescal(2, write_sites(folder, COUNTED), LINEAR_LOG=str(folder / "log"))
    assert done.returncode == 0, done.stderr
    assert "north/GPP [g C m-2 d-1], validation" in done.stdout
    assert "south/ET [mm d-1], validation" in done.stdout
    return folder


@pytest.mark.mpi
@pytest.mark.slow
def test_the_posterior_of_two_sites_is_that_of_all_their_data(reference):
    """Exact, though neither site alone could tell mean, wave and trend from each other."""
    require_exact(reference)


@pytest.mark.mpi
@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_bits_and_runs_no_finished_site_again(reference, tmp_path):
    log = tmp_path / "log"
    config = write_sites(tmp_path, COUNTED)
    program = start(config, 4, LINEAR_LOG=str(log))
    wait_for(tmp_path / "run/members/evaluation-01/0005/south", program)
    program.kill()
    program.wait(60)
    done = fatescal(3, config, LINEAR_LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "run") == digests(reference / "run")
    again = len(log.read_text().splitlines()) - len((reference / "log").read_text().splitlines())
    assert 0 <= again <= 4  # at most those that were running on the four ranks


@pytest.mark.mpi
@pytest.mark.slow
def test_a_member_that_fails_at_one_site_is_out_and_the_site_is_named(tmp_path):
    done = fatescal(2, write_sites(tmp_path, {"south": ["--fail-above", "6"]}))
    assert done.returncode == 0, done.stderr
    assert "model error at south" in done.stderr
    failed = [
        path.parent.parent
        for path in (tmp_path / "run/members/evaluation-00").glob("[0-9]*/south/member.json")
        if json.loads(path.read_text())["status"]
    ]
    assert failed
    for member in failed:
        assert json.loads((member / "north/member.json").read_text())["status"] == 0


def test_check_and_status_speak_of_each_site(reference):
    done = fatescal(0, "check", reference / "sites.yaml")
    assert done.returncode == 0, done.stderr
    for words in (
        "north: command: ok",
        "south: command: ok",
        "north/GPP, calibration: 60 windows",
        "south/ET",
    ):
        assert words in done.stdout
    assert re.search(r"plan +in all +144 +144\b", done.stdout)  # (3 x 20 + 12) x 2


def changed(config: dict, **sites: Any) -> dict:
    config = copy.deepcopy(config)
    for name, own in sites.items():
        config["sites"][name] = own
    return config


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ({"south": {"modl": {}}}, "sites.south.modl: unknown key; did you mean 'model'?"),
        ({"south": {"observations": {"windw": "1D"}}}, "sites.south.observations.windw: unknown key"),
        ({"../x": {}}, "no name of a site"),
        (
            {"south": {"observations": {"file": None, "time_column": None, **SYNTHETIC}}},
            "sites.south: its observations are synthetic, those of north measured",
        ),
        ({"south": {"model": {"command": None}}}, "sites.south.model.command"),
    ],
)
def test_a_mistake_is_told_with_its_site(tmp_path, sites, words):
    path = write_sites(tmp_path)
    path.write_text(yaml.safe_dump(changed(yaml.safe_load(path.read_text()), **sites)))
    with pytest.raises(BadInput) as error:
        settings.load(path)
    assert words in str(error.value)


def test_two_sites_do_not_take_turns_in_one_case(tmp_path, monkeypatch):
    monkeypatch.setenv("FATESCAL_DATA", str(tmp_path))
    monkeypatch.delenv("FATESCAL_CTSM_CASE", raising=False)
    config = yaml.safe_load((ROOT / "config/hyytiala_clm_fates.yaml").read_text())
    path = tmp_path / "two.yaml"
    config["sites"] = {"west": {}, "east": {"model": {"build": {"xml": {"PTS_LON": 30.0}}}}}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(BadInput, match=r"sites\.east: `model\.build\.case` is that of west"):
        settings.load(path)
    config["sites"]["east"]["model"]["build"]["case"] = "east"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert len(settings.load(path).by_site) == 2


def test_a_missing_file_is_told_with_its_site(tmp_path):
    path = write_sites(tmp_path)
    config = yaml.safe_load(path.read_text())
    config["sites"]["south"]["observations"]["file"] = "nowhere.csv"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(BadInput, match=r"sites\.south: .*nowhere\.csv"):
        assemble(settings.load(path), Communicator().alone())


def test_an_unknown_plant_type_is_told_with_its_site(tmp_path):
    config = yaml.safe_load((ROOT / "config/two_sites_twin.yaml").read_text())
    config["sites"]["meadow"]["model"]["site"]["pfts"]["birch"] = {"share": 0.1}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(BadInput, match=r"sites\.meadow: model\.site\.pfts: unknown PFT 'birch'"):
        assemble(settings.load(path), Communicator().alone())


def test_two_sites_inform_parameters_that_neither_informs_alone(tmp_path):
    """The shipped twin: to first order, the share of each parameter's prior variance that the data remove."""
    path = tmp_path / "two.yaml"
    shutil.copy(ROOT / "config/two_sites_twin.yaml", path)
    problem = assemble(settings.load(path), Communicator().alone())
    rng = np.random.default_rng(5)
    u = rng.standard_normal((24, len(problem.space.names)))
    models = [site.model for site in problem.members.sites]
    predictions = []
    for row in problem.space.theta(u):
        of_sites = []
        for site, model in zip(problem.members.sites, models, strict=True):
            folder = tmp_path / "member"
            folder.mkdir()
            model.run(problem.space.named(row), folder)
            of_sites.append(site.align(model.read(folder)))
            shutil.rmtree(folder)
        predictions.append(np.concatenate(of_sites))
    table = np.array(predictions)
    noise = np.where(np.char.endswith(problem.grid.variable, "GPP"), 0.471, 0.163)
    observed = problem.grid.with_values(table.mean(axis=0))
    observed = type(observed)(**{**vars(observed), "noise": noise})
    informed = {}
    for name, columns in problem.members.columns.items():
        informed[name] = assess(observed.select(columns), u, table[:, columns])[-1].informed
    both = assess(observed, u, table)[-1].informed
    assert (both > np.maximum(*informed.values()) - 1e-12).all()
    grass, needles = 2, 0  # vcmax of grass, of needles
    assert informed["forest"][grass] < 0.5 * both[grass]
    assert informed["meadow"][needles] < 0.5 * both[needles]
