"""The update schemes by name. A new one is a file and a line here, or another package's entry point."""

from __future__ import annotations

from collections import Counter
from functools import cache
from importlib.metadata import EntryPoint

from fatescal.base.families import announced
from fatescal.update.base import RESERVED, UpdateScheme
from fatescal.update.es_mda import ESMDA
from fatescal.update.ienks import IEnKS
from fatescal.update.ies import SubspaceIES

SCHEMES: dict[str, type[UpdateScheme]] = {c.kind: c for c in (IEnKS, ESMDA, SubspaceIES)}
ENTRY_POINTS = "fatescal.schemes"


@cache
def schemes() -> dict[str, type[UpdateScheme]]:
    """Return the update schemes that a config can name: those here, and those of other packages."""
    return SCHEMES | {p.name: p.load() for p in announced(ENTRY_POINTS) if p.name not in unusable()}


@cache
def unusable() -> dict[str, str]:
    """Return why a scheme of another package cannot be used, by its name; no other scheme suffers from it."""
    points = announced(ENTRY_POINTS)
    count = Counter([*SCHEMES, *(name for name, _ in {(point.name, point.value) for point in points})])
    reasons = {point.name: _fault(point, count[point.name] > 1) for point in points}
    return {name: reason for name, reason in reasons.items() if reason}


def _fault(point: EntryPoint, ambiguous: bool) -> str:
    """Return why the scheme of an entry point cannot be used, '' where it can."""
    origin = f"{point.value} of package {point.dist.name if point.dist else 'unknown'}"
    if ambiguous:
        return f"{origin} has the name of another scheme"
    try:
        scheme = point.load()
    except (Exception, SystemExit) as error:  # a module of others may do anything
        return f"{origin} cannot be imported: {type(error).__name__}: {error}"
    if not (isinstance(scheme, type) and issubclass(scheme, UpdateScheme)):
        return f"{origin} is no subclass of fatescal.update.base.UpdateScheme"
    if getattr(scheme, "kind", None) != point.name:
        return f"{origin} has kind {getattr(scheme, 'kind', None)!r}, its entry point {point.name!r}"
    taken = [key for key in RESERVED if key in scheme.model_fields]
    if taken:
        return f"{origin} has an option `{taken[0]}`, a key of `calibrate` whatever the scheme"
    if scheme.start is not UpdateScheme.start:
        return f"{origin} overrides `start`, which is the same for all schemes"
    missing = sorted(scheme.__abstractmethods__)
    return f"{origin} lacks {', '.join(missing)}" if missing else ""
