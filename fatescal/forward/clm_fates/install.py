"""The model's checkout: cloned at its tag, with its externals at theirs, and a parameter file that FATES can read.

Each step looks at what is there, so that an installation goes on wherever it was interrupted, and does nothing when all
is there.
"""

from __future__ import annotations

import configparser
import difflib
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fatescal.errors import BadInput, RunFailed
from fatescal.forward.clm_fates import cdl

CREATE_NEWCASE = Path("cime", "scripts", "create_newcase")
PARAMETER_FILES = Path("src", "fates", "parameter_files")
TOOLS = {  # what a tag may bring to check out its externals, and how it is told to
    Path("bin", "git-fleximod"): ("update",),
    Path("manage_externals", "checkout_externals"): (),
}
# what a new file may be to count as an edit
SOURCES = {".F90", ".F", ".f90", ".f", ".inc", ".c", ".cpp", ".h", ".in", ".xml"}
LAST_LINES = 6  # of what git or a tool said


@dataclass(frozen=True)
class External:
    """A repository that belongs into the checkout.

    Attributes
    ----------
    version : str
        Its tag or commit.
    """

    path: Path
    version: str


def install(url: str, tag: str, root: Path, say: Callable[[str], None]) -> None:
    """Bring the checkout `root` to where cases can be made from it; `say` what is there and what was done.

    Raises
    ------
    BadInput
        For what the config has wrong, or what is in the way.
    RunFailed
        When git or the tool for the externals ends with an error.
    """
    if not root.exists() or not any(root.iterdir()):
        say(f"model         cloning {url}, which may take minutes")
        _clone(url, tag, root)
        say(f"model         {tag} is in {root}")
    else:
        _require_at(root, tag)
        say(f"model         {root} is at {tag}")
    wanted = list(externals(root))
    lacking = [external for external in wanted if not _is_at(root / external.path, external.version)]
    if lacking or not (root / CREATE_NEWCASE).is_file():
        say(f"externals     {len(lacking)} of {len(wanted)} to check out, with {_tool(root)[0]}")
        _check_out(root, wanted)
    say(f"externals     {', '.join(f'{e.path} {e.version}' for e in wanted)}")
    if not (root / CREATE_NEWCASE).is_file():
        raise BadInput(f"{root} has no {CREATE_NEWCASE}", expected="the checkout of a model that CIME builds")
    file, made_by = parameter_file(root)
    say(f"parameters    {file}" + (f", made from CDL by {made_by}" if made_by else ""))


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)


def commit(folder: Path, version: str) -> str | None:
    """Return the commit of a tag, commit or branch in a repository of its own, None where either is not there."""
    if not (folder / ".git").exists():
        return None
    for name in (version, f"origin/{version}"):
        found = _git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def edits(root: Path) -> dict[str, str]:
    """Return the files of a checkout and its externals that are not as committed, by path, with a digest of each.

    New files count where they can be part of the model; parameter files, which the namelist names, do not.
    """
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all")
    found: dict[str, str] = {}
    for folder in (root, *(root / external.path for external in externals(root))):
        if not (folder / ".git").exists():
            continue
        entries = [(word[:2], Path(word[3:])) for word in _git(folder, "status", *options).stdout.split("\0")]
        kept = [
            path for state, path in entries if state.strip() and (state != "??" or path.suffix in SOURCES)
        ]
        found |= digests(root, (folder / path for path in kept))
    return {name: digest for name, digest in found.items() if not Path(name).is_relative_to(PARAMETER_FILES)}


def digests(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return a digest of each file by its path below `root`; that of one that is gone is empty."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in files
    }


def _is_at(folder: Path, version: str) -> bool:
    """Tell whether a repository is at a version, all its files written."""
    head = commit(folder, "HEAD")
    return head is not None and head == commit(folder, version) and not _torn(folder)


def _torn(folder: Path) -> bool:
    """Tell whether git was killed before it had checked out a repository."""
    if commit(folder, "HEAD") is None:
        return True
    lock, index = (
        folder / _git(folder, "rev-parse", "--git-path", name).stdout.strip()
        for name in ("index.lock", "index")
    )
    return lock.exists() or not index.exists()


