"""Any executable as forward model: parameters go in as JSON, output comes out as netCDF."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.options import Positive
from fatescal.hpc.launch import HIDDEN_PREFIXES, launch, never, seconds
from fatescal.models import output as outputs
from fatescal.models.base import Context, Model, ModelOptions
from fatescal.storage.inputs import Source, Sources

if TYPE_CHECKING:
    import xarray as xr

LONGEST_SCRIPT = 2**20  # bytes; longer files are not searched for the names of others


class CommandOptions(ModelOptions):
    """Any executable that reads a parameter file and leaves a netCDF file."""

    kind: Literal["command"]
    """Any executable."""
    command: Annotated[list[str], Field(min_length=1)]
    """The executable and its arguments; no shell expands them."""
    parameters_file: str = "parameters.json"
    """The file in the member's folder that gets the parameters."""
    output: str = "output.nc"
    """The file in the member's folder that holds the output."""
    timeout: str | Positive | None = None
    """Time limit of one run, `60 s`, `2 h` or seconds."""
    calendar: str = "standard"
    """CF calendar of the output."""
    files: list[str] | None = None
    """Files and folders that it reads beside those named in `command`."""

    def make(self, context: Context) -> Command:
        """Return the model."""
        return Command(
            self.command,
            context.folder,
            parameters_file=self.parameters_file,
            output=self.output,
            calendar=self.calendar,
            variables=context.variables,
            reads=[context.path(path) for path in self.files or ()],
            **context.launching(self.timeout),
        )


