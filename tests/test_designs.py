"""Designs of the first ensemble: stratified, standard normal, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from fatescal import settings
from fatescal.designs import first_ensemble
from fatescal.frozen import DECIDES


@pytest.mark.parametrize(("design", "n_members"), [("lhs", 63), ("sobol", 64)])
def test_every_stratum_of_every_parameter_holds_one_member(design: str, n_members: int) -> None:
    u = first_ensemble(design, 3, n_members, 5)
    strata = np.sort((ndtr(u) * n_members).astype(int), axis=0)
    np.testing.assert_array_equal(strata, np.arange(n_members)[:, None].repeat(5, axis=1))


@pytest.mark.parametrize("design", [None, "lhs", "sobol"])
def test_the_seed_decides_the_design(design: str | None) -> None:
    u = first_ensemble(design, 3, 19, 4)
    assert u.shape == (19, 4)
    assert np.isfinite(u).all()
    np.testing.assert_array_equal(u, first_ensemble(design, 3, 19, 4))
    assert not np.array_equal(u, first_ensemble(design, 4, 19, 4))


def test_another_design_is_another_ensemble() -> None:
    given = {"members": 20}
    assert settings.Calibrate.model_validate(given).design is None
    assert settings.Calibrate.model_validate({**given, "design": "sobol"}).design == "sobol"
    assert DECIDES["calibrate.design"] == ("ensemble",)
