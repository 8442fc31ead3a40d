"""CLM-FATES as one multi-instance CIME case: a job in the queue runs a whole ensemble, under one mpiexec.

The way of Keetz et al. (2025). One dying instance takes all others with it, so members as processes of their
own are the better way wherever the executable may be started so.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fatescal.base.errors import BadInput, ModelFailed, RunFailed, Status
from fatescal.hpc.launch import HIDDEN_PREFIXES, never
from fatescal.hpc.schedulers.registry import scheduler
from fatescal.models.base import Model
from fatescal.models.clm_fates import inputdata
from fatescal.models.clm_fates.clm_model import ClmFates
from fatescal.models.clm_fates.jobs import Jobs
from fatescal.models.clm_fates.submission import JOBS, NOTE, RESULT, RunSegment, decided, noted
from fatescal.models.clm_fates.template import CASE_NAME, day_before
from fatescal.storage.inputs import Sources

if TYPE_CHECKING:
    import xarray as xr


class MultiInstance(Model):
    """CLM-FATES, an ensemble a job.

    Parameters
    ----------
    single : ClmFates
        The model as members would run it alone.
    case : Path
        The CIME case, set up and built with an MPI library, whose instances are fatescal's to change.
    retries : int
        How often a job is submitted again that failed without a member to blame.
    hide, stop
        As in `process.launch`.
    """

    runs_together = True
    numbers_pfts = ClmFates.numbers_pfts
    calendar = ClmFates.calendar
    period: tuple[date, date] = ClmFates.period

    def __init__(
        self,
        single: ClmFates,
        case: Path,
        *,
        retries: int = 1,
        hide: Sequence[str] = HIDDEN_PREFIXES,
        stop: Callable[[], bool] = never,
    ) -> None:
        self.single, self.case, self.period = single, case, single.period
        self.jobs = Jobs(single, case, self._mark, retries, hide, stop)

    @property
    def defaults(self) -> Mapping[str, float]:
        """The value of every parameter in the files."""
        return self.single.defaults

    @property
    def units(self) -> Mapping[str, str]:
        """The unit of every parameter that has one in the files."""
        return self.single.units

    @property
    def pfts(self) -> tuple[str, ...]:
        """The plant functional types in the order of the FATES parameter file."""
        return self.single.pfts

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """All that decides a member's output beside its parameters."""
        executable = str(self.single.template.executable)  # linked for each job
        return {**self.single.identity, "execution": "multi-instance", "executable": executable}

    def files(self) -> Sources:
        """Return the files that decide a run, but for the executable: each job may link it anew."""
        return {key: several for key, several in self.single.files().items() if key != "model.executable"}

    def check(self) -> None:
        """Raise `BadInput` for whatever would make every run fail, or be wrong without a message."""
        template = self.single.template
        where = f"./check_input_data --download in {self.case}, or put them there, or correct the paths"
        inputdata.require_all(template.lnd_in, template.streams, where)
        self.single.check_inputs()
        library = self.jobs.ask("MPILIB")
        if library == "mpi-serial":
            raise BadInput(
                f"model.execution: {self.case} is built with mpi-serial, which runs one instance",
                expected="an MPI library of the machine (create_newcase --mpilib)",
                hint="execution: processes, which needs mpi-serial",
            )
        scheduler(self.jobs.batch_system)
        if not (self.case / "user_nl_clm").is_file():
            raise BadInput(
                f"model.case: {self.case} has no user_nl_clm", hint="./case.setup with NINST=1 writes it"
            )

    def check_values(self, theta: Mapping[str, float]) -> None:
        """Raise `BadInput` for values the model must not get."""
        self.single.check_values(theta)

    def describe(self, n_runs: int, n_warm_starts: int, n_waves: int) -> list[str]:
        """Return what `check` looked at, and the cost of the members in `n_waves` jobs."""
        wait = "JOB_WALLCLOCK_TIME"
        limit = (
            f", each with {wait} {self.jobs.ask(wait, '--subgroup', 'case.run')}" if self.jobs.queued else ""
        )
        lines = self.single.describe(n_runs, n_warm_starts, n_waves)
        lines.append(f"queue         {n_waves} jobs of {self.case}{limit}")
        absent = self.jobs.missing_on_list()
        if absent:
            names = ", ".join(map(str, absent))
            lines.append(f"input data    case.submit will fetch these, or fail: {names}")
        return lines

    def disk_estimate(self, n_runs: int, n_warm_starts: int) -> float:
        """Return how many bytes members leave."""
        return self.single.disk_estimate(n_runs, n_warm_starts)

    def read(self, folder: Path) -> xr.Dataset:
        """Return the daily output of a finished run; times are decoded, with their bounds."""
        return self.single.read(folder)

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        """Refuse: members run together, as jobs of the case."""
        raise NotImplementedError

    def collect(self, name: str, theta: Mapping[str, float], stage: Path, folder: Path) -> float:
        """Bring what a job left of a member into its folder; return the seconds the job ran.

        Raises
        ------
        ModelFailed
            With what became of it.
        RunFailed
            When what the job left is gone.
        """
        here = stage / JOBS / name
        result = noted(here / RESULT)
        if result is None or result["mark"] != self._mark(theta):
            raise RunFailed(f"{here} is gone, with what a job left for it. Try: remove {stage}, start again")
        shutil.copytree(here, folder, copy_function=_link, dirs_exist_ok=True)
        if result["status"] != Status.OK:
            raise ModelFailed(Status(result["status"]), result["reason"])
        return float(result["seconds"])

    def run_together(
        self, batch: Mapping[str, Mapping[str, float]], folder: Path, default: Mapping[str, float]
    ) -> None:
        """Run members in jobs of the case, until each has its output or a reason why it has none.

        A job that this program submitted before its death is found again and waited for. Where all members
        start from one spin-up, a job of its own makes that before the first.

        Raises
        ------
        RunFailed
            When a job was cancelled, was too short, or failed without a member to blame more often than
            `retries`.
        OutOfTime
            When this program must end; the job goes on.
        """
        single = self.single
        for name, theta in batch.items():
            self._require_own(folder / JOBS / name, theta, folder)
        if not single.shares_spin_up:
            segment = RunSegment(single.first, single.end)
        else:
            segment = RunSegment(single.start, single.end, finidat=self._spun_up(default))
        self.jobs.run(batch, folder, segment)

    def _spun_up(self, default: Mapping[str, float]) -> Path:
        """Return the state in which the spin-up with `default` parameters, made once, ended."""
        single, name = self.single, "0000"
        jobs = single.spun_up / JOBS
        state = jobs / name / f"{CASE_NAME}.clm2.r.{single.start}-00000.nc"
        self._require_own(jobs / name, default, single.spun_up.parent)
        if not (decided(jobs / name, self._mark(default)) and state.is_file()):
            if single.spun_up.exists() and not (jobs / NOTE).is_file():
                shutil.rmtree(single.spun_up)  # it failed
            self.jobs.run(
                {name: default},
                single.spun_up,
                RunSegment(single.first, day_before(single.start), restart=True),
            )
            result = noted(jobs / name / RESULT) or {}
            if result.get("status") != Status.OK or not state.is_file():
                raise RunFailed(
                    "the spin-up failed, and so would every member: "
                    f"{result.get('reason') or f'{state} is not there'}"
                )
        return state

    def _require_own(self, left: Path, theta: Mapping[str, float], stage: Path) -> None:
        """Refuse to run again what a job has left of a success of other parameters, or another model."""
        result = noted(left / RESULT)
        if result is not None and result["status"] == Status.OK and result["mark"] != self._mark(theta):
            raise BadInput(
                f"{left} was run with other parameters or by another model than those of today",
                hint="put back what has changed; or another run.directory; or, to run it again: "
                f"fatescal reset {stage.parents[1]} --from {stage.name}",
            )

    def _mark(self, theta: Mapping[str, float]) -> str:
        """Return what tells members with other parameters, or of another model, apart."""
        text = json.dumps([dict(theta), dict(self.identity)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def _link(source: str, target: str) -> None:
    """Give a file a second name, or where the file system has no such names copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
