"""The parameters of pyrealm's models."""

from __future__ import annotations

from fatescal.models.canopy.defaults import CanopyParameter

_INF = float("inf")
# fmt: off
PARAMETERS = (  # the source ends with the range a prior should cover
    CanopyParameter("phi0", (0.087182,), "1", 0, 0.1250001,
              "quantum yield of photosynthesis, before its response to temperature",
              "Stocker et al. 2020, set-up FULL; at most 1/8 by theory; 0.04 .. 0.12"),
    CanopyParameter("beta", (146.0,), "1", 0, _INF,
              "cost of carboxylation over that of transpiration at 25 degC",
              "146 Stocker et al. 2020, 240 Prentice et al. 2014; 95 .. 225 from dry to wet soil, "
              "Lavergne et al. 2020"),
    CanopyParameter("jmax_cost", (0.41,), "1", 0, 0.8,
              "unit cost of the capacity of electron transport, c*", "Wang et al. 2017; 0.2 .. 0.6"),
    CanopyParameter("acclimation_time", (15.0,), "d", 0.9999999, _INF,
              "time in which vcmax, jmax and stomata follow the weather of noon",
              "Mengoli et al. 2022; 30 in rsofun (Stocker et al. 2020); 5 .. 45"),
    CanopyParameter("photosynthesis_recovery_time", (8.33,), "d", 0.9999999, _INF,
              "time constant of the temperature that leaves have acclimated to",
              "Makela et al. 2004; Kolari et al. 2007, doi:10.1111/j.1600-0889.2007.00262.x; 2 .. 20"),
    CanopyParameter("photosynthesis_recovery_start", (-4.67,), "degC", -_INF, _INF,
              "acclimated temperature at which the quantum yield begins to recover",
              "Kolari et al. 2007; -10 .. 0"),
    CanopyParameter("photosynthesis_recovery_range", (18.0,), "K", 0, _INF,
              "rise above the start at which the quantum yield is full", "Kolari et al. 2007; 8 .. 25"),
    CanopyParameter("fapar_scale", (1.0,), "1", 0, 2,
              "absorbed light over that of the site's leaf area",
              "GPP tells it from phi0 only where the canopy absorbs all light: leave it out; 0.8 .. 1.2"),
    CanopyParameter("soil_stress_threshold", (0.6,), "1", 0, 1.0000001,
              "relative soil moisture below which GPP is lowered", "Stocker et al. 2020; 0.3 .. 0.9"),
    CanopyParameter("soil_stress_intercept", (0.733,), "1", -1e-7, 1.0000001,
              "share of GPP that a dry bucket leaves",
              "Stocker et al. 2020, a + b alpha with alpha = 1 of a humid climate; 0 .. 1"),
    CanopyParameter("soil_capacity", (150.0,), "mm", 0, 1e4,
              "water the bucket holds", "Davis et al. 2017; 50 .. 300"),
    CanopyParameter("evaporative_supply", (1.05,), "mm h-1", 0, _INF,
              "rate at which a full bucket can give water", "Federer 1982, by Davis et al. 2017; 0.2 .. 1.5"),
    CanopyParameter("priestley_taylor", (1.26,), "1", 0, _INF,
              "demand over equilibrium evaporation",
              "Priestley & Taylor 1972; lower over tall conifers, Komatsu 2005, doi:10.1002/hyp.5987; "
              "0.5 .. 1.3"),
)
# fmt: on
