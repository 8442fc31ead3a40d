"""`nuopc.runconfig`, the ESMF resource file with the driver's settings: read values, change some."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fatescal.base.errors import BadInput


def get(text: str, key: str) -> str | None:
    """Return the value of `key` in the first block that has it.

    >>> get("CLOCK_attributes::\\n     stop_n = 1\\n::\\n", "stop_n")
    '1'
    """
    match = re.search(_line(key), text, re.MULTILINE)
    return None if match is None else match[2].strip()


def edit(text: str, changes: Mapping[str, object]) -> str:
    """Return a runconfig with the values of keys changed, wherever they stand.

    Raises
    ------
    BadInput
        When a key is nowhere in it.
    """
    for key, value in changes.items():
        text, n = re.subn(_line(key), lambda m, v=value: f"{m[1]}{v}", text, flags=re.MULTILINE)  # type: ignore[misc]
        if not n:
            raise BadInput(f"nuopc.runconfig has no {key}", expected="the file preview_namelists writes")
    return text


def log_here(text: str) -> str:
    """Return a runconfig whose components write their logs into the run directory, under plain names.

    >>> text = "LND_modelio::\\n     diro = /a/run\\n     logfile = lnd.log.261122-090816\\n::\\n"
    >>> print(log_here(text), end="")
    LND_modelio::
         diro = .
         logfile = lnd.log
    ::
    """
    return re.sub(r"^\w+_modelio::\n(?:.*\n)*?::", _block_here, text, flags=re.MULTILINE)


def _block_here(block: re.Match[str]) -> str:
    text = re.sub(r"^(\s*diro\s*=).*$", r"\1 .", block[0], flags=re.MULTILINE)
    return re.sub(r"^(\s*logfile\s*=\s*\w+\.log)\S*$", r"\1", text, flags=re.MULTILINE)


def _line(key: str) -> str:
    return rf"^([ \t]*{re.escape(key)}[ \t]*=[ \t]*)(.*)$"
