"""What the data atmosphere reads: the streams of `datm.streams.xml`, their files and the years they stand
for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from fatescal.base.errors import BadInput

WEATHER = frozenset({"Faxa_swdn", "Faxa_precn", "Sa_tbot", "Sa_wind", "Sa_shum", "Sa_pbot", "Faxa_lwdn"})


@dataclass(frozen=True)
class Stream:
    """One stream: `fields` are pairs (name in the files, name in the coupler), `interpolation` is its
    tintalgo.
    """

    name: str
    mode: str
    year_first: int
    year_last: int
    year_align: int
    files: tuple[Path, ...]
    fields: tuple[tuple[str, str], ...]
    interpolation: str = "linear"
    mesh: str = "none"
    offset: float = 0.0  # [s], added to the stamps of the files

    @property
    def has_mesh(self) -> bool:
        """Whether its files may hold more than the one point."""
        return self.mesh.lower() not in ("", "none", "unset")

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


def parse(text: str) -> list[Stream]:
    """Return the streams of the text of a `datm.streams.xml`.

    Raises
    ------
    BadInput
        When it is no such file.
    """
    try:
        return [_stream(node) for node in ElementTree.fromstring(text).iter("stream_info")]
    except (ElementTree.ParseError, TypeError, ValueError, IndexError) as error:
        raise BadInput(
            f"datm.streams.xml cannot be read as streams of the data atmosphere: {error}",
            hint="./preview_namelists in the case writes it",
        ) from None


def with_forcing(text: str, forcing: Mapping[str, Sequence[Path]], years: tuple[int, int]) -> str:
    """Return `datm.streams.xml` with other files of weather, which cycle over `years`.

    Parameters
    ----------
    forcing : mapping of str to sequence of Path
        Files by a coupler field of the stream they are for.

    Raises
    ------
    BadInput
        When a field is in no stream.
    """

    def one(block: re.Match[str]) -> str:
        changed = block[0]
        for field in [f for f in waiting if re.search(rf"\b{f}\b", changed)]:
            lines = "".join(f"      <file>{escape(str(path))}</file>\n" for path in forcing[field])
            files = f"<datafiles>\n{lines}   </datafiles>"
            changed = re.sub(r"<datafiles>.*?</datafiles>", lambda _, f=files: f, changed, flags=re.DOTALL)  # type: ignore[misc]
            for key, year in (("first", years[0]), ("last", years[1]), ("align", years[0])):
                changed = re.sub(rf"(<year_{key}>)\d+", rf"\g<1>{year}", changed)
            waiting.remove(field)
        return changed

    waiting = list(forcing)
    text = re.sub(r"<stream_info .*?</stream_info>", one, text, flags=re.DOTALL)
    if waiting:
        raise BadInput(
            f"datm.streams.xml has no stream of {', '.join(waiting)}", hint="DATM_MODE of the case"
        )
    return text


def _stream(node: ElementTree.Element) -> Stream:
    def number(key: str) -> int:
        return int(str(node.findtext(key)))

    return Stream(
        name=str(node.get("name")),
        mode=str(node.findtext("taxmode")).strip(),
        year_first=number("year_first"),
        year_last=number("year_last"),
        year_align=number("year_align"),
        files=tuple(Path(text) for text in _texts(node, "datafiles")),
        fields=tuple((pair[0], pair[1]) for pair in (line.split() for line in _texts(node, "datavars"))),
        interpolation=str(node.findtext("tintalgo", "linear")).strip(),
        mesh=str(node.findtext("meshfile", "none")).strip(),
        offset=float(node.findtext("offset", "0")),
    )


def _texts(node: ElementTree.Element, key: str) -> Sequence[str]:
    below = node.find(key)
    return [child.text.strip() for child in below if child.text] if below is not None else []
