"""The rows of a stage about to be written to HDF5, by all ranks or by root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import h5py
import numpy as np

from fatescal.base.types import Array
from fatescal.storage.declaration import Record
from fatescal.storage.encoding import describe_fields

Rows = Mapping[int, Mapping[str, Array]]


@dataclass
class StageRows:
    """The rows this rank owns, and what all ranks know of all rows."""

    key: str
    record: type[Record]
    n_rows: int
    rows: Rows
    shapes: Mapping[str, tuple[tuple[int, ...], str]]
    sums: Mapping[str, Array]
    header: Callable[[h5py.File], None]

    def write_own(self, file: h5py.File) -> None:
        """Create everything on all ranks alike, then write the rows this rank owns."""
        self.header(file)
        for name, (shape, dtype) in self.shapes.items():
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((self.n_rows, *shape))
            kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
            h5py.h5d.create(file.id, name.encode(), kind, space, creation)
            file.create_dataset(f"checksums/{name}", shape=(self.n_rows,), dtype=np.uint32)
        describe_fields(file, self.record)
        for i, row in self.rows.items():  # independent writes: ranks own different numbers of rows
            for name, array in row.items():
                file[name][i] = array
                file[f"checksums/{name}"][i] = self.sums[name][i]

    def write_all(self, file: h5py.File, rows: Rows) -> None:
        """Write the rows of all ranks, which root has gathered."""
        self.header(file)
        for name, (shape, dtype) in self.shapes.items():
            data = file.create_dataset(name, shape=(self.n_rows, *shape), dtype=dtype)
            for i in range(self.n_rows):
                data[i] = rows[i][name]
            file.create_dataset(f"checksums/{name}", data=self.sums[name])
        describe_fields(file, self.record)
