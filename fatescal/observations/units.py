"""Units of fluxes, stocks and states, with the substance they are of: the only door to pint.

Carbon is counted as the mass of C and water as the mass of H2O, so that 'umol CO2 m-2 s-1', 'g C m-2 d-1' and
'kg m-2 s-1' are one quantity, and 'mm d-1', 'mmol H2O m-2 s-1' and 'W m-2' (latent heat) another. A mass that
names no substance is of carbon where the other side is of C or CO2 (land models report carbon fluxes as mass
of carbon), and of water where the other side is of water.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fatescal.base.errors import BadInput

if TYPE_CHECKING:
    import pint

# Molar masses [kg mol-1]: IUPAC 2021 abridged standard atomic weights, doi:10.1515/pac-2019-0603
MOLAR_MASS = {"C": 12.011e-3, "CO2": 44.009e-3, "H2O": 18.015e-3}
MEDIUM = {"C": "carbon", "CO2": "carbon", "H2O": "water"}
WATER_DENSITY = 1000.0  # [kg m-3], the convention by which 1 mm of water is 1 kg m-2

COMMON = (
    *("g C m-2 d-1", "kg C m-2 s-1", "umol CO2 m-2 s-1", "g CO2 m-2 d-1"),
    *("mm d-1", "mm s-1", "kg m-2 s-1", "kg H2O m-2 s-1", "mmol H2O m-2 s-1", "W m-2"),
    *("g C m-2", "kg C m-2", "kg m-2", "mm", "K", "degC", "Pa", "hPa", "kPa", "m s-1", "m3 m-3", "1", "%"),
)


def latent_heat(temperature: npt.ArrayLike = 20.0) -> Any:
    """Return the latent heat of vaporisation of water [J kg-1] at `temperature` [degC].

    Linear fit to Harrison (1963), as FAO-56 gives it (Allen et al. 1998, Annex 3, equation 3-1); FAO-56's own
    2.45 MJ kg-1 is its value at the default 20 degC.

    >>> round(float(latent_heat()), 1), float(latent_heat(0.0))
    (2453780.0, 2501000.0)
    """
    return 2.501e6 - 2361.0 * np.asarray(temperature, dtype=float)[()]


class _Unit(NamedTuple):
    """A unit as written, its pint part and the substance it is of ('' where none is named)."""

    text: str
    pint: pint.Unit
    substance: str

    def like(self, *units: str) -> bool:
        """Whether it has the dimensions of one of `units`."""
        return any(self.pint.dimensionality == _registry().parse_units(unit).dimensionality for unit in units)

    @property
    def medium(self) -> str:
        """'carbon', 'water', 'depth or heat' (of water, unless both sides are) or '' for whatever fits."""
        if self.substance:
            return MEDIUM[self.substance]
        return "depth or heat" if self.like("m", "m/s", "W/m**2") else ""


def check(unit: str) -> None:
    """Raise `BadInput` if `unit` can't be read.

    >>> check("umol CO2 m-2 s-1")
    """
    _parse(unit)


def factor(source: str, target: str) -> float:
    """Return what values in `source` are multiplied by to be in `target`.

    Raises
    ------
    BadInput
        If a unit is unknown, the two don't fit, or the conversion isn't a mere factor (degC to K).

    >>> round(factor("kg m-2 s-1", "g C m-2 d-1"), 6), round(factor("umol CO2 m-2 s-1", "g C m-2 d-1"), 6)
    (86400000.0, 1.03775)
    >>> round(factor("W m-2", "mm d-1"), 6), round(factor("kg m-2 s-1", "mm d-1"), 6)
    (0.035211, 86400.0)
    """
    slope, offset = _line(source, target, 20.0)
    if offset:
        raise BadInput(f"{source!r} to {target!r} is no mere factor", hint="give both in one scale")
    return float(slope)


def convert(
    values: npt.ArrayLike, source: str, target: str, temperature: npt.ArrayLike = 20.0
) -> npt.NDArray[np.float64]:
    """Return `values` (any shape) given in `source`, in `target`; errors as `factor`.

    Parameters
    ----------
    temperature : array-like
        Temperature [degC] of the evaporating surface, broadcast to `values`; matters for latent heat only.

    >>> convert([0.0, 10.0], "degC", "K")
    array([273.15, 283.15])
    """
    values = np.asarray(values, dtype=np.float64)
    if source == target:
        return values
    slope, offset = _line(source, target, temperature)
    return values * slope + offset


def per_record(source: str, target: str) -> bool:
    """Return whether values in `source` are amounts where `target` is a rate: sums over their records, to be
    divided by time.

    >>> per_record("mm", "mm d-1"), per_record("g C m-2", "umol CO2 m-2 s-1"), per_record("mm d-1", "mm d-1")
    (True, True, False)
    """
    return not _fits(source, target) and _scales(_per_second(_parse(source)), _parse(target)) is not None


def per_second(unit: str) -> str:
    """Return the unit of amounts in `unit` per second.

    >>> per_second("g C m-2"), per_second("none")
    ('g C m-2 s-1', 's-1')
    """
    return "s-1" if _DIMENSIONLESS.fullmatch(unit.strip()) else f"{unit} s-1"


def _per_second(unit: _Unit) -> _Unit:
    return _Unit(per_second(unit.text), unit.pint / _registry().parse_units("s"), unit.substance)


def is_amount(unit: str) -> bool:
    """Return whether `unit` is an amount of carbon or water, a stock or a sum over time.

    >>> is_amount("g C m-2"), is_amount("mm"), is_amount("mm d-1"), is_amount("K")
    (True, True, False, False)
    """
    return any(per_record(unit, rate) for rate in ("g C m-2 d-1", "mm d-1"))


def same(one: str, other: str) -> bool:
    """Return whether two spellings are of one unit; of a text that is none, whether they are equal.

    >>> same("gC/m2/day", "g C m-2 d-1"), same("kg C m-2 d-1", "g C m-2 d-1"), same("-", "unknown")
    (True, False, False)
    """
    try:
        return one == other or bool(np.isclose(factor(one, other), 1.0, rtol=1e-9))
    except BadInput:
        return False


def fitting(unit: str) -> list[str]:
    """Return the common units that `unit` can be converted to."""
    return [common for common in COMMON if common != unit and _fits(common, unit)]


def _fits(source: str, target: str) -> bool:
    return _scales(_parse(source), _parse(target)) is not None


def _line(source: str, target: str, temperature: npt.ArrayLike) -> tuple[Any, float]:
    """Slope and offset of the conversion."""
    conversion = _scales(_parse(source), _parse(target))
    if conversion is None:
        hints = [f"a unit that fits: {', '.join(map(repr, fits))}"] if (fits := fitting(target)) else []
        if per_record(target, source):
            hints.append(
                f"if {target!r} is the sum over a row's time: `compare_in` with a rate, as '{target} d-1'"
            )
        raise BadInput(f"unit {source!r} can't be converted to {target!r}", hint="; or ".join(hints))
    slope, offset, heat = conversion
    return slope * latent_heat(temperature) ** heat if heat else slope, offset


@lru_cache
def _scales(source: _Unit, target: _Unit) -> tuple[float, float, int] | None:
    """Slope, offset and power of the latent heat that bring `source` to `target`; None if they don't fit."""
    media = {source.medium, target.medium} - {""}
    if media == {"depth or heat"} and source.pint.dimensionality == target.pint.dimensionality:
        media = set()  # two heights, speeds or energy fluxes: nothing to do with water
    if "carbon" in media and len(media) > 1:
        return None
    medium = "carbon" if "carbon" in media else "water" if media else ""
    (a, heat_a), (b, heat_b) = (_as_mass(unit, medium) for unit in (source, target))
    if a.dimensionality != b.dimensionality:
        return None
    zero, one = (_registry().Quantity(x, a.units).to(b.units).magnitude for x in (0.0, 1.0))
    return (one - zero) * a.magnitude / b.magnitude, zero, heat_b - heat_a


