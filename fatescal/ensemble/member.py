"""Run a member in a durable folder of its own.

A member is finished when its folder `RUN/members/STAGE/NNNN` exists: an attempt runs in a folder of another
name, which is renamed when complete. A finished member is not run again while its parameters and its model
are the same. Of several sites each has a folder in the member's, `RUN/members/STAGE/NNNN/SITE`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fatescal.base.errors import ModelFailed, Status
from fatescal.base.types import Array
from fatescal.ensemble import retention
from fatescal.ensemble.attempt import Attempt
from fatescal.ensemble.job_notes import JobTask, Outcome
from fatescal.ensemble.leftovers import Leftovers
from fatescal.ensemble.marker import MARKER, fingerprint, foreign, marked_folders, read_marker, remove
from fatescal.ensemble.member_jobs import MemberJobs
from fatescal.ensemble.progress import MemberProgress
from fatescal.ensemble.stragglers import Stragglers
from fatescal.ensemble.wall_time import WallTimeGuard
from fatescal.models.base import Model
from fatescal.observations.align import describe
from fatescal.parameters.space import ParameterSpace

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)
# What readers, also those of others' packages, raise of an output that is damaged.
UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Members:
    """How members are run and read, at one site.

    Parameters
    ----------
    align : callable
        Model output -> predictions (D), in the observations' units; raises `ModelFailed`.
    n_predictions : int
        D.
    folder : Path
        `RUN/members`.
    retries : int
        How often a member is tried again that failed of what another attempt may cure.
    fallback : Model, optional
        The model with other settings, tried once when nothing else has helped.
    windows : str
        Digest of what `align` returns predictions of.
    keep : str
        ``all`` the model left, or of members that ran nothing but their ``predictions``.
    stragglers : Stragglers
        The `stop` of both models' launches.
    site : str
        The site's name where it is one of several; '' else.
    inputs : mapping of str to str
        Digests of the files from outside that the models read, by the key of the config that names them.
    jobs : MemberJobs, optional
        What makes the runs as jobs of their own, the same for all sites; without it the ranks do.
    """

    model: Model
    space: ParameterSpace
    align: Callable[[xr.Dataset], Array]
    n_predictions: int
    folder: Path
    retries: int = 1
    fallback: Model | None = None
    windows: str = ""
    keep: str = "all"
    stragglers: Stragglers = field(default_factory=lambda: Stragglers(lambda: False))
    site: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    jobs: MemberJobs | None = None
    leftovers: Leftovers = field(default_factory=Leftovers, init=False, compare=False, repr=False)

    @property
    def identity(self) -> dict[str, object]:
        """All that decides a member's output beside its parameters: the model, and the files it reads."""
        return self._with_inputs(self.model, of_fallback=False)

    @property
    def whole_identity(self) -> dict[str, object]:
        """The identity with that of the fallback, where there is one."""
        if self.fallback is None:
            return self.identity
        return {**self.identity, "fallback": self._with_inputs(self.fallback, of_fallback=True)}

    def _with_inputs(self, model: Model, *, of_fallback: bool) -> dict[str, object]:
        """Return what a model is, with the files that its options name; the fallback's are named by its
        own.
        """
        own = {k: d for k, d in self.inputs.items() if ("model.fallback." in k) == of_fallback}
        return {**model.identity, **({"inputs": own} if own else {})}

    def member_folder(self, stage: str, j: int) -> Path:
        """Return the folder of a finished member: `RUN/members/STAGE/NNNN`, one of several sites has its
        own below.
        """
        return self.folder / stage / f"{j:04d}" / self.site

    def batch(self, stage: str) -> MemberProgress:
        """Return the finished members of a stage, as this rank comes to know them."""
        return MemberProgress(self.folder / stage, self.site)

    def finished(self) -> Iterator[Path]:
        """Yield the folders of all finished members, ordered by stage and number."""
        pattern = f"*/[0-9]*/{self.site}/{MARKER}" if self.site else f"*/[0-9]*/{MARKER}"
        yield from (marker.parent for marker in sorted(self.folder.glob(pattern)))

    def seconds(self) -> list[float]:
        """Return how long the successful members took [s]."""
        markers = map(read_marker, self.finished())
        return [m["seconds"] for m in markers if m is not None and m["status"] == Status.OK]

    def seconds_alone(self) -> list[float]:
        """Return the same where each ran by itself: else the duration of one is no measure of the next."""
        return [] if self.model.runs_together else self.seconds()

    def reason(self, stage: str, j: int) -> str:
        """Return why a member failed, '' where it didn't."""
        done = read_marker(self.member_folder(stage, j))
        return "" if done is None else str(done["reason"])

    def took(self, stage: str, j: int) -> float | None:
        """Return how long a member took [s], None where it has not run."""
        done = read_marker(self.member_folder(stage, j))
        return None if done is None else float(done["seconds"])

    def contents(self, stage: str, j: int, names: Iterable[str]) -> list[str]:
        """Say what the output of a finished member holds of the named variables, if it is still there."""
        done = read_marker(self.member_folder(stage, j)) or {}
        try:
            history = self.model_by(str(done.get("by", "model"))).read(self.member_folder(stage, j))
        except ModelFailed as failure:
            return [f"its output is not there any more, its predictions are: {failure}"]
        return describe(history, names)

    def by_fallback(self, stage: str) -> list[bool]:
        """Return of each member that was left to the fallback whether it ran then."""
        done = (read_marker(path / self.site) for path in (self.folder / stage).glob("[0-9]*"))
        return [m["status"] == Status.OK for m in done if m is not None and m.get("by") == "fallback"]

    def member(self, stage: str, j: int, theta: Array, wall_time: WallTimeGuard) -> dict[str, Array]:
        """Return predictions (D), status and seconds of one member, run now unless it is finished.

        Raises
        ------
        OutOfTime
            When it could not finish in the time that is left.
        """
        folder = self.member_folder(stage, j)
        parameters = self.space.named(theta)
        done = read_marker(folder)
        if done is not None and done["fingerprint"] in self._valid(parameters, Status(done["status"])):
            if done["status"] != Status.OK:
                return self.row(Status(done["status"]), done["seconds"])
            try:
                predictions = self._predictions(folder, self.model_by(done.get("by", "model")))
                return self.row(Status.OK, done["seconds"], predictions)
            except ModelFailed as failure:
                log.warning("%s: finished output no longer reads (%s): running again", folder, failure)
        elif done is not None:
            self._require_own(done, stage, j, parameters)
        wall_time.require_time()
        result = self._run(stage, j, parameters)
        if result["status"] == Status.OK and not self.model.runs_together:
            wall_time.seconds.append(float(result["seconds"]))
        return result

    def default_run(self, stage: str, wall_time: WallTimeGuard) -> tuple[Status, str]:
        """Run member 0 of a stage, the default run, in one attempt; return its status, and why it failed.

        One that has failed in an earlier job is run again: what was wrong may have been mended. One of
        another model, of a preflight or an earlier start, is set aside: no other member has followed it.
        """
        folder = self.member_folder(stage, 0)
        done = read_marker(folder)
        parameters = self.space.named(self.space.theta_default)
        if done is not None and done["status"] != Status.OK:
            self._clear(folder)
        elif done is not None and done["fingerprint"] not in self._valid(parameters, Status.OK):
            made = (path.relative_to(self.folder / stage) for path in marked_folders(self.folder / stage))
            if any(member.parts[0] != "0000" for member in made):
                self._require_own(done, stage, 0, parameters)
            n_before = len(list(folder.parent.glob(f"{folder.name}.before-*")))
            os.rename(folder, folder.with_name(f"{folder.name}.before-{n_before + 1}"))
        row = replace(self, retries=0).member(stage, 0, self.space.theta_default, wall_time)
        return Status(int(row["status"])), self.reason(stage, 0)

    def require_own(self, stage: str, theta: Array) -> None:
        """Refuse to compute a stage of which members are finished with other parameters, or by another model.

        Parameters
        ----------
        theta : array (J, P)
            Of all members.

        Raises
        ------
        BadInput
            With what differs, and the ways out: nothing finished is removed without being asked.
        """
        for j, row in enumerate(theta):
            done = read_marker(self.member_folder(stage, j))
            if done is not None:
                self._require_own(done, stage, j, self.space.named(row))

    def _require_own(
        self, done: Mapping[str, Any], stage: str, j: int, parameters: Mapping[str, float]
    ) -> None:
        """Raise `BadInput` unless a member counts, or failed without the fallback that it may have now."""
        status = Status(done["status"])
        if done["fingerprint"] in self._valid(parameters, status) | {self.mark(parameters, False)}:
            return
        identity = self.whole_identity if "fallback" in done.get("model", {}) else self.identity
        raise foreign(self.member_folder(stage, j), done, parameters, identity, stage)

    def model_by(self, by: str) -> Model:
        """Return the model, or the `fallback`, as a marker names it."""
        return self.model if by == "model" or self.fallback is None else self.fallback

    def run_together(self, stage: str, theta: Array) -> None:
        """Let a model that runs batches run those members of a stage that are not finished; on root."""
        waiting = {
            self.member_folder(stage, j).name: self.space.named(theta[j])
            for j in self.unfinished(stage, theta)
        }
        if waiting:
            default = self.space.named(self.space.theta_default)
            self.model.run_together(waiting, self.folder / stage, default)

    def unfinished(self, stage: str, theta: Array) -> list[int]:
        """Return the numbers of the members of a stage that the model has to run; `theta` is (J, P)."""
        numbers = []
        for j, row in enumerate(theta):
            parameters, done = self.space.named(row), read_marker(self.member_folder(stage, j))
            finished = done is not None and done["fingerprint"] in self._valid(
                parameters, Status(done["status"])
            )
            if not finished and all(map(np.isfinite, parameters.values())):  # others fail by themselves
                numbers.append(j)
        return numbers

    def job_task(self, kind: str, stage: str, name: str, theta: Array) -> JobTask:
        """Return a run as a job makes it; `theta` is (P)."""
        values = tuple(float(value) for value in theta)
        return JobTask(kind, self.site, stage, name, values, self.mark(self.space.named(theta), True))

    def give_up(self, stage: str, j: int, theta: Array, status: Status, reason: str) -> None:
        """Mark a member as failed that no attempt could finish."""
        self._clear(self.member_folder(stage, j))
        Attempt(self, stage, j, self.space.named(theta), number=1 + self.retries).give_up(status, reason)

    def mark(self, parameters: Mapping[str, float], with_fallback: bool) -> str:
        """Return the fingerprint of a member: of parameters and model, and where it decides, of the
        fallback too.
        """
        return fingerprint(parameters, self.whole_identity if with_fallback else self.identity)

    def _valid(self, parameters: Mapping[str, float], status: Status) -> set[str]:
        """Return the fingerprints with which a finished member counts: one that failed without the
        fallback does not.
        """
        return {self.mark(parameters, True)} | (
            {self.mark(parameters, False)} if status == Status.OK else set()
        )

    def _run(self, stage: str, j: int, parameters: Mapping[str, float]) -> dict[str, Array]:
        self._clear(self.member_folder(stage, j))
        attempt: Attempt | None = Attempt(self, stage, j, parameters)
        while attempt is not None:
            row, attempt = attempt.run()
        return row

    def _predictions(self, folder: Path, model: Model) -> Array:
        """Return the predictions of a finished member, kept or read from its output."""
        known = retention.load(folder, self.windows)
        predictions = self.read(folder, model) if known is None else known
        self.trim(folder, model, predictions)
        return predictions

    def trim(self, folder: Path, model: Model, predictions: Array) -> None:
        """Leave nothing in a finished folder but what is to be kept, and what later members start from."""
        if self.keep == "predictions":
            if retention.load(folder, self.windows) is None:
                retention.save(folder, predictions, self.windows)
            retention.trim(folder, [MARKER, retention.PREDICTIONS, *model.needed_later])

    def read(self, folder: Path, model: Model) -> Array:
        """Return the predictions in a folder; what keeps them from being read fails the member alone."""
        try:
            predictions = self.align(model.read(folder))
        except UNREADABLE as error:
            what = f"{type(error).__name__}: {error}"
            log.debug("%s cannot be read", folder, exc_info=error)
            raise ModelFailed(Status.TRUNCATED, f"the output in {folder} cannot be read: {what}") from error
        if not np.isfinite(predictions).all():
            raise ModelFailed(Status.NON_FINITE, f"{folder}: predictions are not finite")
        return predictions

    def row(self, status: Status, seconds: float, predictions: Array | None = None) -> dict[str, Array]:
        """Return a member's row of an `Evaluation`; of a failed one without predictions."""
        missing = np.full(self.n_predictions, np.nan)
        return {
            "predictions": missing if predictions is None else predictions,
            "status": np.asarray(int(status), dtype=np.int64),
            "seconds": np.asarray(seconds, dtype=np.float64),
        }

    def _clear(self, folder: Path) -> None:
        """Remove what an interrupted or outdated attempt left."""
        for old in [folder, *self.leftovers.take(folder)]:
            remove(old)


def in_jobs(sites: Sequence[Members], stage: str, tasks: Sequence[JobTask]) -> dict[JobTask, Outcome]:
    """Let jobs make runs of a stage, where such make all runs; return how they ended; on root."""
    jobs = sites[0].jobs
    if jobs is None or not tasks:
        return {}
    by_name = {members.site: members for members in sites}

    def give_up(task: JobTask, status: Status, reason: str) -> None:
        by_name[task.site].give_up(task.stage, int(task.name), np.array(task.theta), status, reason)

    inputs = {members.site: members.inputs for members in sites}
    return jobs.carry_out(sites[0].folder / stage, tasks, inputs, give_up)
