"""Fortran namelists of CTSM (`lnd_in`): read values, change some, leave every other byte as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fatescal.base.errors import BadInput

Value = bool | int | float | str | Sequence["Value"]


def fortran(value: Value) -> str:
    """Return a value as Fortran writes it.

    >>> fortran(True), fortran(0.1), fortran("ball'y"), fortran([0, -24])
    ('.true.', '0.1', "'ball''y'", '0,-24')
    """
    if isinstance(value, bool):
        return ".true." if value else ".false."
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, int | float):
        return repr(value)
    return ",".join(fortran(item) for item in value)


def get(text: str, key: str) -> str | None:
    """Return the value of `key` as it is written, without quotes around a single string; None where absent.

    >>> get(" fsurdat = '/a/b.nc'\\n use_fates = .true.\\n", "fsurdat")
    '/a/b.nc'
    """
    match = re.search(_line(key), text, re.MULTILINE)
    if match is None:
        return None
    value = match[2].strip()
    return value[1:-1] if re.fullmatch(r"'[^']*'", value) else value


def items(text: str) -> dict[str, str]:
    """Return every key and its value as it is written, on one line.

    >>> items("&a\\n x = 'u',\\n     'v'\\n y(2) = 1\\n/\\n!# z = 3\\n")
    {'x': "'u','v'", 'y(2)': '1'}
    """
    entries = re.findall(_line(r"(\w+(?:\(\d+\))?)", escaped=True), text, re.MULTILINE)
    return {key: re.sub(r"\s*\n\s*", "", value).strip() for _, key, value in entries}


def files(text: str) -> dict[str, str]:
    """Return every key that has the absolute path of one netCDF or JSON file, and `finidat`, with the path.

    >>> files(" finidat = 'a.nc'\\n x = '/b.nc'\\n y = 'c.nc'\\n popd = 'none'\\n z = '/a.nc','/b.nc'\\n")
    {'finidat': 'a.nc', 'x': '/b.nc'}
    """
    named = re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*'([^']*)'[ \t]*$", text, re.MULTILINE)
    return {
        key: value.strip()
        for key, value in named
        if (value.startswith("/") and value.endswith((".nc", ".json")))
        or (key == "finidat" and value.strip())
    }


def numbers(text: str) -> dict[str, float]:
    """Return every key that has one real number, and its value.

    >>> numbers(" dtmin = 60.\\n n_melt = 1.0d01\\n expensive = 42\\n snow_canopy = 0.1,0.2\\n")
    {'dtmin': 60.0, 'n_melt': 10.0}
    """
    real = r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[ed]))(?:[ed][-+]?\d+)?"
    entries = re.findall(rf"^[ \t]*(\w+)[ \t]*=[ \t]*({real})[ \t]*$", text, re.MULTILINE | re.IGNORECASE)
    return {key: float(value.lower().replace("d", "e")) for key, value in entries}


def edit(text: str, changes: Mapping[str, Value | None], group: str = "clm_inparm") -> str:
    """Return a namelist with keys changed where they stand, new ones at the head of `group`, None ones
    removed.

    Raises
    ------
    BadInput
        When there is no such group.

    >>> print(edit("&clm_inparm\\n a = 1\\n b = 2\\n/\\n", {"b": 3, "c": True, "a": None}), end="")
    &clm_inparm
     c = .true.
     b = 3
    /

    A long value is written on several lines.

    >>> print(edit("&clm_inparm\\n a = 'x','y',\\n         'z'\\n b = 2\\n/\\n", {"a": ["w"]}), end="")
    &clm_inparm
     a = 'w'
     b = 2
    /
    """
    new = []
    for key, value in changes.items():
        if value is None:
            text = re.sub(_line(key) + r"\n", "", text, flags=re.MULTILINE)
        elif re.search(_line(key), text, re.MULTILINE):
            written = fortran(value)
            text = re.sub(_line(key), lambda m, w=written: m[1] + w, text, flags=re.MULTILINE)  # type: ignore[misc]
        else:
            new.append(f" {key} = {fortran(value)}\n")
    if not new:
        return text
    head = f"&{group}\n"
    if head not in text:
        raise BadInput(
            f"{', '.join(key for key in changes)}: lnd_in has no group {group}",
            expected="lnd_in as preview_namelists writes it",
        )
    return text.replace(head, head + "".join(new), 1)


def _line(key: str, escaped: bool = False) -> str:
    """Return the pattern of a key with its value, which goes on until the next key, group or comment."""
    goes_on = r"(?:\n(?!\s*(?:\w+(?:\(\d+\))?\s*=|[/&!]|$)).*)*"
    return rf"^([ \t]*{key if escaped else re.escape(key)}[ \t]*=[ \t]*)(.*{goes_on})$"
