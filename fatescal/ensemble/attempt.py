"""One attempt to run a member, in a folder of another name that is renamed when complete."""

from __future__ import annotations

import errno
import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import ModelFailed, RunFailed, Status
from fatescal.base.types import Array
from fatescal.ensemble.marker import mark_folder, read_marker
from fatescal.ensemble.stragglers import Straggled
from fatescal.models.base import Model
from fatescal.storage.free_space import require_space
from fatescal.storage.stage_graph import iteration_before

if TYPE_CHECKING:
    from fatescal.ensemble.member import Members

log = logging.getLogger(__name__)
# Another attempt may cure these; after a time-out it would cost the limit once more.
CURABLE = (Status.MODEL_ERROR, Status.TRUNCATED)
# Other settings may cure what comes of the parameters; not what is wrong with every member.
BY_FALLBACK = (*CURABLE, Status.TIME_OUT, Status.NON_FINITE)


@dataclass(frozen=True)
class Attempt:
    """An attempt to run member `j` of a stage; the first is 1, the one after all retries the fallback's."""

    members: Members
    stage: str
    j: int
    parameters: Mapping[str, float]
    number: int = 1

    @property
    def by(self) -> str:
        """Which model runs: `model` or `fallback`, as the marker says."""
        return "model" if self.number <= 1 + self.members.retries else "fallback"

    @property
    def model(self) -> Model:
        """The model that runs."""
        return self.members.model_by(self.by)

    @property
    def folder(self) -> Path:
        """The folder that the member has when it is finished."""
        return self.members.member_folder(self.stage, self.j)

    def run(self) -> tuple[dict[str, Array], Attempt | None]:
        """Return the member's row, and the attempt that is to follow, if any."""
        members, folder = self.members, self.folder
        part = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex[:8]}")
        part.mkdir(parents=True)
        begin = time.monotonic()
        status, reason, predictions, following, took = Status.OK, "", None, None, None
        try:
            took, predictions = self._result(part)
        except ModelFailed as failure:
            _require_disk(failure, folder)
            status, reason = failure.kind, failure.reason
            following = None if isinstance(failure, Straggled) else self._following(status)
        seconds = time.monotonic() - begin if took is None else took
        final = folder if following is None else folder.with_name(f"{folder.name}.failed-{self.number}")
        reason = reason.replace(str(part), str(final))
        self._mark(part, status, reason, seconds)
        os.rename(part, final)
        by_fallback = " (fallback)" if self.by == "fallback" else ""
        name = f"{folder.relative_to(members.folder)}, attempt {self.number}{by_fallback}"
        if status != Status.OK:
            log.warning("%s: %s: %s", name, status.description, reason)
        if predictions is not None:
            if self.number > 1:
                log.warning("%s: ran", name)
            members.trim(folder, self.model, predictions)
        return members.row(status, seconds, predictions), following

    def give_up(self, status: Status, reason: str) -> None:
        """Leave a finished folder of a member that failed, for what no attempt could say by itself."""
        part = self.folder.with_name(f"{self.folder.name}.part-{uuid.uuid4().hex[:8]}")
        part.mkdir(parents=True)
        self._mark(part, status, reason, 0.0)
        os.rename(part, self.folder)
        log.warning("%s: %s: %s", self.folder.relative_to(self.members.folder), status.description, reason)

    def _mark(self, part: Path, status: Status, reason: str, seconds: float) -> None:
        """Write down what the attempt was and how it ended."""
        members = self.members
        with_fallback = self.by == "fallback" or status != Status.OK
        mark_folder(
            part,
            {
                "fingerprint": members.mark(self.parameters, with_fallback),
                "status": int(status),
                "reason": reason,
                "seconds": seconds,
                "attempt": self.number,
                "by": self.by,
                "parameters": self.parameters,
                "model": members.whole_identity if with_fallback else members.identity,
            },
        )

    def _result(self, part: Path) -> tuple[float | None, Array]:
        """Run the model and read it; return the seconds it says it took, and its predictions (D)."""
        require_numbers(self.parameters)
        members, model = self.members, self.model
        members.stragglers.begin()
        try:
            if model.runs_together:
                took: float | None = model.collect(
                    self.folder.name, self.parameters, members.folder / self.stage, part
                )
            else:
                took = model.run(self.parameters, part, self._one_before() if model.warm_starts else None)
        except OSError as error:
            if part.is_dir() and os.access(part, os.R_OK | os.W_OK | os.X_OK):
                raise
            raise ModelFailed(
                Status.MODEL_ERROR, f"the model removed its own folder {part}, or closed it: {error}"
            ) from error
        return took, members.read(part, model)

    def _one_before(self) -> Path | None:
        """Return the folder of the member one iteration before, None where there is none or it failed.

        Raises
        ------
        RunFailed
            When it is gone: it would be started from elsewhere, and come out differently.
        """
        earlier = iteration_before(self.stage)
        if earlier is None:
            return None
        folder = self.members.member_folder(earlier, self.j)
        done = read_marker(folder)
        if done is None:
            here = self.folder.relative_to(self.members.folder)
            raise RunFailed(f"{folder} is gone, from which {here} starts. Try: put it back")
        return folder if done["status"] == Status.OK else None

    def _following(self, status: Status) -> Attempt | None:
        """Return the attempt that may cure a failure of this one: the same again, at last the fallback."""
        retries = self.members.retries
        if status in CURABLE and self.number <= retries:
            return replace(self, number=self.number + 1)
        if status in BY_FALLBACK and self.number <= 1 + retries and self.members.fallback is not None:
            return replace(self, number=2 + retries)
        return None


def require_numbers(parameters: Mapping[str, float]) -> None:
    """Raise `ModelFailed` (NON_FINITE) for parameters without a value, derived from extreme others."""
    bad = [name for name, value in parameters.items() if not np.isfinite(value)]
    if bad:
        others = ", ".join(f"{n} {value:g}" for n, value in parameters.items() if n not in bad)
        reason = f"{', '.join(bad)} has no finite value for this member's parameters"
        raise ModelFailed(Status.NON_FINITE, f"{reason} ({others}): it was not run")


def _require_disk(failure: ModelFailed, folder: Path) -> None:
    """Raise OSError where a full disk (or quota) made the model fail: no fault of the member, nor of its
    parameters.
    """
    for number in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(number) in failure.reason:
            raise OSError(number, os.strerror(number), str(folder)) from failure
    require_space(folder.parent)
