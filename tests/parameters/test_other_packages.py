"""A prior and a design of another package: one class and one entry point each, chosen in a config by name."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from linear import fatescal, run_program, write_problem
from running import change
from scipy import stats

from fatescal.base import families
from fatescal.base.errors import BadInput
from fatescal.base.families import UNUSABLE, family
from fatescal.config import loading
from fatescal.parameters.priors import Normal, Prior

TRIANGULAR = '''
from typing import ClassVar, Literal

import numpy as np
from scipy.special import ndtr, ndtri

from fatescal.base.errors import BadInput
from fatescal.base.options import Finite
from fatescal.parameters.designs.base import Design
from fatescal.parameters.priors.base import Bounds, Prior, inside


class Triangular(Prior):
    """Triangular between bounds."""

    kind: Literal["triangular"] = "triangular"
    """a triangular distribution"""
    mode: Literal["default"] | Finite = "default"
    """the most probable value"""
    bounds: Bounds
    """lower and upper"""

    example: ClassVar = {"kind": "triangular", "mode": 5.0, "bounds": [2.0, 9.0]}

    def resolved(self, default):
        ready = super().resolved(default)
        lower, upper = ready.support
        if not lower < ready.mode < upper:
            expected = f"between {lower:g} and {upper:g}"
            raise BadInput("the mode is outside its bounds", expected=expected, got=ready.mode)
        return ready

    def theta(self, u):
        (a, b), c, p = self.support, self.mode, ndtr(u)
        low = a + np.sqrt(p * (b - a) * (c - a))
        high = b - np.sqrt(ndtr(-np.asarray(u)) * (b - a) * (b - c))
        return inside(np.where(p < (c - a) / (b - a), low, high), a, b)

    def u(self, theta):
        (a, b), c, theta = self.support, self.mode, np.asarray(theta)
        below = (theta - a) ** 2 / (b - a) / (c - a)
        above = (b - theta) ** 2 / (b - a) / (b - c)
        return np.where(theta < c, ndtri(np.minimum(below, 1)), -ndtri(np.minimum(above, 1)))


class Star(Design):
    """The default run's neighbours: one parameter moved, all others at their medians."""

    kind: Literal["star"] = "star"
    """one parameter at a time"""
    reach: Finite = 2.0
    """how far, in prior standard deviations"""

    example: ClassVar = {"kind": "star", "reach": 1.0}

    def ensemble(self, space, n_members, seed, folder):
        u = np.zeros((n_members, len(space.names)))
        for j in range(n_members):
            u[j, j % len(space.names)] = self.reach * (j + 1) / n_members
        return u
