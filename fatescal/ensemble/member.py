"""Run a member in a durable folder of its own.

A member is finished when its folder `RUN/members/STAGE/NNNN` exists: an attempt runs in a folder of another
name, which is renamed when complete. A finished member is not run again while its parameters and its model
are the same. Of several sites each has a folder in the member's, `RUN/members/STAGE/NNNN/SITE`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed, OutOfTime, RunFailed, Status
from fatescal.base.types import Array
from fatescal.ensemble import retention
from fatescal.ensemble.stragglers import Straggled, Stragglers
from fatescal.models.base import Model
from fatescal.observations.align import describe
from fatescal.parameters.space import ParameterSpace
from fatescal.storage.free_space import require_space
from fatescal.storage.stage_graph import EFFECTS, PREPARATION, Reached, iteration_before

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)
MARKER = "member.json"
# Another attempt may cure these; after a time-out it would cost the limit once more.
CURABLE = (Status.MODEL_ERROR, Status.TRUNCATED)
# What readers, also those of others' packages, raise of an output that is damaged.
UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
# Other settings may cure what comes of the parameters; not what is wrong with every member.
BY_FALLBACK = (*CURABLE, Status.TIME_OUT, Status.NON_FINITE)


@dataclass
class WallTimeGuard:
    """How long members take, as far as this rank knows, and the time it has `left`.

    Parameters
    ----------
    left : callable
        -> seconds until the job must end.
    seconds : list of float
        Durations of members that ran.
    """

    left: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    def require_time(self) -> None:
        """Raise `OutOfTime` where nine of ten members would not finish any more.

        >>> Pace(lambda: 50.0, [10.0, 20.0]).require_time()
        """
        if not self.seconds:
            return
        usual, left = float(np.quantile(self.seconds, 0.9)), self.left()
        if usual > left:
            raise OutOfTime(
                f"a member takes {usual:.0f} s, {max(left, 0.0):.0f} s are left: none was started."
            )


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

    @property
    def identity(self) -> dict[str, object]:
        """All that decides a member's output beside its parameters: the model, and the files it reads."""
        return self._with_inputs(self.model, of_fallback=False)

    @property
    def _whole_identity(self) -> dict[str, object]:
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

    def place(self, stage: str, j: int) -> Path:
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

    def _markers(self, stage: str) -> Iterator[Path]:
        """Yield the markers of the finished members of a stage, at all sites."""
        yield from (self.folder / stage).glob(f"[0-9][0-9][0-9][0-9]/{MARKER}")
        yield from (self.folder / stage).glob(f"[0-9][0-9][0-9][0-9]/*/{MARKER}")

    def seconds(self) -> list[float]:
        """Return how long the successful members took [s]."""
        markers = map(_marker, self.finished())
        return [m["seconds"] for m in markers if m is not None and m["status"] == Status.OK]

    def seconds_alone(self) -> list[float]:
        """Return the same where each ran by itself: else the duration of one is no measure of the next."""
        return [] if self.model.runs_together else self.seconds()

    def reason(self, stage: str, j: int) -> str:
        """Return why a member failed, '' where it didn't."""
        done = _marker(self.place(stage, j))
        return "" if done is None else str(done["reason"])

    def took(self, stage: str, j: int) -> float | None:
        """Return how long a member took [s], None where it has not run."""
        done = _marker(self.place(stage, j))
        return None if done is None else float(done["seconds"])

    def contents(self, stage: str, j: int, names: Iterable[str]) -> list[str]:
        """Say what the output of a finished member holds of the named variables, if it is still there."""
        done = _marker(self.place(stage, j)) or {}
        try:
            history = self._model(str(done.get("by", "model"))).read(self.place(stage, j))
        except ModelFailed as failure:
            return [f"its output is not there any more, its predictions are: {failure}"]
        return describe(history, names)

    def by_fallback(self, stage: str) -> list[bool]:
        """Return of each member that was left to the fallback whether it ran then."""
        done = (_marker(path / self.site) for path in (self.folder / stage).glob("[0-9]*"))
        return [m["status"] == Status.OK for m in done if m is not None and m.get("by") == "fallback"]

    def member(self, stage: str, j: int, theta: Array, pace: WallTimeGuard) -> dict[str, Array]:
        """Return predictions (D), status and seconds of one member, run now unless it is finished.

        Raises
        ------
        OutOfTime
            When it could not finish in the time that is left.
        """
        folder = self.place(stage, j)
        parameters = self.space.named(theta)
        done = _marker(folder)
        if done is not None and done["fingerprint"] in self._valid(parameters, Status(done["status"])):
            if done["status"] != Status.OK:
                return self._row(Status(done["status"]), done["seconds"])
            try:
                predictions = self._predictions(folder, self._model(done.get("by", "model")))
                return self._row(Status.OK, done["seconds"], predictions)
            except ModelFailed as failure:
                log.warning("%s: finished output no longer reads (%s): running again", folder, failure)
        elif done is not None:
            self._require_own(done, stage, j, parameters)
        pace.require_time()
        result = self._run(stage, j, parameters)
        if result["status"] == Status.OK and not self.model.runs_together:
            pace.seconds.append(float(result["seconds"]))
        return result

    def default_run(self, stage: str, pace: WallTimeGuard) -> tuple[Status, str]:
        """Run member 0 of a stage, the default run, in one attempt; return its status, and why it failed.

        One that has failed in an earlier job is run again: what was wrong may have been mended. One of
        another model, of a trial or an earlier start, is set aside: no other member has followed it.
        """
        folder = self.place(stage, 0)
        done = _marker(folder)
        parameters = self.space.named(self.space.theta_default)
        if done is not None and done["status"] != Status.OK:
            self._clear(folder)
        elif done is not None and done["fingerprint"] not in self._valid(parameters, Status.OK):
            if any(marker.relative_to(self.folder).parts[1] != "0000" for marker in self._markers(stage)):
                self._require_own(done, stage, 0, parameters)
            n_before = len(list(folder.parent.glob(f"{folder.name}.before-*")))
            os.rename(folder, folder.with_name(f"{folder.name}.before-{n_before + 1}"))
        row = replace(self, retries=0).member(stage, 0, self.space.theta_default, pace)
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
            done = _marker(self.place(stage, j))
            if done is not None:
                self._require_own(done, stage, j, self.space.named(row))

    def _require_own(
        self, done: Mapping[str, Any], stage: str, j: int, parameters: Mapping[str, float]
    ) -> None:
        """Raise `BadInput` unless a member counts, or failed without the fallback that it may have now."""
        status = Status(done["status"])
        if done["fingerprint"] in self._valid(parameters, status) | {self._mark(parameters, False)}:
            return
        identity = self._whole_identity if "fallback" in done.get("model", {}) else self.identity
        raise foreign(self.place(stage, j), done, parameters, identity, stage)

    def _model(self, by: str) -> Model:
        """Return the model, or the `fallback`, by the word in a marker."""
        return self.model if by == "model" or self.fallback is None else self.fallback

    def run_together(self, stage: str, theta: Array) -> None:
        """Let a model that runs batches run those members of a stage that are not finished; on root."""
        waiting = {}
        for j, row in enumerate(theta):
            parameters, place = self.space.named(row), self.place(stage, j)
            done = _marker(place)
            finished = done is not None and done["fingerprint"] in self._valid(
                parameters, Status(done["status"])
            )
            if not finished and all(map(np.isfinite, parameters.values())):  # others fail by themselves
                waiting[place.name] = parameters
        if waiting:
            default = self.space.named(self.space.theta_default)
            self.model.run_together(waiting, self.folder / stage, default)

    def _mark(self, parameters: Mapping[str, float], with_fallback: bool) -> str:
        """Return the fingerprint of a member: of parameters and model, and where it decides, of the
        fallback too.
        """
        return _fingerprint(parameters, self._whole_identity if with_fallback else self.identity)

    def _valid(self, parameters: Mapping[str, float], status: Status) -> set[str]:
        """Return the fingerprints with which a finished member counts: one that failed without the
        fallback does not.
        """
        return {self._mark(parameters, True)} | (
            {self._mark(parameters, False)} if status == Status.OK else set()
        )

    def _run(self, stage: str, j: int, parameters: Mapping[str, float]) -> dict[str, Array]:
        self._clear(self.place(stage, j))
        attempt: int | None = 1
        while attempt is not None:
            row, attempt = self._attempt(stage, j, parameters, attempt)
        return row

    def _attempt(
        self, stage: str, j: int, parameters: Mapping[str, float], attempt: int
    ) -> tuple[dict[str, Array], int | None]:
        """Run a member; return its row, and the number of the attempt that is to follow, if any."""
        by = "model" if attempt <= 1 + self.retries else "fallback"
        model, folder = self._model(by), self.place(stage, j)
        part = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex[:8]}")
        part.mkdir(parents=True)
        begin = time.monotonic()
        status, reason, predictions, following, took = Status.OK, "", None, None, None
        try:
            took, predictions = self._result(model, stage, j, parameters, part)
        except ModelFailed as failure:
            _require_disk(failure, folder)
            status, reason = failure.kind, failure.reason
            following = None if isinstance(failure, Straggled) else self._following(attempt, status)
        seconds = time.monotonic() - begin if took is None else took
        final = folder if following is None else folder.with_name(f"{folder.name}.failed-{attempt}")
        reason = reason.replace(str(part), str(final))
        needed = by == "fallback" or status != Status.OK
        identity = self._whole_identity if needed else self.identity
        mark = self._mark(parameters, needed)
        content = {"fingerprint": mark, "status": int(status), "reason": reason, "seconds": seconds}
        content |= {"attempt": attempt, "by": by, "parameters": parameters, "model": identity}
        _mark_folder(part, content)
        os.rename(part, final)
        name = (
            f"{folder.relative_to(self.folder)}, attempt {attempt}{' (fallback)' if by == 'fallback' else ''}"
        )
        if status != Status.OK:
            log.warning("%s: %s: %s", name, status.words, reason)
        if predictions is not None:
            if attempt > 1:
                log.warning("%s: ran", name)
            self._trim(folder, model, predictions)
        return self._row(status, seconds, predictions), following

    def _result(
        self, model: Model, stage: str, j: int, parameters: Mapping[str, float], part: Path
    ) -> tuple[float | None, Array]:
        """Run a model and read it; return the seconds it says it took, and its predictions (D)."""
        require_numbers(parameters)
        self.stragglers.begin()
        try:
            if model.runs_together:
                name = self.place(stage, j).name
                took: float | None = model.collect(name, parameters, self.folder / stage, part)
            else:
                before = self._one_before(stage, j) if model.warm_starts else None
                took = model.run(parameters, part, before)
        except OSError as error:
            if part.is_dir() and os.access(part, os.R_OK | os.W_OK | os.X_OK):
                raise
            raise ModelFailed(
                Status.MODEL_ERROR, f"the model removed its own folder {part}, or closed it: {error}"
            ) from error
        return took, self.read(part, model)

    def _one_before(self, stage: str, j: int) -> Path | None:
        """Return the folder of a member one iteration before, None where there is none or it failed.

        Raises
        ------
        RunFailed
            When it is gone: it would be started from elsewhere, and come out differently.
        """
        earlier = iteration_before(stage)
        if earlier is None:
            return None
        folder = self.place(earlier, j)
        done = _marker(folder)
        if done is None:
            here = self.place(stage, j).relative_to(self.folder)
            raise RunFailed(f"{folder} is gone, from which {here} starts. Try: put it back")
        return folder if done["status"] == Status.OK else None

    def _following(self, attempt: int, status: Status) -> int | None:
        """Return the attempt that may cure a failure of this one: the same again, at last the fallback."""
        if status in CURABLE and attempt <= self.retries:
            return attempt + 1
        if status in BY_FALLBACK and attempt <= 1 + self.retries and self.fallback is not None:
            return 2 + self.retries
        return None

    def _predictions(self, folder: Path, model: Model) -> Array:
        """Return the predictions of a finished member, kept or read from its output."""
        known = retention.load(folder, self.windows)
        predictions = self.read(folder, model) if known is None else known
        self._trim(folder, model, predictions)
        return predictions

    def _trim(self, folder: Path, model: Model, predictions: Array) -> None:
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

    def _row(self, status: Status, seconds: float, predictions: Array | None = None) -> dict[str, Array]:
        missing = np.full(self.n_predictions, np.nan)
        return {
            "predictions": missing if predictions is None else predictions,
            "status": np.asarray(int(status), dtype=np.int64),
            "seconds": np.asarray(seconds, dtype=np.float64),
        }

    def _clear(self, folder: Path) -> None:
        """Remove what an interrupted or outdated attempt left."""
        for old in [folder, *folder.parent.glob(f"{folder.name}.*-*")]:
            _remove(old)


