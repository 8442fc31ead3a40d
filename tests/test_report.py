"""The report's page: well-formed, complete, true to the records, and the same bytes again."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fatescal import scores
from fatescal.parameters import LogitNormal, Normal, ParameterSpace, Uniform
from fatescal.records import (
    ChainBlock,
    Evaluation,
    KalmanInfo,
    Observations,
    Posterior,
    Surrogate,
    Validation,
)
from fatescal.report.fit import fit_figure, series, with_noise
from fatescal.report.page import page, write
from fatescal.report.parameters import prior_moments
from fatescal.report.results import Results

PFTS = ("needleleaf_evergreen_extratrop_tree", "broadleaf_colddecid_extratrop_tree", "cool_c3_grass")
POSTERIOR_SD = 0.25  # of the synthetic posterior, in u
VOID = {"meta", "img", "br", "hr", "link", "input"}


def made_up(n_days: int = 1096, n_members: int = 64, n_parameters: int = 6, n_steps: int = 500) -> Results:
    """Return a whole run of a made-up seasonal model, linear in u, with the exact posterior's shape."""
    rng = np.random.default_rng(0)
    space = _space(n_parameters)
    truth = rng.standard_normal(n_parameters)
    blank = _grid(rng, n_days)
    model = _model(blank, n_parameters)
    noise = blank.noise * rng.standard_normal(len(blank))
    observations = replace(blank, y=model(truth[None])[0] + noise)

    def evaluation(u: np.ndarray) -> Evaluation:
        status = np.zeros(len(u), int)
        status[5:7] = 1, 2
        u[0] = space.u_default
        predictions = np.where(status[:, None] == 0, model(u), np.nan)
        return Evaluation(u, space.theta(u), predictions, status, np.ones(len(u)))

    history = {}
    for i, sd in enumerate((1.0, 0.5, 0.3, POSTERIOR_SD)):
        centre = truth * (1 - 0.5**i)
        draws = centre + sd * rng.standard_normal((n_members, n_parameters))
        history[f"evaluation-{i:02d}"] = evaluation(draws)
    cold = truth + POSTERIOR_SD * rng.standard_normal((4, n_steps, 4, n_parameters))
    posterior_u = cold.reshape(-1, n_parameters)[: n_members - 1]
    history["evaluation-posterior"] = evaluation(np.vstack([truth, posterior_u]))
    draws_u = cold.reshape(-1, n_parameters)[:4000]
    climatology = np.where(observations.variable == "GPP", 4.0, 1.0)
    ensembles = {"climatology": climatology, "default": history["evaluation-00"].predictions[0]} | {
        role: history[key].predictions[1:][history[key].ok[1:]]
        for role, key in {
            "prior": "evaluation-00", "last": "evaluation-03", "posterior": "evaluation-posterior",
        }.items()
    }  # fmt: skip
    return Results(
        name="twin <1> & more",
        settings={"run": {"name": "twin", "seed": 1}, "sample": {"rhat": 1.01, "ess": 400}},
        parameter=space.names,
        units=dict.fromkeys(space.names, "umol m-2 s-1"),
        default=space.theta(space.u_default)[0],
        truth=space.theta(truth)[0],
        prior=space,
        observations=observations,
        history=history,
        updates=[
            KalmanInfo(1.0, np.ones(n_members), np.full(n_parameters, 0.5), 2, 5.5, 1.0) for _ in range(3)
        ],
        surrogate=_surrogate(rng, observations, n_parameters),
        validation=_validation(rng),
        chains=_blocks(rng, cold),
        posterior=Posterior(
            posterior_u, space.theta(posterior_u), np.array(space.names), draws_u, space.theta(draws_u)
        ),
        scorecard=scores.score_table(observations, ensembles),
        climatology=climatology,
        remarks=("R-hat of <vcmax> is fine",),
        versions={"fatescal": "0.1", "numpy": np.__version__},
    )


