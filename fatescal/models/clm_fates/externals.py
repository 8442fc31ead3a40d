"""The externals of a checkout: which, at which versions, and the tool of its tag that checks them out."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fatescal.base.errors import BadInput, RunFailed
from fatescal.models.clm_fates.watched_tool import Say, quoted, run_watched

FLEXIMOD = Path("bin", "git-fleximod")
MANAGE_EXTERNALS = Path("manage_externals", "checkout_externals")
TOOLS = {FLEXIMOD: ("update",), MANAGE_EXTERNALS: ()}  # with their arguments
MODULES = ".gitmodules"


@dataclass(frozen=True)
class External:
    """A repository that belongs into the checkout.

    Attributes
    ----------
    path : Path
        Below the checkout.
    version : str
        Its tag or commit.
    """

    path: Path
    version: str

    def __str__(self) -> str:
        short = self.version[:12] if re.fullmatch(r"[0-9a-f]{40}", self.version) else self.version
        return f"{self.path} {short}"


# ---- git


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return what git did in a folder."""
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)


def commit(folder: Path, version: str) -> str | None:
    """Return the commit of a tag, commit or branch; None where it, or a repository in the folder, is not
    there.
    """
    if not (folder / ".git").exists():
        return None
    for name in (version, f"origin/{version}"):
        result = git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if result.returncode == 0:
            return result.stdout.strip()
    return None


def described(folder: Path) -> str:
    """Return the version of a repository as its tags tell."""
    return git(folder, "describe", "--tags", "--always").stdout.strip()


def _is_at(folder: Path, version: str) -> bool:
    """Tell whether a repository is at a version, all its files written."""
    head = commit(folder, "HEAD")
    return head is not None and head == commit(folder, version) and not _torn(folder)


def _torn(folder: Path) -> bool:
    """Tell whether git was killed before it had checked out a repository."""
    if commit(folder, "HEAD") is None:
        return True
    lock, index = (
        folder / git(folder, "rev-parse", "--git-path", name).stdout.strip()
        for name in ("index.lock", "index")
    )
    return lock.exists() or not index.exists()


def _changes(folder: Path) -> list[str]:
    """Return the files of a repository itself, not of those inside it, that differ from what is committed."""
    if not (folder / ".git").exists():
        return []
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all")
    return [entry[3:] for entry in git(folder, "status", *options).stdout.split("\0") if entry]


# ---- which there must be


def externals(root: Path) -> Iterator[External]:
    """Yield the required externals of a checkout, and those of externals that are there already.

    Sources: ``.gitmodules`` (git-fleximod: ``fxtag``, or else the commit that the repository records), or
    ``Externals.cfg``.
    """
    if (root / FLEXIMOD).is_file() or not (root / "Externals.cfg").is_file():
        yield from _submodules(root, Path(), fleximod=True)
    else:
        yield from _listed(root, Path(), "Externals.cfg")


def _submodules(root: Path, below: Path, *, fleximod: bool) -> Iterator[External]:
    """Yield what a ``.gitmodules`` asks for; manage_externals takes all of it, at the commits recorded."""
    folder = root / below
    if not (folder / MODULES).is_file():
        return
    sections = _read(folder / MODULES)
    for section in (sections[name] for name in sections.sections() if "path" in sections[name]):
        required = section.get("fxrequired", "AlwaysRequired").lower()
        if fleximod and ("optional" in required or (below != Path() and required.startswith("toplevel"))):
            continue
        tagged = (section.get("fxtag") or section.get("hash")) if fleximod else None
        version = tagged or _recorded(folder, section["path"])
        if version:
            path = below / section["path"]
            yield External(path, version)
            if (root / path / ".git").exists():
                yield from _submodules(root, path, fleximod=fleximod)


def _recorded(folder: Path, path: str) -> str | None:
    """Return the commit of a submodule that its parent repository records."""
    if not (folder / ".git").exists():
        return None
    entry = re.match(r"160000 commit (\w+)", git(folder, "ls-tree", "HEAD", "--", path).stdout)
    return entry[1] if entry else None


def _listed(root: Path, below: Path, name: str) -> Iterator[External]:
    """Yield what a file of manage_externals asks for."""
    sections = _read(root / below / name)
    for section in (sections[s] for s in sections.sections() if s != "externals_description"):
        if section.get("required", "true").lower() != "true":
            continue
        version = section.get("tag") or section.get("hash") or section.get("branch")
        path = below / section.get("local_path", ".")
        own = section.get("externals", "").strip()
        if section.get("protocol") == "externals_only":
            yield from _listed(root, path, own)
        elif section.get("protocol") == "git" and version:
            yield External(path, version)
            if (root / path / ".git").exists():
                yield from _nested(root, path, own)


