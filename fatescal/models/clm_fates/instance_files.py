"""Members as instances of a case: their namelists before the run, their history and logs after it.

Instance 7 of a case reads ``user_nl_clm_0007`` and leaves ``CASE.clm2_0007.h0a.DATE.nc`` and
``lnd_0007.log.LID``. The plain ``user_nl_*`` are the case's own; those of instances are written anew for
every job.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fatescal.base.errors import BadInput, RunFailed
from fatescal.models.clm_fates import namelist
from fatescal.models.clm_fates.cime import Case, CimeError
from fatescal.models.clm_fates.template import CASE_NAME, FILES

log = logging.getLogger(__name__)
SHARED = ("user_nl_cpl",)  # of all instances
LOGS = ("drv", "med", "lnd", "atm")
_NUMBERED = re.compile(r"_\d{4}$")
# How launchers name the rank that died first; those they killed thereafter are not meant.
_DIED = (
    r"task (\d+): (?:Segmentation fault|Aborted|Floating point exception|Bus error"
    r"|Exited with exit code (?!137|143)\d)",  # srun
    r"process rank (\d+) .*exited on signal",  # Open MPI
    r"RANK (\d+) PID \d+ .*\n.*(?:SIGNAL: (?:6|7|8|11)|EXIT STATUS: [1-9])",  # Intel MPI
)


def keep_single(case: Path, run_directory: Path, into: Path, require_idle: Callable[[Path], None]) -> Path:
    """Return a folder with the input files of a case for one instance, copied once.

    Every job writes others over those of the case. A case that an earlier run left with several instances is
    set up for one first.

    Parameters
    ----------
    require_idle : callable
        Raises `BadInput` when a job of the case waits or runs.

    Raises
    ------
    BadInput
        When the case is in use, or its namelists have changed since.
    """
    plain = sorted(path for path in case.glob("user_nl_*") if not _NUMBERED.search(path.name))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in plain)).hexdigest()
    noted = into / "user_nl.sha256"
    if into.is_dir():
        if noted.read_text() != digest:
            raise BadInput(
                f"the user_nl_* files of {case} have changed since this run began",
                hint="a run.directory of its own for the changed case; or put them back",
            )
        return into
    _make_single(case, require_idle)
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        copy = Path(scratch) / "case"
        copy.mkdir()
        for name in FILES:
            if (run_directory / name).is_file():
                shutil.copy(run_directory / name, copy)
        (copy / noted.name).write_text(digest)
        os.rename(copy, into)
    return into


def _make_single(case: Path, require_idle: Callable[[Path], None]) -> None:
    """Set a case up for one instance, with the namelists of that one, where it is not."""
    single = Case(case)
    try:
        if single.query("NINST") == "1":
            return
        require_idle(case)
        single.change({"NINST": "1"})
        for old in instance_namelists(case):
            old.unlink()
        single.set_up("--reset")
        single("preview_namelists")
    except CimeError as error:
        raise BadInput(
            f"model.case: {case} could not be set up for one instance: {error}",
            hint=f"cd {case} && ./xmlchange NINST=1 && ./case.setup --reset && ./preview_namelists",
        ) from None
    log.info("%s is set up for one instance (NINST=1) again", case)


def instance_namelists(case: Path) -> list[Path]:
    """Return the ``user_nl_*_0001`` ... of a case."""
    return sorted(path for path in case.glob("user_nl_*") if _NUMBERED.search(path.name))


def suffix(instance: int) -> str:
    """Return the suffix of the files of an instance.

    >>> suffix(7)
    '_0007'
    """
    return f"_{instance:04d}"


def write_namelists(case: Path, changes: Sequence[Mapping[str, namelist.Value | None]]) -> None:
    """Write ``user_nl_*`` of so many instances, `changes` those of the land model; remove all others.

    Raises
    ------
    BadInput
        When the case has no plain ``user_nl_clm``.
    """
    for old in instance_namelists(case):
        old.unlink()
    plain = {path.name: path.read_text(encoding="utf-8") for path in sorted(case.glob("user_nl_*"))}
    if "user_nl_clm" not in plain:
        raise BadInput(f"model.case: {case} has no user_nl_clm", hint="./case.setup with NINST=1 writes it")
    for instance, own in enumerate(changes, 1):
        for name, text in plain.items():
            if name == "user_nl_clm":
                text = land_namelist(text, own)
            if name not in SHARED:
                (case / f"{name}{suffix(instance)}").write_text(text, encoding="utf-8")


def land_namelist(plain: str, changes: Mapping[str, namelist.Value | None]) -> str:
    """Return a ``user_nl_clm`` with keys changed, those that are None removed.

    >>> changes = {"hist_nhtfrq": -24, "hist_fincl2": None}
    >>> print(land_namelist("use_bedrock = .true.\\nhist_nhtfrq=0,-24\\n", changes), end="")
    use_bedrock = .true.
    hist_nhtfrq = -24
    """
    kept = namelist.edit(plain, dict.fromkeys(changes))
    kept += "" if kept.endswith("\n") or not kept else "\n"
    return kept + "".join(f"{k} = {namelist.fortran(v)}\n" for k, v in changes.items() if v is not None)


def require_read(run_directory: Path, changes: Sequence[Mapping[str, namelist.Value | None]]) -> None:
    """Raise `RunFailed` unless the namelists that CIME made of ours hold each member's files and numbers."""
    for instance, own in enumerate(changes, 1):
        path = run_directory / f"lnd_in{suffix(instance)}"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        numbers = namelist.numbers(text)
        for key, value in own.items():
            present = numbers.get(key) if isinstance(value, float) else namelist.get(text, key)
            if isinstance(value, str | float) and present != value:
                raise RunFailed(
                    f"{path} has {key} = {present}. Expected {value}, as in user_nl_clm{suffix(instance)}. "
                    "Try: ./preview_namelists in the case, and read what it says"
                )