def _clone(url: str, tag: str, root: Path) -> None:
    """Clone and check out aside, so that what stands at `root` is whole."""
    if shutil.which("git") is None:
        raise BadInput("there is no git on the PATH", hint="load the module that brings it")
    part = root.with_name(root.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    cloned = subprocess.run(
        ["git", "clone", "--quiet", "--no-checkout", url, str(part)], capture_output=True, text=True
    )
    if cloned.returncode:
        raise RunFailed(
            f"git clone {url} failed: {_last(cloned.stderr)}. Start the same command again to retry"
        )
    known = commit(part, tag)
    if known is None:
        names = _git(part, "tag").stdout.split()
        shutil.rmtree(part)
        near = difflib.get_close_matches(tag, names, n=1)
        raise BadInput(
            f"model.source.tag: {url} has no tag, branch or commit {tag}",
            hint=f"did you mean {near[0]}" if near else f"git ls-remote --tags {url}",
        )
    done = _git(part, "checkout", "--quiet", "--detach", known)
    if done.returncode:
        raise RunFailed(f"git checkout {tag} in {part} failed: {_last(done.stderr)}")
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
        described = _git(root, "describe", "--tags", "--always").stdout.strip()
        raise BadInput(
            f"model.source: {root} is at another version",
            expected=tag,
            got=described,
            hint="another model.source.path: cases may have been built from this one",
        )


# ---- externals


def externals(root: Path) -> Iterator[External]:
    """Yield the required externals of a checkout: of ``.gitmodules`` with fxtag, or of ``Externals.cfg``.

    Externals of externals are left to the tool.
    """
    if (root / ".gitmodules").is_file():
        yield from _submodules(root / ".gitmodules")
    if (root / "Externals.cfg").is_file():
        yield from _listed(root, "Externals.cfg")


def _read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        text = path.read_text(encoding="utf-8")
        parser.read_string("\n".join(line.strip() for line in text.splitlines()))
    except (OSError, configparser.Error) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    return parser


def _submodules(path: Path) -> Iterator[External]:
    sections = _read(path)
    for name in sections.sections():
        section = sections[name]
        version = section.get("fxtag") or section.get("hash")
        if version and "optional" not in section.get("fxrequired", "").lower():
            yield External(Path(section["path"]), version)


def _listed(root: Path, name: str) -> Iterator[External]:
    sections = _read(root / name)
    for section in (sections[s] for s in sections.sections() if s != "externals_description"):
        if section.get("required", "true").lower() != "true":
            continue
        version = section.get("tag") or section.get("hash") or section.get("branch")
        if section.get("protocol") == "externals_only":
            yield from _listed(root / section["local_path"], section["externals"])
        elif section.get("protocol") == "git" and version:
            yield External(Path(section["local_path"]), version)


def _tool(root: Path) -> tuple[Path, tuple[str, ...]]:
    found = next(((tool, words) for tool, words in TOOLS.items() if (root / tool).is_file()), None)
    if found is None:
        raise BadInput(
            f"{root} has no tool to check out its externals",
            expected=f"one of {', '.join(map(str, TOOLS))}",
            hint="a release tag of CTSM, or of a fork of it",
        )
    return found


def _check_out(root: Path, wanted: list[External]) -> None:
    """Run the tool that the tag brings; afterwards all required externals are at their versions."""
    for external in wanted:
        _remove_torn(root, external)
    tool, words = _tool(root)
    done = subprocess.run([str(root / tool), *words], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(
            f"{tool} in {root} failed: {_last(done.stderr + done.stdout)}. Start the same command again to retry"
        )
    for external in wanted:
        if not _is_at(root / external.path, external.version):
            described = _git(root / external.path, "describe", "--tags", "--always").stdout.strip()
            raise BadInput(
                f"{root / external.path} is at another version than the model wants",
                expected=external.version,
                got=described or "nothing",
                hint=f"keep your changes elsewhere, remove the folder, and install again ({tool} leaves changed files alone)",
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


def _last(text: str) -> str:
    return (
        " | ".join([line.strip() for line in text.splitlines() if line.strip()][-LAST_LINES:])
        or "no word of why"
    )


# ---- parameters


def parameter_file(root: Path) -> tuple[Path, str]:
    """Return the FATES parameter file of a checkout, and what made it now from CDL (nothing, where it was there).

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
