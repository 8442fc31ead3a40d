"""Jobs of a multi-instance CIME case: each runs members, is waited for by its number, and is found again.

What a batch needs to survive this program's death is kept in ``STAGE/jobs``: the submission (its job's number
above all), and for each member what it reads, what it left, and how it ended.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from fatescal.base.errors import ModelFailed, RunFailed, Status
from fatescal.hpc.launch import launch, never, visible
from fatescal.hpc.schedulers.base import End, Job
from fatescal.hpc.schedulers.registry import command_variables
from fatescal.models.clm_fates import casestatus, inputdata, instance_files, namelist, outcome
from fatescal.models.clm_fates.batch_case import BatchCase, in_queue, require_idle
from fatescal.models.clm_fates.case_record import LOG
from fatescal.models.clm_fates.clm_model import ClmFates
from fatescal.models.clm_fates.submission import (
    JOBS,
    NOTE,
    RESULT,
    RunSegment,
    Submission,
    decided,
    end_of_log,
    noted,
)
from fatescal.models.clm_fates.template import days
from fatescal.storage import atomic

log = logging.getLogger(__name__)
MOST_JOBS = 5  # for one batch; a member that dies costs all of them another
GRACE = 30.0  # s for the CaseStatus of a job that ended to reach this node


class Jobs(BatchCase):
    """The jobs of one case.

    Parameters
    ----------
    single : ClmFates
        The model as members would run it alone.
    case : Path
        The CIME case.
    mark : callable
        theta -> what tells members with other parameters, or of another model, apart.
    retries, hide, stop
        As of `MultiInstance`.
    """

    def __init__(
        self,
        single: ClmFates,
        case: Path,
        mark: Callable[[Mapping[str, float]], str],
        retries: int,
        hide: Sequence[str],
        stop: Callable[[], bool],
    ) -> None:
        self._extra = command_variables()
        super().__init__(case, visible(hide) | self._extra, stop)
        self.single = single
        self._mark, self._retries, self._hide = mark, retries, hide

    def run(self, batch: Mapping[str, Mapping[str, float]], folder: Path, segment: RunSegment) -> None:
        """Run members until each has its output or a reason for none; see `MultiInstance.run_together`."""
        jobs = folder / JOBS
        jobs.mkdir(parents=True, exist_ok=True)
        marks = {name: self._mark(theta) for name, theta in batch.items()}
        submission = self._resumed(jobs, marks)
        failures = 0
        for _ in range(MOST_JOBS):
            if submission is None:
                waiting = {
                    name: theta for name, theta in batch.items() if not decided(jobs / name, marks[name])
                }
                if not waiting:
                    return
                submission = self._submit(waiting, jobs, segment)
            if submission is None:
                return
            job = self._wait(submission, jobs)
            any_decided = self._conclude(submission, job, jobs, segment)
            submission = None
            failures += not any_decided
            if failures > self._retries:
                raise RunFailed(f"{job or 'the job'} failed, and no member is the cause: {end_of_log(jobs)}")
        if any(not decided(jobs / name, mark) for name, mark in marks.items()):
            raise RunFailed(
                f"{folder.name}: one member after another fails, and ends the job of all ({MOST_JOBS} jobs). "
                "Try: narrower priors; or execution: processes, where a member fails alone"
            )

    # ---- before

    def _submit(
        self, waiting: Mapping[str, Mapping[str, float]], jobs: Path, segment: RunSegment
    ) -> Submission | None:
        """Give the case these members, and submit it; None where the model must have none of them."""
        if self.queued:
            self._require_free()
        written = {}
        for name, theta in waiting.items():
            try:
                written[name] = self._inputs(theta, jobs / name, segment)
            except ModelFailed as failure:
                self._decide(jobs / name, self._mark(theta), failure, 0.0)
        if not written:
            return None
        members = list(written) * (1 if len(written) > 1 else 2)  # a single instance would not be numbered
        self._prepare([written[name] for name in members], segment)
        instance_files.move_aside(
            self.run_directory, self.case_name, self.run_directory / f"before-{int(time.time())}"
        )
        marks = [self._mark(waiting[name]) for name in members]
        submission = Submission(members, marks, casestatus.length(self.case))
        atomic.write_json(jobs / NOTE, asdict(submission), indent=1)
        self._case_submit(submission, jobs / "submit.log")
        return submission

    def _inputs(
        self, theta: Mapping[str, float], folder: Path, segment: RunSegment
    ) -> dict[str, namelist.Value | None]:
        """Write a member's own files into its folder, made anew; return its keys of `lnd_in`."""
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        single = self.single
        own = single.targets.write(theta, folder)
        n_days = days(segment.first, segment.last)
        changes = single.template.land_changes(n_days, single.variables, own, segment.finidat)
        return {"finidat": self._cold_or_warm, **single.template.keys, **changes}

    def _case_submit(self, submission: Submission, submit_log: Path) -> None:
        """Call case.submit, whose exit code tells nothing of the model; without a queue it runs it."""
        queued = self.queued
        try:
            launch(
                ["./case.submit"],
                self.case,
                timeout=None,
                hide=self._hide,
                extra=self._extra,
                log=str(submit_log),
                stop=never if queued else self._stop,
            )
        except ModelFailed as failure:
            entries = casestatus.since(self.case, submission.place)
            if queued or not any(entry.phase == casestatus.MODEL for entry in entries):
                reason = casestatus.error(entries) or failure.reason
                absent = inputdata.listed(submit_log.read_text(encoding="utf-8", errors="replace"))
                names = f". Missing: {', '.join(map(str, absent))}" if absent else ""
                raise RunFailed(f"./case.submit in {self.case}: {reason}{names}") from None

    @property
    def _cold_or_warm(self) -> str:
        """The state that the case itself starts from; blank for a cold start."""
        return (namelist.get(self.single.template.lnd_in, "finidat") or " ").strip() or " "

    def _prepare(self, changes: Sequence[Mapping[str, namelist.Value | None]], segment: RunSegment) -> None:
        """Set the case up for so many instances, with their namelists."""
        n, single = len(changes), self.single
        fewer_or_more = self.ask("NINST") != str(n)
        settings: dict[str, object] = {"NINST": n} if fewer_or_more else {}
        settings |= {
            "MULTI_DRIVER": "TRUE",
            "DOUT_S": "FALSE",
            "RUN_TYPE": "startup",
            "CONTINUE_RUN": "FALSE",
            "RESUBMIT": 0,
            "RUN_STARTDATE": segment.first,
            "STOP_OPTION": "ndays",
            "STOP_N": days(segment.first, segment.last),
            "REST_OPTION": "ndays" if segment.restart else "never",
            "REST_N": days(segment.first, segment.last),
            # CLM takes a blank finidat in a cold start alone, and ignores any other one there.
            "CLM_FORCE_COLDSTART": "off" if str(changes[0]["finidat"]).strip() else "on",
        }
        self.cime("xmlchange", ",".join(f"{key}={value}" for key, value in settings.items()))
        instance_files.write_namelists(self.case, changes)
        if single.template.sequence != single.template.files["nuopc.runseq"]:
            (self.case / "nuopc.runseq").write_text(single.template.sequence)  # goes before CIME's own
        if fewer_or_more:
            self.of_case(lambda case: case.set_up("--reset"))
        if self.ask("BUILD_COMPLETE") != "TRUE":
            self.of_case(lambda case: case.build(self.case / LOG))
        self.cime("preview_namelists")
        instance_files.require_read(self.run_directory, changes)

    def _require_free(self) -> None:
        """Raise `BadInput` when a job of the case waits or runs, which uses the same files."""
        require_idle(self.case, self.case_name, self.queue)

    # ---- while it runs

    def _resumed(self, jobs: Path, marks: Mapping[str, str]) -> Submission | None:
        """Return what this program submitted before it was stopped; None for nothing, or nothing of use."""
        note = noted(jobs / NOTE)
        if note is None:
            return None
        submission = self._numbered(Submission(**note))
        own = all(marks.get(n) == mark for n, mark in zip(submission.members, submission.marks, strict=True))
        if submission.number is not None and not own:
            number = submission.number
            job = self.queue.patiently(lambda: self.queue.look(number))
            if job is not None and job.under_way:
                raise RunFailed(
                    f"{job} runs members with other parameters, of an earlier config. "
                    f"Try: scancel {job.number}, or wait"
                )
        ended = casestatus.succeeded(casestatus.since(self.case, submission.place))
        if own and (submission.number is not None or ended):
            log.info(
                "%s: job %s was submitted before: it is not submitted again",
                jobs.parent.name,
                submission.number,
            )
            atomic.write_json(jobs / NOTE, asdict(submission), indent=1)
            return submission
        (jobs / NOTE).unlink(missing_ok=True)
        return None

    def _numbered(self, submission: Submission) -> Submission:
        """Return a submission with its job's number, where one was given."""
        if submission.number is not None or not self.queued:
            return submission
        number = casestatus.submitted(casestatus.since(self.case, submission.place))
        return replace(submission, number=number or next(iter(self._in_queue()), None))

    def _wait(self, submission: Submission, jobs: Path) -> Job | None:
        """Return the job when it has ended, as far as the scheduler still knows it."""
        submission = self._numbered(submission)
        if submission.number is None:
            if self.queued:
                raise RunFailed(f"./case.submit in {self.case} submitted no job: see {jobs / 'submit.log'}")
            return None  # case.submit has run it to its end
        atomic.write_json(jobs / NOTE, asdict(submission), indent=1)
        n = len(set(submission.members))
        job = self.queue.wait(
            submission.number, lambda j: log.info("%s: %s, %d members", jobs.parent.name, j, n)
        )
        if job is not None and job.end in (End.SUCCEEDED, End.FAILED):
            end = time.monotonic() + GRACE
            while not self._has_ended(submission) and time.monotonic() < end:
                self.queue.sleep(1.0, f"{job}, which the next start will look at")
        return job

    def _has_ended(self, submission: Submission) -> bool:
        """Tell whether CaseStatus has come to the end of the run."""
        return casestatus.succeeded(casestatus.since(self.case, submission.place)) is not None

    def _in_queue(self) -> list[str]:
        """Return the numbers of the case's jobs that wait or run."""
        return in_queue(self.case, self.case_name, self.queue)

    # ---- after

    def _conclude(self, submission: Submission, job: Job | None, jobs: Path, segment: RunSegment) -> bool:
        """Note what became of the members of a job that ended; return whether any member is done.

        Raises
        ------
        RunFailed
            When the job was cancelled or was too short, or the case failed before the model ran.
        """
        entries = casestatus.since(self.case, submission.place)
        succeeded, seconds = casestatus.succeeded(entries), casestatus.seconds(entries)
        ends = self._collect(submission, succeeded, jobs, segment)
        whole = [name for name, (_, failure) in ends.items() if failure is None]
        ran_out = job is not None and job.end is End.OUT_OF_TIME
        n_decided = 0
        for name, (mark, failure) in ends.items():
            if ran_out and whole and failure is not None and failure.kind == Status.TRUNCATED:
                ending = f"still running when {job} ended; {len(whole)} others had finished"
                failure = ModelFailed(Status.TIME_OUT, outcome.report(jobs / name, ending))
            if failure is None or failure.kind != Status.TRUNCATED or succeeded:
                self._decide(jobs / name, mark, failure, seconds)
                n_decided += 1
                if failure is not None and not succeeded:
                    log.warning("%s/%s ended the whole job: %s", jobs.parent.name, name, failure.reason)
        number = job.number if job is not None else f"{int(time.time())}"
        instance_files.move_aside(self.run_directory, self.case_name, jobs / f"job-{number}")
        (jobs / NOTE).unlink(missing_ok=True)
        stage, which = jobs.parent.name, job or "the job"
        log.info("%s: %s: %d of %d members are done", stage, which, n_decided, len(ends))
        if not succeeded:
            self._require_retry(job, entries, n_decided == len(ends), bool(whole), jobs)
        return n_decided > 0

    def _collect(
        self, submission: Submission, succeeded: bool | None, jobs: Path, segment: RunSegment
    ) -> dict[str, tuple[str, ModelFailed | None]]:
        """Move what the instances left to the members' folders; return each one's mark and failure."""
        blamed = instance_files.died(instance_files.log_text(self.run_directory, "cesm"))
        blamed = blamed if 2 * len(blamed) <= len(submission.members) else set()  # so many are not to blame
        by_instance = list(enumerate(zip(submission.members, submission.marks, strict=True), 1))
        mine = {name: (instance, mark) for instance, (name, mark) in by_instance}
        mine |= {name: (instance, mark) for instance, (name, mark) in by_instance if instance in blamed}
        ends: dict[str, tuple[str, ModelFailed | None]] = {}
        for name, (instance, mark) in mine.items():
            restart = segment.restart
            instance_files.collect(self.run_directory, self.case_name, instance, jobs / name, restart=restart)
            ends[name] = mark, self._end(jobs / name, instance in blamed, succeeded, segment)
        return ends

    def _decide(self, folder: Path, mark: str, failure: ModelFailed | None, seconds: float) -> None:
        """Note how a member ended, which no later job changes."""
        status, reason = (Status.OK, "") if failure is None else (failure.kind, failure.reason)
        atomic.write_json(
            folder / RESULT, {"mark": mark, "status": status, "reason": reason, "seconds": seconds}, indent=1
        )

    def _end(
        self, folder: Path, blamed: bool, succeeded: bool | None, segment: RunSegment
    ) -> ModelFailed | None:
        """Return what is wrong with what an instance left; TRUNCATED where it only was not finished."""
        try:
            self.single.judge(folder, 0, segment.first, segment.last)
        except ModelFailed as failure:
            if not succeeded and (blamed or outcome.cause(folder)):
                return ModelFailed(
                    Status.MODEL_ERROR, outcome.report(folder, "failed, and ended the job of all")
                )
            return failure
        return None

    def _require_retry(
        self, job: Job | None, entries: list[casestatus.Entry], all_decided: bool, any_whole: bool, jobs: Path
    ) -> None:
        """Raise `RunFailed` where another job would end like this one."""
        end = job.end if job is not None else End.UNKNOWN
        if end is End.CANCELLED:
            raise RunFailed(f"{job}. Start again to submit its members anew")
        if end is End.OUT_OF_TIME and not any_whole:
            raise RunFailed(
                f"{job}: no member had finished. {end_of_log(jobs)}. Try: a longer JOB_WALLCLOCK_TIME "
                f"(./xmlchange --subgroup case.run in {self.case})"
            )
        if end is End.OUT_OF_MEMORY:
            raise RunFailed(f"{job}. Try: fewer instances a node (MAX_TASKS_PER_NODE in {self.case})")
        started = any(entry.phase == casestatus.MODEL for entry in entries)
        if not all_decided and not started and end is not End.MACHINE_FAILED:
            reason = casestatus.error(entries) or f"{self.case}/{casestatus.FILE} gives no reason"
            raise RunFailed(f"{job or 'the job'} ended before the model started: {reason}")
