"""The formats of tables, a class each. A further one is a class in a file and a line here."""

from __future__ import annotations

from fatescal.observations.readers.formats.base import Format, Head
from fatescal.observations.readers.formats.diive import Diive
from fatescal.observations.readers.formats.eddypro import EddyPro, EddyProBiomet
from fatescal.observations.readers.formats.fluxnet import Fluxnet
from fatescal.observations.readers.formats.plain import Plain
from fatescal.observations.readers.formats.reddyproc import REddyProc
from fatescal.observations.readers.formats.smear import Smear
from fatescal.observations.readers.formats.toa5 import TOA5

# the first that fits is taken: the most telling first
FORMATS: tuple[Format, ...] = (
    TOA5(), EddyPro(), EddyProBiomet(), REddyProc(), Diive(), Fluxnet(), Smear(), Plain()
)  # fmt: skip


def format_of(head: Head, name: str | None = None) -> Format | None:
    """Return the format of a file that begins so, of those called `name` where given; None if none fits."""
    return next((f for f in FORMATS if name in (None, f.name) and f.fits(head)), None)