def _as_mass(unit: _Unit, medium: str) -> tuple[pint.Quantity, int]:
    """One `unit` as mass of carbon or water, and 1 if it is yet to be divided by the latent heat, else 0."""
    ureg = _registry()
    quantity = ureg.Quantity(1.0, unit.pint)
    if medium == "water" and unit.like("m", "m/s"):
        return quantity * ureg.Quantity(WATER_DENSITY, "kg/m**3"), 0
    if medium == "water" and unit.like("W/m**2"):
        return quantity * ureg.Quantity(1.0, "kg/J"), 1
    if unit.substance and "[substance]" in unit.pint.dimensionality:
        return quantity * ureg.Quantity(MOLAR_MASS["C" if medium == "carbon" else "H2O"], "kg/mol"), 0
    if unit.substance == "CO2":
        return quantity * (MOLAR_MASS["C"] / MOLAR_MASS["CO2"]), 0
    return quantity, 0


_FACTOR = re.compile(r"(/?)\s*([^\s/]+)")
_OF_SUBSTANCE = re.compile(r"([kmunpMGTP]?(?:g|mol)|mm)(CO2|C|H2O)")  # 'gC', 'umolCO2', 'mmH2O'; not 'degC'
_POWER = re.compile(r"([A-Za-z]+)(?:\^|\*\*)?([+-]?\d+)?")  # 'm-2', 'm2', 'm^2', 'm**2'
_SPELLINGS = str.maketrans("µμ⁻−¹²³·", "uu--123 ") | {ord("%"): "percent"}
_NAMES = {"y": "yr"}  # as ONEFlux has it; pint knows 'yr' and 'year'
# What land models, CMIP and flux files write for no unit, with or without its range: 'unitless (0-1)'
_DIMENSIONLESS = re.compile(
    r"(?:unitless|dimensionless|none|fraction|frac|proportion|ratio|index|1|-|\(-\)|\[-\])?\s*"
    r"(?:[\[(]\s*0\s*(?:-|to|\.\.)\s*1\s*[\])])?",
    re.IGNORECASE,
)
_CELSIUS = re.compile(r"(?:°|deg(?:rees?)?[ _]?)C(?:elsius)?|celsius", re.IGNORECASE)
_DOTTED = re.compile(r"(?<=[A-Za-z0-9])\.(?=[A-Za-z])")  # 'kg.m-2.s-1'


