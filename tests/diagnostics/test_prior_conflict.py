"""Prior and posterior in conflict: flagged where they are, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from fatescal.diagnostics.prior_conflict import conflicts
from fatescal.parameters.priors import LogitNormal, LogNormal, Normal, Prior, Uniform

PRIORS: dict[str, Prior] = {
    "normal": Normal(mean=5.0, sd=2.0),
    "uniform": Uniform(bounds=(1.0, 9.0)),
    "logit-normal": LogitNormal(median=60.0, scale=0.3, bounds=(15.0, 105.0)),
    "lognormal": LogNormal(median=2.0, scale=0.5),
}


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize(
    ("centre", "sd", "fine"),
    [(0, 1, True), (0, 0.05, True), (1.2, 0.3, True), (2.6, 0.3, False), (-3.8, 0.2, False)],
)
def test_a_posterior_where_the_prior_has_little_is_in_conflict(
    kind: str, centre: float, sd: float, fine: bool
) -> None:
    z = centre + sd * np.random.default_rng(2).standard_normal((4000, 1))
    (found,) = conflicts(["a"], [PRIORS[kind]], z)
    assert (found.reasons == ()) == fine, found.reasons
    assert found.shift == pytest.approx(centre, abs=0.05)
    if not fine:
        assert found.reasons[0].startswith("its mean lies")
        assert found.sentence.startswith("prior and posterior of a are in conflict: its mean lies")


@pytest.mark.parametrize("end", ["lower", "upper"])
def test_draws_that_pile_up_at_a_bound_are_seen_although_their_mean_is_not_far(end: str) -> None:
    prior = Uniform(bounds=(1.0, 9.0))
    from_end = 8 * (1 - np.sqrt(1 - np.random.default_rng(3).random((4000, 1)) * 0.2))
    (found,) = conflicts(["a"], [prior], prior.u(1 + from_end if end == "lower" else 9 - from_end))
    assert abs(found.shift) < 2
    assert found.piles == (end,)
    assert len(found.reasons) == 1


def test_a_prior_that_has_its_own_mass_at_a_bound_is_no_conflict() -> None:
    prior = LogitNormal(median=0.98, scale=1.0, bounds=(0.0, 1.0))
    (found,) = conflicts(["a"], [prior], np.random.default_rng(4).standard_normal((4000, 1)))
    assert found.upper > 0.5
    assert found.reasons == ()
