"""Members as jobs of their own: submitted, waited for, found again, and submitted once more when lost.

For a machine that grants no large allocation, or a model that is an MPI program over nodes. A job calls
`fatescal members NOTE`, which makes the same runs by the same code, in the same folders, as a rank would
(`fatescal.ensemble.job_tasks`); this program then finds them finished.

What must outlive this program is in `RUN/members/STAGE/jobs`: a note for each job under way (`001.json`: the
job's identifier, and the runs it is to make), and what came of them (`001.result.json`), the job's last act.
The note is written before the job is submitted; a job that is not the one its note names ends at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fatescal.base.errors import BadInput, OutOfTime, RunFailed, Status
from fatescal.config.machine import MemberJobsSection
from fatescal.ensemble.job_notes import JobTask, Outcome, Pack, read_note
from fatescal.hpc.launch import last_lines, visible
from fatescal.hpc.schedulers.base import End, Job, Scheduler, SchedulerSilent
from fatescal.hpc.schedulers.registry import command_variables, scheduler, submitting
from fatescal.storage import atomic

log = logging.getLogger(__name__)
JOBS = "jobs"  # the folder of the jobs in that of a stage
LATE = 20.0  # s that a result may take to be seen on this node after its job has ended
APPEARS = 60.0  # s from its submission until the queue shows a job
LOOK = (1.0, 30.0)  # s between two questions about a job, at first and at last
POLL = 0.3  # s between two looks for results
OF_THE_MEMBER = {End.OUT_OF_TIME: Status.TIME_OUT, End.OUT_OF_MEMORY: Status.MODEL_ERROR}
"""Ends that the member alone in its job is to blame for."""


class MemberJobs:
    """The jobs that make the runs of a calibration.

    Parameters
    ----------
    options : MemberJobsSection
        Section `jobs` of the machine file.
    source : mapping
        From what a job makes the same models; it can be written as JSON.
    retries : int
        How often a run whose job was lost is submitted again.
    hide : sequence of str
        Prefixes of environment variables that do not reach the jobs.
    stop : callable
        Whether this program has to end.
    """

    def __init__(
        self,
        options: MemberJobsSection,
        source: Mapping[str, object],
        retries: int,
        hide: Sequence[str],
        stop: Callable[[], bool],
    ) -> None:
        self._options, self._source, self._retries, self._stop = options, dict(source), retries, stop
        self._environment = visible(hide) | command_variables()
        self._queue: Scheduler | None = None

    @property
    def queue(self) -> Scheduler:
        """The scheduler, asked for when the first job is submitted."""
        if self._queue is None:
            kind = self._options.scheduler or submitting()
            self._queue = scheduler(kind)(self._environment, self._stop)
        return self._queue

    def carry_out(
        self,
        stage: Path,
        tasks: Sequence[JobTask],
        inputs: Mapping[str, Mapping[str, str]],
        give_up: Callable[[JobTask, Status, str], None],
    ) -> dict[JobTask, Outcome]:
        """Return how runs ended that jobs made, once all have.

        Parameters
        ----------
        stage : Path
            The folder of their stage.
        tasks : sequence of JobTask
            The runs that are not finished.
        inputs : mapping
            Digests of the files that the models read, by site.
        give_up : callable
            Called for a member that costs each of its jobs its wall time or memory.

        Raises
        ------
        OutOfTime
            When this program has to end; the jobs go on, and the next start finds them.
        RunFailed
            When jobs are lost again and again, or one cannot work; the others are cancelled.
        """
        folder = stage / JOBS
        folder.mkdir(parents=True, exist_ok=True)
        batch = _Batch(self, folder, inputs, list(tasks), give_up)
        try:
            batch.resume()
            batch.run()
        except OutOfTime:
            raise
        except Exception:
            for pack in batch.under_way:
                self._cancel(pack)
            raise
        return batch.outcomes

    def submit(self, pack: Pack, inputs: Mapping[str, Mapping[str, str]]) -> None:
        """Write the note and the script of a job, and put it into the queue."""
        content = {
            "name": pack.name,
            "number": None,
            "source": self._source,
            "inputs": inputs,
            "tasks": list(map(asdict, pack.tasks)),
        }
        atomic.write_json(pack.note, content, indent=1)
        command = shlex.join([*self._options.start, sys.executable, "-m", "fatescal", "members"])
        script = pack.note.with_suffix(".sh")
        script.write_text(
            f"#!/bin/sh\n# written by fatescal, for {len(pack.tasks)} runs\n"
            f"cd {shlex.quote(os.getcwd())} || exit 2\n"
            f"exec {command} {shlex.quote(str(pack.note))}\n"
        )
        script.chmod(0o755)
        try:
            pack.number = self._put(pack, script)
        except BadInput:
            pack.note.unlink()  # it was refused: the next start need not look for it
            raise
        atomic.write_json(pack.note, content | {"number": pack.number}, indent=1)

    def _put(self, pack: Pack, script: Path) -> str:
        """Put a job into the queue; where the answer does not come, look for it there before another try."""
        asked = False

        def put() -> str:
            nonlocal asked
            number = self.appeared(pack) if asked else None
            asked = True
            return number or self.queue.submit(script, pack.name, pack.log, self._options.options)

        return self.queue.patiently(put)

    def appeared(self, pack: Pack) -> str | None:
        """Return the number of a job that was submitted but not noted; None where there is no such job.

        The queue is asked for the name in the note, until the note is `APPEARS` seconds old: a submission may
        outlive the program that made it, and some servers show a job late.
        """
        while True:
            found = self.queue.patiently(lambda: self.queue.named(pack.name))
            number = next(iter(found), None) or read_note(pack.note).number  # by the job itself
            age = time.time() - pack.note.stat().st_mtime
            if number is not None or pack.result.exists() or not -APPEARS < age < APPEARS:
                return number
            self.queue.sleep(min(2.0, APPEARS), f"job {pack.name} may have been submitted")

    def at_once(self) -> tuple[int, int]:
        """Return how many jobs may be under way, and how many runs each has."""
        return self._options.at_once, self._options.members

    @property
    def most(self) -> int:
        """How often a run may be lost."""
        return self._retries

    def pause(self) -> None:
        """Wait a little, or raise `OutOfTime`."""
        self.queue.sleep(POLL, "the jobs of members go on")

    def _cancel(self, pack: Pack) -> None:
        if pack.number is not None and not pack.result.exists():
            log.warning("%s is cancelled", pack)
            self.queue.cancel(pack.number)
        pack.note.unlink(missing_ok=True)


@dataclass
class _Batch:
    """The jobs of one batch of runs: what waits, what is under way, what came of the others."""

    jobs: MemberJobs
    folder: Path
    inputs: Mapping[str, Mapping[str, str]]
    waiting: list[JobTask]
    give_up: Callable[[JobTask, Status, str], None]
    under_way: list[Pack] = field(default_factory=list)
    outcomes: dict[JobTask, Outcome] = field(default_factory=dict)
    lost: Counter[JobTask] = field(default_factory=Counter)

    def resume(self) -> None:
        """Find the jobs again that an earlier start has submitted."""
        wanted = {task.place: task for task in self.waiting}
        for note in sorted(self.folder.glob("[0-9]*.json")):
            if note.name.endswith(".result.json"):
                continue
            pack = read_note(note)
            if pack.number is None:  # the start ended while it submitted, or before
                pack.number = self.jobs.appeared(pack)
            if pack.number is None and not pack.result.exists():
                note.unlink()
                continue
            self._require_same(pack, wanted)
            pack.tasks = [task for task in pack.tasks if task.place in wanted]
            self.waiting = [task for task in self.waiting if task not in pack.tasks]
            self.under_way.append(pack)
        if self.under_way:
            numbers = ", ".join(str(pack.number) for pack in self.under_way[:5])
            more = f" and {len(self.under_way) - 5} more" if len(self.under_way) > 5 else ""
            log.info("%s: job %s%s submitted before: not submitted again", self._stage, numbers, more)

    @property
    def _stage(self) -> str:
        return self.folder.parent.name

    def _require_same(self, pack: Pack, wanted: Mapping[tuple[str, str, str], JobTask]) -> None:
        """Refuse a job under way that makes runs of this batch with other parameters, or another model."""
        if any(wanted.get(task.place, task) != task for task in pack.tasks):
            raise RunFailed(
                f"{pack} of an earlier config makes the runs of {self._stage} with other parameters or by "
                f"another model. Try: put the config back; or end that job, and rm {pack.note}"
            )

    def run(self) -> None:
        """Submit what waits, and settle the jobs that end, until nothing is left."""
        at_once, n_members = self.jobs.at_once()
        while self.waiting or self.under_way:
            while self.waiting and len(self.under_way) < at_once:
                alone = self.lost[self.waiting[0]] > 0  # then it is clear which run costs its job
                n = 1 if alone else n_members
                self._submit(self.waiting[:n])
                del self.waiting[:n]
            for pack in list(self.under_way):
                if pack.result.exists():
                    self.under_way.remove(pack)
                    self._settle(pack)
                elif self._has_ended(pack):
                    self.under_way.remove(pack)
                    self._submit_again(pack)
            if self.under_way:
                self.jobs.pause()

    def _submit(self, tasks: Sequence[JobTask]) -> None:
        numbers = [int(path.name.split(".")[0]) for path in self.folder.glob("[0-9]*.sh")]
        number = max(numbers, default=0) + 1
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]
        pack = Pack(self.folder / f"{number:04d}.json", f"fc{digest}-{number}", list(tasks))
        self.jobs.submit(pack, self.inputs)
        log.info("%s: %s was submitted", self._stage, pack)
        self.under_way.append(pack)

    def _has_ended(self, pack: Pack) -> bool:
        """Tell whether a job has ended without a result, as the scheduler is asked from time to time."""
        now = time.monotonic()
        if pack.gone_since is not None:
            return now - pack.gone_since > LATE
        if now < pack.next_look or pack.number is None:
            return False
        pack.next_look = now + min(max((now - pack.begin) / 20, LOOK[0]), LOOK[1])
        try:
            pack.job = self.jobs.queue.look(pack.number)
        except SchedulerSilent as silence:
            log.debug("%s: %s", pack, silence)
            return False
        if pack.job is None or not pack.job.under_way:
            pack.gone_since = now
        return False

    def _settle(self, pack: Pack) -> None:
        """Take what a job says of its runs."""
        result: dict[str, Any] = json.loads(pack.result.read_text())
        if result["error"]:
            raise RunFailed(f"{pack}: {result['error']}")
        of_place = {tuple(place): Outcome(*outcome) for place, outcome in result["outcomes"]}
        left = [task for task in pack.tasks if task.place not in of_place]  # its time was over
        self.outcomes |= {task: of_place[task.place] for task in pack.tasks if task.place in of_place}
        self._clean(pack)
        if len(left) == len(pack.tasks):
            self._lost(left, Job(str(pack.number), "OUT OF TIME", end=End.OUT_OF_TIME), pack)
        self.waiting += [task for task in left if task not in self.outcomes]

    def _submit_again(self, pack: Pack) -> None:
        """Let the runs of a lost job wait again, as long as they may."""
        said = pack.job or Job(str(pack.number), "is not known any more", end=End.UNKNOWN)
        log.warning("%s: %s without a result", self._stage, said)
        self._clean(pack)
        self._lost(pack.tasks, said, pack)
        self.waiting += [task for task in pack.tasks if task not in self.outcomes]

    def _lost(self, tasks: Sequence[JobTask], job: Job, pack: Pack) -> None:
        """Count a loss; give up the member whose jobs are lost by its own fault, or end the run."""
        for task in tasks:
            self.lost[task] += 1
            if self.lost[task] <= self.jobs.most:
                continue
            status = OF_THE_MEMBER.get(job.end or End.UNKNOWN)
            if status is None or task.kind != "member" or len(pack.tasks) > 1:
                raise RunFailed(
                    f"{self._stage}: {job} ended without a result, the {self.lost[task]}. job of "
                    f"{task.name} that did. Try: jobs.options (time, memory, account). {last_lines(pack.log)}"
                )
            self.give_up(task, status, f"{job}: {job.end.value if job.end else ''}")
            self.outcomes[task] = Outcome()

    @staticmethod
    def _clean(pack: Pack) -> None:
        """Remove note and result of a job that is settled; script and log stay."""
        pack.note.unlink(missing_ok=True)
        pack.result.unlink(missing_ok=True)
