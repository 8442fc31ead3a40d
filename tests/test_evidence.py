"""What the prior ensemble tells before the costly rest: coverage, conflict, degrees of freedom, the word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from linear import SD, fatescal, write_problem

from fatescal.evidence import render, weigh, word
from fatescal.noise import ErrorModel
from fatescal.observations import Variable, grid_of, synthesise

ERRORS = {"a": ErrorModel(0.5), "b": ErrorModel(1.0, ar1=0.6)}
NAMES = ("first", "second")


def linear_case(shift: float = 0.0, gain: float = 1.0):
    """Two variables of a hundred days: a sees the first parameter, b nothing; exact Fisher information known."""
    grid = grid_of(
        [Variable(name, "1", error) for name, error in ERRORS.items()], "1D", ("2004-01-01", "2004-04-10"), None,
        "noleap",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    slopes = np.zeros((2, len(grid)))
    slopes[0, grid.variable == "a"] = gain * np.sin(np.arange(100))
    u = rng.standard_normal((60, 2))
    observed = synthesise(rng, grid, np.array([0.3, 0.2]) @ slopes + shift, ERRORS)
    return observed, u, u @ slopes, slopes


def test_information_is_that_of_the_linear_problem():
    observed, u, predictions, slopes = linear_case()
    white = observed.whiten(slopes)
    posterior = np.linalg.inv(np.eye(2) + white @ white.T)
    a, b, both = weigh(observed, u, predictions)
    np.testing.assert_allclose(both.informed, 1 - np.diagonal(posterior), atol=1e-10)
    np.testing.assert_allclose(b.informed, 0, atol=1e-12)
    assert a.degrees_of_freedom == pytest.approx(np.trace(np.eye(2) - posterior), abs=1e-10)


def test_the_word_is_go_where_it_can_go_and_names_a_mute_parameter():
    observed, u, predictions, _ = linear_case()
    found = weigh(observed, u, predictions)
    assert 0.8 < found[-1].coverage <= 1.0
    assert not any(e.conflict for e in found)
    assert word(found, NAMES) == "go, but the data say next to nothing about second"
    assert render(found, NAMES).splitlines()[-1].startswith("evidence: go")


def test_data_that_the_prior_cannot_produce_are_a_conflict():
    observed, u, predictions, _ = linear_case(shift=9.0)
    found = weigh(observed, u, predictions)
    assert [e.conflict for e in found] == [True, True, True]
    assert found[0].coverage < 0.1
    assert word(found, NAMES).startswith("no-go: a, b lies outside")


def test_an_outlier_is_three_sigma_from_the_prior_predictions_and_one_in_twenty_is_a_conflict():
    """|d - gbar| > 3 (s_g + sigma), the spread and the error added, not squared."""
    observed, u, predictions, _ = linear_case()
    mean, spread = predictions.mean(axis=0), predictions.std(axis=0, ddof=1)
    y = mean.copy()
    edge = 3 * (spread + observed.sd)
    y[:5] += 1.001 * edge[:5]  # of a hundred: not above the twentieth part
    y[5:20] -= 0.999 * edge[5:20]
    a = weigh(replace(observed, y=y), u, predictions)[0]
    assert (a.outliers, a.conflict) == (5, False)
    y[5] = mean[5] - 1.001 * edge[5]
    a = weigh(replace(observed, y=y), u, predictions)[0]
    assert (a.outliers, a.conflict) == (6, True)


def test_data_without_a_word_on_the_parameters_are_no_go():
    observed, u, predictions, _ = linear_case(gain=1e-3)
    assert word(weigh(observed, u, predictions), NAMES).startswith("no-go: the data say next to nothing")


def test_check_plots_and_a_run_tells_the_evidence(tmp_path):
    config = write_problem(tmp_path)
    said = fatescal(0, "check", config)
    assert said.returncode == 0, said.stderr
    for name in SD:
        assert (tmp_path / "run" / f"check_{name}.png").read_bytes().startswith(b"\x89PNG")
    done = fatescal(0, config)
    assert "evidence: go" in done.stderr
    assert "degrees of freedom" in done.stderr
    assert 'id="evidence"' in (tmp_path / "run" / "report" / "index.html").read_text()
