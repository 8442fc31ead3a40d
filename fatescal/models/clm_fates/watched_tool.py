"""A tool that runs as long as it says something, and what of its output tells why it failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from fatescal.base.errors import ModelFailed, OutOfTime, RunFailed
from fatescal.hpc.launch import launch

AFTER_ERROR = (
    60.0  # s without output after an error line: git-fleximod reports an error and then waits for ever
)
Say = Callable[[str], None]
QUOTED = 6  # lines of git or a tool in a message
_FATAL = re.compile(r"\b(ERROR|CRITICAL|FATAL)\b|\bfatal: ")
_ERROR_LINE = re.compile(
    rf"{_FATAL.pattern}|^error: |Failed to |failed due to|^cmdline: |Permission denied|No space left"
    r"|^[se?-]?M\s+\S+$|not in a clean state"  # of manage_externals
)


def run_watched(
    command: list[str], folder: Path, log: Path, patience: float, show: Say | None = None
) -> None:
    """Run a program whose output goes to a log; end it, and all that it started, when it stops printing.

    Parameters
    ----------
    command : list of str
        The program, which must not ask questions: it has no terminal.
    show : callable, optional
        Gets each line as it comes.

    Raises
    ------
    RunFailed
        With the error lines of the log, or else its last ones.
    """
    name = " ".join([Path(command[0]).name, *command[1:2]])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
    output = _Output(log, patience, show)
    settings = {"PYTHONUNBUFFERED": "1", "GIT_TERMINAL_PROMPT": "0"}
    again = f"Its log: {log}. Start the same command again to retry"
    try:
        launch(command, folder, timeout=None, hide=(), extra=settings, log=str(log), stop=output.is_silent)
    except ModelFailed:
        raise RunFailed(f"{name} failed: {quoted(log)}. {again}") from None
    except OutOfTime:
        raise RunFailed(
            f"{name} printed nothing for {output.limit:g} s and was ended: {quoted(log)}. {again}; "
            "where the network is slow, with a longer model.source.no_output_timeout"
        ) from None
    finally:
        output.close()


class _Output:
    """What a running program has printed so far."""

    def __init__(self, log: Path, patience: float, show: Say | None) -> None:
        self.limit, self._show = patience, show
        self._file = log.open("rb")
        self._file.seek(0, 2)
        self._rest, self._last = b"", time.monotonic()

    def is_silent(self) -> bool:
        """Show new lines; tell whether the last output is too long ago."""
        new = self._file.read()
        if new:
            self._last = time.monotonic()
            *lines, self._rest = (self._rest + new).split(b"\n")
            for line in (raw.decode(errors="replace").rpartition("\r")[2].strip() for raw in lines):
                if _FATAL.search(line):
                    self.limit = min(self.limit, AFTER_ERROR)
                if line and self._show is not None:
                    self._show(line)
        return time.monotonic() - self._last > self.limit

    def close(self) -> None:
        """Show the last lines."""
        self.is_silent()
        self._file.close()


def quoted(log: Path) -> str:
    """Return the error lines that the last program left in a log, or else its last lines."""
    text = log.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2]
    lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()[1:]]
    lines = list(dict.fromkeys(line for line in lines if line))
    errors = [line for line in lines if _ERROR_LINE.search(line)]
    return " | ".join(errors[:QUOTED] or lines[-QUOTED:]) or "it printed nothing"