class Command(Model):
    """An executable that reads `parameters_file` and leaves `output`, both in the member's own folder.

    The command runs in the member's folder, so a path relative to the config would not be found there:
    the executable, and every argument that names a file beside the config, are made absolute. A bare name
    of an executable is looked up on the PATH first.

    Parameters
    ----------
    command : sequence of str
        The executable and its arguments; no shell expands them.
    folder : Path
        Where the config is.
    parameters_file, output : str
        Names inside the member's folder. The first gets ``{"name": value}`` at full precision, in the
        order of the parameters; the second holds variables with ``units`` and a time axis.
    timeout : str or float, optional
        Time limit of one run, ``"60 s"``, ``"2 h"`` or seconds; none when omitted.
    calendar : str
        CF calendar of the output.
    variables : sequence of str
        What `read` returns of the output; all of it when empty.
    reads : sequence of Path
        Files and folders that the command reads beside those its arguments name.
    hide : sequence of str
        Prefixes of the environment variables the command must not see.
    launcher : sequence of str
        Arguments put before the command, as in `process.launch`.
    stop : callable
        Called while the command runs; when it returns True the run is given up with `OutOfTime`.

    Raises
    ------
    BadInput
        When `timeout` is no duration.
    """

    calendar = ""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        parameters_file: str = "parameters.json",
        output: str = "output.nc",
        timeout: str | float | None = None,
        calendar: str = "standard",
        variables: Sequence[str] = (),
        reads: Sequence[Path] = (),
        hide: Sequence[str] = HIDDEN_PREFIXES,
        launcher: Sequence[str] = (),
        stop: Callable[[], bool] = never,
    ) -> None:
        folder = folder.resolve()
        self.command = (
            _executable(command[0], folder),
            *(_argument(text, folder) for text in command[1:]),
        )
        self.calendar = calendar
        self._beside = folder
        self._parameters_file, self._output = parameters_file, output
        self._timeout = None if timeout is None else seconds(timeout)
        self._variables, self._stop, self._reads = tuple(variables), stop, tuple(reads)
        self._hide, self._launcher = tuple(hide), tuple(launcher)

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """The command, with a checksum of its files beside the config: an edited model is another model.

        These count by their path from there, so that the whole folder can be moved. Files elsewhere (a
        program of the system, forcing data) count by their path.
        """
        beside = (Path(argument) for argument in self.command if Path(argument).is_relative_to(self._beside))
        return {
            "kind": "command",
            "command": [self._from_config(argument) for argument in self.command],
            "parameters_file": self._parameters_file,
            "output": self._output,
            "files": {
                str(path.relative_to(self._beside)): sha256(path.read_bytes()).hexdigest()
                for path in beside
                if path.is_file()
            },
        }

    def _from_config(self, argument: str) -> str:
        path = Path(argument)
        return str(path.relative_to(self._beside)) if path.is_relative_to(self._beside) else argument

    def files(self) -> Sources:
        """Return the files that the arguments name, those beside a script that they name, and `reads`.

        A program of the operating system (in /usr/bin or /bin) counts by its name.
        """
        values = [
            argument.partition("=")[2] if argument.startswith("-") else argument
            for argument in self.command[1:]
        ]
        paths = [self._beside / value for value in values if value]
        own = [path for path in (Path(self.command[0]), *paths) if path.is_file() and not _of_system(path)]
        sources: dict[str, list[Source]] = {"model.command": [*self._with_named(own)]}
        if self._reads:
            sources["model.files"] = [*self._reads]
        return sources

    def _with_named(self, paths: Sequence[Path]) -> list[Path]:
        """Return files, and those beside them that their texts name, and so on; not what a run writes."""
        files, waiting = list(dict.fromkeys(paths)), list(paths)
        while waiting:
            script = waiting.pop()
            text = _text(script)
            for path in sorted(script.parent.iterdir()) if text else ():
                written = path.name in (self._parameters_file, self._output) or path.suffix == ".log"
                if path not in files and not written and path.is_file() and _names(text, path):
                    files.append(path)
                    waiting.append(path)
        return files

    def check(self) -> None:
        """Raise `BadInput` when the executable cannot be run or a file name leads out of the folder."""
        executable = Path(self.command[0])
        if not executable.is_file():
            raise BadInput(
                f"model.command: there is no executable '{executable}'",
                expected=f"a program on the PATH or a path from {self._beside}",
                hint="check the spelling, or activate the environment it is in",
            )
        if not os.access(executable, os.X_OK):
            raise BadInput(
                f"model.command: '{executable}' cannot be executed", hint=f"chmod +x '{executable}'"
            )
        for key, name in (("parameters_file", self._parameters_file), ("output", self._output)):
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise BadInput(
                    f"model.{key} leads out of the member's folder",
                    expected="a name inside the folder, e.g. 'output.nc'",
                    got=repr(name),
                )

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        """Write the parameters into `folder`, run the command there, and see that there is an output.

        Raises
        ------
        ModelFailed
            As `process.launch`; TRUNCATED when the command ended well but left no output.
        OutOfTime
            When the run was given up.
        """
        values = {name: float(value) for name, value in theta.items()}
        parameters = folder / self._parameters_file
        parameters.parent.mkdir(parents=True, exist_ok=True)
        parameters.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
        launch(
            self.command,
            folder,
            timeout=self._timeout,
            hide=self._hide,
            launcher=self._launcher,
            stop=self._stop,
        )
        if not os.path.lexists(folder / self._output):
            raise ModelFailed(
                Status.TRUNCATED, f"the command ended with 0 but left no {self._output}{_left(folder)}"
            )

    def read(self, folder: Path) -> xr.Dataset:
        """Return the output in memory; times are numbers in their unit. Errors as `output.read`."""
        return outputs.read(folder / self._output, self._variables)


def _left(folder: Path) -> str:
    """Name the files that a run left, a few of them."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"; its folder {folder} cannot be read: {error.strerror}"
    return f"; it left {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"


def _of_system(path: Path) -> bool:
    return any(path.resolve().is_relative_to(folder) for folder in ("/usr/bin", "/bin"))


def _text(path: Path) -> str:
    """Return the text of a script; nothing of a file that is none, or too large to be one."""
    if path.stat().st_size > LONGEST_SCRIPT:
        return ""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode("utf-8", "replace")


def _names(text: str, path: Path) -> bool:
    """Tell whether a script names a file beside it: as such, or as a module of Python's that it imports."""
    if re.search(rf"(?<![\w.-]){re.escape(path.name)}(?![\w-])", text):
        return True
    imported = rf"^\s*(?:from|import)\b[^\n#]*\b{re.escape(path.stem)}\b"
    return path.suffix == ".py" and re.search(imported, text, re.MULTILINE) is not None


def _executable(name: str, folder: Path) -> str:
    """Return the absolute path of an executable; one that is not found comes back as a path from `folder`."""
    path = shutil.which(name) if os.sep not in name else None
    return path or str(folder / name)


def _argument(text: str, folder: Path) -> str:
    """Return an argument, absolute where it names a file beside the config."""
    return str(folder / text) if (folder / text).is_file() else text
