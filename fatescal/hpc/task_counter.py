"""The numbers of shared tasks, handed out to whichever rank is free."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

if TYPE_CHECKING:
    from fatescal.hpc.communicator import Communicator

log = logging.getLogger(__name__)


class TaskCounter:
    """Hands out item numbers: the first `size` by rank, the rest first come, first served.

    The rest comes from a counter in root's memory, read and raised by one-sided Fetch_and_op (0.1 to
    5 ms). Rejected: mpi4py.futures, whose rank 0 only manages, so 128 members on 128 ranks would need two
    waves. With no more items than ranks no message is sent at all.

    Open MPI 4 has no one-sided communication over plain TCP (two nodes without InfiniBand) for a program with
    threads. There root's watchdog serves the counter (a thread, so root works too); where not all ranks are
    connected to it, all items are dealt out by rank: slower where members differ, but never stuck.
    """

    def __init__(self, comm: Communicator, n_items: int) -> None:
        self.comm, self.n_items = comm, n_items
        self.window: MPI.Win | None = None
        comm.batches += 1
        self.number = comm.batches  # the same on all ranks

    def __enter__(self) -> TaskCounter:
        if self.n_items > self.comm.size > 1:
            self.comm.barrier()
            self.window = self._allocate()
            if self.window is not None and self.comm.is_root:
                self.window.Lock(0)
                np.frombuffer(self.window.tomemory(), np.int64)[0] = self.comm.size  # type: ignore[call-overload]
                self.window.Unlock(0)
            self.comm.barrier()
        return self

    def _allocate(self) -> MPI.Win | None:
        if not self.comm.one_sided:
            return None
        try:
            return MPI.Win.Allocate(8 if self.comm.is_root else 0, 8, comm=self.comm.mpi)
        except MPI.Exception as error:  # on all ranks alike
            self.comm.one_sided = False
            if self.comm.is_root:
                way = "served by the root rank" if self.comm.served else "dealt out by rank"
                log.warning("this MPI has no one-sided communication (%s): members are %s", error, way)
            return None

    def __exit__(self, *_: object) -> None:
        if self.window is not None:
            self.comm.barrier()
            self.window.Free()

    def __iter__(self) -> Iterator[int]:
        index = self.comm.rank
        while index < self.n_items:
            yield index
            index = index + self.comm.size if self._by_rank else self._raise_by(1)

    @property
    def _by_rank(self) -> bool:
        comm = self.comm
        return comm.size == 1 or not (comm.one_sided or comm.served)

    def _raise_by(self, step: int) -> int:
        if self.n_items <= self.comm.size:
            return self.n_items
        if self.window is None:
            return self.comm.watchdog.take(self.number, self.comm.size, step)
        before, by = np.empty(1, np.int64), np.full(1, step, np.int64)
        self.window.Lock(0, MPI.LOCK_SHARED)
        self.window.Fetch_and_op([by, MPI.INT64_T], [before, MPI.INT64_T], 0)
        self.window.Unlock(0)
        return int(before[0])

    def exhaust(self) -> None:
        """Leave nothing for anyone to start."""
        if not self._by_rank:
            self._raise_by(self.n_items)
