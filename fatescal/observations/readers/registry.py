"""The readers by name. A new one is a file and a line here; other packages add theirs by an entry point.

An entry point of group `fatescal.readers` is called as the reader's `kind` and names a subclass of
`base.Reader`. One that can't be used is refused where it is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, PlainSerializer

from fatescal.base.families import family, kind_of
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


_ALL = family(Reader, OWN, ENTRY_POINTS)
_BY_KIND = {kind_of(reader): reader for reader in OWN}
_OTHERS = {kind: reader for kind, reader in _ALL.items() if kind not in _BY_KIND}
READERS: dict[str, type[Reader]] = {kind_of(NetCDF): NetCDF, **_OTHERS, **_BY_KIND}


def _chosen(value: Any) -> Any:
    """A format's name alone as a section with it."""
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
