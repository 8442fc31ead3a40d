"""Input data of a case: which files a run reads, which of them are missing, and CIME's own list of files.

CIME compares its list with the disk only in `case.submit`, which members of processes never call. The list
also holds files that a single point with FATES never opens (population density, crop calendars): these are
named, and do not stop anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fatescal.base.errors import BadInput
from fatescal.models.clm_fates import namelist, streams
from fatescal.models.clm_fates.cime import Case, CimeError
from fatescal.models.clm_fates.watched_tool import Say

TOOL, LOG = "check_input_data", "fatescal_inputdata.log"
_LISTED = re.compile(r"^Model (\S+) missing file (\S+) = '([^']*)'", re.MULTILINE)
# Files that lnd_in names whether or not the run opens them: keys, the key that decides, values that mean no.
NO = r"\.?f(alse)?\.?"
UNREAD: tuple[tuple[str, str, str], ...] = (
    (r"popdens|lightng", "fates_spitfire_mode", "[01]"),
    (r"cropcal|cultivar_gdds|gdd20|swindow", "use_crop", NO),
    (r"ch4finundated", "use_lch4", NO),
    (r"exice", "use_excess_ice", NO),
    (r"prigentroughness", "use_prigent_roughness", NO),
)
_FILE = re.compile(r"^\s*(\w+)\s*=\s*'(/[^']*)'\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Missing:
    """A file that is not there; `key` of `lnd_in`, or the stream, that names it."""

    key: str
    path: Path

    def __str__(self) -> str:
        return f"{self.path} ({self.key})"


def missing(lnd_in: str, weather: Sequence[streams.Stream]) -> list[Missing]:
    """Return the files that a run with this namelist and these streams will open, and that are not there."""
    needed = [Missing(key, Path(path)) for key, path in _FILE.findall(lnd_in) if not _is_unread(key, lnd_in)]
    needed += [Missing(f"stream {stream.name}", file) for stream in weather for file in stream.files]
    absent = {file.path: file for file in reversed(needed) if not file.path.exists()}
    return list(reversed(absent.values()))


def _is_unread(key: str, lnd_in: str) -> bool:
    """Tell whether a run never opens the file of a key."""
    for pattern, switch, no in UNREAD:
        if re.search(pattern, key):
            value = namelist.get(lnd_in, switch)
            return value is None or re.fullmatch(no, value.strip(), re.IGNORECASE) is not None
    return False


def listed(text: str) -> list[Missing]:
    """Return the files that CIME said are missing, in what `check_input_data` or `case.submit` printed.

    >>> [str(f) for f in listed("Loading input file list\\nModel clm missing file fsurdat = '/in/s.nc'\\n")]
    ['/in/s.nc (clm: fsurdat)']
    """
    files = {path: Missing(f"{model}: {key}", Path(path)) for model, key, path in _LISTED.findall(text)}
    return list(files.values())


def require_all(lnd_in: str, weather: Sequence[streams.Stream], hint: str) -> None:
    """Raise `BadInput` that names all files that a run would open in vain."""
    absent = missing(lnd_in, weather)
    if absent:
        count = f"{len(absent)} input {'file is' if len(absent) == 1 else 'files are'} missing"
        raise BadInput(f"{count}: {', '.join(map(str, absent))}", hint=hint)


def require(case: Case, run_directory: Path, say: Say, *, list_all: bool, download: bool) -> None:
    """Raise `BadInput` that names all files that the model of a case needs and that are missing.

    Parameters
    ----------
    run_directory : Path
        With `lnd_in` and `datm.streams.xml`.
    list_all : bool
        Whether to name also what is on CIME's list and never opened.
    download : bool
        Whether CIME is to fetch what is missing first.
    """
    on_list = cime_list(case, download=download) if list_all or download else []
    lnd_in = (run_directory / "lnd_in").read_text(encoding="utf-8")
    weather = streams.parse((run_directory / "datm.streams.xml").read_text(encoding="utf-8"))
    hint = (
        f"put them there, or correct the paths; {case.path / LOG} tells why CIME could not download them"
        if download
        else "python -m fatescal build CONFIG --download, or put them there, or correct the paths"
    )
    require_all(lnd_in, weather, hint)
    if on_list:
        say(f"input data    missing on CIME's list, not read by this run: {', '.join(map(str, on_list))}")


def cime_list(case: Case, *, download: bool = False) -> list[Missing]:
    """Return what is missing on CIME's own list; with `download`, after CIME has fetched what it can."""
    if not (case.path / TOOL).is_file():
        return []
    log = case.path / LOG
    try:
        case(TOOL, *(["--download"] if download else []), log=log)
    except CimeError:  # its exit code tells that something is missing, or could not be fetched
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        if not listed(text):
            raise
        return [file for file in listed(text) if not file.path.exists()]
    return []
