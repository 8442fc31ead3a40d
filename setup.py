"""Build fatescal: its version from git's tags, and copies of the shipped files for the wheel."""

import re
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SHIPPED = {"config": "*.yaml", "machines": "*.yaml", "jobscripts": "*.sh"}  # folders beside the package


def version():
    """Return the version: that of a tag `vX.Y.Z`, between tags X.Y.Z.devN of the next one.

    The next one stands in CITATION.cff. An sdist carries its version in PKG-INFO. Without git and PKG-INFO it
    is the one of CITATION.cff.
    """
    coming = re.search(r"^version: *(\S+)", (HERE / "CITATION.cff").read_text(encoding="utf-8"), re.M)[1]
    if (HERE / ".git").exists():
        return from_git(coming)
    if (HERE / "PKG-INFO").exists():
        return re.search(r"^Version: *(\S+)", (HERE / "PKG-INFO").read_text(encoding="utf-8"), re.M)[1]
    return coming


def from_git(coming):
    """Return the version by the tags of this checkout; `coming` where git does not answer."""
    described = git("describe", "--tags", "--long", "--dirty", "--match", "v[0-9]*")
    parts = re.fullmatch(r"v(.+)-(\d+)-g(\w+?)(-dirty)?", described)
    if parts:
        tag, count, commit, dirty = parts.groups()
    else:  # there is no tag
        tag, count, commit = None, git("rev-list", "--count", "HEAD"), git("rev-parse", "--short", "HEAD")
        dirty = git("status", "--porcelain", "--untracked-files=no")
    if not (count and commit):
        return coming
    if count == "0" and tag and not dirty:
        return tag
    return f"{coming}.dev{count}+g{commit}{'.dirty' if dirty else ''}"


def git(*arguments):
    """Return what git prints of this checkout; nothing where it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class BuildWithShippedFiles(build_py):
    """Put copies of the shipped files into the wheel, where `fatescal/config/shipped_files.py` finds them."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            for path, copy in self.shipped():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)

    def shipped(self):
        """Return the shipped files, and where the build has their copies."""
        folder = Path(self.build_lib) / "fatescal" / "config" / "shipped"
        paths = [path for name, pattern in SHIPPED.items() for path in sorted((HERE / name).glob(pattern))]
        return [(path, folder / path.relative_to(HERE)) for path in paths]

    def get_outputs(self, include_bytecode=True):
        return super().get_outputs(include_bytecode) + [str(copy) for _, copy in self.shipped()]


setup(version=version(), cmdclass={"build_py": BuildWithShippedFiles})
