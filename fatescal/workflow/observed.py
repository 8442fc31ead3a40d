"""What the model is compared with: observations, and the model discrepancy estimated from the runs so far."""

from __future__ import annotations

import logging

from fatescal.base.random_streams import stream
from fatescal.observations.noise import discrepancies
from fatescal.observations.windows import synthesise
from fatescal.storage.records import Observations
from fatescal.workflow.calibration_run import CalibrationRun, training_set

log = logging.getLogger(__name__)


def observe(run: CalibrationRun) -> Observations:
    """Return the observations: as read, or a run at the truth plus noise of the error model, each site's
    its own.
    """
    problem = run.problem
    if problem.observed is not None:
        observed = problem.observed
        return run.store.once("observations", Observations, lambda: observed)
    assert problem.truth is not None
    run.evaluate("truth", problem.space.u(problem.truth), [])

    def noisy() -> Observations:
        truth = run.evaluated("truth").predictions[1]
        parts = []
        for site, columns in problem.members.columns.items():
            rng = stream(problem.noise_seed, f"observations of {site}" if site else "observations")
            grid = problem.grid.select(columns)
            parts.append(synthesise(rng, grid, truth[columns], problem.errors, problem.noise))
        return Observations.joined(parts)

    return run.store.once("observations", Observations, noisy, ["truth"])


def widen(run: CalibrationRun, measured: Observations) -> Observations:
    """Return the observations with the discrepancies estimated from all runs so far, a stage of its own.

    The same object as `measured` where the config asks for no estimate. Each Kalman update uses the estimate
    of its time, the emulator, the sampler and the scores the last one.
    """
    estimated = [name for name, error in run.problem.errors.items() if error.estimate]
    if not estimated:
        return measured
    stages = [stage for stage in run.history if stage != "truth"]

    def wider() -> Observations:
        training = training_set(run, measured)
        calibration = measured.select(measured.period == "calibration")
        best, sds = discrepancies(calibration, training.predictions, estimated)
        listed = ", ".join(f"{name} {sd:.4g} {_unit(measured, name)}" for name, sd in sds.items())
        log.info("discrepancy estimated: %s; best run in %s", listed, stages[training.source[best]])
        return measured.widened(sds)

    run.likelihood = f"observations-{len(stages):02d}"
    return run.store.once(run.likelihood, Observations, wider, ["observations", *stages])


def _unit(observations: Observations, variable: str) -> str:
    return str(observations.unit[observations.variable == variable][0])
