"""The emulator of all model runs so far: fitted, validated, and where to run the model to better it."""

from __future__ import annotations

import logging

import numpy as np

from fatescal.base.errors import RunFailed
from fatescal.base.random_streams import stream
from fatescal.emulate.acquisition import next_batch
from fatescal.emulate.validation import validate
from fatescal.storage.chain_records import ChainBlock
from fatescal.storage.records import Batch, Observations, Surrogate, Validation
from fatescal.workflow.calibration_run import CalibrationRun, training_set
from fatescal.workflow.sampling import thinned

log = logging.getLogger(__name__)


def emulate(
    run: CalibrationRun, round_: int, observations: Observations, calibration: Observations
) -> Surrogate:
    """Return the emulator of all model runs so far."""

    def fit() -> Surrogate:
        rng = stream(run.problem.seed, "emulate", round_)
        training = training_set(run, observations)
        try:
            return run.problem.emulator.fit(rng, training, calibration, map=run.comm.map)
        except np.linalg.LinAlgError as error:
            raise RunFailed(
                f"the emulator cannot be fitted to {len(training.u)} runs: {error}. Try: leave out windows "
                "that lie far outside every prediction (the prior check names them; observations.outliers: "
                "drop), or more members"
            ) from None

    inputs = [run.likelihood, *(s for s in run.history if s != "truth")]
    return run.store.once(f"surrogate-{round_:02d}", run.problem.emulator.record, fit, inputs)


def validated(
    run: CalibrationRun,
    round_: int,
    surrogate: Surrogate,
    observations: Observations,
    calibration: Observations,
    what: str,
    chains: list[ChainBlock | None] | None,
) -> Validation:
    """Return the validation of an emulator: on held-out training `rows`, with `chains` of its posterior too.

    `what` is `rows`, `block` (of steps, the first) or `draws` (all).
    """

    def judged() -> Validation:
        draws = None if chains is None else thinned(chains)
        training = training_set(run, observations)
        return validate(run.problem.emulator, surrogate, training, calibration, draws)

    inputs = [f"surrogate-{round_:02d}", run.likelihood]
    inputs += [] if chains is None else [f"chains-{round_:02d}-{len(chains) - 1:03d}"]
    validation = run.store.once(f"validation-{round_:02d}-{what}", Validation, judged, inputs)
    log.info(
        "emulator %s by its %s: %s", "validated" if validation.passed else "refused", what, validation.verdict
    )
    return validation


def refine(
    run: CalibrationRun,
    round_: int,
    surrogate: Surrogate,
    calibration: Observations,
    chains: list[ChainBlock | None],
) -> Batch:
    """Return the next model runs, drawn where the emulated posterior is; on root."""
    rng = stream(run.problem.seed, "refine", round_)
    n_members = run.problem.n_members - 1
    return Batch(next_batch(rng, run.problem.emulator, surrogate, calibration, thinned(chains), n_members))
