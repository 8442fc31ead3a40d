"""How a run of cesm.exe ended, from its exit code and its logs."""

from __future__ import annotations

from pathlib import Path

from fatescal.errors import ModelFailed, Status

QUOTED = ("lnd.log", "PET0.ESMF_LogFile", "cesm.err")  # the cause stands in the first of them that has any
SUCCESS = {"drv.log": "SUCCESSFUL TERMINATION OF CESM", "med.log": "SUCCESSFUL TERMINATION OF CMEPS"}
LINES = 12


def explained(folder: Path, failure: ModelFailed) -> ModelFailed:
    """Return a failure to launch with what the model said about it."""
    ending = failure.reason.splitlines()[0].rpartition(". ")[0] or failure.reason
    return ModelFailed(failure.kind, "\n".join([ending, *(_end(folder / name) for name in QUOTED)]).strip())


def require_success(folder: Path) -> None:
    """Raise `ModelFailed` unless driver and mediator tell of success: exit code 0 alone proves nothing."""
    for name, words in SUCCESS.items():
        path = folder / name
        if not (path.is_file() and words in path.read_text(errors="replace")):
            raise ModelFailed(Status.TRUNCATED, f"{path} does not say {words}. {_end(folder / 'lnd.log')}")


def _end(path: Path) -> str:
    """Return the last lines of a log, introduced by its path; nothing of an empty one."""
    lines = path.read_text(errors="replace").splitlines()[-LINES:] if path.is_file() else []
    told = [f"    {line}" for line in lines if line.strip()]
    return "\n".join([f"The last lines of {path}:", *told]) if told else ""
