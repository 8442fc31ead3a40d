"""The forward model against a real case of CTSM: a few days, on whatever machine it has been built.

Needs FATESCAL_CTSM_CASE, a CIME case of a single point, set up and built for one process.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from fatescal import config as settings
from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.models.clm_fates import inputdata
from fatescal.models.clm_fates.batch_case import require_idle_case
from fatescal.models.clm_fates.cime import Case, CimeError, of_case, running_builds
from fatescal.models.clm_fates.clm_model import ClmFates
from fatescal.models.clm_fates.inspection import shares_of_pfts
from fatescal.workflow import site_models

VCMAX = "fates_leaf_vcmax25top"
CONFIG = """
run: {{name: real, directory: {folder}/run}}
model:
  kind: clm_fates
  case: {case}
  start: {year}-07-01
  end: {year}-07-05
  spinup: {{years: {spinup}, reuse: default}}
  timeout: 30 min
parameters:
  {vcmax}: {{pfts: [{pft}], prior: {{kind: logit-normal, scale: 0.3, bounds: {{relative: 0.75}}}}}}
observations:
  synthetic: {{truth: {{}}}}
  calibration: [{year}-07-01, {year}-07-05]
  variables:
    GPP: {{model: FATES_GPP, unit: g C m-2 d-1, error: {{sd: 1}}}}
    ET: {{model: QFLX_EVAP_TOT, unit: mm d-1, error: {{sd: 1}}}}
calibrate: {{members: 4}}
posterior: {{members: 4}}
"""


@pytest.fixture(scope="module")
def case() -> Path:
    named = os.environ.get("FATESCAL_CTSM_CASE")
    if not named:
        pytest.skip("FATESCAL_CTSM_CASE does not name a CIME case")
    return Path(named)


@pytest.fixture
def model(case: Path, tmp_path: Path) -> ClmFates:
    return model_of(case, tmp_path)


def model_of(case: Path, folder: Path, spinup: int = 0, year: int | None = None) -> ClmFates:
    """Return the model of five July days in the first year of the forcing."""
    from fatescal.models.clm_fates import parameter_file
    from fatescal.models.clm_fates.template import Template

    template = Template(*of_case(case), {})
    weather = next(stream for stream in template.streams if stream.is_weather)
    fates = parameter_file.read(template.path("fates_paramfile"))
    shares = shares_of_pfts(template, fates.pfts, fates.arrays["fates_hlm_pft_map"])
    config = folder / "config.yaml"
    values = {"year": year or weather.year_first, "pft": max(shares, key=lambda pft: shares[pft])}
    config.write_text(CONFIG.format(folder=folder, case=case, vcmax=VCMAX, spinup=spinup, **values))
    chosen = site_models.located(settings.load(config))
    model = site_models.model(chosen.by_site[""], lambda: False)
    assert isinstance(model, ClmFates)
    return model


def dominant(model: ClmFates) -> str:
    """Return the flat name of Vcmax of the site's commonest plant type."""
    shares = shares_of_pfts(model.template, model.pfts, model.targets.fates.arrays["fates_hlm_pft_map"])
    return f"{VCMAX}_{max(shares, key=lambda pft: shares[pft])}"


def folder_of(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_check_accepts_it_and_refuses_years_without_forcing(case, tmp_path):
    model_of(case, tmp_path).check()
    beyond = max(stream.year_last for stream in model_of(case, tmp_path).template.streams) + 5
    with pytest.raises(BadInput, match="has no weather of"):
        model_of(case, tmp_path, year=beyond).check()


def test_cime_and_fatescal_agree_on_what_is_missing(case, model):
    """CIME's list may hold more than a run opens, and never less of what is not there."""
    template = model.template
    assert inputdata.missing(template.lnd_in, template.streams) == []
    if (case / inputdata.TOOL).is_file() and (case / "Buildconf").is_dir():
        named = {template.path(key) for key in ("fsurdat", "paramfile", "fates_paramfile")}
        assert not named & {file.path for file in inputdata.cime_list(Case(case))}


def test_commands_of_cime_end_in_words(case, tmp_path):
    with pytest.raises(CimeError, match="No results found for variable NO_SUCH"):
        Case(case).query("NO_SUCH")
    with pytest.raises(CimeError, match="ERROR"):
        Case(case)("xmlquery", "NO_SUCH", log=tmp_path / "log")
    assert running_builds(case) == []
    require_idle_case(case)


def test_five_days_run_repeat_themselves_and_answer_to_vcmax(model, tmp_path):
    name = dominant(model)
    runs = {"default": {}, "again": {}, "lower": {name: 0.7 * model.defaults[name]}}
    series = {}
    for label, theta in runs.items():
        folder = folder_of(tmp_path, label)
        model.run(theta, folder)
        series[label] = model.read(folder)
        assert series[label].sizes["time"] == 5
    assert series["default"].identical(series["again"])
    gpp = {label: float(data["FATES_GPP"].sum()) for label, data in series.items()}
    assert np.isfinite(list(gpp.values())).all()
    assert 0 < gpp["lower"] < gpp["default"]


def test_a_state_is_left_and_taken_up(model, tmp_path):
    first = folder_of(tmp_path, "first")
    last = date(model.start.year, 7, 2)
    model._simulate({}, first, model.start, last, None, restart=True)
    state = model._restart(first, date(model.start.year, 7, 3))
    warm, cold = folder_of(tmp_path, "warm"), folder_of(tmp_path, "cold")
    day = date(model.start.year, 7, 3)
    model._simulate({}, warm, day, model.end, state, restart=False)
    model._simulate({}, cold, day, model.end, None, restart=False)
    assert model.read(warm).sizes["time"] == 3
    assert not model.read(warm).equals(model.read(cold))


def test_a_missing_state_and_an_impossible_value_are_failures_in_words(model, tmp_path):
    folder = folder_of(tmp_path, "missing")
    with pytest.raises(ModelFailed, match=r"none\.nc") as caught:
        model._simulate({}, folder, model.start, model.end, Path("/nowhere/none.nc"), restart=False)
    assert caught.value.kind == Status.MODEL_ERROR
    with pytest.raises(ModelFailed, match="is not possible"):
        model.run({dominant(model): -5.0}, folder_of(tmp_path, "negative"))
