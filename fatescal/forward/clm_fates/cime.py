"""CIME's commands: what they answer, and the ERROR line where they refuse."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from fatescal.errors import BadInput

LAST_LINES = 8  # of a build log


class CimeError(Exception):
    """A command of CIME ended with an error; `line` is what it said, in one line."""

    def __init__(self, command: str, line: str) -> None:
        super().__init__(f"{command} says: {line}")
        self.line = line


def call(
    command: Path,
    *arguments: str,
    folder: Path,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Return what a command says on standard output; with `log`, keep it there as well.

    Raises
    ------
    CimeError
        When it ends with an error, or cannot be started.
    """
    try:
        done = subprocess.run(
            [str(command), *arguments],
            cwd=folder,
            env=_environment() if environment is None else environment,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise CimeError(command.name, f"it cannot be started: {error.strerror}") from None
    if log is not None:
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        words = (
            error_line(done.stderr or done.stdout) or f"nothing, and ended with exit code {done.returncode}"
        )
        raise CimeError(command.name, words)
    return done.stdout


def _environment() -> dict[str, str]:
    """Return the environment with USER, without which CIME knows no paths; batch jobs and containers may lack it."""
    return {"USER": getpass.getuser()} | dict(os.environ)


def error_line(said: str) -> str:
    """Return the ERROR of a command, in one line, with the end of the log that it points to.

    >>> error_line("Loading\\nERROR: For your changes to take effect, run:\\n./case.setup --reset\\n")
    'ERROR: For your changes to take effect, run: ./case.setup --reset'
    """
    found = re.search(r"^ERROR.*", said, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for line in (found[0] if found else said).splitlines() if line.strip()]
    words = " ".join(lines[:4] if found else lines[-4:])
    log = re.search(r"\bcat (/\S+)", words)
    if log is not None and Path(log[1]).is_file():
        last = Path(log[1]).read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
        words += ". It ends with: " + " | ".join(line.strip() for line in last)
    return words


class Case:
    """A case directory and its commands, in this program's environment or another."""

    def __init__(self, path: Path, environment: Mapping[str, str] | None = None) -> None:
        self.path, self.environment = path, environment

    def __call__(self, tool: str, *arguments: str, log: Path | None = None) -> str:
        return call(self.path / tool, *arguments, folder=self.path, log=log, environment=self.environment)

    def query(self, variable: str) -> str:
        """Return one value, `$VARIABLES` in it resolved."""
        return self("xmlquery", "--value", variable).strip()

    def values(self, variables: Iterable[str]) -> dict[str, set[str]]:
        """Return the values of variables as they are written; several where jobs or components have their own."""
        names = list(variables)
        if not names:
            return {}
        found: dict[str, set[str]] = {}
        for line in self("xmlquery", "--no-resolve", ",".join(names)).splitlines():
            pair = re.match(r"\s+(\w+): ?(.*)$", line)
            if pair is not None:
                each = (
                    re.findall(r"'\w+:([^']*)'", pair[2]) if pair[2].startswith("['") else [pair[2].strip()]
                )
                found.setdefault(pair[1], set()).update(each)
        return found

    def change(self, values: Mapping[str, str], *flags: str) -> None:
        """Set variables."""
        if values:
            words = [f"{name}={value}".replace(",", "\\,") for name, value in values.items()]
            self("xmlchange", *flags, ",".join(words))

    def set_up(self, *flags: str) -> None:
        """Call case.setup, which in newer versions would make the case a git repository, unless told not to."""
        git = ["--disable-git"] if "--disable-git" in self("case.setup", "--help") else []
        self("case.setup", *flags, *git)

    def build(self, log: Path) -> str:
        """Return what case.build says."""
        return self("case.build", "--skip-provenance-check", log=log)

    def file_of(self, variable: str) -> str:
        """Return the name of the XML file that holds a variable (``NTASKS_LND`` is part of ``NTASKS``)."""
        for path in sorted(self.path.glob("env_*.xml")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if any(f'id="{name}"' in text for name in (variable, variable.rpartition("_")[0]) if name):
                return path.name
        return "env_run.xml"


def of_case(path: Path) -> tuple[Path, Path]:
    """Return run directory and executable of a case, as its `xmlquery` tells.

    Raises
    ------
    BadInput
        When it is no case or not built.
    """
    case = Case(path)
    try:
        return Path(case.query("RUNDIR")), Path(case.query("EXEROOT")) / "cesm.exe"
    except CimeError as error:
        raise BadInput(
            f"model.case: {path} does not answer ./xmlquery: {error.line}",
            expected="a CIME case directory that has been set up and built",
        ) from None
