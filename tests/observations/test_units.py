"""Units: every pair of a family converts there and back, to numbers known from elsewhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fatescal.base.errors import BadInput
from fatescal.observations import units

CARBON_FLUX = [
    "g C m-2 d-1",
    "kg C m-2 s-1",
    "umol CO2 m-2 s-1",
    "g CO2 m-2 d-1",
    "mol C m-2 yr-1",
    "gC/m2/d",
]
WATER_FLUX = ["mm d-1", "mm s-1", "kg H2O m-2 s-1", "mmol H2O m-2 s-1", "W m-2", "mm/day", "m s-1"]
FAMILIES = {
    "carbon flux": ["kg m-2 s-1", *CARBON_FLUX],
    "water flux": ["kg m-2 s-1", *WATER_FLUX],
    "carbon stock": ["kg m-2", "g C m-2", "mol CO2 m-2"],
    "water stock": ["kg m-2", "mm", "mol H2O m-2"],
    "temperature": ["K", "degC"],
    "pressure": ["Pa", "hPa", "kPa"],
    "share": ["1", "%", "m3 m-3", "-", "", "unitless", "proportion"],
}
PAIRS = [pair for family in FAMILIES.values() for pair in product(family, repeat=2)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_there_and_back(source, target):
    values = np.array([-3.5, 0.0, 1e-8, 12.25, 300.0])
    there = units.convert(values, source, target, temperature=7.0)
    np.testing.assert_allclose(
        units.convert(there, target, source, temperature=7.0), values, rtol=1e-12, atol=1e-11
    )


OFFERED = [(unit, other) for unit in units.COMMON for other in units.fitting(unit)]


def test_units_that_fit_fit_both_ways():
    assert {(b, a) for a, b in OFFERED} == set(OFFERED)
    assert len(OFFERED) > 60


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=5), st.floats(-40.0, 45.0))
def test_every_pair_that_is_offered_converts_there_and_back(values, temperature):
    values = np.array([v if abs(v) > 1e-200 else 0.0 for v in values])
    for source, target in OFFERED:
        there = units.convert(values, source, target, temperature)
        back = units.convert(there, target, source, temperature)
        zero = 300.0 if "degC" in (source, target) else 0.0  # a zero elsewhere costs digits
        assert np.all(np.abs(back - values) <= 1e-12 * (np.abs(values) + zero)), (source, target)


@pytest.mark.parametrize(
    ("value", "source", "expected", "target"),
    [
        (1.0, "umol CO2 m-2 s-1", 1e-6 * 12.011 * 86400, "g C m-2 d-1"),
        (1.0, "kg m-2 s-1", 1000 * 86400, "g C m-2 d-1"),
        (1.0, "kg m-2 s-1", 1e9 / 12.011, "umol CO2 m-2 s-1"),  # a model's bare mass is of carbon
        (44.009, "g CO2 m-2 d-1", 12.011, "g C m-2 d-1"),
        (1.0, "kg m-2 s-1", 86400.0, "mm d-1"),
        (1.0, "mmol H2O m-2 s-1", 18.015e-6 * 86400, "mm d-1"),
        (28.4, "W m-2", 28.4 * 86400 / 2.45378e6, "mm d-1"),  # FAO-56: 1 mm d-1 is 2.45 MJ m-2 d-1
        (100.0, "W m-2", 100 / 2.45378e6, "kg m-2 s-1"),
        (2.5, "mm", 2.5, "kg m-2"),
        (20.0, "degC", 293.15, "K"),
        (36.0, "km h-1", 10.0, "m s-1"),
        (60.0, "W m-2", 60.0, "J s-1 m-2"),
    ],
)
def test_known_conversions(value, source, expected, target):
    assert units.convert(value, source, target) == pytest.approx(expected, rel=1e-12)


def test_latent_heat_follows_the_temperature_in_both_directions():
    temperature = np.array([0.0, 20.0])
    heat = np.array([2.501e6, 2.45378e6])  # FAO-56, equation 3-1
    np.testing.assert_allclose(
        units.convert([100.0, 100.0], "W m-2", "mm d-1", temperature), 100 * 86400 / heat
    )
    np.testing.assert_allclose(units.convert([1.0, 1.0], "mm d-1", "W m-2", temperature), heat / 86400)


@pytest.mark.parametrize(
    "spelling",
    [
        "gC m-2 d-1",
        "g C/m2/day",
        "g C m^-2 d^-1",
        "g C m**-2 day**-1",
        " g  C m-2 d-1",
        "gC/m²/d",
        "g C m⁻² d⁻¹",
        "g C m−2 d−1",
    ],
)
def test_spellings_of_one_unit(spelling):
    assert units.factor(spelling, "g C m-2 d-1") == 1.0


def test_degrees_celsius_are_no_substance():
    assert units.factor("degC", "degC") == 1.0


@pytest.mark.parametrize(
    "unit", ["furlongs per fortnight", "g C m-2 dy-1", "KG m-2", "(kg)", "kg m-2 s-1.5", "g C CO2"]
)
def test_unknown_units_are_refused(unit):
    with pytest.raises(BadInput):
        units.check(unit)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("W m-2", "g C m-2 d-1"),
        ("mm d-1", "g C m-2 d-1"),
        ("g C m-2 d-1", "mmol H2O m-2 s-1"),
        ("umol m-2 s-1", "g C m-2 d-1"),  # of what?
        ("g C m-2", "g C m-2 d-1"),
        ("K", "mm d-1"),
    ],
)
def test_incompatible_units_are_refused_with_some_that_fit(source, target):
    with pytest.raises(BadInput, match="can't be converted") as caught:
        units.factor(source, target)
    offered = str(caught.value).split("Try: ")[1].split("'")[1::2]
    assert offered
    assert all(np.isfinite(units.convert(1.0, unit, target)) for unit in offered)


def test_an_amount_where_a_rate_is_meant_is_told_apart():
    with pytest.raises(
        BadInput, match="if 'mm' is the sum over a row's time: `compare_in` with a rate, as 'mm d-1'"
    ):
        units.factor("kg m-2 s-1", "mm")
    assert units.per_record("MJ m-2", "mm d-1")
    assert not units.per_record("mm", "g C m-2 d-1")


def test_a_scale_with_another_zero_has_no_factor():
    with pytest.raises(BadInput, match="no mere factor"):
        units.factor("degC", "K")


@given(
    st.sampled_from(CARBON_FLUX + ["kg m-2 s-1"]), st.sampled_from(CARBON_FLUX), st.sampled_from(CARBON_FLUX)
)
def test_two_steps_are_one(a, b, c):
    assert units.factor(a, b) * units.factor(b, c) == pytest.approx(units.factor(a, c), rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["unitless", "none", "fraction", "proportion", "1", "-", "", "Fraction", "unitless (0-1)",
     "fraction [0-1]",
     "(-)", "[-]", "ratio", "index", "m3/m3", "mm3/mm3", "m2 m-2", "kg/kg", "dimensionless", " none "],
)  # fmt: skip
def test_all_that_says_no_unit_is_one(text):
    assert units.factor(text, "1") == 1.0
    assert units.factor(text, "%") == pytest.approx(100.0, rel=1e-12)
    assert units.factor("%", text) == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "value", "target"),
    [
        ("gC/m^2/s", 86400.0, "g C m-2 d-1"),
        ("gC/m2/s", 86400.0, "g C m-2 d-1"),
        ("kgC m-2 s-1", 8.64e7, "g C m-2 d-1"),
        ("kg/m2/s", 86400.0, "mm d-1"),
        ("kg m-2 s-1", 86400.0, "mm d-1"),
        ("kg m^-2 s^-1", 8.64e7, "g C m-2 d-1"),
        ("kg.m-2.s-1", 86400.0, "mm d-1"),
        ("mm/s", 86400.0, "mm d-1"),
        ("mm H2O", 1.0, "kg m-2"),
        ("mmH2O", 1.0, "mm"),
        ("W/m^2", 1.0, "W m-2"),
        ("umol/m2/s", 1.0, "umol m-2 s-1"),
        ("umol CO2/m**2/s", 1.0, "umol CO2 m-2 s-1"),
        ("g C m-2 y-1", 1 / 365.25, "g C m-2 d-1"),
        ("gC/m^2/yr", 1 / 365.25, "g C m-2 d-1"),
        ("m3/m3", 1.0, "mm3/mm3"),
    ],
)
def test_units_as_clm_alma_and_cmip_files_spell_them(text, value, target):
    assert units.factor(text, target) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("text", ["deg C", "degrees C", "°C", "Celsius", "DegC"])
def test_degrees_celsius_are_no_angle_and_no_carbon(text):
    assert units.convert(20.0, text, "K") == 293.15


@pytest.mark.parametrize("text", ["C", "CO2", "NA", "unknown", "30min", "gN/m^2/s"])
def test_what_is_no_unit_is_refused(text):
    with pytest.raises(BadInput, match="unit"):
        units.factor(text, "1")


@pytest.mark.parametrize("target", ["W m-2", "mm d-1", "g m-2 d-1"])
def test_moles_of_light_are_no_water(target):
    with pytest.raises(BadInput, match="can't be converted"):
        units.factor("umol m-2 s-1", target)
