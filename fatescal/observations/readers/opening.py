"""Files as text: what a file is by its first bytes, its compression, its encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from fatescal.base.errors import BadInput

_NETCDF = ("a netCDF file", "unpack it where it is compressed; leave observations.format out, or netcdf")
_EXCEL = ("an Excel workbook", "save the sheet as csv")
_R = ("an R data file", "write.csv(x, file, row.names = FALSE)")
_UNPACK = "unpack it and name the table"
KINDS = {  # first bytes: what the file is, what to do
    b"CDF\x01": _NETCDF,
    b"CDF\x02": _NETCDF,
    b"CDF\x05": _NETCDF,
    b"\x89HDF": ("a netCDF-4 or HDF5 file", _NETCDF[1]),
    b"\xd0\xcf\x11\xe0": _EXCEL,
    b"%PDF": ("a PDF document", "ask its source for the table as csv"),
    b"PAR1": ("a Parquet file", "pandas.read_parquet(file).to_csv(...)"),
    b"ARROW1": ("an Arrow file", "pandas.read_feather(file).to_csv(...)"),
    b"FEA1": ("a Feather file", "pandas.read_feather(file).to_csv(...)"),
    b"GRIB": ("a GRIB file", "write the point's values to a csv"),
    b"MATLAB 5.0": ("a MATLAB file", "writetable(T, 'file.csv')"),
    b"RDX": _R,
    b"RDA": _R,
    b"X\n\x00\x00": _R,
    b"TOB": ("a binary file of a Campbell logger", "convert it to TOA5, as with CardConvert"),
    b"(\xb5/\xfd": ("a zstd archive", _UNPACK),
    b"7z\xbc\xaf": ("a 7-zip archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"\x89PNG": ("a picture", "name a table"),
    b"\xff\xd8\xff": ("a picture", "name a table"),
    b"SQLite": ("an SQLite database", "export the table as csv"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the data", "git lfs pull"),
    b"<?xml": ("an XML file", "save the table as csv"),
    b"<!doctype html": ("a web page, perhaps that of a login", "download the file itself"),
    b"<html": ("a web page, perhaps that of a login", "download the file itself"),
}
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip"}
_HEAD = 1 << 16  # bytes that the encoding is detected from
_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@contextmanager
def text_of(path: Path) -> Iterator[tuple[TextIO, list[str]]]:
    """Open a file as text, any line ends turned to newlines; also yield notes on how it is stored.

    Raises
    ------
    BadInput
        For a missing file, one that holds no text, an archive of several files, a damaged archive.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist", expected="a table of observations")
    try:
        with path.open("rb") as raw:
            packed = _packed(raw)
            stream = _unpacked(raw, packed, path)
            head = stream.read(_HEAD)
            _refuse_other_kinds(head, path)
            encoding = _encoding(head, path)
            notes = [packed] if packed else []
            notes += [] if encoding == "utf-8-sig" else [f"encoding {encoding}"]
            stream.seek(0)
            yield io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline=None), notes
    except _BROKEN as error:
        raise BadInput(f"{path} is damaged: {error}", hint="copy or download it again") from error


def _packed(raw: IO[bytes]) -> str | None:
    head = raw.read(64)
    raw.seek(0)
    return next((kind for start, kind in _PACKED.items() if head.startswith(start)), None)


def _unpacked(raw: IO[bytes], packed: str | None, path: Path) -> IO[bytes]:
    if packed == "gzip":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if packed == "bzip2":
        return bz2.BZ2File(raw)
    if packed == "xz":
        return lzma.LZMAFile(raw)
    return _of_zip(raw, path) if packed == "zip" else raw


def _of_zip(raw: IO[bytes], path: Path) -> IO[bytes]:
    """The single file of a zip archive."""
    archive = zipfile.ZipFile(raw)
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    names = [member.filename for member in members]
    if "[Content_Types].xml" in names or "mimetype" in names:
        office = any(name.startswith("xl/") for name in names) or "mimetype" in names
        kind, advice = _EXCEL if office else ("an office document", "save its table as csv")
        raise BadInput(f"{path} is {kind}", expected="a table as text", hint=advice)
    if len(members) != 1:
        listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise BadInput(
            f"{path} is a zip archive of {len(names)} files", expected="one table", got=listed, hint=_UNPACK
        )
    if members[0].flag_bits & 1:
        raise BadInput(f"{path} is a zip archive with a password", hint=_UNPACK)
    return archive.open(members[0])


def _refuse_other_kinds(head: bytes, path: Path) -> None:
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")[:64]
    for kinds in (KINDS, dict.fromkeys(_PACKED, ("an archive within an archive", _UNPACK))):
        for first, (kind, advice) in kinds.items():
            if start.startswith(first) or (first.startswith(b"<") and start.lower().startswith(first)):
                raise BadInput(f"{path} is {kind}", expected="a table as text", hint=advice)
    if head[257:262] == b"ustar":
        raise BadInput(f"{path} is a tar archive", expected="a table as text", hint=_UNPACK)


def _encoding(head: bytes, path: Path) -> str:
    """The encoding of a text by its beginning: UTF-8, UTF-16 by its mark or zeros, else Windows-1252."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        odd, even = head[1::2].count(0), head[::2].count(0)
        if max(odd, even) > 0.4 * len(head) / 2 and min(odd, even) == 0:
            return "utf-16-le" if odd else "utf-16-be"
        raise BadInput(f"{path} is a binary file", expected="a table as text", hint="save the table as csv")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
        return "utf-8-sig"
    except UnicodeDecodeError:
        return "cp1252"
