"""The update schemes by name. A new one is a file and a line here, or another package's entry point."""

from __future__ import annotations

from functools import cache
from operator import attrgetter

from fatescal.base.errors import BadInput
from fatescal.base.families import family
from fatescal.update.base import RESERVED, UpdateScheme
from fatescal.update.es_mda import ESMDA
from fatescal.update.ienks import IEnKS
from fatescal.update.ies import SubspaceIES

SCHEMES: dict[str, type[UpdateScheme]] = {c.kind: c for c in (IEnKS, ESMDA, SubspaceIES)}
ENTRY_POINTS = "fatescal.schemes"


@cache
def schemes() -> dict[str, type[UpdateScheme]]:
    """Return the update schemes that a config can name: those here, and those of other packages."""
    named = attrgetter("kind")
    return family(UpdateScheme, SCHEMES.values(), ENTRY_POINTS, named, _require_common_part)  # type: ignore[type-abstract]


def _require_common_part(scheme: type[UpdateScheme]) -> None:
    """Refuse a scheme that redefines what is the same for all."""
    for key in RESERVED:
        if key in scheme.model_fields:
            raise BadInput(f"it has an option `{key}`, a key of `calibrate` whatever the scheme")
    if scheme.start is not UpdateScheme.start:
        raise BadInput("it overrides `start`, which is the same for all schemes")
