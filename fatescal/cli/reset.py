"""The verb `reset`: a stage and all later ones set aside."""

from __future__ import annotations

from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.cli.run_folder import opened, stages_reached
from fatescal.hpc.communicator import Communicator
from fatescal.storage.discarded import discard
from fatescal.storage.lock import locked
from fatescal.storage.stage_graph import from_on


def reset(directory: Path, stage: str, comm: Communicator) -> int:
    """Set a stage, all later ones and their members aside, to be computed again."""
    store = opened(directory, comm)
    with locked(directory):
        reached = list(stages_reached(directory, store))
        if stage not in reached:
            raise BadInput(
                f"reset --from {stage}", expected=f"a finished stage, one of {', '.join(reached)}", got=stage
            )
        aside = discard(directory, stage, reached)
    print(f"{', '.join(from_on(stage, reached))}: moved to {aside}")
    return 0
