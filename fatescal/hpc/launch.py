"""Launching one member: its own folder, its own session, and nothing of it left behind.

A member is a tree of processes (a script, its model, perhaps a nested mpirun). However its run ends, and
also when the launching rank is killed with -9 and can do nothing any more, the whole tree must go.

Every member is therefore started by a few lines of shell, `_LEADER`, that first put a guard into the
member's new session and then become the command itself, so that its pid, exit code and signal are the
command's own. The guard sleeps in a read from a socket whose other end only the rank holds: it wakes when
the rank lets go of it or dies, and kills the session. It is there before the command starts, so there is no
moment at which a dying rank leaves an orphan; it is a member of the process group it kills, so the number
of that group cannot have passed to somebody else. Cost: 10 ms and 1 MB a member.

Ways tried and rejected: PR_SET_PDEATHSIG reaches the direct child only, fires when the *thread* that
launched ends, and must be set by `preexec_fn`, which runs Python between fork and exec (deadlocks beside
the threads of an MPI library; also gives up vfork, and so the safety of registered memory). A subreaper
helps only while it lives. A Python guard is as good and costs 20 ms and 10 MB.

Out of reach: a process that leaves the session with setsid (a daemon). Slurm's own cgroup ends those.
Where sh is dash, variables whose names are no identifiers (exported bash functions) do not reach the command.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fatescal.base.errors import BadInput, ModelFailed, OutOfTime, Status
from fatescal.hpc.schedulers.registry import node_name, schedulers

RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")  # as launchers say
HIDDEN_PREFIXES = (
    *("OMPI_", "PMIX_", "PMI_", "PRTE_", "ORTE_", "I_MPI_", "HYDRA_", "MPI_"),
    *(prefix for c in schedulers().values() for prefix in c.variables),
)
"""A model that is an MPI program takes the launcher's variables for its own, and hangs (or joins our job)."""

# The doubly nested guard is nobody's child: a command that waits for all its children does not wait for it.
# Groups of their own (`timeout`, `set -m`, ranks of a nested mpirun) are found in /proc by their session:
# in a stat file state, parent, group and session follow the last ')'.
# Under a launcher the leader is killed first, and the rest a little later: a step of Slurm outlives an srun
# that is killed together with its child, which would end the step when srun alone is gone.
_LEADER = """
patience=$1
shift
exec 3<&0 </dev/null
(
    trap '' HUP INT TERM
    cd /
    {
        read -r _ <&3
        [ "$patience" = 0 ] || ! kill -KILL $$ || sleep "$patience"
        for group in $(cat /proc/[0-9]*/stat | sed -n "s/.*) . [0-9]* \\([0-9]*\\) $$ .*/\\1/p"); do
            [ "$group" = $$ ] || kill -KILL "-$group"
        done
        kill -KILL 0
    } >/dev/null 2>&1 &
)
exec "$@" 3<&-
"""


TAIL = 4096  # bytes of a log that are looked at, however long it is
PATIENCE = 3  # s a launcher's other processes are given to end what it had started


def never() -> bool:
    """Return False: the `stop` of a launch that nothing interrupts."""
    return False


def launch(
    command: Sequence[str],
    folder: Path,
    *,
    timeout: float | None,
    hide: Sequence[str] = HIDDEN_PREFIXES,
    launcher: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    log: str = "member.log",
    stop: Callable[[], bool] = never,
    grace: float = 5.0,
) -> None:
    """Run `command` in `folder` to its end; afterwards all its processes are dead.

    Standard input is empty; output and errors are appended to `log` in the folder. The end is noticed
    within 2 % of the run's duration, at most 20 ms, without keeping the core busy.

    Parameters
    ----------
    command : sequence of str
        The executable and its arguments; no shell expands them.
    folder : Path
        The member's own folder, which exists.
    timeout : float or None
        Time limit [s].
    hide : sequence of str
        Environment variables that begin so are not passed on.
    launcher : sequence of str
        Arguments put before the command, as ``srun --overlap``; ``{node}`` in them becomes this node's name.
    extra : mapping of str to str, optional
        Environment variables to add.
    stop : callable
        Called all the time while the model runs; when it returns True the run is stopped.
    grace : float
        From SIGTERM to SIGKILL [s].

    Raises
    ------
    ModelFailed
        MODEL_ERROR when the exit code is not 0 (or the command cannot be started), TIME_OUT after
        `timeout`; the last lines of the log are in the reason.
    OutOfTime
        When `stop` returned True.
    """
    environment = visible(hide) | dict(extra or {})
    node = node_name()
    command = [*(argument.replace("{node}", node) for argument in launcher), *command]
    begin = time.monotonic()
    with _session(command, folder, environment, log, PATIENCE if launcher else 0) as leader:
        while leader.poll() is None:
            elapsed = time.monotonic() - begin
            if timeout is not None and elapsed > timeout:
                _terminate(leader, grace)
                reason = f"still running after {timeout:g} s, ended. {last_lines(folder / log)}"
                raise ModelFailed(Status.TIME_OUT, reason)
            if stop():
                _terminate(leader, grace)
                raise OutOfTime(f"{folder.name}: ended after {elapsed:.0f} s because the job is out of time.")
            time.sleep(min(max(elapsed / 50, 0.001), 0.02))
    if leader.returncode != 0:
        reason = f"{_ending(leader.returncode)}. {last_lines(folder / log)}"
        raise ModelFailed(Status.MODEL_ERROR, reason)


