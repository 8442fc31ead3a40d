"""The model's checkout: cloned at its tag, its externals at theirs, a parameter file that FATES can read.

Each step looks at what is there, so that an installation goes on wherever it was interrupted, and does
nothing when all is there.
"""

from __future__ import annotations

import difflib
import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from fatescal.base.errors import BadInput, RunFailed
from fatescal.models.clm_fates import cdl
from fatescal.models.clm_fates.externals import (
    Say,
    check_out,
    commit,
    described,
    externals,
    git,
    missing,
    run_watched,
    tool,
)

CREATE_NEWCASE = Path("cime", "scripts", "create_newcase")
PARAMETER_FILES = Path("src", "fates", "parameter_files")
# what a new file may be to count as an edit
SOURCES = {".F90", ".F", ".f90", ".f", ".inc", ".c", ".cpp", ".h", ".in", ".xml"}
PATIENCE = 600.0  # s that git or a tool for the externals may print nothing


def install(url: str, tag: str, root: Path, say: Say, patience: float = PATIENCE) -> None:
    """Bring the checkout `root` to where cases can be made from it.

    Parameters
    ----------
    say : callable
        Gets lines about what is there and what was done.
    patience : float
        Time without output after which git, or the tool for the externals, is ended [s].

    Raises
    ------
    BadInput
        For what the config has wrong, or what is in the way.
    RunFailed
        When git or the tool for the externals fails or hangs.
    """
    log = root.with_name(f"{root.name}.install.log")
    if not root.exists() or not any(root.iterdir()):
        say(f"model         cloning {url}, which may take minutes; its log: {log}")
        _clone(url, tag, root, log, patience)
        say(f"model         {tag} is in {root}")
    else:
        _require_at(root, tag)
        say(f"model         {root} is at {tag}")
    lacking = missing(root)
    if lacking or not (root / CREATE_NEWCASE).is_file():
        say(f"externals     {len(lacking)} to check out, with {tool(root)}; its log: {log}")
        check_out(root, log, patience, say)
    say(f"externals     {', '.join(map(str, externals(root)))}")
    if not (root / CREATE_NEWCASE).is_file():
        raise BadInput(f"{root} has no {CREATE_NEWCASE}", expected="the checkout of a model that CIME builds")
    file, made_by = parameter_file(root)
    say(f"parameters    {file}" + (f", made from CDL by {made_by}" if made_by else ""))


def edits(root: Path) -> dict[str, str]:
    """Return the files of a checkout and its externals that are not as committed: digests by path.

    New files count where they can be part of the model; parameter files, which the namelist names, do not.
    """
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all")
    edited: dict[str, str] = {}
    for folder in (root, *(root / external.path for external in externals(root))):
        if not (folder / ".git").exists():
            continue
        entries = [(line[:2], Path(line[3:])) for line in git(folder, "status", *options).stdout.split("\0")]
        kept = [
            path for state, path in entries if state.strip() and (state != "??" or path.suffix in SOURCES)
        ]
        edited |= digests(root, (folder / path for path in kept))
    return {name: digest for name, digest in edited.items() if not Path(name).is_relative_to(PARAMETER_FILES)}


def digests(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return a digest of each file by its path below `root`; that of one that is gone is empty."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in files
    }


def _clone(url: str, tag: str, root: Path, log: Path, patience: float) -> None:
    """Clone and check out aside, so that what stands at `root` is whole."""
    if shutil.which("git") is None:
        raise BadInput("there is no git on the PATH", hint="load the module that brings it")
    part = root.with_name(root.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    clone = ["git", "clone", "--progress", "--no-checkout", url, str(part)]
    run_watched(clone, part.parent, log, patience)
    known = commit(part, tag)
    if known is None:
        names = git(part, "tag").stdout.split()
        shutil.rmtree(part)
        near = difflib.get_close_matches(tag, names, n=1)
        raise BadInput(
            f"model.source.tag: {url} has no tag, branch or commit {tag}",
            hint=f"did you mean {near[0]}" if near else f"git ls-remote --tags {url}",
        )
    done = git(part, "checkout", "--quiet", "--detach", known)
    if done.returncode:
        raise RunFailed(f"git checkout {tag} in {part} failed: {' | '.join(done.stderr.splitlines())}")
    if root.exists():
        root.rmdir()  # empty
    part.rename(root)


def _require_at(root: Path, tag: str) -> None:
    head = commit(root, "HEAD")
    if head is None:
        raise BadInput(
            f"model.source.path: {root} is no git checkout, and not empty", hint="another path, or empty it"
        )
    if head != commit(root, tag):
        raise BadInput(
            f"model.source: {root} is at another version",
            expected=tag,
            got=described(root),
            hint="another model.source.path: cases may have been built from this one",
        )


# ---- parameters


def parameter_file(root: Path) -> tuple[Path, str]:
    """Return the FATES parameter file of a checkout, and what made it now from CDL (empty: it was there).

    Raises
    ------
    BadInput
        When the checkout has none.
    """
    folder = root / PARAMETER_FILES
    as_json, text = folder / "fates_params_default.json", folder / "fates_params_default.cdl"
    if as_json.is_file():
        return as_json, ""
    if not text.is_file():
        raise BadInput(
            f"{folder} has no parameter file",
            expected="fates_params_default.json, or .cdl",
            hint="fatescal install",
        )
    made = text.with_suffix(".nc")
    if made.is_file() and made.stat().st_mtime >= text.stat().st_mtime:
        return made, ""
    return made, cdl.convert(text, made)
