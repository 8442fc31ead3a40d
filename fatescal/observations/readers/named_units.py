"""Units of columns, as far as their names or a file's header tell."""

from __future__ import annotations

import re


def of_header(names: list[str], header: list[str]) -> dict[str, str]:
    """Return the units of columns from a header line ``# units: GPP,NEE g C m-2 d-1; ET mm d-1``."""
    line_of_units = "".join(line for line in header if re.match(r"#\s*units?\s*:", line, re.IGNORECASE))
    units: dict[str, str] = {}
    for part in line_of_units.partition(":")[2].split(";"):
        listed, _, unit = re.sub(r"\(.*?\)", "", part).strip().partition(" ")  # remarks aside
        units |= {name: unit for name in listed.split(",") if name in names}
    return units


def of_units_row(names: list[str], cells: list[str]) -> dict[str, str]:
    """Return the units of columns from the row below their names; of columns without one, nothing.

    >>> of_units_row(["Year", "NEE", "H", "h2o_flux"], ["-", "umolm-2s-1", "[W+1m-2]", "[mmol+1s-1m-2]"])
    {'NEE': 'umol CO2 m-2 s-1', 'H': 'W m-2', 'h2o_flux': 'mmol H2O s-1 m-2'}
    """
    units = {}
    for name, cell in zip(names, cells, strict=False):
        unit = _spaced(cell.strip().strip("[]()").strip())
        if unit and not _NO_UNIT.fullmatch(unit):
            units[name] = _with_substance(name, unit)
    return units


_NO_UNIT = re.compile(r"[-#.]+|TS|RN|.*=.*|yy(?:yy)?.*|ddd?[./].*|hh:?mm.*|n/?a|none", re.IGNORECASE)
_CARBON = re.compile(
    r"(?:nee|gpp|reco|ter|er|nep|npp|fc|fco2|sc|co2_?flux|un_co2|co2_strg)(?:_.*|[A-Z].*)?", re.IGNORECASE
)
_WATER = re.compile(r"(?:h2o_?flux|un_h2o|h2o_strg|fh2o|et)(?:_.*)?", re.IGNORECASE)
_MOLES = re.compile(r"([munµμk]?mol)( m-2 s-1| s-1 m-2|/m\^?2/s)")


def _with_substance(name: str, unit: str) -> str:
    """The unit with what it is of, where the column's name tells and it counts moles."""
    for pattern, substance in ((_CARBON, "CO2"), (_WATER, "H2O")):
        if pattern.fullmatch(name):
            return _MOLES.sub(rf"\1 {substance}\2", unit)
    return unit


def _spaced(unit: str) -> str:
    """The unit in the notation of climate data.

    >>> _spaced("umolm-2s-1"), _spaced("Wm-2"), _spaced("umol_m-2_s-1")
    ('umol m-2 s-1', 'W m-2', 'umol m-2 s-1')
    >>> _spaced("kg+1m-1s-2"), _spaced("Deg C")
    ('kg m-1 s-2', 'degC')
    """
    unit = re.sub(r"^deg[ _.]?C$|^°C$|^C$", "degC", unit.replace("+1", " "), flags=re.IGNORECASE)
    unit = re.sub(r"(?<=[\w\d])_?(m-[23]|s-[12]|d-1|m[23]s-1)", r" \1", unit)
    return re.sub(r"\s+", " ", re.sub(r"(?<=-\d)(?=[A-Za-z])", " ", unit)).strip()
