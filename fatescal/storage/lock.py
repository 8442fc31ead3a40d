"""One program at a time works on a run: its lock, which goes when the process does."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fatescal.base.errors import RunFailed
from fatescal.hpc.schedulers.registry import current

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # raised by Lustre and NFS without locks
PULSE = 20.0  # s between two signs of life
SILENCE = 120.0  # s without one after which a process counts as gone


@contextmanager
def locked(run: Path, patience: float = 15.0) -> Iterator[None]:
    """Hold the run for this process; the lock goes when the process does.

    On a file system without such locks a file `RUN/lock.held` says who holds it; it stays when the process is
    killed.

    Raises
    ------
    RunFailed
        If another process still holds it after `patience` seconds.
    """
    run.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + patience
    with open(run / "lock", "a+", encoding="utf-8") as file, ExitStack() as stack:
        try:
            _acquire(file, run, give_up)
            file.seek(0)
            file.truncate()
            file.write(_holder())
            file.flush()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            stack.enter_context(_held_by_file(run / "lock.held", give_up))
        try:
            with _signs_of_life(run / "lock"):
                yield
        finally:
            with suppress(OSError):
                file.truncate(0)  # who ends by itself leaves no name; who is killed does


@contextmanager
def _signs_of_life(path: Path) -> Iterator[None]:
    """Touch a file every `PULSE` seconds, so that another node can see that this process lives."""
    done = threading.Event()

    def pulse() -> None:
        while not done.wait(PULSE):
            with suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=pulse, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@dataclass(frozen=True)
class Holder:
    """Who works on a run, or did so last.

    Attributes
    ----------
    who : str
        Host, process and job; '' where the last one ended by itself.
    seconds : float
        Since its last sign of life; infinite where there never was one.
    holds : bool
        Whether it still holds the run, as far as this node can see.
    """

    who: str
    seconds: float
    holds: bool

    @property
    def runs(self) -> bool:
        """Whether it is at work: it holds the run, or has given a sign of life just now."""
        return self.holds or bool(self.who and self.seconds < SILENCE)

    @property
    def died(self) -> bool:
        """Whether it ended without a word: killed, or with its node."""
        return bool(self.who) and not self.runs


def holder(run: Path) -> Holder:
    """Return who works on a run, or did so last; asked from any node, it holds up nobody."""
    path, by_file = run / "lock", run / "lock.held"
    try:
        with open(path, encoding="utf-8") as file:
            who, seconds = file.read(), max(0.0, time.time() - path.stat().st_mtime)
            holds = _is_held(file)
        if by_file.exists():
            who, holds = by_file.read_text(encoding="utf-8"), seconds < SILENCE
    except OSError:
        return Holder("", math.inf, False)
    if _is_gone(who):
        return Holder(who, max(seconds, SILENCE), False)
    return Holder(who, seconds, holds)


def _is_held(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such locks here
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _is_gone(who: str) -> bool:
    """Tell whether a process of this host has ended."""
    number = re.search(r"process (\d+)", who)
    return number is not None and f"host {socket.gethostname()}," in who and not _alive(int(number[1]))


def _holder() -> str:
    return f"host {socket.gethostname()}, process {os.getpid()}, job {current().job or 'none'}"


def _acquire(file: IO[str], run: Path, give_up: float) -> None:
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                file.seek(0)
                raise RunFailed(
                    f"another fatescal works on {run} ({file.read() or 'unknown process'}). "
                    "Try: wait for it, cancel it, or give this run another run.directory"
                ) from None
        time.sleep(0.2)


@contextmanager
def _held_by_file(path: Path, give_up: float) -> Iterator[None]:
    """Hold a run by a file that only one process can create."""
    mine = f"{_holder()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    while True:
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w") as file:
                file.write(mine)
            break
        except FileExistsError:
            if time.monotonic() > give_up:
                raise RunFailed(_held_message(path)) from None
        time.sleep(0.2)
    try:
        yield
    finally:
        with suppress(OSError):  # the folder may be gone
            path.unlink()


def _held_message(path: Path) -> str:
    """Return who holds a run by its file, and whether that process is still there, if this host can tell."""
    try:
        who = path.read_text(encoding="utf-8") or "unknown process"
    except OSError:
        who = "unknown process"
    message = f"another fatescal works on {path.parent} ({who}). "
    message += (
        "This file system has no locks that go with their process, so one that was killed leaves its file. "
    )
    if _is_gone(who):
        return f"{message}That process is not there any more. Try: rm {path}, then start again"
    return (
        f"{message}Try: wait for it, or cancel it; where neither the process nor its job is there: rm {path}"
    )


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
