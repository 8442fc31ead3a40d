"""Stand-ins for CTSM's repositories and for the tools that check out their externals; they hold no model.

`write_repositories` writes bare repositories of a model (``A``: ctsm5.4, with ``bin/git-fleximod`` and
``.gitmodules``; ``B``: ctsm5.1, with ``manage_externals/checkout_externals`` and ``Externals.cfg``), of FATES
with its real parameter file, and of the stand-in CIME (`standin_cime`). The tools are this file, started as
``standin_checkout.py git-fleximod|checkout_externals ROOT``: they clone what is not there, check out the tag,
leave changed externals alone. CDEPS has an external of its own, fox. As the real ones do:

- git-fleximod that cannot check out an external says so on standard error alone, and then waits for ever,
  with a
  process of its own (its git) left; checkout_externals ends with an error;
- checkout_externals that meets an external, or one of an external, with changed files or at another commit
  than the
  one around it records, prints its state, checks out nothing, and returns 0.

``STANDIN_EXTERNALS_DIE`` names an external in whose clone the tool is killed, with a torn clone left;
``STANDIN_EXTERNALS_FAIL`` one that cannot be checked out; ``STANDIN_EXTERNALS_SKIP`` one that is left out
without a word.
"""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TAGS = {"A": "ctsm5.4.053", "B": "ctsm5.1.dev151-noresm_v1"}
ME = ["-c", "user.name=me", "-c", "user.email=me@here", "-c", "commit.gpgsign=false"]


@dataclass(frozen=True)
class External:
    """One entry of the tools' files."""

    path: str
    url: str
    version: str
    required: bool


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *ME, "-C", str(folder), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def write_repositories(folder: Path, version: str, data: Path, machines: dict) -> tuple[str, str]:
    """Write the bare repositories below `folder`; return url and tag of the model's."""
    from ctsm_case import FATES
    from standin_cime import install

    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        install(made / "cime_in", version, data, machines)
        cime = _bare(made / "cime_in" / "cime", folder / "cime.git", "cime6.1.59")
        fates = made / "fates"
        (fates / "parameter_files").mkdir(parents=True)
        suffix = ".json" if version == "A" else ".cdl"
        shutil.copy(
            data / "fates" / FATES[version], fates / "parameter_files" / f"fates_params_default{suffix}"
        )
        other = _bare(fates, folder / "fates.git", "sci.1.0_api.0")
        cdeps = _bare_cdeps(made, folder, version)
        model = made / "model"
        write = _write_fleximod if version == "A" else _write_manage_externals
        write(model, cime, other, cdeps)
        return _bare(model, folder / "CTSM.git", TAGS[version]), TAGS[version]


def _bare(content: Path, target: Path, tag: str) -> str:
    """Commit a folder, tag it, and leave it as a bare repository; a later commit keeps the tag off the
    branch's head.
    """
    git(content.parent, "init", "-q", "-b", "master", str(content))
    git(content, "add", "-A")
    git(content, "commit", "-qm", "as it was released")
    git(content, "tag", tag)
    (content / "later").write_text("work after the release\n")
    git(content, "add", "-A")
    git(content, "commit", "-qm", "later")
    git(content.parent, "clone", "-q", "--bare", str(content), str(target))
    return target.as_uri()


def _bare_cdeps(made: Path, folder: Path, version: str) -> str:
    """Write CDEPS with fox, which CDEPS names with its commit and, for git-fleximod, its tag."""
    (made / "fox").mkdir()
    (made / "fox" / "wxml.F90").write_text("! writes XML\n")
    fox = _bare(made / "fox", folder / "fox.git", "4.1.2.1")
    cdeps = made / "cdeps"
    (cdeps / "datm").mkdir(parents=True)
    (cdeps / "datm" / "datm.F90").write_text("! reads streams\n")
    text = f'[submodule "fox"]\npath = fox\nurl = {fox}\n'
    if version == "A":  # older versions have none of git-fleximod's keys
        text += "fxtag = 4.1.2.1\nfxrequired = AlwaysRequired\n"
        text += '[submodule "share"]\npath = share\nurl = file:///nowhere\nfxtag = v1\n'
        text += "fxrequired = ToplevelRequired\n"
    (cdeps / ".gitmodules").write_text(text)
    git(made, "init", "-q", "-b", "master", str(cdeps))
    known = git(folder / "fox.git", "rev-parse", "4.1.2.1^{commit}").strip()
    git(cdeps, "update-index", "--add", "--cacheinfo", f"160000,{known},fox")
    git(cdeps, "add", ".gitmodules", "datm")
    git(cdeps, "commit", "-qm", "as it was released")
    git(cdeps, "tag", "cdeps1.0")
    git(made, "clone", "-q", "--bare", str(cdeps), str(folder / "cdeps.git"))
    return (folder / "cdeps.git").as_uri()