def require_numbers(parameters: Mapping[str, float]) -> None:
    """Raise `ModelFailed` (NON_FINITE) for parameters without a value, derived from extreme others."""
    bad = [name for name, value in parameters.items() if not np.isfinite(value)]
    if bad:
        others = ", ".join(f"{n} {value:g}" for n, value in parameters.items() if n not in bad)
        words = f"{', '.join(bad)} has no finite value for this member's parameters"
        raise ModelFailed(Status.NON_FINITE, f"{words} ({others}): it was not run")


def _require_disk(failure: ModelFailed, folder: Path) -> None:
    """Raise OSError where a full disk (or quota) made the model fail: no fault of the member, nor of its
    parameters.
    """
    for number in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(number) in failure.reason:
            raise OSError(number, os.strerror(number), str(folder)) from failure
    require_space(folder.parent)


def _remove(path: Path) -> None:
    """Remove a folder, a file or a link, also where a model has closed folders within."""
    if path.is_dir() and not path.is_symlink():
        for inner in (path, *(p for p in path.rglob("*") if p.is_dir() and not p.is_symlink())):
            with suppress(PermissionError):
                inner.chmod(stat.S_IRWXU)
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _mark_folder(part: Path, content: Mapping[str, object]) -> None:
    """Write the marker into a member's folder, made anew where the model has removed it."""
    if part.is_symlink() or not part.is_dir():
        _remove(part)
        part.mkdir(parents=True)
    if not os.access(part, os.R_OK | os.W_OK | os.X_OK):
        part.chmod(stat.S_IRWXU)
    marker = part / MARKER
    if marker.is_symlink() or marker.is_dir():
        _remove(marker)
    _write_durably(marker, json.dumps(content, indent=1, default=str))


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
        _remove(old)
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
    mark = _fingerprint(parameters, identity)
    content = {"fingerprint": mark, "status": int(Status.OK), "seconds": time.monotonic() - begin}
    content |= {"parameters": dict(parameters), "model": dict(identity)}
    _mark_folder(part, content)
    os.rename(part, folder)


