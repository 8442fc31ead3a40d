"""FATES's parameter file (JSON or netCDF) and CLM's (netCDF): values by name, and copies with some of them
changed.

A value's flat name is the parameter's, then a label for each dimension longer than one, the plant functional
type last: ``fates_leaf_vcmax25top_cool_c3_grass``, ``fates_stoich_nitr_leaf_cool_c3_grass``. Labels are read
from the file's own lists of names (``fates_pftname``, ``fates_alloc_organ_name`` ...), since the numbers of
types differ between versions; where it has no list, they are numbers from 1.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.types import Array

PFT = ("fates_pft", "pft")
MOST_CHARACTERS = 150_000  # not blank, that FATES reads of a JSON file,
MOST_OF_PARAMETER, MOST_OF_TEXT = 4096, 512  # of one parameter, of one string


def read(path: Path) -> ParameterFile:
    """Return a parameter file of either kind, by its suffix.

    Raises
    ------
    BadInput
        When it cannot be read.
    """
    return JsonFile(path) if path.suffix == ".json" else NetcdfFile(path)


class ParameterFile(ABC):
    """Parameters of one file, read once.

    Attributes
    ----------
    arrays : dict of str to array
        Every real-valued parameter.
    dims : dict of str to tuple of str
        Its dimensions.
    labels : dict of str to tuple of str
        Names of what lies along a dimension.
    written_units : dict of str to str
        Units as the file has them, by parameter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: dict[str, Array] = {}
        self.dims: dict[str, tuple[str, ...]] = {}
        self.labels: dict[str, tuple[str, ...]] = {}
        self.written_units: dict[str, str] = {}

    @abstractmethod
    def _write(self, target: Path, changes: Mapping[str, Mapping[int, float]]) -> None:
        """Write a copy, with elements of parameters (in C order) changed."""

    @property
    def pfts(self) -> tuple[str, ...]:
        """The plant functional types, in order."""
        return next((self.labels[dim] for dim in PFT if dim in self.labels), ())

    @cached_property
    def cells(self) -> dict[str, tuple[str, int]]:
        """Parameter and element of every flat name."""
        cells = {}
        for name, array in self.arrays.items():
            axes = [self._labels(d, n) for d, n in zip(self.dims[name], array.shape, strict=True) if n > 1]
            for i, labels in enumerate(itertools.product(*axes)):
                cells["_".join([name, *labels])] = (name, i)
        return cells

    @cached_property
    def defaults(self) -> dict[str, float]:
        """The value of every flat name."""
        return {flat: float(self.arrays[name].flat[i]) for flat, (name, i) in self.cells.items()}

    @cached_property
    def units(self) -> dict[str, str]:
        """The unit of every flat name whose parameter has one."""
        known = self.written_units
        return {flat: known[name] for flat, (name, _) in self.cells.items() if name in known}

    def family(self, flat: str) -> Array:
        """Return the values of a parameter for all plant types; of one that has no types, its own value."""
        name, i = self.cells[flat]
        values = self.arrays[name]
        if not self.dims[name] or self.dims[name][-1] not in PFT:
            return values.reshape(-1)[i : i + 1]
        return values.reshape(-1, values.shape[-1])[i // values.shape[-1]]

    def write(self, target: Path, values: Mapping[str, float]) -> None:
        """Write a copy with `values` by flat name, and see that it reads back as meant.

        Raises
        ------
        ModelFailed
            When it does not.
        """
        changes: dict[str, dict[int, float]] = {}
        for flat, value in values.items():
            name, i = self.cells[flat]
            changes.setdefault(name, {})[i] = value
        self._write(target, changes)
        back = read(target).defaults
        wrong = [n for n, v in (self.defaults | dict(values)).items() if back[n] != v and not np.isnan(v)]
        if wrong:
            raise ModelFailed(
                Status.MODEL_ERROR, f"{target}: {wrong[0]} does not read back as it was written"
            )

    def _labels(self, dim: str, n: int) -> Sequence[str]:
        return self.labels.get(dim) or [str(i + 1) for i in range(n)]


class JsonFile(ParameterFile):
    """A FATES parameter file of api 40 and later; a copy differs from it in the changed numbers alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._text = path.read_text(encoding="utf-8")
            parameters = json.loads(self._text)["parameters"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} cannot be read as FATES parameters in JSON: {error!r}") from None
        if beyond := _beyond_fortran(self._text):
            raise BadInput(f"{path}: {beyond}", hint="shorten it")
        for name, parameter in parameters.items():
            dims = tuple(d for d in parameter["dims"] if d != "scalar")
            if parameter["dtype"] == "string":
                self.labels[dims[0]] = tuple(_label(text) for text in parameter["data"])
            elif parameter["dtype"] == "float":
                self.written_units[name] = parameter["units"]
                array = np.asarray(parameter["data"], float)
                self.arrays[name], self.dims[name] = (array, dims) if dims else (array.reshape(()), ())

    def _write(self, target: Path, changes: Mapping[str, Mapping[int, float]]) -> None:
        text = self._text
        for name, elements in changes.items():
            begin, end = _data(text, name)
            numbers = itertools.count()

            def number(old: re.Match[str], numbers=numbers, elements=elements) -> str:
                i = next(numbers)
                return repr(float(elements[i])) if i in elements else old[0]

            text = text[:begin] + re.sub(r"[-+.\w]+", number, text[begin:end]) + text[end:]
        if beyond := _beyond_fortran(text):
            raise ModelFailed(Status.MODEL_ERROR, f"{target}: {beyond}")
        target.write_text(text, encoding="utf-8")


class NetcdfFile(ParameterFile):
    """A FATES parameter file before api 40, or CLM's own."""

    def __init__(self, path: Path) -> None:
        import netCDF4

        super().__init__(path)
        try:
            with netCDF4.Dataset(path) as data:
                data.set_auto_mask(False)
                for name, variable in data.variables.items():
                    if variable.dtype == np.float64:
                        self.arrays[name], self.dims[name] = np.asarray(variable[...]), variable.dimensions
                        if "units" in variable.ncattrs():
                            self.written_units[name] = str(variable.units)
                    elif variable.dtype.kind == "S" and variable.ndim == 2 and name.endswith("name"):
                        texts = netCDF4.chartostring(variable[:])
                        self.labels[variable.dimensions[0]] = tuple(_label(str(text)) for text in texts)
        except OSError as error:
            raise BadInput(f"{path} cannot be read as netCDF parameters: {error.strerror or error}") from None

    def _write(self, target: Path, changes: Mapping[str, Mapping[int, float]]) -> None:
        import netCDF4

        shutil.copyfile(self.path, target)
        with netCDF4.Dataset(target, "a") as data:
            for name, elements in changes.items():
                values = self.arrays[name].copy()
                values.flat[list(elements)] = list(elements.values())
                data[name][...] = values


def _beyond_fortran(text: str) -> str:
    """Return what the Fortran reader of a JSON file would stumble over; nothing where it reads it all.

    >>> _beyond_fortran('{"parameters": {"a": {"long_name": "' + 513 * "x" + '"}}}')
    'a text has 513 characters, FATES reads 512'
    >>> _beyond_fortran('{"attributes": {"history": "12\\\\" snow"}}')
    'FATES knows no escaped quotation mark, and finds one string without an end'
    """
    if text.count('"') % 2:
        return "FATES knows no escaped quotation mark, and finds one string without an end"
    if (n := len(re.sub(r"\s", "", text))) > MOST_CHARACTERS:
        return f"it has {n} characters that are not blank, FATES reads {MOST_CHARACTERS}"
    if (n := max((len(quoted) - 2 for quoted in re.findall(r'"[^"]*"', text)), default=0)) > MOST_OF_TEXT:
        return f"a text has {n} characters, FATES reads {MOST_OF_TEXT}"
    for name, begin in ((m[1], m.end()) for m in re.finditer(r'"(fates_\w+)"\s*:\s*{', text)):
        if (n := len(re.sub(r"\s", "", text[begin : text.find("}", begin)]))) > MOST_OF_PARAMETER:
            return f"{name} has {n} characters, FATES reads {MOST_OF_PARAMETER}"
    return ""


def _data(text: str, name: str) -> tuple[int, int]:
    """Return where the data of a parameter begin and end in a JSON text: its bracket and the one that closes
    it.
    """
    parameter = re.search(rf'"{re.escape(name)}"\s*:\s*{{', text)
    assert parameter is not None, f"{name} has been read from this text"
    begin = text.index("[", text.index('"data"', parameter.end()))
    depth = 0
    for bracket in re.finditer(r"[][]", text[begin:]):
        depth += 1 if bracket[0] == "[" else -1
        if depth == 0:
            return begin, begin + bracket.end()
    raise AssertionError(f"the data of {name} do not end, though they have been read")


def _label(text: str) -> str:
    return re.sub(r"\s+", "_", text.strip())
