"""Designs of the first ensemble, and runs of them without Kalman updates."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from linear import QUICK, draws, exact_posterior, fatescal, require_exact, write_problem
from pydantic import TypeAdapter
from scipy import stats
from scipy.special import ndtr

from fatescal.config.stage_options import SECTIONS
from fatescal.parameters.priors import LogitNormal, LogNormal, Normal, Prior, Uniform
from fatescal.parameters.registry import AnyDesign
from fatescal.parameters.space import ParameterSpace, factor
from fatescal.storage.stage_graph import deciding


def normals(n: int) -> ParameterSpace:
    """Return n parameters whose values are their coordinates."""
    return ParameterSpace(tuple(f"p{i}" for i in range(n)), (Normal(mean=0.0, sd=1.0),) * n, {})


def ensemble(
    design: object, space: ParameterSpace, n_members: int, seed: int = 1, folder: Path = Path()
) -> np.ndarray:
    """Return the coordinates (J, P) of a design as a config has it."""
    return TypeAdapter(AnyDesign).validate_python(design).ensemble(space, n_members, seed, folder)


@pytest.mark.parametrize(("design", "n_members"), [("lhs", 63), ("sobol", 64)])
def test_every_stratum_of_every_parameter_holds_one_member(design: str, n_members: int) -> None:
    u = ensemble(design, normals(5), n_members, 3)
    strata = np.sort((ndtr(u) * n_members).astype(int), axis=0)
    np.testing.assert_array_equal(strata, np.arange(n_members)[:, None].repeat(5, axis=1))


@pytest.mark.parametrize("design", [None, "lhs", "sobol", "uniform"])
def test_the_seed_decides_the_design(design: str | None) -> None:
    u = ensemble(design, normals(4), 19, 3)
    assert u.shape == (19, 4)
    assert np.isfinite(u).all()
    np.testing.assert_array_equal(u, ensemble(design, normals(4), 19, 3))
    assert not np.array_equal(u, ensemble(design, normals(4), 19, 4))


def test_another_design_is_another_ensemble() -> None:
    given = {"members": 20, "iterations": 0}
    for design in (None, "prior", "sobol", "uniform", "my/members.csv", {"kind": "lhs"}):
        made = SECTIONS["ienks"].model_validate({**given, "design": design})
        written = made.model_dump(mode="json")["design"]
        assert written == {"None": "prior", "{'kind': 'lhs'}": "lhs"}.get(str(design), design)
        assert SECTIONS["ienks"].model_validate({**given, "design": written}) == made
    assert SECTIONS["ienks"].model_validate(given).design.kind == "prior"
    assert deciding("calibrate.design") == ("ensemble-NN",)


MIXED: tuple[Prior, ...] = (
    LogitNormal(median=8.0, scale=0.3, bounds=(1.0, 20.0)),
    Uniform(bounds=(-1.0, 1.0)),
    LogNormal(median=2.0, scale=0.3),
    Normal(mean=5.0, sd=2.0),
)
NAMES = ("slope", "share", "rate", "mean")


def test_a_uniform_design_is_uniform_between_bounds_whatever_the_prior() -> None:
    correlated = factor({"slope": {"mean": 0.9}}, NAMES)
    space = ParameterSpace(NAMES, MIXED, {}, correlated)
    theta = space.theta(ensemble("uniform", space, 2000, 1))
    q = stats.norm.ppf(0.9995)
    ranges = np.array([(1, 20), (-1, 1), 2 * np.exp([-0.3 * q, 0.3 * q]), (5 - 2 * q, 5 + 2 * q)])
    for p, (low, high) in enumerate(ranges.tolist()):
        assert stats.kstest(theta[:, p], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(theta.T)[0, 3]) < 0.1


def test_a_csv_gives_the_members_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_text("# mine\nmean, other,slope,share,rate\n5.0,x,8.0,0.5,2.0\n\n6.0,x,9.0,0.0,1.0\n")
    space = ParameterSpace(NAMES, MIXED, {}, factor({"slope": {"mean": 0.9}}, NAMES))
    theta = space.theta(ensemble("members.csv", space, 2, folder=tmp_path))
    np.testing.assert_allclose(theta, [[8.0, 0.5, 2.0, 5.0], [9.0, 0.0, 1.0, 6.0]], rtol=1e-12, atol=1e-12)


@pytest.mark.mpi
@pytest.mark.slow
def test_a_uniform_design_without_updates_gives_the_exact_posterior_of_correlated_priors(
    tmp_path: Path,
) -> None:
    """The emulator learns from the design, the sampler uses the prior's density: the design leaves no
    trace."""
    config = write_problem(
        tmp_path,
        parameters={"twice": {"derived": "2 * wave"}, "same": {"same_as": "twice"}},
        correlations={"mean": {"wave": 0.7}, "wave": {"trend": -0.5}},
        calibrate={"design": "uniform", "iterations": 0, "members": 30},
        emulate=QUICK,
    )
    done = fatescal(2, config)
    assert done.returncode == 0, done.stderr
    assert "no draw of the prior" in done.stderr
    correlation = np.array([[1, 0.7, 0], [0.7, 1, -0.5], [0, -0.5, 1]])
    mean, sd = exact_posterior(tmp_path, correlation)
    without, _ = exact_posterior(tmp_path)
    assert (np.abs(mean - without) > 0.2 * sd).any()  # the correlations matter
    require_exact(tmp_path, correlation)
    header, *rows = csv.reader((tmp_path / "run" / "posterior.csv").read_text().splitlines())
    assert header == ["mean", "wave", "trend", "twice", "same"]
    theta = np.array(rows, dtype=float)
    np.testing.assert_array_equal(theta[:, 3:], 2 * theta[:, [1, 1]])
    scores = (tmp_path / "run" / "scorecard.csv").read_text()
    assert ",design,rmse," in scores
    assert ",prior,rmse," not in scores
    assert ",last,rmse," not in scores
    assert "evaluation-01" not in [p.stem for p in (tmp_path / "run" / "stages").glob("*.h5")]


@pytest.mark.mpi
@pytest.mark.slow
def test_a_run_goes_from_the_default_to_the_prior_to_the_posterior(tmp_path: Path) -> None:
    """run.stop_after is no change of the run: what it has made stands when the key is taken away."""
    run, log = tmp_path / "run", tmp_path / "runs.log"
    lhs = {"design": "lhs", "iterations": 0}
    done = fatescal(
        2,
        write_problem(tmp_path, "--count", run={"stop_after": "default"}, calibrate=lhs, emulate=QUICK),
        LINEAR_LOG=str(log),
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"mean": 5.0, "wave": 1.0, "trend": 0.0}
    ]
    assert "stopped after the default run" in done.stdout
    assert ",default,rmse," in (run / "scorecard.csv").read_text()
    done = fatescal(
        2,
        write_problem(tmp_path, "--count", run={"stop_after": "prior"}, calibrate=lhs, emulate=QUICK),
        LINEAR_LOG=str(log),
    )
    assert done.returncode == 0, done.stderr
    assert "prior check passed" in done.stderr
    assert ",prior,rmse," in (run / "scorecard.csv").read_text()
    assert not (run / "stages" / "surrogate-00.h5").exists()
    assert "Prior check" in (run / "report" / "index.html").read_text()
    done = fatescal(2, write_problem(tmp_path, "--count", calibrate=lhs, emulate=QUICK), LINEAR_LOG=str(log))
    assert done.returncode == 0, done.stderr
    rounds = {1 + 20 + 20 * n + 12: n for n in range(4)}  # of refinement; nothing is run twice
    assert len(log.read_text().splitlines()) in rounds
    mean, sd = exact_posterior(tmp_path)
    assert (np.abs(draws(run).mean(axis=0) - mean) < 0.1 * sd).all()
    more = fatescal(
        2, write_problem(tmp_path, "--count", calibrate={"design": "lhs"}, emulate=QUICK), LINEAR_LOG=str(log)
    )
    assert more.returncode == 2
    assert "--from surrogate-00" in more.stderr


@pytest.mark.mpi
@pytest.mark.slow
def test_a_truth_without_noise_is_the_run_itself(tmp_path: Path) -> None:
    stages = tmp_path / "run" / "stages"
    found = {}
    cases: dict[str, dict] = {"none": {"noise": False}, "1": {}, "2": {"noise": 2.0}, "seed": {"seed": 9}}
    for name, synthetic in cases.items():
        made = {"truth": {"wave": 0.5}, **synthetic}
        config = write_problem(
            tmp_path,
            run={"stop_after": "default"},
            observations={"file": None, "time_column": None, "synthetic": made},
        )
        done = fatescal(0, config)
        assert done.returncode == 0, done.stderr
        with h5py.File(stages / "observations.h5") as file:
            found[name] = file["y"][()]
        with h5py.File(stages / "truth.h5") as file:
            truth = file["predictions"][1]
        assert fatescal(0, "reset", "--from", "observations", tmp_path / "run").returncode == 0
    np.testing.assert_array_equal(found["none"], truth)
    np.testing.assert_allclose(found["2"] - truth, 2 * (found["1"] - truth), atol=1e-12)
    assert not np.allclose(found["seed"], found["1"])
