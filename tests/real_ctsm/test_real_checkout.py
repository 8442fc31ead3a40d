"""Externals and parameter files of a real checkout of CTSM, of whatever version. Needs FATESCAL_CTSM_ROOT."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fatescal.models.clm_fates import parameter_file
from fatescal.models.clm_fates.externals import externals, missing

VCMAX = "fates_leaf_vcmax25top_needleleaf_evergreen_extratrop_tree"


def checkout() -> Path:
    """Return the checkout that the environment names."""
    named = os.environ.get("FATESCAL_CTSM_ROOT")
    if not named:
        pytest.skip("FATESCAL_CTSM_ROOT does not name a checkout of CTSM")
    return Path(named)


@pytest.fixture(scope="module")
def parameters(tmp_path_factory) -> Path:
    """Return the default parameter file of the checkout; a CDL is made netCDF."""
    folder = checkout() / "src" / "fates" / "parameter_files"
    found = [folder / f"fates_params_default.{suffix}" for suffix in ("json", "cdl")]
    source = next((path for path in found if path.is_file()), None)
    if source is None:
        pytest.fail(f"{folder} has no fates_params_default.json or .cdl: are the externals checked out?")
    if source.suffix == ".json":
        return source
    if shutil.which("ncgen") is None:
        pytest.skip("the parameter file is CDL and there is no ncgen")
    target = tmp_path_factory.mktemp("parameters") / "fates.nc"
    subprocess.run(["ncgen", "-o", target, source], check=True)
    return target


def test_its_externals_are_at_their_versions_also_those_of_externals():
    root = checkout()
    if not (root / ".git").exists():
        pytest.skip("the checkout is no git repository")
    paths = [str(external.path) for external in externals(root)]
    assert {"cime", "src/fates", "components/cdeps"} <= set(paths)
    assert "components/cdeps/fox" in paths
    assert [str(external) for external in missing(root)] == []


def test_its_parameters_are_known_by_name_with_units(parameters):
    file = parameter_file.read(parameters)
    assert "cool_c3_grass" in file.pfts
    assert 10 < file.defaults[VCMAX] < 200
    assert "umol" in file.units[VCMAX]
    assert file.arrays["fates_hlm_pft_map"].shape[1] == len(file.pfts)


def test_a_copy_differs_in_the_changed_value_alone(parameters, tmp_path):
    file = parameter_file.read(parameters)
    target = tmp_path / parameters.name
    file.write(target, {VCMAX: 0.1 + 0.2})
    np.testing.assert_equal(parameter_file.read(target).defaults, file.defaults | {VCMAX: 0.1 + 0.2})
    file.write(target, {})
    assert target.read_bytes() == parameters.read_bytes()
