"""The ranks: the only owner of the MPI communicator.

All ranks run the same program. Root computes what is computed once (`on_root`), all ranks, root too,
share lists of tasks (`parallel_for`, and `map` from inside `on_root`). Waiting ranks sleep between polls,
since members (other processes) need the cores; a plain blocking collective would spin.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mpi4py import MPI

from fatescal.base import stop_signal
from fatescal.base.errors import KEPT, FatescalError, OutOfTime, error_message
from fatescal.hpc.task_counter import TaskCounter
from fatescal.hpc.watchdog import LIMIT, Watchdog

log = logging.getLogger(__name__)
T = TypeVar("T")
POLL_SECONDS = (0.0005, 0.02)  # first and longest sleep of a waiting rank
ERROR_WAIT = 30.0  # s an error waits for the other ranks, who may be running members, before it ends the job


@dataclass
class Communicator:
    """Ranks of one communicator.

    Parameters
    ----------
    deadline : float, optional
        `time.monotonic()` after which no further task is started.
    """

    mpi: MPI.Intracomm = field(default_factory=lambda: MPI.COMM_WORLD)
    deadline: float | None = None
    watchdog: Watchdog = field(init=False)
    one_sided: bool = field(default=True, init=False)  # until this MPI shows that it cannot
    served: bool = field(default=False, init=False)  # whether all ranks are connected to root's watchdog
    batches: int = field(default=0, init=False)
    _serving: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(self.rank, self._end)

    @property
    def rank(self) -> int:
        return self.mpi.Get_rank()

    @property
    def size(self) -> int:
        return self.mpi.Get_size()

    @property
    def is_root(self) -> bool:
        return self.rank == 0

    @property
    def thread_level(self) -> str:
        """How many threads may call this MPI: `single`, `funneled`, `serialized` or `multiple`."""
        levels = ("single", "funneled", "serialized", "multiple")
        return {getattr(MPI, f"THREAD_{level.upper()}"): level for level in levels}[MPI.Query_thread()]

    @property
    def library(self) -> str:
        """Name and version of the MPI."""
        return MPI.Get_library_version().split(",")[0].strip("\0\n ")

    @property
    def task_distribution(self) -> str:
        """How `parallel_for` hands out what is left when every rank has had a task."""
        if self.one_sided:
            return "to whoever is free (one-sided communication)"
        return "to whoever is free (served by the root rank)" if self.served else "by rank"

    def alone(self) -> Communicator:
        """Return a communicator of this rank only."""
        return Communicator(MPI.COMM_SELF)

    def watch(self, limit: float = LIMIT) -> None:
        """Have dead ranks noticed from now on, and those that show no sign of life for `limit` seconds."""
        if self.size == 1:
            return
        self.watchdog.limit = limit
        address = self.mpi.bcast(self.watchdog.open() if self.is_root else None)
        failed = self.gather(None if self.is_root else self.watchdog.join(address))
        for rank, error in enumerate(failed or []):
            if error is not None:
                log.warning("rank %d cannot be watched: no connection to %s: %s", rank, address.host, error)
        self.served = self.mpi.bcast(not any(failed or []))
        self.watchdog.n_others = self.size - 1

    def close(self) -> None:
        """End as it should: together with all other ranks, where all are watched."""
        if self.served:
            self.watchdog.leave()
        else:
            self.watchdog.close()

    def stopping(self) -> bool:
        """Whether this rank must not start anything more."""
        return stop_signal.received() or self.time_left() < 0

    def time_left(self) -> float:
        """Return the seconds until the deadline, infinity without one."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def barrier(self) -> None:
        """Wait, asleep, until all ranks have come here."""
        if self.size == 1:
            return
        request = self.mpi.Ibarrier()
        pause, longest = POLL_SECONDS
        while not request.Test():
            time.sleep(pause)
            pause = min(longest, 1.5 * pause)

    def allgather(self, value: T) -> list[T]:
        """Return every rank's `value`, by rank, on all ranks."""
        if self.size == 1:
            return [value]  # MPI would copy it twice
        self.barrier()
        return self.mpi.allgather(value)

    def gather(self, value: T) -> list[T] | None:
        """Return every rank's `value`, by rank, on root; None elsewhere."""
        if self.size == 1:
            return [value]
        self.barrier()
        return self.mpi.gather(value)

    def agree(self, error: BaseException | None = None) -> None:
        """Raise on all ranks the first error any rank brings; otherwise return on all."""
        text = "".join(traceback.format_exception(error)) if error else ""
        for rank, (other, trace) in enumerate(self.allgather((_portable(error), text))):
            if other is None:
                continue
            if not isinstance(other, (FatescalError, KeyboardInterrupt)):
                other.add_note(f"on rank {rank}:\n{trace}")
            raise _agreed(other)

    def on_root(self, compute: Callable[[], T]) -> T:
        """Return, on all ranks, what `compute` returns on root; the others serve root's `map` meanwhile."""
        if self.size == 1:
            return compute()
        if not self.is_root:
            return self._serve()
        self._serving = True
        try:
            message: tuple[str, Any, Any] = ("result", compute(), None)
        except (Exception, KeyboardInterrupt) as error:
            error.add_note("".join(traceback.format_exception(error)))
            message = ("error", _portable(error), None)
        finally:
            self._serving = False
        return self._result(self._broadcast(message))

    def map(self, task: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Return [task(item) ...], computed by all ranks; called by root inside `on_root`.

        `task` and the items are sent to the other ranks, so they must be picklable.
        """
        items = list(items)
        if self.size == 1:
            return [task(item) for item in items]
        if not self._serving:
            raise RuntimeError("Communicator.map is for use inside on_root; use parallel_for")
        self._serving = False  # a task runs on this rank alone
        try:
            self._broadcast(("map", task, items))
            gathered = self._run_map(task, items)
        finally:
            self._serving = True
        assert gathered is not None
        results = {index: value for part in gathered for index, value in part.items()}
        return [results[index] for index in range(len(items))]

    def parallel_for(self, task: Callable[[int], T], n_items: int) -> dict[int, T]:
        """Run task(0) ... task(n_items - 1) on all ranks; return those this rank ran, by index.

        Item i starts on rank i; what is left over goes to whoever is free first, so the makespan is that
        of greedy list scheduling. An error or interrupt on any rank stops all, as `OutOfTime` does.
        """
        mine: dict[int, T] = {}
        failure: BaseException | None = None
        with TaskCounter(self, n_items) as counter:
            for index in counter:
                if self.stopping():
                    failure = OutOfTime("the time is over.")
                    counter.exhaust()
                    break
                try:
                    mine[index] = task(index)
                except (Exception, KeyboardInterrupt) as error:  # either way the others wait in `agree`
                    failure = error
                    counter.exhaust()
                    break
            with self._bounded_wait(failure):
                self.agree(failure)
        return mine

    def parallel_for_parts(
        self, task: Callable[[int, int], T], n_items: int, n_parts: int
    ) -> dict[int, list[T]]:
        """Run task(i, k) for every part k of every item i on all ranks; return whole items by index.

        A task is a part, so that items times parts keep ranks busy. Parts that other ranks ran come to the
        rank that is to have the item, i modulo size, once all are done; an item of one part stays where it
        ran.
        """
        mine = self.parallel_for(lambda index: task(*divmod(index, n_parts)), n_items * n_parts)
        if n_parts > 1 and self.size > 1:
            parcels: list[dict[int, T]] = [{} for _ in range(self.size)]
            for index, part in mine.items():
                parcels[index // n_parts % self.size][index] = part
            self.barrier()
            mine = {index: part for parcel in self.mpi.alltoall(parcels) for index, part in parcel.items()}
        items = dict.fromkeys(index // n_parts for index in mine)
        return {item: [mine[item * n_parts + k] for k in range(n_parts)] for item in items}

    def _bounded_wait(self, failure: BaseException | None) -> contextlib.AbstractContextManager[None]:
        """Bound how long an error waits until all ranks share it; out of time, they end by themselves."""
        if failure is None or isinstance(failure, OutOfTime):
            return contextlib.nullcontext()
        return self.watchdog.within(ERROR_WAIT, f"fatescal: rank {self.rank}: {error_message(failure)}")

    def parallel_map(self, task: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Return [task(item) ...] on all ranks; all call it with the same arguments and share the work."""
        items = list(items)
        parts = self.allgather(self.parallel_for(lambda index: task(items[index]), len(items)))
        results = {index: value for part in parts for index, value in part.items()}
        return [results[index] for index in range(len(items))]

    def abort(self, message: str) -> None:
        """End the whole job at once, saying why; for errors that leave ranks inside a collective."""
        self.watchdog.fail(f"fatescal: rank {self.rank}: {message}")

    def _end(self, code: int = 1) -> None:
        if self.size > 1:
            self.mpi.Abort(code)
        os._exit(code)

    @contextlib.contextmanager
    def all_or_abort(self, doing: str) -> Iterator[None]:
        """Abort the job if the body raises or hangs: for bodies of collective calls nobody can leave
        alone.
        """
        limit = self.watchdog.limit
        stuck = f"fatescal: rank {self.rank}: {doing} is not done after {limit:g} s (--heartbeat). {KEPT}"
        try:
            with self.watchdog.within(limit, stuck):
                yield
        except Exception as error:
            if self.size == 1:
                raise
            self.abort(f"{doing} failed: {error_message(error)}")

    def file_options(self) -> dict[str, Any]:
        """Return the h5py options that open one file on all ranks."""
        return {"driver": "mpio", "comm": self.mpi}

    def _broadcast(self, message: tuple[str, Any, Any]) -> tuple[str, Any, Any]:
        self.barrier()
        return self.mpi.bcast(message)

    def _result(self, message: tuple[str, Any, Any]) -> Any:
        kind, content, _ = message
        if kind == "error":
            raise _agreed(content)
        return content

    def _serve(self) -> Any:
        while True:
            message = self._broadcast(("", None, None))
            if message[0] != "map":
                return self._result(message)
            try:
                self._run_map(message[1], message[2])
            except (Exception, KeyboardInterrupt) as error:  # root has it too, and sends the outcome
                if not getattr(error, "agreed", False):
                    raise

    def _run_map(self, task: Callable[[Any], T], items: list[Any]) -> list[dict[int, T]] | None:
        return self.gather(self.parallel_for(lambda index: task(items[index]), len(items)))


def _agreed(error: BaseException) -> BaseException:
    """Mark an error that all ranks raise at the same place, so that none has to be aborted."""
    error.agreed = True  # type: ignore[attr-defined]
    return error


def _portable(error: BaseException | None) -> BaseException | None:
    """Return the error, or its text as a RuntimeError where it does not survive pickling."""
    if error is None:
        return None
    try:
        MPI.pickle.loads(MPI.pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
