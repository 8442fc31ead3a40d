"""Reader of the classic netCDF formats (CDF-1, CDF-2, CDF-5): the few series that are wanted, straight from the bytes.

A run's history may lie in hundreds of small files. To open one takes netCDF4 2 ms, most of it for the header, which is
the same in all files of a run up to the number of records and the hour of creation; here it is parsed once and compared
with the others byte for byte. The layout is that of the netCDF file format specification (Unidata, NetCDF Classic
Format Specification; CDF-5: R. Ross et al., PnetCDF): big-endian; all records of all record variables interleaved.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from fatescal.records import Array

MAGIC = b"CDF"
TYPES = ("i1", "S1", ">i2", ">i4", ">f4", ">f8", "u1", ">u2", ">u4", ">i8", ">u8")  # number 1 is the first
DIMENSION, VARIABLE, ATTRIBUTE = 10, 11, 12
Attribute = str | tuple[float, ...]


@dataclass(frozen=True)
class Variable:
    """Where a variable's numbers are; `shape` is without the record dimension."""

    dtype: np.dtype
    shape: tuple[int, ...]
    is_record: bool
    begin: int
    attributes: Mapping[str, Attribute]

    @property
    def size(self) -> int:
        """Bytes of one record, or of all, without padding."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """A header without the number of records: `fixed` are the pieces of its bytes that decide the layout."""

    width: int  # bytes of a count: 4, in CDF-5 8
    fixed: tuple[tuple[int, bytes], ...]
    variables: Mapping[str, Variable]
    record: int  # bytes of a record

    def fits(self, buffer: mmap.mmap) -> bool:
        """Tell whether another file is laid out alike."""
        return all(buffer[begin : begin + len(piece)] == piece for begin, piece in self.fixed)

    def n_records(self, buffer: mmap.mmap) -> int:
        """Return the number of records.

        Raises
        ------
        ValueError
            When the file ends before them.
        """
        n = int.from_bytes(buffer[4 : 4 + self.width], "big")
        recorded = [v for v in self.variables.values() if v.is_record]
        if n == 2 ** (8 * self.width) - 1:  # written as a stream: as many as there are
            first = min((v.begin for v in recorded), default=len(buffer))
            n = max(len(buffer) - first, 0) // self.record if recorded else 0
        before = max(n - 1, 0) * self.record
        ends = [
            v.begin + v.size + before * v.is_record for v in self.variables.values() if n or not v.is_record
        ]
        if max(ends, default=0) > len(buffer):
            raise ValueError(f"it ends after {len(buffer)} of {max(ends)} bytes")
        return n

    def values(self, buffer: mmap.mmap, name: str, n: int) -> Array:
        """Return a copy of a variable; records come first."""
        variable = self.variables[name]
        inner = np.zeros(variable.shape, variable.dtype).strides
        shape, strides = variable.shape, inner
        if variable.is_record:
            shape, strides = (n, *shape), (self.record, *inner)
        if not prod(shape):
            return np.empty(shape)
        return np.ndarray(shape, variable.dtype, buffer, variable.begin, strides).astype(float)


class Reader:
    """Reads files one after another; remembers the layout of the last one for the next."""

    def __init__(self) -> None:
        self._last: Layout | None = None

    def __call__(self, path: Path, names: Sequence[str]) -> tuple[dict[str, Array], Mapping[str, Variable]]:
        """Return those of the named variables that are in a file, as float64, and what is known of all variables.

        Raises
        ------
        ValueError
            When the file is torn, or of another format.
        """
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            if self._last is None or not self._last.fits(buffer):
                self._last = parse(buffer)
            layout = self._last
            n = layout.n_records(buffer)
            arrays = {name: layout.values(buffer, name, n) for name in names if name in layout.variables}
        return arrays, layout.variables


def parse(buffer: mmap.mmap) -> Layout:
    """Return the layout that a header tells.

    Raises
    ------
    ValueError
        When it is no such header, or ends too early.
    """
    version = buffer[3] if buffer[:3] == MAGIC and len(buffer) > 3 else 0
    if version not in (1, 2, 5):
        raise ValueError("it is no classic netCDF file")
    try:
        return _Header(buffer, version).layout()
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"its header is damaged: {error}") from None


class _Header:
    """A header being read; `at` is the place of the next byte."""

    def __init__(self, buffer: mmap.mmap, version: int) -> None:
        self.buffer = buffer
        self.width = 8 if version == 5 else 4
        self.offset = ">i" if version == 1 else ">q"
        self.at = 4 + self.width  # behind the number of records

    def layout(self) -> Layout:
        begin = self.at
        dimensions = [(self.name(), self.count())[1] for _ in self.items(DIMENSION)]
        dimensions_end = self.at
        self.attributes()
        variables_begin = self.at
        variables = dict(self.variable(dimensions) for _ in self.items(VARIABLE))
        recorded = [v.size for v in variables.values() if v.is_record]
        padded = [-(-size // 4) * 4 for size in recorded]
        fixed = (
            (3, self.buffer[3:4]),
            self.piece(begin, dimensions_end),
            self.piece(variables_begin, self.at),
        )
        return Layout(self.width, fixed, variables, sum(padded if len(recorded) > 1 else recorded))

    def piece(self, begin: int, end: int) -> tuple[int, bytes]:
        return begin, self.buffer[begin:end]

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.buffer, self.at)
        self.at += struct.calcsize(form)
        return value

    def count(self) -> int:
        return self.number(">q" if self.width == 8 else ">i")

    def items(self, tag: int) -> range:
        """Return the numbers of the items of a list, which may be absent."""
        found, n = self.number(">i"), self.count()
        if found not in (0, tag) or n < 0 or (found == 0 and n):
            raise ValueError(f"its header is damaged at byte {self.at}")
        return range(n)

    def bytes_(self, n: int) -> bytes:
        """Return n bytes, and skip what pads them to a multiple of four."""
        begin = self.at
        self.at += -(-n // 4) * 4
        if n < 0 or self.at > len(self.buffer):
            raise ValueError("its header is not whole")
        return self.buffer[begin : begin + n]

    def name(self) -> str:
        return self.bytes_(self.count()).decode()

    def attributes(self) -> dict[str, Attribute]:
        return dict(self.attribute() for _ in self.items(ATTRIBUTE))

    def attribute(self) -> tuple[str, Attribute]:
        name, dtype, n = self.name(), self.dtype(), self.count()
        content = self.bytes_(n * dtype.itemsize)
        if dtype.kind == "S":
            return name, content.decode("utf-8", "replace").rstrip("\0")
        return name, tuple(np.frombuffer(content, dtype).tolist())

    def dtype(self) -> np.dtype:
        number = self.number(">i")
        if not 1 <= number <= len(TYPES):
            raise ValueError(f"its header is damaged: there is no type {number}")
        return np.dtype(TYPES[number - 1])

    def variable(self, dimensions: Sequence[int]) -> tuple[str, Variable]:
        name = self.name()
        shape = [dimensions[self.count()] for _ in range(self.count())]
        attributes, dtype = self.attributes(), self.dtype()
        self.count()  # its size, which is not to be trusted where it is large
        begin = self.number(self.offset)
        is_record = bool(shape) and shape[0] == 0
        return name, Variable(dtype, tuple(shape[is_record:]), is_record, begin, attributes)
