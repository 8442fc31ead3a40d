"""The ensemble: evaluated and updated until the scheme has finished; what the first one says of the data."""

from __future__ import annotations

import functools
import itertools
import logging
from dataclasses import dataclass

import numpy as np

from fatescal.base.errors import RunFailed
from fatescal.base.random_streams import stream
from fatescal.diagnostics import failures, prior_check
from fatescal.ensemble import effects
from fatescal.storage.records import KalmanInfo, KalmanState, Observations
from fatescal.workflow.calibration_run import CalibrationRun
from fatescal.workflow.observed import widen

log = logging.getLogger(__name__)


def smooth(run: CalibrationRun, measured: Observations) -> tuple[str, Observations]:
    """Evaluate and update the ensemble until the scheme has finished.

    Returns
    -------
    stage : str
        The last evaluation.
    observations : Observations
        As `measured`, with the discrepancies estimated from all runs so far, where the config says so.
    """
    problem, store = run.problem, run.store

    state = store.once("ensemble-00", KalmanState, lambda: problem.scheme.start(problem.first))
    for iteration in itertools.count():
        stage, inputs = f"evaluation-{iteration:02d}", [f"ensemble-{iteration:02d}"]
        run.evaluate(stage, state.u, inputs)
        if iteration == 0:
            effects.check(problem.members.sites, run.history[stage], run.comm)
        observations = widen(run, measured)
        calibration = observations.select(observations.period == "calibration")
        if iteration == 0:
            check_prior(run, observations, measured)
        if state.finished or not problem.updates:
            return stage, observations
        step = _Step(run, state, stage, observations, calibration)
        inputs += [stage, run.likelihood]
        info = store.once(f"update-{iteration + 1:02d}", KalmanInfo, step.info, inputs)
        state = store.once(f"ensemble-{iteration + 1:02d}", problem.scheme.record, step.state, inputs)
        log.info(
            "update %d: mean reduced chi-squared %.3f, the data constrain about %.1f of %d directions, "
            "ensemble spread is %.0f %% of the prior's",
            iteration + 1,
            2 * info.misfit.mean() / len(calibration),
            info.degrees_of_freedom,
            len(problem.space.names),
            100 * info.spread.mean(),
        )
    raise AssertionError("unreachable")


@dataclass
class _Step:
    """One step of the scheme, made on root when its state or its info is first asked for."""

    run: CalibrationRun
    before: KalmanState
    stage: str
    observations: Observations
    calibration: Observations

    @functools.cached_property
    def _result(self) -> tuple[KalmanState, KalmanInfo]:
        columns = self.observations.period == "calibration"
        predictions = self.run.evaluated(self.stage).predictions[1:, columns]
        rng = stream(self.run.problem.seed, "update", self.before.iteration)
        try:
            return self.run.problem.scheme.step(rng, self.before, predictions, self.calibration)
        except RunFailed as failure:
            result = self.run.evaluated(self.stage)
            lines = failures.where(result.theta, result.ok, self.run.problem.space.names)
            causes = f"{self.stage}: {self.run.problem.members.causes(result) or 'no member failed'}"
            raise RunFailed("\n  ".join([f"{failure}", causes, *lines])) from None

    def state(self) -> KalmanState:
        return self._result[0]

    def info(self) -> KalmanInfo:
        return self._result[1]


def check_prior(run: CalibrationRun, observations: Observations, measured: Observations) -> None:
    """Log what the first ensemble says about the data, and they about the parameters.

    Raises
    ------
    RunFailed
        Where it says that no calibration can work, unless `calibrate.force` is set or the run ends here
        anyway.
    """
    problem = run.problem
    text, reason, is_constant = run.comm.on_root(functools.partial(_prior_check, run, observations, measured))
    log.info("%s", text)
    if not reason or problem.stop_after is not None:
        return
    if problem.force_prior and not is_constant:
        log.warning("calibrate.force: the calibration goes on although the prior check failed")
        return
    way_out = "" if is_constant else "; or calibrate.force: true, to go on at your own risk"
    run.comm.agree(RunFailed(f"the prior check failed: {reason}{way_out}"))


def _prior_check(
    run: CalibrationRun, observations: Observations, measured: Observations
) -> tuple[str, str, bool]:
    """The check as text, why it failed ('': it passed), and whether nothing can be calibrated at all; on
    root.

    Of an ensemble that is no draw of the prior, the data's share in its variance means nothing, but a
    conflict does.
    """
    stage, names = run.evaluated("evaluation-00"), run.problem.space.names
    rows = np.flatnonzero(stage.ok[1:]) + 1
    if len(rows) < 3:
        return "prior check: too few members ran to tell", "", False
    columns = observations.period == "calibration"
    predictions, calibration = stage.predictions[rows][:, columns], observations.select(columns)
    results = prior_check.assess(
        calibration, stage.u[rows], predictions, run.problem.space.factor, measured.select(columns)
    )
    is_constant = results[-1].constant
    reason = prior_check.failure(results, names)
    if run.problem.first_role == "prior" or is_constant or any(e.disjoint for e in results[:-1]):
        return prior_check.render(results, names), reason, is_constant
    return "prior check: not made, because the first ensemble is no draw of the prior", "", False
