"""What the data atmosphere reads: the streams of `datm.streams.xml`, their files and the years they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from fatescal.errors import BadInput

WEATHER = frozenset({"Faxa_swdn", "Faxa_precn", "Sa_tbot", "Sa_wind", "Sa_shum", "Sa_pbot", "Faxa_lwdn"})


@dataclass(frozen=True)
class Stream:
    """One stream: `fields` are pairs (name in the files, name in the coupler)."""

    name: str
    mode: str
    year_first: int
    year_last: int
    year_align: int
    files: tuple[Path, ...]
    fields: tuple[tuple[str, str], ...]

    @property
    def is_weather(self) -> bool:
        """Whether it drives the model from day to day (aerosols and the like are climatologies)."""
        return any(coupler in WEATHER for _, coupler in self.fields)

    def year_read(self, year: int) -> int:
        """Return the year of the files that a model year reads: with ``cycle``, every year reads one.

        >>> Stream("Solar", "cycle", 2004, 2013, 2004, (), ()).year_read(1994)
        2004
        """
        return self.year_first + (year - self.year_align) % (self.year_last - self.year_first + 1)


def read(path: Path) -> list[Stream]:
    """Return the streams of a `datm.streams.xml`.

    Raises
    ------
    BadInput
        When it is no such file.
    """
    try:
        return [_stream(node) for node in ElementTree.parse(path).getroot().iter("stream_info")]
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read as streams of the data atmosphere: {error}",
            hint="./preview_namelists in the case writes it",
        ) from None


def _stream(node: ElementTree.Element) -> Stream:
    def number(key: str) -> int:
        return int(str(node.findtext(key)))

    return Stream(
        name=str(node.get("name")),
        mode=str(node.findtext("taxmode")).strip(),
        year_first=number("year_first"),
        year_last=number("year_last"),
        year_align=number("year_align"),
        files=tuple(Path(text) for text in _words(node, "datafiles")),
        fields=tuple((pair[0], pair[1]) for pair in (line.split() for line in _words(node, "datavars"))),
    )


def _words(node: ElementTree.Element, key: str) -> Sequence[str]:
    below = node.find(key)
    return [child.text.strip() for child in below if child.text] if below is not None else []
