"""What the land model knows of its place: vegetation shares, leaf area and soil, read from ``site.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fatescal.records import Array


@dataclass(frozen=True)
class Site:
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
    def load(cls, path: Path | None = None) -> Self:
        """Read a site file; the default is Hyytiala.

        >>> site = Site.load()
        >>> site.pfts[0], round(float(site.share.sum()), 6)
        ('needleleaf_evergreen_extratrop_tree', 1.0)
        """
        import yaml

        facts = yaml.safe_load((path or Path(__file__).with_name("site.yaml")).read_text())
        pfts = facts.pop("pfts")
        columns: dict[str, Any] = {
            key: np.array([pft[key] for pft in pfts.values()]).T for key in ("share", "height", "lai", "sai")
        }
        return cls(pfts=tuple(pfts), **columns, **facts)

    def monthly_to_daily(self, monthly: Array) -> Array:
        """Return (365, F) from (12, F): linear between mid-months, as CLM's satellite phenology does."""
        mid = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30]) + 15.0
        noon = np.arange(365) + 0.5
        return np.array([np.interp(noon, mid, column, period=365) for column in monthly.T]).T
