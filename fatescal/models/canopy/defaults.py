"""The calibratable parameters of the land model: name, default, unit, physical range and source.

Names are FATES' or CLM's wherever these models have the parameter; the rest say what they are.
The order of each table is the order in which `kernel` unpacks its rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.types import Array


@dataclass(frozen=True)
class CanopyParameter:
    """One parameter; `default` has a value per PFT (needleleaf, broadleaf, grass) or one for the column.

    Outside the open interval (`low`, `high`) the equations have no meaning.
    """

    name: str
    default: tuple[float, ...]
    unit: str
    low: float
    high: float
    meaning: str
    source: str


_FATES = "FATES default parameter file, sci.1.68.2_api.30.0.0"
_CLM = "CLM5 parameter file and technical note"
_INF = float("inf")

# fmt: off
PFT_PARAMETERS = (
    CanopyParameter("fates_leaf_vcmax25top", (62.0, 58.0, 78.0), "umol CO2 m-2 s-1", 0, _INF,
              "maximum rate of carboxylation at 25 degC, canopy top", _FATES),
    CanopyParameter("fates_leaf_stomatal_slope_ballberry", (8.0, 8.0, 8.0), "1", 0, _INF,
              "slope of the Ball-Berry model", _FATES),
    CanopyParameter("fates_leaf_stomatal_intercept", (1e4, 1e4, 1e4), "umol H2O m-2 s-1", 0, _INF,
              "stomatal conductance without assimilation, unstressed", _FATES),
    CanopyParameter("fates_nonhydro_smpso", (-66000.0, -66000.0, -66000.0), "mm", -_INF, 0,
              "soil water potential at full stomatal opening", _FATES),
    CanopyParameter("fates_nonhydro_smpsc", (-255000.0, -255000.0, -255000.0), "mm", -_INF, 0,
              "soil water potential at full stomatal closure", _FATES),
    CanopyParameter("fates_turb_z0mr", (0.055, 0.055, 0.055), "1", 0, 0.5,
              "roughness length over canopy height", _FATES),
    CanopyParameter("fates_turb_leaf_diameter", (0.04, 0.04, 0.04), "m", 0, _INF,
              "characteristic leaf dimension", _FATES),
)

COLUMN_PARAMETERS = (
    CanopyParameter("photosynthesis_recovery_time", (8.33,), "d", 0, _INF,
              "time constant of the temperature that evergreen needles have acclimated to",
              "Makela et al. 2004; Kolari et al. 2007, doi:10.1111/j.1600-0889.2007.00262.x"),
    CanopyParameter("photosynthesis_recovery_start", (-4.67,), "degC", -_INF, _INF,
              "acclimated temperature at which capacity begins to recover", "Kolari et al. 2007"),
    CanopyParameter("photosynthesis_recovery_range", (18.0,), "K", 0, _INF,
              "rise above the start at which capacity is full",
              "Kolari et al. 2014, doi:10.3389/fpls.2014.00717; wide: leaf area already varies"),
    CanopyParameter("csoilc", (0.004,), "1", 0, _INF,
              "drag coefficient of soil under a dense canopy", _CLM),
    CanopyParameter("d_max", (15.0,), "mm", 0, _INF,
              "thickest dry surface layer of the soil", _CLM + "; Swenson & Lawrence 2014"),
    CanopyParameter("maximum_leaf_wetted_fraction", (0.05,), "1", 0, 1.0000001,
              "share of the plant area that may be wet", _CLM),
    CanopyParameter("liq_canopy_storage_scalar", (0.1,), "mm", 0, _INF,
              "liquid water a unit of plant area can hold", _CLM),
    CanopyParameter("snow_canopy_storage_scalar", (6.0,), "mm", 0, _INF,
              "snow a unit of plant area can hold", _CLM + "; Fan et al. 2019"),
    CanopyParameter("fnps", (0.15,), "1", -_INF, 1,
              "share of absorbed light that drives no electron transport",
              _CLM + "; Scots pine 0.5 (0.2 electrons per photon, Launiainen et al. 2015)"),
)
# fmt: on


def flat(pfts: tuple[str, ...]) -> dict[str, tuple[CanopyParameter, float]]:
    """Return parameter and default of every flat name, ``<parameter>_<pft>`` or plain, in kernel order."""
    per_pft = {
        f"{parameter.name}_{pft}": (parameter, value)
        for parameter in PFT_PARAMETERS
        for pft, value in zip(pfts, parameter.default, strict=True)
    }
    return per_pft | {parameter.name: (parameter, parameter.default[0]) for parameter in COLUMN_PARAMETERS}


def check_names(names: Iterable[str], known: Mapping[str, object]) -> None:
    """Raise `BadInput` for a name the model does not know, with the nearest one it does."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise BadInput(f"the embedded model has no parameter {name!r}", hint=f"{near[0]!r}")


def check_values(
    row: Array, names: tuple[str, ...], known: Mapping[str, tuple[CanopyParameter, float]]
) -> None:
    """Raise `ModelFailed` if a value of `row` (P) lies outside its physical range."""
    for name, value in zip(names, row, strict=True):
        parameter = known[name][0]
        if not parameter.low < value < parameter.high or not np.isfinite(value):
            raise ModelFailed(
                Status.MODEL_ERROR,
                f"{name} = {value} {parameter.unit} is outside ({parameter.low:g}, {parameter.high:g})",
            )
    values = dict(zip(names, row, strict=True))
    for name, closed in values.items():
        if "smpsc" in name and closed >= values[name.replace("smpsc", "smpso")]:
            raise ModelFailed(
                Status.MODEL_ERROR, f"{name} = {closed} mm is not below fates_nonhydro_smpso of the same PFT"
            )
