"""The order of the stages: observe, smooth, then emulate, sample and rerun in rounds, score.

All ranks run these functions. What is named is a stage and kept by the store. A `compute` handed to
`store.once` runs on root alone, so what only root holds (evaluations, chain blocks) is read there only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fatescal.base.errors import NotConfirmed
from fatescal.diagnostics import scores
from fatescal.diagnostics.answer import answer
from fatescal.observations.windows import climatology
from fatescal.storage.records import Observations, Scorecard
from fatescal.workflow.calibration_run import CalibrationRun
from fatescal.workflow.default_run import try_default
from fatescal.workflow.kalman_iteration import smooth
from fatescal.workflow.observed import observe
from fatescal.workflow.posterior_rounds import explore


def calibrate(run: CalibrationRun) -> Scorecard:
    """Carry a run to its scorecard, from wherever it stands.

    Raises
    ------
    NotConfirmed
        No emulator passed its validation, or the model does not confirm the posterior: what there is is
        scored.
    RunFailed
        Too few members survive, or the chains do not converge within `sample.max_steps`.
    """
    problem = run.problem
    try_default(run)
    observations = observe(run)
    if problem.stop_after == "default":
        run.evaluate("evaluation-default", np.empty((0, len(problem.space.names))), [])
        return score(run, observations, "scorecard-default", "evaluation-default", {})
    last, observations = smooth(run, observations)
    ensembles = {problem.first_role: "evaluation-00"}
    if problem.stop_after == "prior":
        return score(run, observations, "scorecard-prior", "evaluation-00", ensembles)
    if last != "evaluation-00":
        ensembles["last"] = last
    calibration = observations.select(observations.period == "calibration")
    verdict = explore(run, observations, calibration)
    if verdict.outcome != "not sampled":
        ensembles["posterior"] = f"evaluation-posterior-{verdict.round:02d}"
    card = score(run, observations, "scorecard", "evaluation-00", ensembles, ["verdict"])
    if verdict.outcome != "confirmed":
        run.comm.agree(NotConfirmed("\n".join(answer(verdict, n_rounds=problem.rounds).lines)))
    return card


def score(
    run: CalibrationRun,
    observations: Observations,
    key: str,
    default: str,
    ensembles: Mapping[str, str],
    further: Sequence[str] = (),
) -> Scorecard:
    """Score the ensembles, stages by role, side by side with the default run of a stage and the seasons'
    mean; `further` are stages that decide which.
    """

    def scored() -> Scorecard:
        predictions = {"climatology": climatology(observations)}
        predictions["default"] = run.evaluated(default).predictions[0]
        for name, stage in ensembles.items():
            result = run.evaluated(stage)
            predictions[name] = result.predictions[1:][result.ok[1:]]
        return scores.score_table(observations, predictions, run.problem.scores)

    inputs = list(dict.fromkeys([run.likelihood, *further, default, *ensembles.values()]))
    return run.store.once(key, Scorecard, scored, inputs)
