"""A case whose jobs a scheduler runs: its queue, and its tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from fatescal.base.errors import BadInput, RunFailed
from fatescal.hpc.launch import visible
from fatescal.hpc.schedulers.base import Scheduler
from fatescal.hpc.schedulers.registry import command_variables, scheduler
from fatescal.models.clm_fates import casestatus, inputdata
from fatescal.models.clm_fates.cime import Case, CimeError

T = TypeVar("T")
SILENCE = 60.0  # s that the scheduler may be silent before anything is submitted


class BatchCase:
    """A case and what it says of itself.

    Parameters
    ----------
    case : Path
        The CIME case.
    environment : mapping
        Of its tools.
    stop : callable
        Whether this program has to end.
    """

    def __init__(self, case: Path, environment: Mapping[str, str], stop: Callable[[], bool]) -> None:
        self.case, self._environment, self._stop = case, environment, stop

    @cached_property
    def run_directory(self) -> Path:
        """Where the case runs."""
        return Path(self.ask("RUNDIR"))

    @cached_property
    def case_name(self) -> str:
        """The prefix of the case's output."""
        return self.ask("CASE")

    @cached_property
    def batch_system(self) -> str:
        """Of the case: the scheduler, or `none` where case.submit runs it."""
        return self.ask("BATCH_SYSTEM")

    def missing_on_list(self) -> list[inputdata.Missing]:
        """Return what is missing on CIME's list of input data, all of which case.submit wants."""
        return self.of_case(inputdata.cime_list) if (self.case / "Buildconf").is_dir() else []

    @property
    def queued(self) -> bool:
        """Whether case.submit puts a job into a queue; without a scheduler it runs the case itself."""
        return self.batch_system != "none"

    @cached_property
    def queue(self) -> Scheduler:
        """The scheduler that runs its jobs."""
        return scheduler(self.batch_system)(self._environment, self._stop)

    def ask(self, variable: str, *options: str) -> str:
        """Return the value of a variable of the case."""
        return self.cime("xmlquery", "--value", variable, *options).strip()

    def cime(self, tool: str, *arguments: str) -> str:
        """Run a tool of the case; return what it says."""
        return self.of_case(lambda case: case(tool, *arguments))

    def of_case(self, ask: Callable[[Case], T]) -> T:
        """Return what the case answers; what it refuses ends the run."""
        try:
            return ask(Case(self.case, self._environment))
        except CimeError as error:
            raise RunFailed(f"{self.case}: {error}") from None


def in_queue(case: Path, name: str, queue: Scheduler) -> list[str]:
    """Return the numbers of a case's jobs that wait or run; a case of the same name has another folder."""
    return queue.patiently(lambda: queue.in_folder(f"run.{name}", case), SILENCE)


def require_idle(case: Path, name: str, queue: Scheduler) -> None:
    """Raise `BadInput` when a job of a case waits or runs."""
    others = in_queue(case, name, queue)
    if others:
        raise BadInput(
            f"the case {case} has job {', '.join(others)} in the queue, which would use the same files",
            hint=f"wait for it, or scancel {' '.join(others)}; each run needs a case of its own",
        )


def require_idle_case(path: Path) -> None:
    """Raise `BadInput` when a job of a case waits or runs; one that never submitted has none."""
    case = Case(path)
    if casestatus.submitted(casestatus.since(path, 0)) is not None:
        queue = scheduler(case.query("BATCH_SYSTEM"))(visible() | command_variables())
        require_idle(path, case.query("CASE"), queue)