def require_own(
    folder: Path, parameters: Mapping[str, float], identity: Mapping[str, object], stage: str = PREPARATION
) -> bool:
    """Tell whether `once` has filled a folder; raise `BadInput` if for other parameters, or another model."""
    done = _marker(folder)
    if done is not None and done["fingerprint"] != _fingerprint(parameters, identity):
        raise foreign(folder, done, parameters, identity, stage)
    return done is not None


def foreign(
    folder: Path,
    done: Mapping[str, Any],
    parameters: Mapping[str, float],
    identity: Mapping[str, object],
    stage: str,
) -> BadInput:
    """Return the error of a finished run in `folder` with other parameters, or by another model, in words."""
    run = next((above.parent for above in folder.parents if above.name == "members"), folder.parent)
    before = {"parameters": done.get("parameters", {}), **done.get("model", {})}
    now = json.loads(json.dumps({"parameters": dict(parameters), **identity}, default=str))
    names = [key for key in _changed(before, now) if "model" in done or key.startswith("parameters.")]
    what = (
        f"it differs in {', '.join(names[:5])}" if names else "it is of another model, or version of fatescal"
    )
    return BadInput(
        f"{folder} was run with other parameters or by another model than those of today ({what})",
        expected="what is finished of a stage to be of one model",
        hint=f"put back what has changed; or another run.directory; or, to run it again: "
        f"fatescal reset {run} --from {stage}",
    )


