"""A second, independent land model: the P-model's photosynthesis and SPLASH's evapotranspiration, from
package pyrealm.

A config names it as ``kind: pyrealm``. Light-use efficiency follows from optimality (Prentice et al. 2014,
doi:10.1111/ele.12211; Wang et al. 2017, doi:10.1038/s41477-017-0006-8) with capacities that acclimate over
days while light and temperature change over hours (Mengoli et al. 2022, doi:10.1029/2021MS002767);
evapotranspiration is the lesser of an equilibrium demand and a supply from a single bucket (Davis et al.
2017, doi:10.5194/gmd-10-689-2017).

What pyrealm leaves open: absorbed light is that of the site's leaf area under Beer's law; in spring the
quantum yield recovers with an acclimated temperature, as in the embedded model; the bucket's moisture lowers
GPP as in Stocker et al. (2020, doi:10.5194/gmd-13-1545-2020). SPLASH 1.0 knows neither snow nor interception.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import model_validator

from fatescal.base.errors import BadInput, ModelFailed, Status, did_you_mean
from fatescal.base.options import Count, Finite, Positive
from fatescal.base.types import Array
from fatescal.models import daily
from fatescal.models.base import Context, Model, ModelOptions
from fatescal.models.canopy.defaults import check_values
from fatescal.models.canopy.smear_weather import read_forcing
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.thermo import ZERO, saturation_pressure
from fatescal.models.canopy.weather import STEP, STEPS_PER_DAY, Weather, noleap_date, noleap_day
from fatescal.models.pyrealm_parameters import PARAMETERS
from fatescal.storage.inputs import Source, Sources

if TYPE_CHECKING:
    import xarray as xr

COLDEST = -25.0  # degC; pyrealm's density of water holds down to here, and nothing grows below
EXTINCTION = 0.5  # of light per leaf area, Beer's law (Monsi & Saeki 1953)


class PyrealmOptions(ModelOptions):
    """The P-model and SPLASH of package pyrealm."""

    kind: Literal["pyrealm"]
    """P-model and SPLASH."""
    forcing: str
    """A netCDF file, a folder of CLM's monthly files or a csv of tower meteorology."""
    start: date
    """First day of the output (noleap, UTC days)."""
    end: date
    """Last day of the output."""
    spinup_years: Count = 1
    """How often the first year is run before."""
    site: str = ""
    """A file as the embedded model's site.yaml; Hyytiala where it is left out."""
    elevation: Finite = 181.0
    """Height above the sea [m], Hyytiala's."""
    co2: Positive = 389.8
    """Carbon dioxide [ppm], as in the embedded model."""

    @model_validator(mode="after")
    def _a_year(self) -> Self:
        n_days = noleap_day(self.end) - noleap_day(self.start) + 1
        if n_days < 365:
            raise ValueError(
                f"model.start {self.start} to model.end {self.end} is {n_days} days. "
                "Expected a year at least: the spin-up repeats the first one"
            )
        return self

    def make(self, context: Context) -> PModel:
        """Return the model; `BadInput` where pyrealm is not installed."""
        return PModel(self, context.folder)


