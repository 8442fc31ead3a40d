"""Stages set aside, to be computed again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from fatescal.storage import stage_graph


def discard(run: Path, first: str, reached: Sequence[str]) -> Path:
    """Move stage `first`, all later ones and their member folders to RUN/discarded/N; return that folder.

    Moved, not deleted: a reset in error loses nothing. With the runs before all members go the stages whose
    members start from them; with the first stage that depends on the parameters the runs that tried these.

    Parameters
    ----------
    reached : sequence of str
        All stages that are there, in order; those of which only some members are finished are the last.
    """
    taken = [int(p.name) for p in (run / "discarded").glob("*") if p.name.isdigit()]
    target = run / "discarded" / str(max(taken, default=0) + 1)
    gone = list(stage_graph.from_on(first, reached))
    moved = [Path(kind, name) for key in gone for kind, name in (("stages", f"{key}.h5"), ("members", key))]
    tried = next((key for key in reached if stage_graph.reads(key, "parameters")), None)
    if stage_graph.PREPARATION not in gone and tried in gone:
        moved += [p.relative_to(run) for p in (run / "members" / stage_graph.PREPARATION).rglob("canary-*")]
    for path in moved:
        if (run / path).exists():
            (target / path.parent).mkdir(parents=True, exist_ok=True)
            shutil.move(run / path, target / path)
    return target