def move_aside(run_directory: Path, case_name: str, folder: Path) -> None:
    """Move what earlier runs left from a case's run directory, so that none is taken for a later one's."""
    states = f"{case_name}.*_[0-9][0-9][0-9][0-9].r*"  # of instances
    patterns = (f"{case_name}.clm2*.h*.nc", states, "*.log.*", "PET*.ESMF_LogFile")
    for path in [path for pattern in patterns for path in run_directory.glob(pattern)]:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(path, folder / path.name)


def collect(
    run_directory: Path, case_name: str, instance: int, folder: Path, *, restart: bool = False
) -> None:
    """Move the history and logs of an instance to a member's folder, under the names a single run gives them.

    With `restart` its state as well. Again after an interruption it moves what is left.
    """
    stem = f"{case_name}.clm2{suffix(instance)}."
    patterns = [f"{stem}h*.nc", *([f"{stem}r.*.nc"] if restart else [])]
    for path in [path for pattern in patterns for path in run_directory.glob(pattern)]:
        shutil.move(path, folder / f"{CASE_NAME}.clm2.{path.name.removeprefix(stem)}")
    for path in [
        *run_directory.glob(f"{case_name}.*{suffix(instance)}.r*"),
        *run_directory.glob(f"rpointer.*{suffix(instance)}*"),
    ]:
        path.unlink()  # what only a restart needs
    for component in LOGS:
        text = log_text(run_directory, f"{component}{suffix(instance)}")
        if not text and component == "drv":  # some versions write one for all
            text = log_text(run_directory, component)
        if text:
            (folder / f"{component}.log").write_text(text, encoding="utf-8")
    for path in run_directory.glob("PET*.ESMF_LogFile"):
        if re.findall(r"\d+", path.name)[0].lstrip("0") == str(instance - 1).lstrip("0"):
            shutil.copy(path, folder / "PET0.ESMF_LogFile")


def log_text(run_directory: Path, name: str) -> str:
    """Return the last log of a name, ``name.log.LID``, which CIME compresses after a success."""
    logs = sorted(run_directory.glob(f"{name}.log.*"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return ""
    content = logs[-1].read_bytes()
    content = gzip.decompress(content) if logs[-1].suffix == ".gz" else content
    return content.decode("utf-8", "replace")


def died(cesm_log: str) -> set[int]:
    """Return the instances of the ranks that died of themselves, as the launcher tells.

    >>> died("srun: error: c1-2: task 6: Segmentation fault\\nsrun: error: c1-2: tasks 0-5,7: Killed\\n")
    {7}
    """
    return {int(rank) + 1 for pattern in _DIED for rank in re.findall(pattern, cesm_log, re.IGNORECASE)}
