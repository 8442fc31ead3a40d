"""A calibration on its way: the problem, who computes it, where it is kept, the model runs so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fatescal.base.types import Array
from fatescal.config import SampleSection
from fatescal.emulate.base import Emulator
from fatescal.ensemble.evaluate import Ensemble
from fatescal.hpc.communicator import Communicator
from fatescal.observations.noise import ErrorModel
from fatescal.observations.windows import Summary
from fatescal.parameters.space import ParameterSpace
from fatescal.storage.records import Evaluation, ObservationGrid, Observations, TrainingSet
from fatescal.storage.store import Store
from fatescal.update.base import UpdateScheme


@dataclass(frozen=True)
class Problem:
    """All that decides the result of a calibration, assembled from a config (`problem.py`)."""

    seed: int
    space: ParameterSpace
    members: Ensemble
    grid: ObservationGrid
    errors: Mapping[str, ErrorModel]  # of each observed variable, as the config gives them
    observed: Observations | None  # None: made from a model run at `truth`
    summary: tuple[Summary, ...]  # of `observed`: windows used, dropped and why
    table: str  # how the file of `observed` was read
    truth: Array | None
    noise: float  # of the observations made at `truth`, in units of the error model
    noise_seed: int
    n_members: int
    first: Array  # coordinates (J-1, P) of the first ensemble
    first_role: str  # "prior", or "design" where its members are no draws of the prior
    scheme: UpdateScheme
    emulator: Emulator
    rounds: int
    force: bool
    force_prior: bool  # go on where the prior check failed
    sampling: SampleSection
    n_posterior: int
    updates: bool  # whether the scheme takes any step
    stop_after: str | None  # "default": run that alone; "prior": the first ensemble
    scores: tuple[str, ...]  # of the scorecard, by name


@dataclass
class CalibrationRun:
    """A problem on its way: who computes it, where it is kept, and the evaluations so far."""

    problem: Problem
    comm: Communicator
    store: Store
    history: dict[str, Evaluation | None] = field(default_factory=dict)  # by stage; contents on root only
    likelihood: str = "observations"  # the stage of the observations with the errors in use

    def evaluate(self, stage: str, u: Array, inputs: list[str]) -> None:
        self.history[stage] = self.problem.members.evaluate(stage, u, self.comm, self.store, inputs)

    def evaluated(self, stage: str) -> Evaluation:
        """Return a finished evaluation; on root."""
        result = self.history[stage]
        assert result is not None, f"{stage} is read on another rank than root"
        return result


def training_set(run: CalibrationRun, observations: Observations) -> TrainingSet:
    """Return the calibration columns of all successful runs, the default run once; on root."""
    columns = observations.period == "calibration"
    u, predictions, source = [], [], []
    for number, stage in enumerate(s for s in run.history if s != "truth"):
        result = run.evaluated(stage)
        rows = np.flatnonzero(result.ok)
        rows = rows if number == 0 else rows[rows > 0]
        u.append(result.u[rows])
        predictions.append(result.predictions[np.ix_(rows, columns)])
        source.append(np.full(len(rows), number))
    return TrainingSet(np.concatenate(u), np.concatenate(predictions), np.concatenate(source))
