"""A record as HDF5 holds it: text as bytes, times as integers, row checksums and one digest."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, cast

import h5py
import numpy as np

from fatescal.base.types import Array
from fatescal.storage.declaration import Record


def declared_arrays(record: type[Record]) -> dict[str, Field]:
    return {f.name: f for f in fields(record) if "dims" in f.metadata}


def arrays_of(value: Record) -> dict[str, Array]:
    """Return all arrays of a record, those of a mapping field as `field/name`."""
    arrays: dict[str, Array] = {name: getattr(value, name) for name in declared_arrays(type(value))}
    for f in fields(value):
        content = getattr(value, f.name)
        if isinstance(content, Mapping):
            arrays |= {f"{f.name}/{n}": np.asarray(a) for n, a in content.items()}
    return arrays


def scalars_of(value: Record) -> dict[str, Any]:
    others = [f.name for f in fields(value) if "dims" not in f.metadata]
    return {n: getattr(value, n) for n in others if not isinstance(getattr(value, n), Mapping)}


def to_hdf5(array: Array) -> Array:
    """Return the array as HDF5 can hold it: text as UTF-8 bytes, times as int64 seconds.

    >>> to_hdf5(np.array(["GPP"])).dtype.kind, to_hdf5(np.array(["2004"], "M8[s]")).dtype.str
    ('S', '<i8')
    """
    if array.dtype.kind == "U":
        encoded = np.char.encode(array, "utf-8")
        return encoded if encoded.dtype.itemsize else encoded.astype("S1")
    return array.astype(np.int64) if array.dtype.kind == "M" else array


def from_hdf5(data: Array, declared: Field | None) -> Array:
    dtype = np.dtype(declared.metadata["dtype"]) if declared else data.dtype
    if data.dtype.kind == "S":
        return np.char.decode(data, "utf-8")
    return data.astype(dtype) if dtype.kind == "M" else data


def row_checksums(array: Array) -> Array:
    """Return the CRC-32 of every row (of the single value where there are no rows)."""
    return np.array([checksum(row) for row in np.atleast_1d(to_hdf5(array))], dtype=np.uint32)


def checksum(row: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(row).data)


def digest_of(record: type[Record], sums: Mapping[str, Array], scalars: Mapping[str, Any]) -> str:
    volatile = {f.name for f in fields(record) if f.metadata.get("wall_clock")}
    hashed = hashlib.sha256(record.__name__.encode())
    for name in sorted(set(sums) - volatile):
        hashed.update(name.encode() + np.ascontiguousarray(sums[name], "<u4").tobytes())
    for name in sorted(set(scalars) - volatile):
        hashed.update(f"{name}={scalars[name]!r}".encode())
    return hashed.hexdigest()


def read_fields(file: h5py.File, record: type[Record]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a file's field values and the checksums of what was read."""
    values: dict[str, Any] = {}
    sums: dict[str, Array] = {}
    declared = declared_arrays(record)
    for f in fields(record):
        if f.name in declared:
            data = file[f.name][()]
            sums[f.name] = row_checksums(data)
            values[f.name] = from_hdf5(data, declared[f.name])
        elif f"field.{f.name}" in file.attrs:
            scalar = file.attrs[f"field.{f.name}"]
            values[f.name] = scalar.item() if hasattr(scalar, "item") else scalar
        else:
            group = file.get(f.name, {})
            content = {n: group[n][()] for n in group}
            sums |= {f"{f.name}/{n}": row_checksums(a) for n, a in content.items()}
            values[f.name] = {n: from_hdf5(a, None) for n, a in content.items()}
    return values, sums


def describe_fields(file: h5py.File, record: type[Record]) -> None:
    """Write every field's declared dimensions and unit beside its data."""
    for name, f in declared_arrays(record).items():
        data = cast(h5py.Dataset, file[name])
        data.attrs["dims"] = " ".join(f.metadata["dims"])
        data.attrs["unit"] = f.metadata["unit"]
