"""What the land model knows of its place: vegetation shares, leaf area and soil, read from ``site.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array


@dataclass(frozen=True)
class Stand:
    """One vegetated column: F plant functional types side by side on one soil.

    Attributes
    ----------
    pfts : tuple of str
        FATES names of the F plant functional types.
    share, height : array (F)
        Share of the area [1]; canopy top [m].
    lai, sai : array (12, F)
        One-sided leaf and stem area index in the middle of each month [m2 m-2].
    utc_offset : float or None
        Of the tower's clock [h]; None is the full hour of the longitude.
    latitude, longitude : float
        [degrees north, east]
    sand, clay, bedrock : float
        Texture [per cent] and depth of the soil [m].
    """

    name: str
    latitude: float
    longitude: float
    sand: float
    clay: float
    bedrock: float
    pfts: tuple[str, ...]
    share: Array
    height: Array
    lai: Array
    sai: Array
    utc_offset: float | None = None

    @classmethod
    def load(cls, path: Path | None = None, changes: Mapping[str, Any] = {}) -> Self:
        """Read a site file (the default is Hyytiala) and put in what is to differ from it.

        Raises
        ------
        BadInput
            If the file is not like `site.yaml` beside this module, or has other plant types.

        >>> site = Stand.load(changes={"latitude": 60.0, "pfts": {"cool_c3_grass": {"share": 0.5}}})
        >>> site.pfts[0], site.latitude, site.share.round(2).tolist()
        ('needleleaf_evergreen_extratrop_tree', 60.0, [0.82, 0.11, 0.5])
        """
        import yaml

        default = Path(__file__).with_name("site.yaml")
        known = yaml.safe_load(default.read_text())
        facts = known
        if path is not None:
            try:
                facts = yaml.safe_load(path.read_text())
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise BadInput(f"cannot read the site file {path}: {error}") from None
        _require_alike(facts, known, path or default)
        pfts = facts["pfts"]
        for pft, values in changes.get("pfts", {}).items():
            if pft not in pfts:
                raise BadInput(f"model.site.pfts: unknown PFT '{pft}'", expected=f"among {', '.join(pfts)}")
            pfts[pft] |= values
        columns: dict[str, Any] = {
            key: np.array([pft[key] for pft in pfts.values()], dtype=float).T
            for key in ("share", "height", "lai", "sai")
        }
        if not columns["share"].sum() > 0:
            raise BadInput("model.site.pfts: the shares add up to 0", expected="plants")
        return cls(**{**facts, **changes, **columns, "pfts": tuple(pfts)})

    def monthly_to_daily(self, monthly: Array) -> Array:
        """Return (365, F) from (12, F): linear between mid-months, as CLM's satellite phenology does."""
        mid = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30]) + 15.0
        noon = np.arange(365) + 0.5
        return np.array([np.interp(noon, mid, column, period=365) for column in monthly.T]).T


def _require_alike(facts: Any, known: Mapping[str, Any], path: Path) -> None:
    """Raise `BadInput` unless the facts have the keys, plant types and months of the `known` ones."""
    if not (isinstance(facts, dict) and set(facts) == set(known)):
        raise BadInput(f"site file {path}", expected=f"the keys {', '.join(known)}", got=list(facts or ()))
    if list(facts["pfts"]) != list(known["pfts"]):
        raise BadInput(
            f"site file {path}: pfts",
            expected=f"{', '.join(known['pfts'])}, the embedded model's types; an absent one has share: 0",
            got=list(facts["pfts"]),
        )
    for pft, values in facts["pfts"].items():
        lengths = {key: np.shape(value) for key, value in values.items()}
        if lengths != {"share": (), "height": (), "lai": (12,), "sai": (12,)}:
            raise BadInput(f"site file {path}: {pft}", expected="share, height, and 12 months of lai and sai")
