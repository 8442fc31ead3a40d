"""A run beside the members, kept in a folder of its own and made once."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from fatescal.base.errors import ModelFailed, Status
from fatescal.ensemble.attempt import require_numbers
from fatescal.ensemble.marker import fingerprint, foreign, mark_folder, read_marker, remove
from fatescal.storage.stage_graph import PREPARATION


def once(
    folder: Path,
    parameters: Mapping[str, float],
    identity: Mapping[str, object],
    work: Callable[[Path], None],
    stage: str = PREPARATION,
) -> None:
    """Let `work` fill a folder of a `stage`, which appears when complete; nothing to do where it has already.

    Raises
    ------
    BadInput
        Where it was filled with other parameters, or by another model.
    ModelFailed
        By `work`; what it left stays in a folder beside it.
    """
    if require_own(folder, parameters, identity, stage):
        return
    failed = folder.with_name(f"{folder.name}.failed")
    for old in [folder, failed, *folder.parent.glob(f"{folder.name}.part-*")]:
        remove(old)
    part = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex[:8]}")
    part.mkdir(parents=True)
    begin = time.monotonic()
    try:
        require_numbers(parameters)
        work(part)
    except ModelFailed as failure:
        if os.path.lexists(part):  # a model may remove it
            os.rename(part, failed)
        raise ModelFailed(failure.kind, failure.reason.replace(str(part), str(failed))) from failure
    mark = fingerprint(parameters, identity)
    content = {"fingerprint": mark, "status": int(Status.OK), "seconds": time.monotonic() - begin}
    content |= {"parameters": dict(parameters), "model": dict(identity)}
    mark_folder(part, content)
    os.rename(part, folder)


def require_own(
    folder: Path, parameters: Mapping[str, float], identity: Mapping[str, object], stage: str = PREPARATION
) -> bool:
    """Tell whether `once` has filled a folder; raise `BadInput` if for other parameters, or another model."""
    done = read_marker(folder)
    if done is not None and done["fingerprint"] != fingerprint(parameters, identity):
        raise foreign(folder, done, parameters, identity, stage)
    return done is not None
