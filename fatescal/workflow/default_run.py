"""The default run, before any other model run."""

from __future__ import annotations

from fatescal.ensemble.preparation import prepare
from fatescal.workflow.calibration_run import CalibrationRun, Problem


def try_default(run: CalibrationRun) -> None:
    """Make the default run, before any other, and what the model wants made before its members.

    Raises
    ------
    RunFailed
        When it fails, or its output cannot be compared.
    """
    first = first_evaluation(run.problem)
    finished = run.comm.on_root(run.store.path(first).exists)
    prepare(run.problem.members.sites, run.comm, None if finished else first)


def first_evaluation(problem: Problem) -> str:
    """Return the first stage in which the model runs, by the default run first."""
    if problem.observed is None:
        return "truth"
    return "evaluation-default" if problem.stop_after == "default" else "evaluation-00"