def _changed(before: object, now: object, where: str = "") -> list[str]:
    """Return the dotted keys in which two descriptions differ."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [where]
    keys = dict.fromkeys([*before, *now])
    return [k for key in keys for k in _changed(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))]


def begun(members: Path, finished: Iterable[str]) -> dict[str, Reached]:
    """Return the stages in `RUN/members` that are not finished but some of their members are.

    The preparation comes first. With the digests of the files that their members read.
    """
    found = {}
    names = sorted(entry.name for entry in members.glob("*") if entry.name not in set(finished))
    for name in sorted(names, key=lambda name: name != PREPARATION):
        paths = [
            path
            for path in (members / name).rglob(MARKER)
            if "." not in str(path.parent.relative_to(members))
        ]
        inputs: dict[str, str] = {}
        if all(path.relative_to(members).parts[1] == "0000" for path in paths):
            paths = []  # the default run alone commits nobody: it is made again where something has changed
        for done in filter(None, (_marker(path.parent) for path in paths)):
            model = done.get("model", {})
            inputs |= {**model.get("inputs", {}), **model.get("fallback", {}).get("inputs", {})}
        if paths or any((members / name).rglob("jobs/*/result.json")):
            found[name] = Reached(files=inputs, finished=name in (PREPARATION, EFFECTS))
    return found


@dataclass
class MemberProgress:
    """The finished members of a stage at a site, as the file system shows them to this rank: each marker
    is read once.
    """

    folder: Path
    site: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self) -> Mapping[str, float]:
        """Return how long each took [s], NaN of failed ones, by name."""
        for entry in os.scandir(self.folder):
            if entry.name.isdigit() and entry.name not in self.seconds:
                done = _marker(Path(entry.path, self.site))
                if done is not None:
                    ok = done["status"] == Status.OK
                    self.seconds[entry.name] = float(done["seconds"]) if ok else float("nan")
        return self.seconds


def _fingerprint(parameters: Mapping[str, float], description: Mapping[str, object]) -> str:
    text = json.dumps([dict(parameters), dict(description)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _marker(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    return (
        content
        if isinstance(content, dict) and {"fingerprint", "status", "seconds"} <= set(content)
        else None
    )


def _write_durably(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