def _tool(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True)
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).resolve()))}"
    path.write_text(f'#!/bin/sh\nexec {program} {name} "$(cd "$(dirname "$0")/.." && pwd)" "$@"\n')
    path.chmod(0o755)


def _write_fleximod(model: Path, cime: str, fates: str, cdeps: str) -> None:
    _tool(model / "bin" / "git-fleximod", "git-fleximod")
    (model / ".gitmodules").write_text(
        f'[submodule "fates"]\npath = src/fates\nurl = {fates}\nfxtag = sci.1.0_api.0\n'
        "fxrequired = AlwaysRequired\n"
        '# Standard Fork to compare to with "git fleximod test"\n'
        f"fxDONOTUSEurl = {fates}\n\n"
        f'[submodule "cime"]\n        path = cime\n        url = {cime}\n        fxtag = cime6.1.59\n'
        "        fxrequired = ToplevelRequired\n\n"
        f'[submodule "cdeps"]\npath = components/cdeps\nurl = {cdeps}\nfxtag = cdeps1.0\n'
        "fxrequired = ToplevelRequired\n\n"
        '[submodule "doc-builder"]\npath = doc/doc-builder\nurl = file:///nowhere\nfxtag = v1\n'
        "fxrequired = ToplevelOptional\n"
    )


def _write_manage_externals(model: Path, cime: str, fates: str, cdeps: str) -> None:
    _tool(model / "manage_externals" / "checkout_externals", "checkout_externals")
    (model / "Externals.cfg").write_text(
        "[clm]\nlocal_path = .\nprotocol = externals_only\nexternals = Externals_CLM.cfg\nrequired = True\n\n"
        f"[cime]\nlocal_path = cime\nprotocol = git\nrepo_url = {cime}\ntag = cime6.1.59\nrequired = True\n\n"
        f"[cdeps]\nlocal_path = components/cdeps\nprotocol = git\nrepo_url = {cdeps}\ntag = cdeps1.0\n"
        "required = True\n\n"
        "[doc-builder]\nlocal_path = doc/doc-builder\nprotocol = git\nrepo_url = file:///nowhere\ntag = v1\n"
        "required = False\n\n[externals_description]\nschema_version = 1.0.0\n"
    )
    (model / "Externals_CLM.cfg").write_text(
        f"[fates]\nlocal_path = src/fates\nprotocol = git\nrepo_url = {fates}\ntag = sci.1.0_api.0\n"
        "required = True\n\n"
        "[externals_description]\nschema_version = 1.0.0\n"
    )


# ---- the tools


def _sections(path: Path) -> list[configparser.SectionProxy]:
    parser = configparser.ConfigParser()
    parser.read_string("\n".join(line.strip() for line in path.read_text().splitlines()))
    return [parser[name] for name in parser.sections() if name != "externals_description"]


def listed(root: Path, tool: str) -> list[External]:
    """Return the externals that a tool's files list."""
    if tool == "git-fleximod":
        return [
            External(s["path"], s["url"], s["fxtag"], "Required" in s["fxrequired"])
            for s in _sections(root / ".gitmodules")
        ]
    sections = [s for name in ("Externals.cfg", "Externals_CLM.cfg") for s in _sections(root / name)]
    return [
        External(s["local_path"], s["repo_url"], s["tag"], s["required"] == "True")
        for s in sections
        if s["protocol"] == "git"
    ]


