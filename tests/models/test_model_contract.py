"""What every forward model owes the rest: one file of tests through which all of them go."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from clm_problem import NEEDLELEAF, VCMAX, write_config
from ctsm_case import write_case
from linear import MODEL, TRUTH

from fatescal import config as settings
from fatescal.base.errors import BadInput, ModelFailed
from fatescal.models.base import Model
from fatescal.models.canopy import Canopy
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.weather_generator import synthetic
from fatescal.models.command import Command
from fatescal.observations import calendars
from fatescal.observations.align import align
from fatescal.observations.noise import ErrorModel
from fatescal.observations.observed_variable import ObservedVariable
from fatescal.observations.windows import grid_of
from fatescal.workflow import site_models


@dataclass(frozen=True)
class Case:
    """A model to try: how to make it, a member's parameters, other ones, and ones that it refuses."""

    make: Callable[[], Model]
    theta: Mapping[str, float]
    other: Mapping[str, float]
    impossible: Mapping[str, float]
    unknown: bool  # whether a parameter it does not know is BadInput
    names: Mapping[str, str]
    period: tuple[date, date]


CANOPY = (date(2004, 1, 1), date(2004, 12, 31))
FATES = {"GPP": "FATES_GPP", "ET": "QFLX_EVAP_TOT"}
OWN = {"GPP": "GPP", "ET": "ET"}


def canopy(folder: Path, request: pytest.FixtureRequest) -> Case:
    name = f"fates_leaf_vcmax25top_{NEEDLELEAF}"
    return Case(
        lambda: Canopy("synthetic", *CANOPY, spinup_years=1),
        {name: 50.0}, {name: 70.0}, {name: -1.0}, True, FATES, CANOPY,
    )  # fmt: skip


def command(folder: Path, request: pytest.FixtureRequest) -> Case:
    words = [sys.executable, "-SE", str(MODEL), "--fail-above", "100"]
    return Case(
        lambda: Command(words, folder, timeout=60.0),
        TRUTH, {**TRUTH, "wave": 1.0}, {**TRUTH, "mean": 101.0}, False, OWN,
        (date(2004, 1, 1), date(2004, 3, 30)),
    )  # fmt: skip


def pyrealm(folder: Path, request: pytest.FixtureRequest) -> Case:
    pytest.importorskip("pyrealm", reason="the package pyrealm is not installed")
    from fatescal.models.pyrealm import PModel, PyrealmOptions

    options = PyrealmOptions(kind="pyrealm", forcing="none.nc", start=CANOPY[0], end=CANOPY[1])

    def make() -> Model:
        model = PModel(options, folder)
        model.weather = synthetic(1, *CANOPY, Stand.load())  # in place of the file
        return model

    return Case(make, {"phi0": 0.08}, {"phi0": 0.06}, {"beta": -1.0}, True, OWN, CANOPY)


def clm_fates(folder: Path, request: pytest.FixtureRequest) -> Case:
    """CLM-FATES with the stand-in executable."""
    case = write_case(folder / "case", request.getfixturevalue("data"), "A")
    name = f"{VCMAX}_{NEEDLELEAF}"
    days = (date(2005, 6, 1), date(2005, 6, 30))
    config = write_config(
        folder, case, model={"start": str(days[0]), "end": str(days[1]), "spinup": {"years": 0}}
    )
    chosen = settings.load(config)
    return Case(
        lambda: site_models.model(chosen.by_site[""], lambda: False),
        {name: 50.0}, {name: 70.0}, {name: -5.0}, False, FATES, days,
    )  # fmt: skip


@pytest.fixture(params=[canopy, command, pyrealm, clm_fates], ids=lambda kind: kind.__name__)
def case(request, tmp_path) -> Case:
    return request.param(tmp_path, request)


def predicted(case: Case, model: Model, theta: Mapping[str, float], folder: Path) -> np.ndarray:
    """Run a member in a folder of its own; return its predictions of all days."""
    folder.mkdir(exist_ok=True)
    model.run(theta, folder)
    variables = [
        ObservedVariable(n, unit, ErrorModel(sd=1.0))
        for n, unit in (("GPP", "g C m-2 d-1"), ("ET", "mm d-1"))
    ]
    grid = grid_of(variables, "1D", case.period, None, model.calendar)
    return align(model.read(folder), grid, case.names, model.calendar)


def test_a_model_says_what_it_is_before_any_run(case):
    model = case.make()
    assert isinstance(model, Model)
    model.check()
    assert calendars.canonical(model.calendar) in ("noleap", "standard")
    assert all(isinstance(name, str) for name in model.pfts)
    assert set(case.theta) <= set(model.defaults or case.theta)
    assert np.isfinite([model.defaults[name] for name in case.theta if model.defaults]).all()
    described = json.dumps(model.identity, sort_keys=True)  # it is kept with every member
    assert described == json.dumps(case.make().identity, sort_keys=True)


def test_a_run_is_read_back_complete_in_units_that_fit_and_repeats_itself(case, tmp_path):
    """A member depends on its parameters alone: on no earlier one, no other object, no earlier attempt."""
    model = case.make()
    first = predicted(case, model, case.theta, tmp_path / "first")
    begin, stop = (np.datetime64(str(day)) for day in case.period)
    assert len(first) == 2 * len(calendars.windows(begin, stop, "1D", model.calendar)[0])
    gpp, et = first.reshape(2, -1)
    assert 0.01 < gpp.mean() < 15.0  # g C m-2 d-1: no unit is off by a day's seconds
    assert 0.01 < et.mean() < 6.0  # mm d-1
    assert not np.array_equal(first, predicted(case, model, case.other, tmp_path / "other"))
    np.testing.assert_array_equal(first, predicted(case, model, case.theta, tmp_path / "first"))
    np.testing.assert_array_equal(first, predicted(case, case.make(), case.theta, tmp_path / "anew"))


def test_parameters_left_out_keep_their_defaults(case, tmp_path):
    model = case.make()
    if not model.defaults:
        pytest.skip("an executable has no defaults to keep")
    known = {name: model.defaults[name] for name in case.theta}
    without = predicted(case, model, {}, tmp_path / "without")
    np.testing.assert_array_equal(without, predicted(case, model, known, tmp_path / "with"))


def test_a_failed_member_says_why_and_can_be_sent_to_another_rank(case, tmp_path):
    with pytest.raises(ModelFailed) as caught:
        case.make().run(case.impossible, tmp_path)
    sent = pickle.loads(pickle.dumps(caught.value))
    assert (sent.kind, sent.reason) == (caught.value.kind, caught.value.reason)
    assert len(sent.reason) > 10


def test_a_misspelt_parameter_is_refused_by_models_that_know_their_own(case, tmp_path):
    if not case.unknown:
        pytest.skip("names are checked where the config is read")
    name = next(iter(case.theta))
    with pytest.raises(BadInput, match=name):
        case.make().run({name + "x": 1.0}, tmp_path)