def _space(n_parameters: int) -> ParameterSpace:
    names = [f"fates_leaf_vcmax25top_{pft}" for pft in PFTS]
    names += [f"fates_leaf_stomatal_slope_ballberry_{pft}" for pft in PFTS]
    priors = [LogitNormal(60.0, 0.3, 15.0, 105.0), Uniform(1.0, 20.0), Normal(5.0, 2.0)] * 2
    names, priors = names[:n_parameters], priors[:n_parameters]
    medians = {n: float(p.theta(np.float64(0.2))) for n, p in zip(names, priors, strict=True)}
    return ParameterSpace(tuple(names), tuple(priors), medians)


def _grid(rng: np.random.Generator, n_days: int) -> Observations:
    """Return daily GPP and ET with single gaps, a lost month and a validation third."""
    days = np.datetime64("2004-01-01", "s") + np.arange(n_days) * np.timedelta64(1, "D")
    parts = []
    for variable, unit, sd in (("GPP", "g C m-2 d-1", 0.8), ("ET", "mm d-1", 0.3)):
        lost = (rng.random(n_days) < 0.08) | ((np.arange(n_days) > 480) & (np.arange(n_days) < 520))
        start = days[~lost]
        period = np.where(start < days[2 * n_days // 3], "calibration", "validation")
        parts.append(
            (np.full(len(start), sd), np.full(len(start), variable), np.full(len(start), unit), start, period)
        )
    noise, variable, unit, start, period = (np.concatenate(column) for column in zip(*parts, strict=True))
    end = start + np.timedelta64(1, "D")
    return Observations(
        y=np.zeros(len(noise)), noise=noise, variable=variable, unit=unit, start=start, end=end, period=period
    )


def _model(obs: Observations, n_parameters: int):
    day = (obs.start - obs.start.astype("datetime64[Y]")).astype("timedelta64[D]").astype(float)
    season = np.clip(np.sin(2 * np.pi * (day - 95) / 365), 0, None)
    weather = 1 + 0.35 * np.sin(day * 1.7) * np.cos(day * 0.31)
    scale = np.where(obs.variable == "GPP", 9.0, 3.0)
    shapes = np.array([np.cos(2 * np.pi * (day - 190) * (p + 1) / 365) for p in range(n_parameters)])
    return lambda u: scale * season * weather * (1 + 0.08 * u @ shapes)


def _surrogate(rng: np.random.Generator, obs: Observations, n_parameters: int) -> Surrogate:
    n = int((obs.period == "calibration").sum())
    return Surrogate(
        "outputs", "matern-5/2", np.zeros(n), np.zeros((n, 3)), np.ones((3, n_parameters + 2)),
        rng.standard_normal((100, n_parameters)), rng.standard_normal((100, 3)), np.array([0.99, 0.97, 0.95]),
    )  # fmt: skip


def _validation(rng: np.random.Generator) -> Validation:
    misfit = rng.uniform(700, 710, 60)
    predicted = misfit + 0.3 * rng.standard_normal(60)
    return Validation(
        misfit, predicted, np.full(60, 0.3), q2=0.9912345, coverage=0.956, n_near=60, posterior_sd=0.21,
        passed=True, verdict="passed: Q2 > 0.9",
    )  # fmt: skip


def _blocks(rng: np.random.Generator, cold: np.ndarray) -> list[ChainBlock]:
    n_runs, n_steps, n_walkers, n_parameters = cold.shape
    beta = np.tile(np.linspace(0, 1, 6) ** 2, (n_runs, 1))
    log_likelihood = -5 / (0.1 + beta[0][:, None]) + rng.standard_normal((n_runs, n_steps, 6, n_walkers))
    half = n_steps // 2
    return [
        ChainBlock(
            u=cold[:, part],
            log_likelihood=log_likelihood[:, part],
            accepted=np.full((n_runs, 6), 0.25),
            rejected=np.full((n_runs, 5), 0.4),
            round_trips=np.full(n_runs, 20.0),
            beta=beta,
            end_u=np.zeros((n_runs, 6, n_walkers, n_parameters)),
            end_log_likelihood=np.zeros((n_runs, 6, n_walkers)),
            end_scale=np.zeros((n_runs, 6, n_parameters, n_parameters)),
            end_from_prior=np.zeros((n_runs, 6, n_walkers), bool),
            end_steps=np.full(n_runs, n_steps),
        )
        for part in (slice(0, half), slice(half, None))
    ]