def visible(hide: Sequence[str] = HIDDEN_PREFIXES) -> dict[str, str]:
    """Return the environment without the variables whose names begin so."""
    return {name: value for name, value in os.environ.items() if not name.startswith(tuple(hide))}


def seconds(text: str | float) -> float:
    """Return the duration [s] that `text` means: a number, or a number and s, min, h or d.

    Raises
    ------
    BadInput
        When it means none, or nothing above zero.

    >>> seconds("60 s"), seconds("2 h"), seconds("1.5min"), seconds(30)
    (60.0, 7200.0, 90.0, 30.0)
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|min|h|d)?\s*", str(text))
    if match is None or float(match[1]) == 0:
        raise BadInput("a duration is wrong", expected="e.g. '60 s', '5 min', '2 h' or '1 d'", got=repr(text))
    return float(match[1]) * {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}[match[2] or "s"]


@contextmanager
def _session(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: str, patience: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` as leader of a session; at exit, for whatever reason, kill what is left of it.

    Between the leader and the rest of the session lie `patience` seconds, if the leader is still there then.
    """
    near, far = socket.socketpair()
    with near:
        with far, (folder / log).open("ab") as output:
            leader = subprocess.Popen(
                ["/bin/sh", "-c", _LEADER, "sh", str(patience), *command],
                cwd=folder,
                env=environment,
                stdin=far.fileno(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield leader
        finally:
            near.shutdown(socket.SHUT_WR)  # wakes the guard
            near.recv(1)  # returns when the guard has killed itself, the last of the session
            with suppress(ProcessLookupError):  # the group is gone, unless somebody had killed the guard
                os.killpg(leader.pid, signal.SIGKILL)
            leader.wait()


def _terminate(leader: subprocess.Popen[bytes], grace: float) -> None:
    """Ask the whole group to end, and wait up to `grace` seconds for its leader."""
    os.killpg(leader.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        leader.wait(grace)


def _ending(code: int) -> str:
    """Say how a process ended.

    >>> _ending(-11), _ending(139), _ending(3)
    ('killed by SIGSEGV', 'exit code 139 (128 + SIGSEGV)', 'exit code 3')
    """
    names = {int(s): s.name for s in signal.Signals}
    if code < 0:
        return f"killed by {names.get(-code, f'signal {-code}')}"
    if code - 128 in names:
        return f"exit code {code} (128 + {names[code - 128]})"
    return f"exit code {code}" + {126: " (cannot be executed)", 127: " (not found)"}.get(code, "")


def last_lines(log: Path, lines: int = 10) -> str:
    """Return the last lines of a log, introduced by its path; whatever the model has made of it."""
    try:
        about = log.stat()
        if not stat.S_ISREG(about.st_mode):
            return f"{log} is not a regular file any more"
        with log.open("rb") as file:
            file.seek(max(0, about.st_size - TAIL))
            last = file.read(TAIL).decode(errors="replace").splitlines()[-lines:]
    except OSError as error:
        return f"There is no log {log} ({error.strerror})"
    if not last:
        return f"{log} is empty"
    shown = ("".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in last)
    return "\n".join([f"The last lines of {log}:", *(f"    {line}" for line in shown)])


def require_launcher(launcher: Sequence[str]) -> None:
    """Raise `BadInput` if the machine's launcher is not found."""
    if launcher and shutil.which(launcher[0]) is None:
        raise BadInput(
            f"the machine file's launcher {launcher[0]} is not found",
            expected="a program on the PATH",
            hint="load the module that brings it, or launch members directly: launcher: []",
        )


def is_first_rank() -> bool:
    """Tell whether this is rank 0, or alone, by what launchers set; before MPI is started."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0"
