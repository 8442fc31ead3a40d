"""Photosynthesis and stomata of a leaf, and of all leaves of a canopy, compiled by numba."""

from __future__ import annotations

from math import exp, sqrt

from numba import njit

from fatescal.models.canopy.drivers import CO2

THETA_PSII = 0.7  # curvature of electron transport (CLM5)
THETA_CJ = 0.98  # curvature of co-limitation (CLM5)


@njit(error_model="numpy")
def assimilation(ci, vcmax, electrons, gamma, km):
    """Return gross assimilation [umol m-2 s-1] at `ci` [Pa]: Farquhar et al. 1980, Collatz et al. 1991."""
    rubisco = vcmax * (ci - gamma) / (ci + km)
    light = electrons * (ci - gamma) / (4 * ci + 8 * gamma)
    both = rubisco + light
    if ci <= gamma:
        return max(rubisco, light)
    return (both - sqrt(both * both - 4 * THETA_CJ * rubisco * light)) / (2 * THETA_CJ)


@njit(error_model="numpy")
def conductance(net, ca, pressure, gb, g0, m, humidity):
    """Return stomatal conductance to water [mol m-2 s-1]: Ball et al. 1987 with humidity at the leaf surface.

    `humidity` is the air's vapour pressure over saturation at leaf temperature; `gb` [mol m-2 s-1] couples
    the surface to the air: g^2 + g (gb - g0 - k) - gb (g0 + k humidity) = 0, k = m A P / c_s.
    """
    if net <= 0.0:
        return g0
    cs = max(ca - 1.4e-6 * net * pressure / gb, 1.0)
    k = 1e-6 * m * net * pressure / cs
    half = 0.5 * (gb - g0 - k)
    constant = gb * (g0 + k * humidity)
    root = sqrt(half * half + constant)
    return constant / (half + root) if half > 0.0 else root - half


@njit(error_model="numpy")
def _excess(ci, vcmax, electrons, rd, gamma, km, ca, pressure, gb, g0, m, humidity):
    """Return by how much `ci` exceeds what diffusion allows [Pa], gross assimilation and conductance."""
    gross = assimilation(ci, vcmax, electrons, gamma, km)
    gs = conductance(gross - rd, ca, pressure, gb, g0, m, humidity)
    return ci - ca + 1e-6 * (gross - rd) * pressure * (1.4 / gb + 1.6 / gs), gross, gs


@njit(error_model="numpy")
def leaf(photons, vcmax, jmax, rd, gamma, km, ca, pressure, gb, g0, m, humidity):
    """Return gross assimilation [umol m-2 s-1] and stomatal conductance [mol m-2 s-1] of a leaf.

    Secant steps on ci inside a bracket; the first guess is exact where `g0` and 1/gb vanish,
    so that three or four evaluations reach 1e-6 Pa.
    """
    both = photons + jmax
    electrons = (both - sqrt(both * both - 4 * THETA_PSII * photons * jmax)) / (2 * THETA_PSII)
    low, high = gamma, ca
    top, gross, gs = _excess(high, vcmax, electrons, rd, gamma, km, ca, pressure, gb, g0, m, humidity)
    if top <= 0.0:  # respiration outweighs assimilation: ci lies a trace above ca
        return gross, gs
    before, f_before = high, top
    ci = min(max(ca * (1 - 1.6 / max(m * humidity, 1.7)), 1.2 * gamma), 0.98 * ca)
    for _ in range(60):
        f, gross, gs = _excess(ci, vcmax, electrons, rd, gamma, km, ca, pressure, gb, g0, m, humidity)
        if abs(f) < 1e-6:
            break
        if f > 0.0:
            high = ci
        else:
            low = ci
        slope = (f - f_before) / (ci - before)
        before, f_before = ci, f
        ci = ci - f / slope
        if not low < ci < high:
            ci = 0.5 * (low + high)
    return gross, gs


@njit(error_model="numpy")
def canopy_photosynthesis(d, w, t, decayed, btran, capacity, gb):
    """Return assimilation of the canopy [umol m-2 s-1], conductance of sunlit and of shaded leaves [m s-1].

    Both kinds of leaves while the sun is up, dark leaves for the rest of the step. Nitrogen falls with depth
    as exp(-kn L); vcmax25 is integrated over either kind (de Pury & Farquhar 1997). Water stress acts as in
    FATES, on vcmax and the intercept.
    """
    kn, g0 = t.kn, max(t.g0 * btran, 1e-6)
    lai, sun_lai, daylight, molar = w.lai, w.sun_lai, d.daylight, d.molar
    g_dark = g0 / molar
    if daylight <= 0.0 or lai - sun_lai <= 1e-9:
        return 0.0, g_dark, g_dark
    top25 = t.vcmax * capacity
    lit = w.decay + kn
    sun25 = top25 * w.clumping * (1.0 - decayed * exp(-w.decay * lai)) / lit
    shade25 = max(top25 * (1.0 - decayed) / kn - sun25, 0.0)
    a_sun, g_sun = _leaves(d, w.sun_par, sun25 / sun_lai, btran, gb, t, g0)
    a_shade, g_shade = _leaves(d, w.shade_par, shade25 / (lai - sun_lai), btran, gb, t, g0)
    night = (1.0 - daylight) * g_dark
    total = daylight * (sun_lai * a_sun + (lai - sun_lai) * a_shade)
    return total, daylight * g_sun / molar + night, daylight * g_shade / molar + night


@njit(error_model="numpy")
def _leaves(d, par, vcmax25, btran, gb, t, g0):
    """Return `leaf` at the step's air temperature for a rate at 25 degC per leaf area."""
    humidity = 1.0 - d.deficit / d.saturation
    return leaf(
        t.quantum * par, vcmax25 * d.f_vcmax * btran, vcmax25 * d.f_jmax, vcmax25 * d.f_rd * btran,
        d.gamma, d.km, CO2 * d.pressure, d.pressure, gb * d.molar, g0, t.slope, humidity,
    )  # fmt: skip
