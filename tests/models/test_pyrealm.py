"""The P-model and SPLASH of package pyrealm: options refused in plain language, directions of response."""

from __future__ import annotations

from datetime import date
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import yaml
from linear import fatescal

from fatescal import config as settings
from fatescal.base.errors import BadInput, ModelFailed
from fatescal.models import pyrealm
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.weather_generator import synthetic
from fatescal.models.pyrealm import PARAMETERS, PModel, PyrealmOptions

YEARS = {"start": "2004-01-01", "end": "2005-12-31"}
OPTIONS = PyrealmOptions.model_validate({"kind": "pyrealm", "forcing": "none.nc", **YEARS})
CONFIG = Path(__file__).parents[2] / "config" / "hyytiala_pyrealm.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("pyrealm", reason="the package pyrealm is not installed")
    made = PModel(OPTIONS, tmp_path_factory.mktemp("config"))
    made.weather = synthetic(3, date(2004, 1, 1), date(2005, 12, 31), Stand.load())
    return made


@pytest.fixture(scope="module")
def base(model):
    return model.simulate(model.defaults)


def test_boreal_fluxes_are_sane(base):
    gpp, et = (flux.reshape(2, 365) for flux in base)
    assert np.all((gpp.sum(1) * 86400e3 > 500) & (gpp.sum(1) * 86400e3 < 1800))  # g C m-2 a-1
    assert np.all((et.sum(1) * 86400 > 200) & (et.sum(1) * 86400 < 700))  # mm a-1
    assert gpp.min() >= 0.0
    assert gpp[:, :40].max() < 0.05 * gpp.max()


# sign of the response of (annual GPP, annual evapotranspiration) to a rise by a tenth
DIRECTIONS = {
    "phi0": (+1, 0),
    "beta": (+1, 0),
    "jmax_cost": (-1, 0),
    "photosynthesis_recovery_range": (-1, 0),
    "fapar_scale": (+1, 0),
    "soil_stress_threshold": (-1, 0),
    "soil_stress_intercept": (+1, 0),
    "soil_capacity": (None, +1),
    "evaporative_supply": (None, +1),
    "priestley_taylor": (-1, +1),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_fluxes_respond_in_the_right_direction(model, base, name):
    changed = model.simulate({**model.defaults, name: 1.1 * model.defaults[name]})
    for before, after, sign in zip(base, changed, DIRECTIONS[name], strict=True):
        change = (after.sum() - before.sum()) / before.sum()
        if sign == 0:
            np.testing.assert_array_equal(before, after)
        elif sign is not None:
            assert sign * change > 1e-4


def test_slow_acclimation_delays_the_spring(model, base):
    slow = model.simulate({**model.defaults, "acclimation_time": 45.0})[0].reshape(2, 365)
    late = model.simulate({**model.defaults, "photosynthesis_recovery_time": 20.0})[0].reshape(2, 365)
    spring = base[0].reshape(2, 365)[:, 80:140].sum()
    assert slow[:, 80:140].sum() < spring
    assert late[:, 80:140].sum() < spring


def test_the_water_balance_of_the_bucket_closes(model):
    """What rains and condenses evaporates, runs off or stays: evapotranspiration never exceeds what there
    was.
    """
    moisture, lost = model._splash({**model.defaults, "soil_capacity": 60.0})
    assert np.all((moisture >= 0) & (moisture <= 1))
    gained = model._air["rain"] + 2.0  # dew in SPLASH stays below
    assert np.all(lost[1:] <= 60.0 * moisture[:-1] + gained[1:] + 1e-9)


def test_defaults_are_within_the_ranges_that_have_meaning():
    for parameter in PARAMETERS:
        assert parameter.low < parameter.default[0] < parameter.high
        assert parameter.meaning
        assert parameter.source


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"forcng": "x.nc"}, r"model\.forcng: unknown key; did you mean 'forcing'"),
        ({"end": None}, r"model\.end: field required"),
        ({"end": "2004-13-01"}, r"model\.end: input should be a day as"),
        ({"start": "2004-02-29"}, "does not exist in the noleap calendar"),
        ({"end": "2004-06-30"}, "a year at least"),
        ({"spinup_years": 0}, r"model\.spinup_years: input should be greater than or equal to 1, got 0"),
        ({"co2": -1}, r"model\.co2: input should be greater than 0, got -1"),
        ({"co2": True}, r"model\.co2: input should be a number"),
    ],
)
def test_options_are_refused_in_words(tmp_path, change, words):
    content = yaml.safe_load(CONFIG.read_text())
    plain = {"kind": "pyrealm", "forcing": "none.nc", **YEARS, **change}
    content["model"] = {key: value for key, value in plain.items() if value is not None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(BadInput, match=words):
        settings.load(tmp_path / "config.yaml")


def test_a_site_s_file_must_be_there(tmp_path):
    pytest.importorskip("pyrealm", reason="the package pyrealm is not installed")
    with pytest.raises(BadInput, match=r"model\.site: there is no file"):
        PModel(OPTIONS.model_copy(update={"site": "none.yaml"}), tmp_path)


def test_without_the_package_the_way_to_it_is_told(monkeypatch, tmp_path):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(pyrealm, "version", absent)
    with pytest.raises(BadInput, match=r"not installed here\. Try: pip install 'pyrealm"):
        PModel(OPTIONS, tmp_path)
    monkeypatch.setattr(pyrealm, "version", lambda name: "1.0.0")
    with pytest.raises(BadInput, match=r"pyrealm 1\.0\.0 is installed\. Expected version 2"):
        PModel(OPTIONS, tmp_path)


def test_a_value_without_meaning_fails_the_member(model, tmp_path):
    with pytest.raises(ModelFailed, match=r"phi0 = 0\.2 1 is outside"):
        model.run({"phi0": 0.2}, tmp_path)


def test_the_config_names_it(data, tmp_path):
    pytest.importorskip("pyrealm", reason="the package pyrealm is not installed")
    path = tmp_path / "pyrealm.yaml"
    path.write_text(CONFIG.read_text())
    said = fatescal(0, "check", path)
    assert said.returncode == 0, said.stderr
    assert "model         pyrealm: ok, noleap calendar" in said.stdout
    path.write_text(CONFIG.read_text().replace("  forcing:", "  forcin:"))
    said = fatescal(0, "check", path)
    assert said.returncode == 2
    assert "model.forcin: unknown key; did you mean 'forcing'" in said.stderr
