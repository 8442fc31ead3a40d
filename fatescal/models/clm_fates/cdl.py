"""netCDF files from CDL, the text that FATES kept its parameters in until api 40: what `ncgen` does, where
there is none.

It reads the CDL of classic files with dimensions of known length, and refuses what it does not understand.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.storage import atomic

if TYPE_CHECKING:
    import netCDF4

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|[^"/;]+|[/;]')
_KINDS = {"double": "f8", "float": "f4", "int": "i4", "short": "i2", "byte": "i1", "char": "S1"}


def convert(source: Path, target: Path) -> str:
    """Write the classic netCDF file that a CDL describes, by `ncgen` where there is one; return what did it.

    Raises
    ------
    BadInput
        When the CDL cannot be read.
    """
    program = shutil.which("ncgen")

    def fill(part: Path) -> None:
        if program is None:
            _write(source, part)
            return
        done = subprocess.run([program, "-o", part, source], capture_output=True, text=True)
        if done.returncode:
            raise BadInput(f"ncgen cannot read {source}: {done.stderr.strip()}")

    atomic.write(target, fill)
    return "ncgen" if program is not None else "netCDF4"


def statements(text: str) -> Iterator[str]:
    """Yield the statements of a CDL, without comments; a section's name stands before its first.

    >>> list(statements('variables: char a(n) ; // b ;\\n  a:note = "x; // y" ;'))
    ['variables: char a(n)', 'a:note = "x; // y"']
    """
    statement = ""
    for token in _TOKEN.findall(text):
        if token == ";":
            yield statement.strip()
            statement = ""
        elif not token.startswith("//"):
            statement += token
    if statement.strip() not in ("", "}"):
        raise BadInput(f"the CDL ends in the middle of a statement: {statement.strip()[:60]}")


def _write(source: Path, target: Path) -> None:
    import netCDF4

    section = ""
    waiting: set[str] = set()  # variables without values
    with netCDF4.Dataset(target, "w", format="NETCDF3_CLASSIC") as file:
        for statement in statements(source.read_text(encoding="utf-8")):
            named = re.match(r"(?:netcdf [^{]*\{\s*)?(dimensions|variables|data):\s*", statement)
            section = named[1] if named else section
            text = statement[named.end() :] if named else statement
            try:
                match section:
                    case "dimensions":
                        name, size = text.split("=")
                        file.createDimension(name.strip(), int(size))
                    case "variables":
                        _declare(file, text)
                    case "data":
                        waiting = waiting or set(file.variables)
                        name = _fill(file, text)
                        waiting.remove(name)
                    case _:
                        raise ValueError("no section begins before it")
            except (ValueError, KeyError, IndexError, RuntimeError) as error:
                raise BadInput(
                    f"{source} has a statement that cannot be read: {text[:80]} ({error})",
                    hint="ncgen, of the netCDF tools, on the PATH",
                ) from None
    if waiting:
        raise BadInput(f"{source} gives no values of {', '.join(sorted(waiting))}")


def _declare(file: netCDF4.Dataset, text: str) -> None:
    """Declare a variable, or give it (or the file) an attribute."""
    declared = re.fullmatch(r"(\w+)\s+(\w+)\s*(?:\(([^)]*)\))?", text)
    if declared is not None:
        dims = tuple(re.findall(r"\w+", declared[3] or ""))
        file.createVariable(declared[2], _KINDS[declared[1]], dims)
        return
    attribute = re.fullmatch(r"(\w*)\s*:\s*(\w+)\s*=\s*(.*)", text, re.DOTALL)
    if attribute is None:
        raise ValueError("neither a variable nor an attribute")
    owner = file[attribute[1]] if attribute[1] else file
    texts = _strings(attribute[3])
    owner.setncattr(attribute[2], "".join(texts) if texts else _numbers(attribute[3].split(",")))


def _fill(file: netCDF4.Dataset, text: str) -> str:
    """Give a variable its values; return its name."""
    name, _, values = text.partition("=")
    variable = file[name.strip()]
    if variable.dtype.kind == "S":
        width = variable.shape[-1] if variable.shape else 1
        rows = [list(string.ljust(width, "\0")) for string in _strings(values)]
        variable[:] = np.array(rows, "S1").reshape(variable.shape)
    else:
        import netCDF4

        missing = float(getattr(variable, "_FillValue", netCDF4.default_fillvals[variable.dtype.str[1:]]))
        variable[:] = _numbers(values.split(","), missing).reshape(variable.shape)
    return name.strip()


def _numbers(texts: Sequence[str], missing: float = np.nan) -> Array:
    """Return numbers as CDL writes them.

    >>> _numbers(["1", " 2.5f", "_", "1.d3"], missing=-9)
    array([   1. ,    2.5,   -9. , 1000. ])
    """
    plain = [re.sub(r"[fFdDlLsSbB]$", "", w.strip()).replace("d", "e") for w in texts]
    return np.array([missing if text == "_" else float(text) for text in plain])


def _strings(text: str) -> list[str]:
    """Return the strings in a value, their escapes resolved."""
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    return [re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), string) for string in strings]
