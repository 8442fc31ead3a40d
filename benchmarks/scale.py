"""What the size of a job costs, measured and extrapolated (docs/scale.md).

    mpirun -n N python benchmarks/scale.py memory [--members 1000] [--predictions 100000]
    mpirun -n N python benchmarks/scale.py members [--members 10000] [--keep predictions]
    python benchmarks/scale.py start 1 8 32 128
    python benchmarks/scale.py model

memory: how far above its start the memory of rank 0 rises while a batch of members that cost nothing but
their row of predictions is evaluated, checkpointed and read again, in units of the prediction matrix (members
x predictions x 8 bytes); how long the checkpoint takes; the memory of every rank after start-up; the share of
a core of ranks that wait for a member elsewhere.
members: the same for members with folders, which hold one small file: seconds a member, files, the time of
`status` and of a start that finds all of them finished. Under `strace -f -c` it also shows the system calls.
start: how long it takes until all ranks have met, from the launch of mpirun.
model: the measured constants, and what they give for larger jobs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fatescal.storage.store
from fatescal.base.types import Array
from fatescal.cli.status import status
from fatescal.ensemble.evaluate import Ensemble
from fatescal.ensemble.member import Members
from fatescal.hpc.communicator import Communicator
from fatescal.models.base import Model
from fatescal.parameters.priors import Normal
from fatescal.parameters.space import ParameterSpace
from fatescal.storage.records import Evaluation
from fatescal.storage.store import Store

if TYPE_CHECKING:
    import xarray as xr

WAIT = 5.0  # s the first member takes, for which all other ranks wait


def resident() -> float:
    """Return the memory of this process now [MB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak() -> float:
    """Return the most memory this process has had [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---------------------------------------------------------------- measured


def memory(args: argparse.Namespace) -> None:
    """Measure the memory of ranks, and print on root."""
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


class EmptyModel(Model):
    """A model that takes no time and leaves one small file."""

    calendar = "standard"
    identity: Mapping[str, object] = {"model": "empty"}

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        (folder / "output.txt").write_text(repr(dict(theta)))

    def read(self, folder: Path) -> xr.Dataset:
        (folder / "output.txt").read_text()
        return None  # type: ignore[return-value]  # the alignment below does not look at it


def members(args: argparse.Namespace) -> None:
    """Measure what folders of members cost, and print on root."""
    comm = Communicator()
    comm.watch()
    space = ParameterSpace(("a",), (Normal(mean=0.0, sd=1.0),), {"a": 0.0}, None, {})
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        run = Path(comm.on_root(lambda: folder))
        n_predictions = args.predictions
        of_run = Members(
            EmptyModel(), space, lambda data: np.zeros(n_predictions), n_predictions, run / "members",
            keep=args.keep,
        )  # fmt: skip
        u = np.random.default_rng(1).standard_normal((args.members - 1, 1))
        begin, below = time.monotonic(), resident()
        Ensemble([of_run]).evaluate("evaluation-00", u, comm, Store(run / "stages", comm))
        took = time.monotonic() - begin
        comm.barrier()
        if comm.is_root:
            n_files = sum(len(files) + len(folders) for _, folders, files in os.walk(run / "members"))
            print(f"{comm.size} ranks, {args.members} members: {took:.1f} s, {n_files} files and folders")
            print(f"rank 0: {resident() - below:.0f} MB more, at most {peak() - below:.0f} MB")
        if args.once:
            comm.close()
            return
        if comm.is_root:
            _print_seconds("status of the finished run", lambda: status(run, comm.alone()))
        comm.barrier()
        comm.on_root(lambda: (run / "stages" / "evaluation-00.h5").unlink())
        if comm.is_root:
            _print_seconds("status with the stage under way", lambda: status(run, comm.alone()))
        comm.barrier()
        begin = time.monotonic()
        Ensemble([of_run]).evaluate("evaluation-00", u, comm, Store(run / "stages", comm))
        if comm.is_root:
            print(f"a start that finds all members: {time.monotonic() - begin:.1f} s")
        comm.barrier()
    comm.close()


def _print_seconds(what: str, act: object) -> None:
    begin = time.monotonic()
    act()  # type: ignore[operator]
    print(f"{what}: {time.monotonic() - begin:.2f} s")


def start(args: argparse.Namespace) -> None:
    """Launch jobs of several sizes and print how long they take to start."""
    launcher = os.environ.get("MPIRUN", "mpirun")
    for n in args.ranks:
        command = [launcher, "-n", str(n), sys.executable, __file__, "meet", "--launched", repr(time.time())]
        # as Python found it: the MPI of this process has put its own variables there since
        subprocess.run(command, check=True, env=dict(os.environ))


def meet(args: argparse.Namespace) -> None:
    """Import what a run imports at its start, meet the other ranks, and print on root when that was."""
    from fatescal.cli import command_line, run  # noqa: F401

    comm = Communicator()
    comm.watch()
    comm.barrier()
    used = comm.gather((time.process_time(), resident()))
    if used is not None:
        seconds, sizes = zip(*used, strict=True)
        print(
            f"{comm.size} ranks met {time.time() - args.launched:.1f} s after mpirun was launched; "
            f"{np.median(seconds):.2f} s of a core and {np.median(sizes):.0f} MB a rank"
        )
    comm.close()


# ---------------------------------------------------------------- modelled


@dataclass(frozen=True)
class Constants:
    """What one of each thing costs, as measured (docs/scale.md)."""

    start: float = 0.63  # s of a core for each rank: imports, with compiled files
    rank: float = 88.0  # MB of each rank
    made: float = 2.6e-3  # s of a core: folder, marker, sync and rename of a member
    operations: float = 40.0  # of the file system, that open, look up, sync, rename or remove, a new member
    files: float = 2.0  # folder and marker, and what stays of the model's
    found: float = 1.0e-3  # s of a core: a finished member that is found again
    marker: float = 70e-6  # s, root: a marker read and parsed
    matrices: float = 2.1  # of the size of the predictions, in root's memory at most


@dataclass(frozen=True)
class Job:
    """A job, and what its machine gives it."""

    members: int  # of a batch
    ranks: int
    cores: int  # that the ranks share
    predictions: int = 3000  # D, of a member
    batches: int = 6  # iterations, rounds and the posterior
    seconds: float = 600.0  # of a model run
    kept: float = 20.0  # files that a member's model leaves
    rate: float = 1000.0  # operations a second that the file system gives the whole job


def modelled(job: Job, c: Constants) -> dict[str, float]:
    """Return what a job costs, term by term [s, or as named], of its last batch where terms grow."""
    waves = -(-job.members // job.ranks)
    parallel = min(job.ranks, job.cores)
    each = (c.operations + 2 * job.kept) / job.rate  # a file is made and looked up
    return {
        "start": c.start * job.ranks / parallel,
        "model": waves * job.seconds,
        "folders": max(job.members * c.made / parallel, job.members * each),
        "markers": job.batches * job.members * max(c.marker, 2 / job.rate),
        "memory [GB]": (c.rank + c.matrices * job.members * job.predictions * 8e-6) / 1e3,
        "files [million]": job.batches * job.members * (c.files + job.kept) / 1e6,
    }


def model(args: argparse.Namespace) -> None:
    """Print what jobs of several sizes cost."""
    print("| members | ranks | files kept | operations/s | start | model | folders | markers | memory [GB] | "
          "files [million] |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for members, ranks in ((128, 128), (1000, 512), (10_000, 512), (10_000, 2048), (100_000, 4096)):
        for kept, rate in ((20.0, 1000.0), (1.0, 1000.0), (20.0, 10_000.0)):
            job = Job(members, ranks, ranks, kept=kept, rate=rate)
            cells = " | ".join(f"{value:.3g}" for value in modelled(job, Constants()).values())
            print(f"| {members} | {ranks} | {kept:g} | {rate:g} | {cells} |")


def main() -> None:
    """Do what the first argument says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    sub = verbs.add_parser("memory")
    sub.set_defaults(act=memory)
    sub.add_argument("--members", type=int, default=1000)
    sub.add_argument("--predictions", type=int, default=100_000)
    sub.add_argument("--root-writes", action="store_true", help="as without parallel HDF5")
    sub = verbs.add_parser("members")
    sub.set_defaults(act=members)
    sub.add_argument("--members", type=int, default=10_000)
    sub.add_argument("--predictions", type=int, default=1000)
    sub.add_argument("--keep", choices=("all", "predictions"), default="all")
    sub.add_argument("--once", action="store_true", help="make the members, and no more")
    sub.add_argument("--folder", help="where the run is made: the file system to be measured")
    sub = verbs.add_parser("start")
    sub.set_defaults(act=start)
    sub.add_argument("ranks", type=int, nargs="+")
    sub = verbs.add_parser("meet")
    sub.set_defaults(act=meet)
    sub.add_argument("--launched", type=float, required=True)
    verbs.add_parser("model").set_defaults(act=model)
    args = parser.parse_args()
    args.act(args)


if __name__ == "__main__":
    main()
