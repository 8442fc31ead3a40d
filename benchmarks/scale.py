"""What the size of a job costs: `mpirun -n N python benchmarks/scale.py [--members 1000] [--predictions
100000]`.

Prints, of a batch of members that cost nothing but their row of predictions: how far above its start the
memory of rank 0 rises while the batch is evaluated, checkpointed and read again, in units of the prediction
matrix (members x predictions x 8 bytes); how long the checkpoint takes; the memory of every rank after
start-up; and the share of a core the ranks use that wait for a member elsewhere.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import fatescal.storage.store
from fatescal.base.types import Array
from fatescal.hpc.communicator import Communicator
from fatescal.storage.records import Evaluation
from fatescal.storage.store import Store

WAIT = 5.0  # s the first member takes, for which all other ranks wait


def resident() -> float:
    """Return the memory of this process now [MB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak() -> float:
    """Return the most memory this process has had [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure, and print on root."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--root-writes", action="store_true", help="as without parallel HDF5")
    args = parser.parse_args()
    if args.root_writes:
        fatescal.storage.store.PARALLEL = False
    comm = Communicator()
    comm.watch()
    start = comm.gather(resident())
    used, begin = time.process_time(), time.monotonic()
    comm.parallel_for(lambda i: time.sleep(WAIT), 1)
    idle = comm.gather((time.process_time() - used) / (time.monotonic() - begin))
    below = resident()

    def row(j: int) -> dict[str, Array]:
        return {
            "u": np.full(20, float(j)),
            "theta": np.full(20, float(j)),
            "predictions": np.random.default_rng(j).standard_normal(args.predictions),
            "status": np.asarray(0),
            "seconds": np.asarray(0.0),
        }

    with tempfile.TemporaryDirectory() as folder:
        where = Path(comm.on_root(lambda: folder))
        begin = time.monotonic()
        store = Store(where / "stages", comm)
        store.once_rows(
            "evaluation-00", Evaluation, args.members, lambda: comm.parallel_for(row, args.members)
        )
        seconds = time.monotonic() - begin
        comm.barrier()
    matrix = args.members * args.predictions * 8 / 2**20
    if start is not None and idle is not None:
        print(f"{comm.size} ranks, {args.members} members x {args.predictions} predictions = {matrix:.0f} MB")
        print(f"start-up: {np.median(start):.0f} MB a rank, at most {max(start):.0f} MB")
        print(f"waiting: {100 * np.median(idle):.1f} % of a core a rank, at most {100 * max(idle):.1f} %")
        print(f"rank 0: at most {(peak() - below) / matrix:.2f} prediction matrices above its start")
        print(f"computed, written, verified and read in {seconds:.1f} s")
    comm.close()


if __name__ == "__main__":
    main()
