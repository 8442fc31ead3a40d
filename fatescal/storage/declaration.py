"""The declaration of a record's arrays: dims and unit, checked at birth, written to HDF5 as declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from fatescal.base.types import Array


def array(dims: str, unit: str = "1", dtype: Any = np.float64, wall_clock: bool = False) -> Any:
    """Declare an array field: its named dimensions (``"J P"``) and unit.

    `wall_clock` fields tell how long something took: left out when results are compared.
    """
    return field(
        metadata={"dims": tuple(dims.split()), "unit": unit, "dtype": dtype, "wall_clock": wall_clock}
    )


@dataclass(frozen=True, eq=False)
class Record:
    """Base of all records: converts, checks and freezes the declared arrays.

    Arrays are in C order, as they come back from a checkpoint: a product of the same numbers in another
    memory layout may differ in its last bits, and a resumed run must not. Likewise numpy's scalars become
    Python's.

    Raises
    ------
    ValueError
        If an array's shape contradicts its declaration or another field of the same record.
    """

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for declared in fields(self):
            value = getattr(self, declared.name)
            if isinstance(value, Mapping):
                rows_first = {name: _frozen(np.asarray(item, order="C")) for name, item in value.items()}
                object.__setattr__(self, declared.name, rows_first)
            if "dims" not in declared.metadata:
                if isinstance(
                    value, np.generic | np.ndarray
                ):  # a checkpoint gives back Python's, which print otherwise
                    object.__setattr__(self, declared.name, value.item())
                continue
            value = np.asarray(value, dtype=declared.metadata["dtype"], order="C")
            dims = declared.metadata["dims"]
            if len(dims) != value.ndim:
                raise ValueError(
                    f"{type(self).__name__}.{declared.name} has shape {value.shape}, declared {dims}"
                )
            for dim, size in zip(dims, value.shape, strict=True):
                if sizes.setdefault(dim, size) != size:
                    raise ValueError(
                        f"{type(self).__name__}.{declared.name}: {dim} is {size}, "
                        f"elsewhere in the record {sizes[dim]}"
                    )
            object.__setattr__(self, declared.name, _frozen(value))


def _frozen(value: Array) -> Array:
    value = value.view()
    value.flags.writeable = False
    return value