class PModel(Model):
    """P-model and SPLASH at one site, driven by whatever drives the embedded model.

    Parameters
    ----------
    options : PyrealmOptions
        `model` of the config.
    folder : Path
        Where the config is; relative paths begin there.

    Raises
    ------
    BadInput
        Where pyrealm is not installed, or there is no file of the site.
    """

    calendar = "noleap"
    period: tuple[date, date] = (date.min, date.max)
    version = 1  # raised whenever the same input gives another output
    defaults: Mapping[str, float] = {p.name: p.default[0] for p in PARAMETERS}
    units: Mapping[str, str] = {p.name: p.unit for p in PARAMETERS}
    outputs: Mapping[str, str] = {"GPP": "kg m-2 s-1", "ET": "kg m-2 s-1"}

    def __init__(self, options: PyrealmOptions, folder: Path) -> None:
        self.pyrealm = installed()
        self.options = options
        self.period = self.options.start, self.options.end
        self._folder = folder
        path = folder / Path(self.options.site).expanduser()
        if self.options.site and not path.is_file():
            raise BadInput(f"model.site: there is no file {path}", expected="a file like canopy/site.yaml")
        self.site = Stand.load(path if self.options.site else None)

    @cached_property
    def weather(self) -> Weather:
        """The forcing of `start` .. `end`."""
        path = self._folder / Path(self.options.forcing).expanduser()
        return read_forcing(path, self.site).period(self.options.start, self.options.end)

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """All that decides a member's output beside its parameters; reads the forcing."""
        return {
            "model": "pyrealm",
            "version": f"{self.version} on pyrealm {self.pyrealm}",
            **self.weather.identity,
            "site": hashlib.sha256(repr(self.site).encode()).hexdigest()[:16],
            **{
                key: str(value)
                for key, value in self.options
                if key not in ("kind", "fallback", "forcing", "site")
            },
        }

    def files(self) -> Sources:
        """Return the files of the forcing and of the site."""
        forcing = self._folder / Path(self.options.forcing).expanduser()
        named: dict[str, list[Source]] = {
            "model.forcing": [*sorted(forcing.glob("*.nc"))] if forcing.is_dir() else [forcing]
        }
        if self.options.site:
            named["model.site"] = [self._folder / Path(self.options.site).expanduser()]
        return named

    def check(self) -> None:
        """Raise `BadInput` if the forcing is missing, unreadable, not in CLM's units or too short."""
        _ = self.weather

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        """Run one member and write ``output.nc``; parameters not in `theta` keep their defaults.

        Raises
        ------
        BadInput
            For an unknown parameter.
        ModelFailed
            For parameters outside their physical range, or where the fluxes are not finite.
        """
        for name in theta:
            if name not in self.defaults:
                raise BadInput(
                    f"pyrealm's model has no parameter {name!r}", hint=did_you_mean(name, self.defaults)
                )
        values = {**self.defaults, **{name: float(value) for name, value in theta.items()}}
        known = {p.name: (p, p.default[0]) for p in PARAMETERS}
        check_values(np.array(list(values.values())), tuple(values), known)
        gpp, evaporation = self.simulate(values)
        series = {
            "GPP": daily.DailyMeans(gpp, self.outputs["GPP"], "gross primary production, carbon"),
            "ET": daily.DailyMeans(evaporation, self.outputs["ET"], "evapotranspiration, water"),
        }
        daily.write(
            folder, self.options.start, series, f"fatescal, P-model and SPLASH of pyrealm {self.pyrealm}"
        )

    def read(self, folder: Path) -> xr.Dataset:
        """Return the daily output of a finished run; times are noleap mid-days, with ``time_bounds``."""
        return daily.read(folder)

    def simulate(self, theta: Mapping[str, float]) -> tuple[Array, Array]:
        """Return daily (days) GPP [kg C m-2 s-1] and evapotranspiration [kg H2O m-2 s-1]."""
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore")  # pyrealm's news, and ranges of weather that are checked here
            moisture, evaporation = self._splash(theta)
            gpp = self._photosynthesis(theta) * _stress(theta, moisture)
        kept = slice(self.options.spinup_years * 365, None)
        gpp, evaporation = gpp[kept] * 1e-9, evaporation[kept] / 86400.0
        if not np.isfinite([gpp, evaporation]).all():
            raise ModelFailed(Status.NON_FINITE, "the fluxes are not finite")
        return gpp, evaporation

    @cached_property
    def _air(self) -> dict[str, Array]:
        """Weather of all steps (n), the spin-up's first, in pyrealm's units."""
        days = self.options.spinup_years * 365
        first = np.tile(np.arange(365 * STEPS_PER_DAY), self.options.spinup_years)
        order = np.concatenate([first, np.arange(self.weather.n_days * STEPS_PER_DAY)])
        w = {name: series[order] for name, series in self.weather.values.items()}
        vapour = w["QBOT"] * w["PSRF"] / (0.622 + 0.378 * w["QBOT"])
        leaves = (-np.expm1(-EXTINCTION * self.site.monthly_to_daily(self.site.lai)) * self.site.share).sum(
            axis=1
        )
        day = self.weather.first_day - days + np.arange(len(order) // STEPS_PER_DAY)
        return {
            "tc": np.maximum(w["TBOT"] - ZERO, COLDEST),
            "vpd": np.maximum(saturation_pressure(w["TBOT"]) - vapour, 0.0),
            "patm": w["PSRF"],
            "co2": np.full(len(order), self.options.co2),
            "light": w["FSDS"],  # W m-2
            "rain": _daily(w["PRECTmms"]) * 86400.0,  # mm d-1, a value per day
            "leaves": np.repeat(leaves[day % 365], STEPS_PER_DAY),  # 1, share of light absorbed
            "day": day,
        }

    @cached_property
    def _environment(self) -> Any:
        """What of the P-model's environment no parameter changes."""
        from pyrealm.constants import CoreConst
        from pyrealm.pmodel import PModelEnvironment

        air = self._air
        photons = air["light"] * CoreConst().swdown_to_ppfd_factor
        return PModelEnvironment(
            **{name: air[name] for name in ("tc", "vpd", "patm", "co2")}, ppfd=photons, fapar=air["leaves"]
        )

    def _photosynthesis(self, theta: Mapping[str, float]) -> Array:
        """Return GPP of each day without stress [ug C m-2 s-1]."""
        from pyrealm.constants import PModelConst
        from pyrealm.core.utilities import exponential_moving_average
        from pyrealm.pmodel import AcclimationModel, SubdailyPModel

        tc = self._air["tc"]
        warmth = exponential_moving_average(_daily(tc), alpha=1.0 / theta["photosynthesis_recovery_time"])
        recovered = (warmth - theta["photosynthesis_recovery_start"]) / theta["photosynthesis_recovery_range"]
        recovered = np.repeat(np.clip(recovered, 0.0, 1.0), STEPS_PER_DAY)
        const = PModelConst(beta_cost_ratio_c3=np.array([theta["beta"]]), wang17_c=theta["jmax_cost"])
        environment = copy.copy(self._environment)
        environment.pmodel_const = const
        environment.fapar = np.minimum(theta["fapar_scale"] * environment.fapar, 1.0)
        response = np.maximum(np.polynomial.polynomial.polyval(tc, const.kphio_C3), 0.0)
        # noleap days in a row, since AcclimationModel takes no gap: only the hour of the day matters
        times = np.datetime64("2001-01-01", "s") + STEP * np.arange(len(tc)) + STEP // 2
        acclimation = AcclimationModel(times, alpha=1.0 / theta["acclimation_time"], allow_holdover=True)
        noon = (12.0 - self.site.longitude / 15.0) % 24.0 * 3600.0  # UTC
        acclimation.set_nearest(np.timedelta64(round(noon), "s"))
        model = SubdailyPModel(
            environment,
            acclimation,
            method_kphio="fixed",
            reference_kphio=theta["phi0"] * response * recovered,
        )
        return _daily(np.where(environment.ppfd > 0, model.gpp, 0.0))

    @cached_property
    def _sunshine(self) -> Array:
        """Share of sunshine of each day [1] that gives SPLASH the forcing's radiation, as near as can be."""
        from pyrealm.constants import CoreConst

        angstrom, const = CoreConst().transmissivity_coef, CoreConst()
        clear = self._sun(np.zeros(len(self._air["rain"])), const)
        above = np.maximum(clear.daily_solar_radiation[:, 0] / const.day_seconds, 1e-6)
        share = _daily(self._air["light"]) / above / (1.0 + angstrom[2] * self.options.elevation)
        return np.clip((share - angstrom[0]) / angstrom[1], 0.0, 1.0)

    def _sun(self, sunshine: Array, const: Any) -> Any:
        """Return SPLASH's radiation, arrays (days, 1)."""
        from pyrealm.core.calendar import Calendar
        from pyrealm.splash.solar import DailySolarFluxes

        days = Calendar(np.array([noleap_date(int(day)) for day in self._air["day"]], dtype="datetime64[D]"))
        one = np.ones((len(days), 1))
        return DailySolarFluxes(
            self.site.latitude * one, self.options.elevation * one, days, sunshine[:, None],
            _daily(self._air["tc"])[:, None], core_const=const,
        )  # fmt: skip

    @cached_property
    def _radiation(self) -> Any:
        from pyrealm.constants import CoreConst

        return self._sun(self._sunshine, CoreConst())

    def _splash(self, theta: Mapping[str, float]) -> tuple[Array, Array]:
        """Return relative soil moisture [1] and evapotranspiration [mm d-1] of each day.

        The parts of pyrealm's SplashModel: as a whole it passes neither its capacity nor its constants on to
        them (2.0.0).
        """
        from pyrealm.constants import CoreConst
        from pyrealm.splash.evap import DailyEvapFluxes

        const = CoreConst()
        object.__setattr__(const, "k_Cw", theta["evaporative_supply"])  # no fields of the frozen constants
        object.__setattr__(const, "k_w", theta["priestley_taylor"] - 1.0)
        capacity, rain = theta["soil_capacity"], self._air["rain"]
        demand = DailyEvapFluxes(
            self._radiation, pa=_daily(self._air["patm"])[:, None], tc=_daily(self._air["tc"])[:, None],
            kWm=np.array([capacity]), core_const=const,
        )  # fmt: skip
        water, moisture, evaporation = np.array([capacity]), np.empty(len(rain)), np.empty(len(rain))
        for day in range(len(rain)):
            lost = demand.estimate_aet(water, day_idx=day)
            water = np.clip(water + rain[day] + demand.cond[day] - lost, 0.0, capacity)
            moisture[day], evaporation[day] = water[0] / capacity, lost[0]
        return moisture, evaporation


def _stress(theta: Mapping[str, float], moisture: Array) -> Array:
    """Return what soil moisture leaves of GPP (days): Stocker et al. (2020), 1 above the threshold."""
    from pyrealm.pmodel.functions import calc_soilmstress_stocker

    coefficients = {
        "theta0": 0.0, "thetastar": theta["soil_stress_threshold"],
        "a": theta["soil_stress_intercept"], "b": 0.0,
    }  # fmt: skip
    return calc_soilmstress_stocker(moisture, np.ones(1), coef=coefficients)


def _daily(steps: Array) -> Array:
    """Return the means of days (n) of the values of their steps (8 n)."""
    return steps.reshape(-1, STEPS_PER_DAY).mean(axis=1)


def installed() -> str:
    """Return the version of pyrealm.

    Raises
    ------
    BadInput
        If it is not installed, or another one than was tried.
    """
    try:
        present = version("pyrealm")
    except PackageNotFoundError:
        raise BadInput(
            "model.kind pyrealm needs the package pyrealm, which is not installed here",
            hint="pip install 'pyrealm>=2,<3' (in the environment of fatescal)",
        ) from None
    if present.split(".")[0] != "2":
        raise BadInput(
            f"pyrealm {present} is installed", expected="version 2", hint="pip install 'pyrealm>=2,<3'"
        )
    return present
