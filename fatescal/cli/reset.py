"""The verb `reset`: a stage and all later ones set aside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.cli.run_folder import opened, stages_reached
from fatescal.hpc.communicator import Communicator
from fatescal.storage.discarded import discard
from fatescal.storage.lock import locked
from fatescal.storage.stage_graph import PREPARATION, from_on

PHASES = {  # the beginnings of the stages that each begins with
    "preparation": (PREPARATION,),
    "observations": ("observations",),
    "prior": ("ensemble-00",),
    "calibrate": ("update-",),
    "emulate": ("surrogate-",),
    "sample": ("warm-up-", "chains-"),
    "posterior": ("posterior-",),
    "score": ("scorecard",),
}


def reset(directory: Path, stage: str, comm: Communicator, dry_run: bool = False) -> int:
    """Set a stage, all later ones and their members aside, to be computed again.

    Parameters
    ----------
    directory : Path
        Of the run.
    stage : str
        A stage, or the name of a phase, which stands for its first stage.
    comm : Communicator
    dry_run : bool
        Only say what would go.
    """
    store = opened(directory, comm)
    if dry_run:
        reached = list(stages_reached(directory, store))
        print(f"would be set aside: {', '.join(from_on(_first(stage, reached), reached))}")
        return 0
    with locked(directory):
        reached = list(stages_reached(directory, store))
        first = _first(stage, reached)
        aside = discard(directory, first, reached)
    print(f"{', '.join(from_on(first, reached))}: moved to {aside}")
    return 0


def _first(stage: str, reached: Sequence[str]) -> str:
    """Return the stage that a name stands for."""
    if stage in reached:
        return stage
    begins = next((s for s in reached if s.startswith(PHASES.get(stage, ("/",)))), None)
    if begins is None:
        phases = [name for name, starts in PHASES.items() if any(s.startswith(starts) for s in reached)]
        raise BadInput(
            f"reset --from {stage}",
            expected=f"a finished stage, one of {', '.join(reached)}; or a phase, one of {', '.join(phases)}",
            got=stage,
            hint=did_you_mean(stage, [*reached, *phases]),
        )
    return begins
