"""Build the documentation site from README, docs and docstrings: `python docs/make_site.py` (`make docs`).

Warnings are errors: a dead link, a page that the navigation lacks, an anchor that is not there.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from pathlib import Path

import fatescal
from fatescal.report.opened_run import OpenedRun

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build" / "site_source"
OUTSIDE = ("ARCHITECTURE.md", "CONTRIBUTING.md", "NEWS.md")  # pages beside README
REPOSITORY = ("LICENSE", "CITATION.cff", "config/", "tests/", "jobscripts/", "machines/", "benchmarks/")


def page(text: str) -> str:
    """Return a page with links as they are in the site, where all pages are in one folder.

    >>> page("[a](docs/results.md#x), [b](../ARCHITECTURE.md), [c](README.md), [d](LICENSE)")
    '[a](results.md#x), [b](ARCHITECTURE.md), [c](index.md), d'
    """
    text = re.sub(r"\]\((?:\.\./)?(?:docs/)?([\w./-]+\.(?:md|png|ipynb))(#[\w-]+)?\)", _link, text)
    inside = "|".join(map(re.escape, REPOSITORY))
    return re.sub(rf"\[([^\]]+)\]\((?:\.\./)?(?:{inside})[^)]*\)", r"\1", text)


def _link(match: re.Match[str]) -> str:
    name = "index.md" if match[1] == "README.md" else match[1]
    return f"]({name}{match[2] or ''})"


def notebook() -> str:
    """Return the page of the library: its text, then every public name by its docstring."""
    text = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
    functions = [(f"fatescal.{n}", getattr(fatescal, n)) for n in fatescal.__all__ if n[0] != "_"]
    members = [(n, m) for n, m in vars(OpenedRun).items() if not n.startswith("_")]
    parts = [text.rstrip(), "", "## Functions", ""]
    for name, of in functions:
        parts += [f"### {name}{inspect.signature(of)}", "", _prose(of.__doc__), ""]
    parts += ["## A run that is open", ""]
    for name, of in members:
        called = (
            str(inspect.signature(of)).replace("(self, ", "(").replace("(self)", "()") if callable(of) else ""
        )
        parts += [f"### run.{name}{called.split(' ->')[0]}", "", _prose(of.__doc__), ""]
    return "\n".join(parts) + "\n"


def _prose(docstring: str | None) -> str:
    """Return a docstring as a page has it: sections as a block of text."""
    head, *rest = inspect.cleandoc(docstring or "").split("\n\n", 1)
    return head if not rest else f"{head}\n\n```\n{rest[0]}\n```"


def stage() -> None:
    """Write the pages into `build/site_source`."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    pages = {"index.md": ROOT / "README.md"} | {name: ROOT / name for name in OUTSIDE}
    pages |= {path.name: path for path in sorted((ROOT / "docs").glob("*.md"))}
    for name, path in pages.items():
        text = notebook() if name == "notebook.md" else path.read_text(encoding="utf-8")
        (SOURCE / name).write_text(page(text), encoding="utf-8")
    for image in (ROOT / "docs").glob("*.png"):
        shutil.copy(image, SOURCE)
    shutil.copytree(ROOT / "docs" / "notebooks", SOURCE / "notebooks")


def main() -> int:
    """Build the site; return the exit code."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    stage()
    try:
        build(load_config(str(ROOT / "docs" / "mkdocs.yml")))
    except Abort as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    print(f"docs: {ROOT / 'build' / 'site' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