def _nested(root: Path, path: Path, name: str) -> Iterator[External]:
    """Yield the externals of an external of manage_externals; without a `name`, its submodules."""
    if name in ("", MODULES):
        yield from _submodules(root, path, fleximod=False)
    elif name.lower() != "none" and (root / path / name).is_file():
        yield from _listed(root, path, name)


def _read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        text = path.read_text(encoding="utf-8")
        parser.read_string("\n".join(line.strip() for line in text.splitlines()))
    except (OSError, configparser.Error) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    return parser


def missing(root: Path) -> list[External]:
    """Return the required externals that are not at their versions."""
    return [external for external in externals(root) if not _is_at(root / external.path, external.version)]


# ---- the tool


def tool(root: Path) -> Path:
    """Return the program that a tag brings to check out its externals."""
    present = next((name for name in TOOLS if (root / name).is_file()), None)
    if present is None:
        raise BadInput(
            f"{root} has no tool to check out its externals",
            expected=f"one of {', '.join(map(str, TOOLS))}",
            hint="a release tag of CTSM, or of a fork of it",
        )
    return present


def check_out(root: Path, log: Path, patience: float, say: Say) -> None:
    """Run the tool that the tag brings; afterwards all required externals are at their versions.

    Parameters
    ----------
    log : Path
        Gets what the tool prints.
    patience : float
        Time without output after which the tool is ended [s].

    Raises
    ------
    RunFailed
        When the tool fails, stops printing, or leaves out an external.
    BadInput
        When an external has changes of the user's, or is at another version.
    """
    for external in externals(root):
        _remove_torn(root, external)
    name = tool(root)
    command = [str(root / name), *TOOLS[name]]
    run_watched(command, root, log, patience, lambda line: say(f"externals     {line}"))
    wrong = missing(root)
    if wrong:
        _refuse(root, name, wrong, log)


def _refuse(root: Path, name: Path, wrong: list[External], log: Path) -> None:
    """Raise the error that says why externals are not at their versions after the tool ended without one."""
    everything = list(externals(root)) if name == MANAGE_EXTERNALS else wrong
    changed = {external: _changes(root / external.path) for external in everything}
    for external, files in changed.items():
        if files:
            names = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
            effect = "checks out nothing" if name == MANAGE_EXTERNALS else "does not update it"
            raise BadInput(
                f"{root / external.path} has changes of your own ({names}): {name} {effect}",
                expected=external,
                got=described(root / external.path),
                hint=f"git -C {root / external.path} stash, or commit them to a branch; then install again",
            )
    if name == MANAGE_EXTERNALS:
        _refuse_nested(root, wrong)
    absent = [external for external in wrong if not (root / external.path / ".git").exists()]
    if absent:
        raise RunFailed(
            f"{name} ended without an error, but did not check out {', '.join(map(str, absent))}. "
            f"It printed: {quoted(log)}. Its log: {log}"
        )
    folder = root / wrong[0].path
    raise BadInput(
        f"{folder} is at another version than the model wants, and {name} did not change that",
        expected=wrong[0].version,
        got=described(folder),
        hint=f"keep commits of your own elsewhere, remove the folder, and install again; see {log}",
    )


def _refuse_nested(root: Path, wrong: list[External]) -> None:
    """Raise `BadInput` for an external that is not as the one around it records, and so makes that one
    unclean.
    """
    around = {external.path for external in externals(root)}
    for external in wrong:
        outer = next((path for path in external.path.parents if path in around), None)
        if outer is not None:
            raise BadInput(
                f"{root / external.path} is not at the version that {outer} records, and "
                f"{MANAGE_EXTERNALS} did not change that",
                expected=external.version,
                got=commit(root / external.path, "HEAD") or "nothing there",
                hint=f"git -C {root / outer} submodule update --init --recursive; then install again",
            )


def _remove_torn(root: Path, external: External) -> None:
    """Remove an external that an interruption left half; everything else stays as it is."""
    folder = root / external.path
    marker = folder / ".git"
    if not marker.exists() or not _torn(folder):
        return
    if marker.is_file():  # a submodule: its repository is in the checkout's own
        kept = (folder / marker.read_text().removeprefix("gitdir:").strip()).resolve()
        if kept.is_relative_to((root / ".git").resolve()):
            shutil.rmtree(kept, ignore_errors=True)
    shutil.rmtree(folder)