@lru_cache
def _parse(text: str) -> _Unit:
    """Read a unit in the notation of climate data: 'kg m-2 s-1', 'gC/m2/d', 'mmol H2O m-2 s-1', 'none'."""
    import pint

    if _DIMENSIONLESS.fullmatch(text.strip()):
        return _Unit(text, _registry().parse_units(""), "")
    if _CELSIUS.fullmatch(text.strip()):
        return _Unit(text, _registry().parse_units("degC"), "")
    if text.strip() in MEDIUM:
        raise BadInput(f"unit {text!r} is a substance without a unit", hint="degC, or g C m-2 d-1")
    substances, powers = [], []
    for slash, term in _FACTOR.findall(_DOTTED.sub(" ", text.translate(_SPELLINGS))):
        joined = _OF_SUBSTANCE.fullmatch(term)
        name, substance = joined.groups() if joined else ("", term) if term in MEDIUM else (term, "")
        substances += [substance] if substance else []
        if name in ("", "1", "-"):
            continue
        power = _POWER.fullmatch(name)
        if not power:
            raise _unknown(text, name)
        base = _NAMES.get(power[1], power[1])
        powers.append(f"{base}**{'-' if slash else ''}{power[2] or 1}".replace("--", ""))
    if len(substances) > 1:
        raise BadInput(
            f"unit {text!r} names {len(substances)} substances", expected="at most one of C, CO2, H2O"
        )
    try:
        unit = _registry().parse_units("*".join(powers))
    except pint.errors.UndefinedUnitError as error:
        raise _unknown(text, str(error.args[0])) from error
    return _Unit(text, unit, substances[0] if substances else "")


def _unknown(text: str, part: str) -> BadInput:
    near = difflib.get_close_matches(text, COMMON, n=3, cutoff=0.5) or COMMON[::5]
    return BadInput(f"unit {text!r} is not known: {part!r}", hint=", ".join(repr(unit) for unit in near))


@lru_cache
def _registry() -> pint.UnitRegistry:
    import pint

    return pint.UnitRegistry()
