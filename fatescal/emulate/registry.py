"""The emulators by name. A new one is a file and a line here, or another package's entry point."""

from __future__ import annotations

from fatescal.base.errors import BadInput
from fatescal.base.families import family
from fatescal.emulate.base import RESERVED, Emulator
from fatescal.emulate.misfit_emulator import MisfitEmulator
from fatescal.emulate.output_emulator import OutputsEmulator

ENTRY_POINTS = "fatescal.emulators"


def _kind(emulator: type[Emulator]) -> str:
    """Return an emulator's name; refuse one whose options the section has whatever the emulator."""
    taken = [key for key in RESERVED if key in emulator.model_fields]
    if taken:
        raise BadInput(f"it has an option `{taken[0]}`, a key of `emulate` whatever the emulator")
    return getattr(emulator, "kind", "")


EMULATORS: dict[str, type[Emulator]] = family(
    Emulator,  # type: ignore[type-abstract]
    (OutputsEmulator, MisfitEmulator),
    ENTRY_POINTS,
    _kind,
)
