"""A site folder: surface data, forcing and `user_mods` of one place, from a directory or a zip on the web.

With one, a case of any place serves: the members get its surface data, its forcing and its coordinates.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.models.clm_fates import forcing

WEATHER = ("FSDS", "PRECTmms", "TBOT", "QBOT", "WIND", "PSRF", "FLDS")  # in forcing files of CLM
STREAMS = {
    "Faxa_swdn": "Solr",
    "Faxa_precn": "Prec",
    "Sa_tbot": "TPQW",
}  # a field: what its files have in their names


@dataclass(frozen=True)
class SiteFolder:
    """The files of one place.

    Attributes
    ----------
    surface : Path
        The surface data set.
    forcing : mapping of str to tuple of Path
        Monthly files by the key of `STREAMS`, in order of time.
    years : tuple of int
        First and last year that all of them cover.
    user_mods : Path or None
        Folder for ``create_newcase --user-mods-dirs``.
    """

    surface: Path
    forcing: Mapping[str, tuple[Path, ...]]
    years: tuple[int, int]
    user_mods: Path | None

    @cached_property
    def coordinates(self) -> tuple[float, float]:
        """Latitude and longitude [degrees north, east] of the surface data."""
        import netCDF4

        try:
            with netCDF4.Dataset(self.surface) as data:
                return float(np.squeeze(data["LATIXY"][:])), float(np.squeeze(data["LONGXY"][:]))
        except (OSError, IndexError, TypeError) as error:
            raise BadInput(f"model.site: {self.surface} tells no place of a single point: {error}") from None

    @classmethod
    def of(cls, folder: Path) -> SiteFolder:
        """Find the files of a site in a folder, wherever below it they are.

        Raises
        ------
        BadInput
            When there are none, several surface data sets, or months missing.
        """
        if not folder.is_dir():
            raise BadInput(f"model.site: there is no folder {folder}")
        below = sorted(_below(folder))
        files = [path for path in below if path.suffix == ".nc"]
        surfaces = [path for path in files if path.name.startswith("surfdata")]
        if len(surfaces) != 1:
            raise BadInput(
                f"model.site: {folder} has {len(surfaces)} surface data sets",
                expected="one file surfdata*.nc",
                got=", ".join(path.name for path in surfaces) or "none",
            )
        forcing = {field: _months(folder, files, stream) for field, stream in STREAMS.items()}
        spans = {(_month(paths[0]) // 12, _month(paths[-1]) // 12) for paths in forcing.values()}
        if len(spans) > 1:
            raise BadInput(f"model.site: the forcing in {folder} covers different years: {sorted(spans)}")
        user_mods = next((p for p in below if p.name == "user_mods" and p.is_dir()), None)
        return cls(surfaces[0], forcing, spans.pop(), user_mods)


def _below(folder: Path) -> Iterator[Path]:
    """Yield what is below a folder, also in folders that are symbolic links; each real folder once."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in (*folders, *files))


def _months(folder: Path, files: list[Path], stream: str) -> tuple[Path, ...]:
    """Return the monthly files of one stream, whole years without gaps."""
    paths = sorted((p for p in files if f".{stream}" in p.name and _month(p) >= 0), key=_month)
    if not paths:
        _refuse_other_shapes(files)
        raise BadInput(f"model.site: {folder} has no forcing files *.{stream}*.YYYY-MM.nc")
    months = [_month(path) for path in paths]
    expected = list(range(months[0] // 12 * 12, (months[-1] // 12 + 1) * 12))
    wrong = sorted(set(expected).symmetric_difference(months)) or [m for m in months if months.count(m) > 1]
    if wrong:
        raise BadInput(
            f"model.site: {stream} files in {folder} lack months or hold them twice",
            expected="whole years, one file a month",
            got=f"{len(paths)} files; look at {wrong[0] // 12}-{wrong[0] % 12 + 1:02d}",
        )
    return tuple(paths)


def _refuse_other_shapes(files: list[Path]) -> None:
    """Raise `BadInput` where a file of forcing has other dimensions than the data atmosphere reads."""
    for path in files:
        if not path.name.startswith(("surfdata", "domain")):
            with forcing.opened(path, "model.site") as data:
                forcing.require_dimensions(
                    "of model.site", path, data, [n for n in WEATHER if n in data.variables]
                )


def _month(path: Path) -> int:
    """Return year * 12 + month - 1 of a file's name, -1 where it has none."""
    match = re.search(r"(\d{4})-(0[1-9]|1[0-2])\.nc$", path.name)
    return int(match[1]) * 12 + int(match[2]) - 1 if match else -1


def fetched(url: str, sha256: str, into: Path) -> Path:
    """Return the folder with what a zip on the web holds, downloaded and unpacked once.

    Raises
    ------
    BadInput
        When it cannot be had, is another file than expected, or no safe zip.
    """
    folder = into / sha256[:16]
    if folder.is_dir():
        return folder
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        archive, unpacked = Path(scratch) / "site.zip", Path(scratch) / "site"
        _download(url, sha256, archive)
        _unpack(archive, unpacked)
        os.rename(unpacked, folder)
    return folder


def _download(url: str, sha256: str, archive: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as source, archive.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise BadInput(
            f"model.site: {url} cannot be downloaded: {reason}",
            hint="download and unpack it yourself, and give `path`",
        ) from None
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != sha256.lower():
        raise BadInput(
            f"model.site: {url} is another file than expected", expected=f"sha256 {sha256}", got=digest
        )


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise BadInput(f"model.site: the zip wants to write outside its folder: {name}")
            packed.extractall(folder)
    except zipfile.BadZipFile as error:
        raise BadInput(f"model.site: what was downloaded is no zip: {error}") from None
