"""Whether a netCDF file of a classic format (CDF-1, CDF-2, CDF-5) is whole: its size against its header.

Libraries read what lies beyond the end of such a file as zeros or fill values, without an error. The layout
is that of the netCDF file format specification (Unidata, NetCDF Classic Format Specification; CDF-5: R. Ross
et al., PnetCDF).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO, TypeVar

MAGIC = b"CDF"
SIZES = (1, 1, 2, 4, 4, 8, 1, 2, 4, 8, 8)  # bytes of a value of type 1, 2 ...
DIMENSION, VARIABLE, ATTRIBUTE = 10, 11, 12
T = TypeVar("T")


def require_whole(path: Path) -> None:
    """Raise ValueError where a classic file ends before its data do; any other format passes.

    Raises
    ------
    ValueError
        With the bytes that are there and those that the header promises.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if start[:3] != MAGIC:
            return
        if len(start) < 4 or start[3] not in (1, 2, 5):
            raise ValueError("its header is damaged")
        size = os.fstat(file.fileno()).st_size
        expected = _Header(file, start[3], size).end()
    if expected > size:
        raise ValueError(f"it ends after {size} of {expected} bytes: the file is truncated")


class _Header:
    """A header that is being read from byte 4 on."""

    def __init__(self, file: BinaryIO, version: int, size: int) -> None:
        self.file, self.size = file, size
        self.width = 8 if version == 5 else 4  # bytes of a count
        self.offset = 4 if version == 1 else 8  # bytes of a place in the file

    def end(self) -> int:
        """Return the number of bytes up to the end of the last value."""
        n_records = self.number(self.width)
        dimensions = self.items(DIMENSION, self.dimension)
        self.items(ATTRIBUTE, self.attribute)
        variables = self.items(VARIABLE, lambda: self.variable(dimensions))
        ends = [begin + size for begin, size, of_records in variables if not of_records]
        recorded = [(begin, size) for begin, size, of_records in variables if of_records]
        streamed = n_records == 2 ** (8 * self.width) - 1  # as many records as there are
        if recorded and n_records and not streamed:
            padded = sum(-(-size // 4) * 4 for _, size in recorded)
            record = padded if len(recorded) > 1 else recorded[0][1]
            ends += [begin + (n_records - 1) * record + size for begin, size in recorded]
        return max(ends, default=0)

    def number(self, n_bytes: int) -> int:
        return int.from_bytes(self.raw(n_bytes), "big")

    def raw(self, n_bytes: int) -> bytes:
        content = self.file.read(n_bytes) if n_bytes <= self.size else b""
        if len(content) < n_bytes:
            raise ValueError("its header is not whole: the file is truncated")
        return content

    def padded(self, n_bytes: int) -> None:
        """Skip bytes, and those that pad them to a multiple of four."""
        self.raw(-(-n_bytes // 4) * 4)

    def items(self, tag: int, item: Callable[[], T]) -> list[T]:
        """Return the items of a list, which may be absent."""
        stored, n = self.number(4), self.number(self.width)
        if stored not in (0, tag) or n > self.size or (stored == 0 and n):
            raise ValueError("its header is damaged")
        return [item() for _ in range(n)]

    def dimension(self) -> int:
        self.padded(self.number(self.width))  # its name
        return self.number(self.width)

    def value_size(self) -> int:
        kind = self.number(4)
        if not 1 <= kind <= len(SIZES):
            raise ValueError(f"its header is damaged: there is no type {kind}")
        return SIZES[kind - 1]

    def attribute(self) -> None:
        self.padded(self.number(self.width))
        size = self.value_size()
        self.padded(self.number(self.width) * size)

    def variable(self, dimensions: Sequence[int]) -> tuple[int, int, bool]:
        """Return where a variable begins, the bytes of its values (all, or one record), and which."""
        self.padded(self.number(self.width))
        n = self.number(self.width)
        numbers = [self.number(self.width) for _ in range(min(n, self.size))]
        if any(number >= len(dimensions) for number in numbers):
            raise ValueError("its header is damaged: a variable has an unknown dimension")
        shape = [dimensions[number] for number in numbers]
        self.items(ATTRIBUTE, self.attribute)
        size = self.value_size()
        self.raw(self.width)  # its size, which is not reliable where it is large
        begin = self.number(self.offset)
        of_records = bool(shape) and shape[0] == 0
        return begin, prod(shape[of_records:]) * size, of_records
