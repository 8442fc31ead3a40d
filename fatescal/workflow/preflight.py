"""Try out, with all ranks of a small job, what a first job needs of the machine: `fatescal check --machine`.

Everything is done as a run does it (a checkpoint through the store, a member through the launcher), in a
folder that is removed afterwards, where the run will be. Two tasks on two nodes find most of what goes wrong
in a job of 128.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fatescal.base.errors import ModelFailed
from fatescal.base.types import Array
from fatescal.hpc.communicator import Communicator
from fatescal.hpc.launch import launch
from fatescal.hpc.schedulers.registry import node_name
from fatescal.storage.records import Batch
from fatescal.storage.store import PARALLEL, Store

PATIENCE = 30.0  # s until a file that another node has renamed must be seen
LAUNCH = 120.0  # s
RANK = 0.1  # GB of memory a rank needs, beside its member
SKEW = 5.0  # s between two clocks that are worth a remark
ROWS = 4  # of the tried checkpoint, by each rank


@dataclass(frozen=True)
class Finding:
    """The result of one check of the machine."""

    what: str
    result: str
    wrong: bool = False
    hint: str = ""

    def __str__(self) -> str:
        hint = f". Try: {self.hint}" if self.hint else ""
        return f"{self.what:13s} {'WRONG: ' if self.wrong else 'ok: '}{self.result}{hint}"


@dataclass(frozen=True)
class Launching:
    """How members are launched on this machine."""

    launcher: Sequence[str]
    hide: Sequence[str]


def findings(
    folder: Path, launching: Launching, comm: Communicator, space: Callable[[], Finding]
) -> list[Finding]:
    """Return the results of all checks, on root; called by all ranks.

    Parameters
    ----------
    folder : Path
        Where the run will be; exists and can be written by root.
    space : callable
        Says, on root, whether there is enough of it.
    """
    here = comm.on_root(lambda: _made(folder / f".trial-{uuid.uuid4().hex[:8]}"))
    try:
        made = [
            _nodes(comm),
            _threads(comm),
            _renames(here, comm),  # a folder that other nodes do not see makes all that follows fail
        ]
        if not comm.on_root(lambda: any(finding.wrong for finding in made)):
            made += [_checkpoint(here, comm), _dealing(comm), _members(here, launching, comm)]
        made += [_clocks(here, comm), comm.on_root(space)]
    finally:
        comm.barrier()
        if comm.is_root:
            shutil.rmtree(here, ignore_errors=True)
    return made


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _nodes(comm: Communicator) -> Finding:
    """Say which nodes there are, and whether they have memory for their ranks."""
    of_ranks = comm.allgather((node_name(), _available()))
    ranks = Counter(node for node, _ in of_ranks)
    memory = dict(of_ranks)
    each = {node: memory[node] / n for node, n in ranks.items()}
    ranks_of_nodes = ", ".join(f"{node}: {n} ranks, {memory[node]:.1f} GB free" for node, n in ranks.items())
    small = [node for node in ranks if each[node] < RANK]
    return Finding(
        "nodes",
        f"{ranks_of_nodes}; {min(each.values()):.2g} GB a rank, for itself and its member",
        wrong=bool(small),
        hint=f"fewer ranks on {', '.join(small)}: each needs {RANK} GB beside its member" if small else "",
    )


def _threads(comm: Communicator) -> Finding:
    level = comm.thread_level
    wrong = level != "multiple"
    hint = "an MPI with MPI_THREAD_MULTIPLE; without it a dead rank may not end the job" if wrong else ""
    return Finding("MPI", f"{comm.size} ranks of {comm.library}, thread level {level}", wrong, hint)


def _renames(here: Path, comm: Communicator) -> Finding:
    """Let every rank rename a file, and wait until it sees those of all others."""
    names = [here / f"seen-{rank}" for rank in range(comm.size)]
    _ = [name.exists() for name in names]  # nodes remember for a while what was not there
    comm.barrier()
    error = _renamed(names[comm.rank])
    comm.barrier()
    seconds = _until_seen(names, 0.0 if error else PATIENCE)
    errors = [e for e in comm.allgather(error) if e]
    waits = comm.allgather((node_name(), seconds))
    blind = sorted({node for node, wait in waits if wait is None})
    if not (errors or blind):
        slowest = max(wait for _, wait in waits if wait is not None)
        return Finding(
            "file system", f"all ranks see what one has renamed in {here.parent} after {slowest:.1f} s"
        )
    problem = errors[0] if errors else f"{', '.join(blind)}: what another node has renamed is not seen"
    return Finding(
        "file system", f"{here.parent}: {problem}", True, "a run.directory or scratch that all nodes share"
    )


def _renamed(path: Path) -> str:
    """Write a file and rename it to `path`; return what is wrong with that, '' when nothing is."""
    part = path.with_suffix(".part")
    try:
        part.write_text("renamed")
        os.replace(part, path)
    except OSError as failure:
        return f"{node_name()} cannot write there: {failure.strerror}"
    return ""


def _until_seen(paths: Sequence[Path], patience: float) -> float | None:
    """Return after how many seconds all files are there, None when some are not after `patience`."""
    begin = time.monotonic()
    while not all(path.exists() for path in paths):
        if time.monotonic() - begin > patience:
            return None
        time.sleep(0.1)
    return time.monotonic() - begin


def _checkpoint(here: Path, comm: Communicator) -> Finding:
    """Write a stage with all ranks and read it back, as a run does; what hangs or fails ends the job
    with its reason.
    """
    begin = time.monotonic()
    rows = np.arange(3.0 * ROWS * comm.size).reshape(-1, 3)

    def row(i: int) -> Mapping[str, Array]:
        return {"u": rows[i]}

    written = Store(here, comm).once_rows(
        "checkpoint", Batch, len(rows), lambda: comm.parallel_for(row, len(rows))
    )
    same = comm.on_root(lambda: written is not None and np.array_equal(written.u, rows))
    by = "all ranks (parallel HDF5)" if PARALLEL else "the root rank (h5py without MPI)"
    timing = f"written by {by} and read back in {time.monotonic() - begin:.1f} s"
    hint = "" if same else "another file system for run.directory or scratch"
    return Finding("checkpoint", timing if same else f"{timing}: not what was written", not same, hint)


def _dealing(comm: Communicator) -> Finding:
    n_tasks = 3 * comm.size
    done = [i for of_rank in comm.allgather(list(comm.parallel_for(lambda i: i, n_tasks))) for i in of_rank]
    wrong = sorted(done) != list(range(n_tasks))
    return Finding("members", f"dealt out {comm.task_distribution}", wrong, "another MPI" if wrong else "")


def _members(here: Path, launching: Launching, comm: Communicator) -> Finding:
    """Launch a member from every rank, and look at the environment it sees."""
    folder = here / f"member-{comm.rank}"
    folder.mkdir()
    begin, error, leaked = time.monotonic(), "", []
    try:
        launch(
            ["/bin/sh", "-c", "env >environment"],
            folder,
            timeout=LAUNCH,
            hide=launching.hide,
            launcher=launching.launcher,
        )
        seen = (folder / "environment").read_text().splitlines()
        leaked = sorted({name for line in seen for name in launching.hide if line.startswith(name)})
    except (ModelFailed, OSError) as failure:
        error = f"rank {comm.rank} on {node_name()}: {failure}"
    slowest = max(comm.allgather(time.monotonic() - begin))
    errors = [e for e in comm.allgather(error) if e]
    seen_by = sorted({name for names in comm.allgather(leaked) for name in names})
    how = f"through {launching.launcher[0]}" if launching.launcher else "directly"
    if errors:
        report = f"{len(errors)} of {comm.size} ranks cannot launch a member {how}: {errors[0]}"
        return Finding("launching", report, True, "the machine file's launcher, on one node by hand")
    if seen_by:
        report = f"members launched {how} see variables {'*, '.join(seen_by)}* that are to be hidden"
        return Finding(
            "launching", report, True, "--mpi=none for srun, or a shorter `hide` for a model without MPI"
        )
    return Finding("launching", f"every rank launched a member {how}, in {slowest:.1f} s at most")


def _clocks(here: Path, comm: Communicator) -> Finding:
    """Compare the ranks' clocks with each other and with the file system's; nothing depends on them but
    logs and you.
    """
    comm.barrier()
    now = time.time()
    apart = np.ptp(comm.allgather(now))
    own = here / f"clock-{comm.rank}"
    before = time.time()
    try:
        own.touch()
        beside = own.stat().st_mtime - before
    except OSError:  # reported by other ranks
        beside = 0.0
    files = max(comm.allgather(beside), key=abs)
    remark = (
        "; logs will be hard to read, results do not depend on it" if max(apart, abs(files)) > SKEW else ""
    )
    return Finding("clocks", f"{apart:.1f} s between ranks, {files:+.1f} s of the file system{remark}")


def space(folder: Path, n_runs: int | None, needed: float | None) -> Finding:
    """Say whether the file system of `folder` has room for `n_runs` members that need `needed` bytes in
    all.
    """
    free = shutil.disk_usage(folder).free
    files = os.statvfs(folder).f_favail
    room = f"{size(free)} free on the file system of {folder}"
    if files:
        room += f", {files} files"
    if needed is not None and needed > free:
        hint = "keep: predictions in the machine file, or another run.directory or scratch"
        return Finding("space", f"{room}; the run needs about {size(needed)}", True, hint)
    if needed is not None:
        room += f"; the run needs about {size(needed)}"
    elif n_runs is not None:
        room += f": {size(free / n_runs)} for each of {n_runs} members"
    return Finding("space", f"{room} (a quota may be smaller)")


def size(n_bytes: float) -> str:
    """Return a number of bytes as one reads it.

    >>> size(2.5e9), size(4.1e6), size(2e4)
    ('2.5 GB', '4 MB', '20 kB')
    """
    if n_bytes < 1e6:
        return f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _available() -> float:
    """Return the memory a new program can have on this node [GB]."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), "inf")
    return float(kilobytes) / 1e6
