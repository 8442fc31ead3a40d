"""The readers by name. A new one is a file and a line here; other packages add theirs by an entry point.

An entry point of group `fatescal.readers` is called as the reader's `kind` and names a subclass of
`base.Reader`; a name of fatescal's own stays with it. One that can't be used stands in `BROKEN` with the
reason, and is refused where it is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, PlainSerializer

from fatescal.base.families import announced, kind_of
from fatescal.observations.readers.base import Reader
from fatescal.observations.readers.formats.diive import Diive
from fatescal.observations.readers.formats.eddypro import EddyPro
from fatescal.observations.readers.formats.fluxnet import Fluxnet
from fatescal.observations.readers.formats.plain import Plain
from fatescal.observations.readers.formats.reddyproc import REddyProc
from fatescal.observations.readers.formats.smear import Smear
from fatescal.observations.readers.formats.toa5 import TOA5
from fatescal.observations.readers.netcdf import NetCDF

ENTRY_POINTS = "fatescal.readers"
# the first that fits is taken: the most telling first, csv fits whatever has names of columns
OWN: tuple[type[Reader], ...] = (NetCDF, TOA5, EddyPro, REddyProc, Diive, Fluxnet, Smear, Plain)


def _of_other_packages() -> tuple[dict[str, type[Reader]], dict[str, str]]:
    """The readers that entry points name, and why others of them can't be used, by name."""
    readers: dict[str, type[Reader]] = {}
    broken: dict[str, str] = {}
    for point in announced(ENTRY_POINTS):
        try:
            reader = point.load()
            broken[point.name] = _fault(point.name, reader)
        except Exception as error:  # whatever the other package raises
            broken[point.name] = f"{point.value} can't be imported: {error or type(error).__name__}"
        if not broken[point.name]:
            readers[point.name] = reader
            broken.pop(point.name)
    return readers, broken


def _fault(name: str, reader: Any) -> str:
    """Why what an entry point names is no reader, '' where it is one."""
    if not (isinstance(reader, type) and issubclass(reader, Reader)):
        return "it is no subclass of fatescal.observations.readers.base.Reader"
    if name in {kind_of(own) for own in OWN}:
        return "fatescal has a format of this name"
    kind = kind_of(reader)
    return "" if kind == name else f"its `kind` is {kind!r}, not the name of its entry point"


_OTHERS, BROKEN = _of_other_packages()
READERS: dict[str, type[Reader]] = {kind_of(NetCDF): NetCDF, **_OTHERS, **{kind_of(c): c for c in OWN}}


def _chosen(value: Any) -> Any:
    """A format's name alone as a section with it."""
    kind = value.get("kind") if isinstance(value, dict) else value
    if isinstance(kind, str) and kind in BROKEN and kind not in READERS:
        raise ValueError(f"the format {kind!r} of another package can't be used: {BROKEN[kind]}")
    return {"kind": value} if isinstance(value, str) else value


if TYPE_CHECKING:
    Format = Reader
else:
    _Sections = Annotated[Union[tuple(READERS.values())], Field(discriminator="kind")]  # noqa: UP007
    Format = Annotated[
        _Sections,
        BeforeValidator(_chosen, json_schema_input_type=Literal[tuple(READERS)] | _Sections),
        PlainSerializer(lambda reader: reader.plain()),
    ]