'''
POINTS = "[fatescal.priors]\ntriangular = triangles:Triangular\n[fatescal.designs]\nstar = triangles:Star\n"
CHOSEN = {"kind": "triangular", "mode": 5.0, "bounds": [2.0, 9.0]}


def installed(folder: Path, name: str, points: str, **modules: str) -> Path:
    """Return a folder that holds a package as pip leaves it: modules, and metadata with entry points."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(points)
    return folder


@pytest.fixture
def triangles(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that has the package."""
    (tmp_path / "site").mkdir()
    site = installed(tmp_path / "site", "my-triangles", POINTS, triangles=TRIANGULAR)
    return {"PYTHONPATH": os.pathsep.join([str(site), str(Path(__file__).parents[2])])}


@pytest.mark.mpi
def test_a_prior_and_a_design_of_another_package_are_chosen_by_name(tmp_path, triangles):
    star = {"kind": "star", "reach": 1.5}
    config = write_problem(tmp_path, run={"stop_after": "prior"}, calibrate={"design": star, "iterations": 0})
    change(config, "parameters.mean.prior", CHOSEN)
    done = fatescal(2, config, **triangles)
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "run" / "stages" / "evaluation-00.h5") as file:
        u, theta = file["u"][1:], file["theta"][1:, 0]
    np.testing.assert_allclose(
        u, np.diag([1.0] * 3)[np.arange(19) % 3] * 1.5 * np.arange(1, 20)[:, None] / 19
    )
    of_scipy = stats.triang(3 / 7, 2.0, 7.0)
    np.testing.assert_allclose(theta, of_scipy.ppf(stats.norm.cdf(u[:, 0])), rtol=1e-12)
    again = fatescal(0, config, **triangles)
    assert again.returncode == 0, again.stderr  # its snapshot is read back
    priors = json.loads(fatescal(0, "priors", "--format", "json", config, **triangles).stdout)[0]
    assert priors["from"] == "triangular, mode 5, lower 2, upper 9"
    assert [priors[q] for q in ("q025", "q500", "q975")] == pytest.approx(of_scipy.ppf([0.025, 0.5, 0.975]))
    without = fatescal(0, config)
    assert without.returncode == 2
    assert "unknown kind 'triangular'; known are 'logit-normal', 'log-normal'" in without.stderr
    assert "Traceback" not in without.stderr


def test_options_of_another_package_are_in_the_schema(tmp_path, triangles):
    done = run_program([sys.executable, "-m", "fatescal", "schema"], tmp_path, **triangles)
    schema = json.loads(done.stdout)
    described = schema["$defs"]["Triangular"]
    assert described["description"] == "Triangular between bounds."
    assert described["properties"]["mode"]["description"] == "the most probable value"
    assert described["required"] == ["kind", "bounds"]
    kinds = schema["$defs"]["ParameterEntry"]["properties"]["prior"]["anyOf"][0]["discriminator"]["mapping"]
    assert kinds["triangular"] == "#/$defs/Triangular"
    design = schema["$defs"]["Calibrate_ienks"]["properties"]["design"]
    assert "star" in design["anyOf"][0]["enum"]
    assert schema["$defs"]["Star"]["properties"]["reach"]["default"] == 2.0


WRONG = {
    "unknown kind": ("parameters.mean.prior.kind", "triangle", "'triangle'; did you mean 'triangular'?"),
    "unknown key": ("parameters.mean.prior.mod", 5.0, "prior.mod: unknown key; did you mean 'mode'?"),
    "bounds reversed": ("parameters.mean.prior.bounds", [9, 2], "prior.bounds: bounds are reversed"),
    "its own rule": ("parameters.mean.prior.mode", 1.0, "parameters.mean: the mode is outside its bounds"),
    "no default": (
        "parameters.mean.prior.mode",
        "default",
        "parameters.mean: the prior refers to the default",
    ),
    "unknown design": ("calibrate.design", "stars", "unknown design 'stars'; did you mean 'star'?"),
    "option of a design": (
        "calibrate.design",
        {"kind": "star", "reach": "far"},
        "design.reach: input should be",
    ),
    "updates of it": ("calibrate.iterations", 2, "goes with `iterations: 0` alone"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_in_options_of_another_package_is_named(tmp_path, triangles, mistake):
    config = write_problem(tmp_path, calibrate={"design": "star", "iterations": 0})
    change(config, "parameters.mean.prior", CHOSEN)
    path, value, words = WRONG[mistake]
    change(config, path, value)
    done = fatescal(0, "check", config, **triangles)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path whose packages are found; what they announce is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    families._installed.cache_clear()
    yield tmp_path
    families._installed.cache_clear()
    UNUSABLE.clear()


BROKEN = {
    "not there": ("broken:Prior", "", "cannot be used: AttributeError"),
    "no module": ("no_such_module:Prior", "", "cannot be used: ModuleNotFoundError: No module named"),
    "does not run": ("broken:Flat", "1 / 0", "cannot be used: ZeroDivisionError"),
    "no prior": ("broken:Flat", "class Flat: pass", "Expected a class that derives from Prior"),
    "no class": ("broken:Flat", "Flat = 5", "Expected a class that derives from Prior"),
    "another kind": (
        "broken:Flat",
        "from fatescal.parameters.priors import Normal as Flat",
        'another name than the class. Expected kind: Literal["flat"] = "flat", got normal',
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_package_that_cannot_be_used_is_told_to_who_chooses_it(site, fault, monkeypatch):
    value, text, words = BROKEN[fault]
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    installed(site, "broken-priors", f"[fatescal.priors]\nflat = {value}\n", broken=text)
    assert family(Prior, [Normal], "fatescal.priors") == {"normal": Normal}
    assert words in UNUSABLE["flat"]
    assert UNUSABLE["flat"].startswith(f"broken-priors brings it by {value}")
    config = write_problem(site)
    change(config, "parameters.mean.prior.kind", "flat")
    with pytest.raises(BadInput, match="unknown kind 'flat'; broken-priors brings it by"):
        loading.load(config)


def test_two_packages_of_one_kind_are_refused(site):
    installed(site, "one", "[fatescal.priors]\nnormal = triangles:Triangular\n")
    with pytest.raises(BadInput, match="'normal' is brought by two packages, fatescal and one"):
        family(Prior, [Normal], "fatescal.priors")
