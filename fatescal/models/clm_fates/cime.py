"""CIME's commands: what they answer, and the ERROR line where they refuse."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fatescal.base.errors import BadInput, ModelFailed
from fatescal.hpc.launch import launch

QUOTED = 8  # lines of a build log in a message
USER_FILES = (".xml", ".cmake")  # of ~/.cime that CIME reads
_LOCATION = re.compile(r"^\S+\.\w+:\d+(:\d+)?:\s*$")  # gfortran names the place some lines before the error
_COMPILER_ERROR = re.compile(
    r"\b(fatal |internal compiler |cmake )?error\b(?![-\w]*\.)|undefined reference|cannot find -l|\*\*\*"
    r"|No such file or directory|command not found|No rule to make",
    re.IGNORECASE,
)
_NO_ERROR = re.compile(r"-Werror|\b(0|no) errors?\b|^\s*(\[\s*\d+%\]|--) ", re.IGNORECASE)


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
    """Return what a command prints on standard output; with `log`, all that it prints, kept there as well.

    Raises
    ------
    CimeError
        When it ends with an error, or cannot be started.
    """
    settings = _environment() if environment is None else environment
    if log is not None:
        return _logged(command, arguments, folder, log, settings)
    try:
        done = subprocess.run(
            [str(command), *arguments], cwd=folder, env=settings, capture_output=True, text=True
        )
    except OSError as error:
        raise CimeError(command.name, f"it cannot be started: {error.strerror}") from None
    if done.returncode:
        nothing = f"nothing, and ended with exit code {done.returncode}"
        raise CimeError(command.name, error_line(done.stderr or done.stdout) or nothing)
    return done.stdout


def _logged(
    command: Path, arguments: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]
) -> str:
    """Run a command that may take long; when this program is killed, all that the command started ends."""
    log.unlink(missing_ok=True)
    every = ("",)  # all names begin so: the command sees `environment` alone
    try:
        launch([str(command), *arguments], folder, timeout=None, hide=every, extra=environment, log=str(log))
    except ModelFailed as failure:
        printed = error_line(log.read_text(encoding="utf-8", errors="replace"))
        raise CimeError(command.name, printed or failure.reason) from None
    return log.read_text(encoding="utf-8", errors="replace")


def _environment() -> dict[str, str]:
    """Return the environment with USER, which CIME needs, and batch jobs and containers may lack."""
    return {"USER": getpass.getuser()} | dict(os.environ)


def error_line(output: str) -> str:
    """Return the ERROR of a command, in one line, with the errors in the log that it points to.

    >>> error_line("Loading\\nERROR: For your changes to take effect, run:\\n./case.setup --reset\\n")
    'ERROR: For your changes to take effect, run: ./case.setup --reset'
    """
    match = re.search(r"^ERROR.*", output, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for line in (match[0] if match else output).splitlines() if line.strip()]
    message = " ".join(lines[:4] if match else lines[-4:])
    log = re.search(r"\bcat (/[^\s'\",]+)", message)
    if log is not None and Path(log[1]).is_file():
        errors = compiler_errors(Path(log[1]).read_text(errors="replace"))
        message += ". Its errors: " + " | ".join(errors)
    return message


def compiler_errors(text: str) -> list[str]:
    """Return the error lines of a build log, with the place in the source; without any its last lines.

    >>> text = "gcc -Werror a.c\\na.F90:12:8:\\n\\n 12 | use pio\\n\\nFatal Error: Cannot open 'pio.mod'\\n"
    >>> compiler_errors(text)
    ["a.F90:12:8: Fatal Error: Cannot open 'pio.mod'"]
    """
    lines = [line.strip() for line in text.splitlines()]
    errors: list[str] = []
    for i, line in enumerate(lines):
        if _COMPILER_ERROR.search(line) and not _NO_ERROR.search(line):
            location = next((p for p in reversed(lines[max(0, i - 6) : i]) if _LOCATION.match(p)), "")
            errors.append(f"{location} {line}".strip())
    errors = list(dict.fromkeys(errors))
    return errors[:QUOTED] or [line for line in lines if line][-QUOTED:]


def user_files() -> dict[str, str]:
    """Return the user's own files of CIME, which it copies into a case, with a digest of each."""
    folder = Path(os.environ.get("HOME", "~")).expanduser() / ".cime"
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in USER_FILES and path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def running_builds(case: Path) -> list[int]:
    """Return the numbers of the processes `case.build` of a case on this machine, whoever started them."""
    numbers = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = Path(os.readlink(process / "cwd")) == case.resolve()
            command = (process / "cmdline").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if inside and b"case.build" in command and int(process.name) != os.getpid():
            numbers.append(int(process.name))
    return sorted(numbers)


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
        """Return the values of variables as written; several where jobs or components have their own."""
        names = list(variables)
        if not names:
            return {}
        values: dict[str, set[str]] = {}
        for line in self("xmlquery", "--no-resolve", ",".join(names)).splitlines():
            pair = re.match(r"\s+(\w+): ?(.*)$", line)
            if pair is not None:
                each = (
                    re.findall(r"'\w+:([^']*)'", pair[2]) if pair[2].startswith("['") else [pair[2].strip()]
                )
                values.setdefault(pair[1], set()).update(each)
        return values

    def change(self, values: Mapping[str, str], *flags: str) -> None:
        """Set variables."""
        if values:
            settings = [f"{name}={value}".replace(",", "\\,") for name, value in values.items()]
            self("xmlchange", *flags, ",".join(settings))

    def set_up(self, *flags: str) -> None:
        """Call case.setup, and keep newer versions from making the case a git repository."""
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