def nested(root: Path, external: External, tool: str) -> list[External]:
    """Return the externals of one that is there; git-fleximod takes those that are always required, by
    their tags.
    """
    if not (root / external.path / ".gitmodules").is_file():
        return []
    sections = _sections(root / external.path / ".gitmodules")
    if tool == "git-fleximod":
        sections = [s for s in sections if s["fxrequired"] == "AlwaysRequired"]
    recorded = git(root / external.path, "ls-tree", "HEAD").splitlines()
    commits = {line.split()[3]: line.split()[2] for line in recorded if line.startswith("160000")}
    return [
        External(
            f"{external.path}/{s['path']}",
            s["url"],
            s["fxtag"] if tool == "git-fleximod" else commits[s["path"]],
            True,
        )
        for s in sections
        if tool == "git-fleximod" or s["path"] in commits
    ]


def check_out(root: Path, external: External, tool: str) -> None:
    if os.environ.get("STANDIN_EXTERNALS_SKIP") == external.path:
        return
    folder = root / external.path
    if (folder / ".git").exists():
        if git(folder, "status", "--porcelain", "--ignore-submodules", "-uno"):
            print(f"    {external.path} has modified files")
            return
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get("STANDIN_EXTERNALS_DIE") == external.path:
            git(root, "clone", "-q", "--no-checkout", external.url, str(folder))
            (folder / ".git" / "index.lock").touch()
            os._exit(137)
        wrong = os.environ.get("STANDIN_EXTERNALS_FAIL") == external.path
        url = "file:///nowhere" if wrong else external.url
        done = subprocess.run(["git", "clone", "-q", url, str(folder)], capture_output=True, text=True)
        if done.returncode:
            fail(tool, external, done.stderr)
    git(folder, "fetch", "-q", "--tags", "origin")
    git(folder, "checkout", "-q", "--detach", external.version)
    print(f"Successfully checked out {external.path:>20} at {external.version}")


def fail(tool: str, external: External, said: str) -> None:
    """End as the tools do where an external cannot be had."""
    name = Path(external.path).name
    if tool == "checkout_externals":
        sys.exit(f"ERROR: Failed to clone {external.url}\n{said}")
    print(f"root - ERROR - Failed to checkout {name} at tag or hash {external.version}", file=sys.stderr)
    waiting = subprocess.Popen(["sleep", "3600"])
    if "STANDIN_EXTERNALS_LOG" in os.environ:
        with open(os.environ["STANDIN_EXTERNALS_LOG"] + ".pids", "a") as log:
            log.write(f"{os.getpid()} {waiting.pid}\n")
    waiting.wait()


def unclean(root: Path, externals: list[External], tool: str) -> bool:
    """Print the state of all externals; tell whether one has changed files."""
    everything = [e for external in externals for e in (external, *nested(root, external, tool))]
    found = False
    for external in everything:
        folder = root / external.path
        there = (folder / ".git").exists()
        modified = there and bool(git(folder, "status", "--porcelain", "-uno"))
        found |= modified
        print(f"{' ' if there else 'e'}{'M' if modified else ' '}  ./{external.path}")
    if found:
        print("-" * 70)
        print("The external repositories labeled with 'M' above are not in a clean state.\n")
        print("The following are two options for how to proceed:\n(1) Go into each external ...")
    return found


def main(tool: str, root: Path, arguments: list[str]) -> None:
    if arguments != (["update"] if tool == "git-fleximod" else []):
        sys.exit(f"{tool}: the stand-in knows no {arguments}")
    if "STANDIN_EXTERNALS_LOG" in os.environ:
        with open(os.environ["STANDIN_EXTERNALS_LOG"], "a") as log:
            log.write(f"{tool}\n")
    required = [external for external in listed(root, tool) if external.required]
    if tool == "checkout_externals" and unclean(root, required, tool):
        return
    for external in required:
        check_out(root, external, tool)
        for inner in nested(root, external, tool):
            check_out(root, inner, tool)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
