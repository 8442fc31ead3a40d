"""Residuals: known processes have their correlations, ranks and shares; what is overcounted is named."""

from __future__ import annotations

import numpy as np
import pytest

from fatescal.diagnostics.answer import of_residuals
from fatescal.diagnostics.residual_checks import Residuals, autocorrelation, by_hour, by_season, residuals
from fatescal.storage.records import Observations

HOUR = np.timedelta64(1, "h")


def observed(n: int, rho: float = 0.0, assumed: float = 0.0, hours: int = 24) -> Observations:
    """Return a variable that is 0 but for an AR(1) error of sd 2; the error model has it as `assumed`."""
    start = np.datetime64("2004-01-01", "s") + hours * HOUR * np.arange(n)
    column = np.full(n, "GPP")
    known = {"rho": np.full(n, assumed), "position": np.arange(n)}
    parts = (column, np.full(n, "g C m-2 d-1"), start, start + hours * HOUR, np.full(n, "calibration"))
    true = {"rho": np.full(n, rho), "position": np.arange(n)}
    grid = Observations(np.full(n, 2.0), *parts, y=np.zeros(n), correlation=true)
    y = grid.colour(np.random.default_rng(1).standard_normal(n))
    return Observations(np.full(n, 2.0), *parts, y=y, correlation=known if assumed else {})


def left(obs: Observations, sd: float = 0.2) -> Residuals:
    members = sd * np.random.default_rng(2).standard_normal((40, 1)) * np.ones(len(obs))
    return residuals(obs, members - members.mean())


def test_an_independent_error_is_found_as_one() -> None:
    of = left(observed(3000))
    found = autocorrelation(of)
    assert np.abs(found.found / found.standard_error).max() < 4
    assert found.standard_error[0] == pytest.approx(3000**-0.5, rel=0.01)
    assert not found.beyond
    counts = np.histogram(of.pit, 10, (0, 1))[0]
    assert ((counts - 300) ** 2 / 300).sum() < 27.9  # 99.9 % of chi-squared with 9 degrees of freedom
    assert of_residuals({"GPP": of}) == []


@pytest.mark.parametrize("assumed", [0.0, 0.6])
def test_persistent_errors_are_told_where_they_are_not_assumed(assumed: float) -> None:
    of = left(observed(3000, 0.6, assumed))
    found = autocorrelation(of)
    np.testing.assert_allclose(found.found[:5], 0.6 ** np.arange(1, 6), atol=0.08)
    np.testing.assert_allclose(found.assumed[:3], [assumed, assumed**2, assumed**3])
    assert found.beyond == (assumed == 0)
    assert found.overcounted == pytest.approx(4 if assumed == 0 else 1, rel=0.25)  # (1 + 0.6) / (1 - 0.6)
    assert found.ar1 == pytest.approx(0.6, abs=0.1)
    caveats = of_residuals({"GPP": of})
    assert len(caveats) == (assumed == 0)
    assert all("too narrow" in c.why and "ar1: 0." in c.todo for c in caveats)


def test_lags_are_counted_across_gaps() -> None:
    whole = observed(4000, 0.6)
    apart = autocorrelation(left(whole.select(np.arange(4000) % 2 == 0)))
    assert apart.lag.tolist() == list(range(2, 31, 2))
    assert apart.found[0] == pytest.approx(0.36, abs=0.1)
    gap = np.ones(4000, bool)
    gap[100:250] = False
    assert left(whole.select(gap)).position.tolist() == np.flatnonzero(gap).tolist()


def test_seasons_and_hours_have_their_own_windows() -> None:
    obs = observed(24 * 366, hours=1)
    winter = obs.start.astype("datetime64[M]").astype(int) % 12 < 2
    obs = obs.with_values(obs.y + np.where(winter, 10.0, 0.0))
    of = left(obs)
    seasons = {share.name: share for share in by_season(of)}
    assert {name: s.n for name, s in seasons.items()} == {
        "Dec-Feb": 24 * 91, "Mar-May": 24 * 92, "Jun-Aug": 24 * 92, "Sep-Nov": 24 * 91,
    }  # fmt: skip
    assert seasons["Jun-Aug"].coverage == pytest.approx(0.9, abs=0.03)
    assert seasons["Jun-Aug"].chi2 == pytest.approx(1, abs=0.1)
    assert seasons["Dec-Feb"].coverage < 0.5
    assert seasons["Dec-Feb"].bias == pytest.approx(-10 * 60 / 91, abs=0.2)  # modelled minus observed
    hours = by_hour(of)
    assert [share.n for share in hours] == [366] * 24
    assert by_hour(left(observed(100))) == []


def test_one_window_is_no_error() -> None:
    of = left(observed(1))
    assert len(autocorrelation(of).lag) == 0
    assert not autocorrelation(of).beyond
    assert [share.n for share in by_season(of)] == [1]
