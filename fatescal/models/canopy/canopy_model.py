"""The embedded land model as a forward model: forcing, parameters and dates in, daily GPP and ET out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.errors import BadInput, ModelFailed, Status
from fatescal.base.types import Array
from fatescal.models import daily
from fatescal.models.base import Model
from fatescal.models.canopy import defaults
from fatescal.models.canopy.drivers import Drivers, drive
from fatescal.models.canopy.smear_weather import read_forcing
from fatescal.models.canopy.stand import Stand
from fatescal.models.canopy.weather import STEPS_PER_DAY, Weather, noleap_day
from fatescal.models.canopy.weather_generator import synthetic
from fatescal.storage.inputs import Source, Sources

if TYPE_CHECKING:
    import xarray as xr

VARIABLES = {  # name in the file: column of the daily output, unit, long name
    "FATES_GPP": ("gpp", "kg m-2 s-1", "gross primary production, carbon"),
    "QFLX_EVAP_TOT": ("evaporation", "kg m-2 s-1", "evapotranspiration, water"),
}


class Canopy(Model):
    """A compact process-based land model of one site under FATES parameter names.

    Three plant functional types side by side on one soil and snow cover: two-leaf photosynthesis with
    Ball-Berry stomata, Penman-Monteith energy balances of canopy and ground, interception of rain and snow,
    two soil layers, and the slow spring recovery of evergreen needles; three-hourly steps.

    Parameters
    ----------
    forcing : str
        ``synthetic``, a netCDF file, a folder of CLM's monthly DATM files,
        or a csv of tower meteorology, daily (`tower.read_smear`) or half-hourly (`fluxnet.read_fluxnet`).
    start, end : date
        First and last day of the output, inclusive; noleap calendar, UTC days.
    spinup_years : int
        Years run before `start` with the weather of the first years from `start` on, again and again.
    seed : int
        Of the synthetic weather.
    site : Site, optional
        The place; Hyytiala where it is left out.
    site_file : Path, optional
        The file that `site` was read from.

    Raises
    ------
    BadInput
        For dates out of order or not in the noleap calendar.

    Examples
    --------
    >>> model = Canopy("synthetic", date(2004, 1, 1), date(2004, 12, 31), spinup_years=0)
    >>> model.defaults["fates_leaf_vcmax25top_cool_c3_grass"]
    78.0
    """

    calendar = "noleap"
    period: tuple[date, date] = (date.min, date.max)
    pfts: tuple[str, ...] = ()
    defaults: Mapping[str, float] = {}
    units: Mapping[str, str] = {}
    outputs: Mapping[str, str] = {name: unit for name, (_, unit, _) in VARIABLES.items()}
    version = 3  # raised whenever the same input gives another output

    def __init__(
        self,
        forcing: str | os.PathLike[str],
        start: date,
        end: date,
        spinup_years: int = 1,
        seed: int = 1,
        site: Stand | None = None,
        site_file: Path | None = None,
    ) -> None:
        self.forcing, self.seed, self.spinup_years = os.fspath(forcing), seed, spinup_years
        self.start, self.end = self.period = start, end
        self.site, self._site_file = site or Stand.load(), site_file
        self.pfts = self.site.pfts
        self._known = defaults.flat(self.pfts)
        self.names = tuple(self._known)
        self.defaults = {name: value for name, (_, value) in self._known.items()}
        self.units = {name: p.unit for name, (p, _) in self._known.items()}
        self.n_days = noleap_day(end) - noleap_day(start) + 1
        if self.n_days < 1:
            raise BadInput(f"model.end {end} is before model.start {start}")
        if spinup_years < 0:
            raise BadInput("spinup_years is negative", expected="0 or more", got=spinup_years)
        if spinup_years and self.n_days < 365:
            raise BadInput(
                f"spin-up repeats whole years, but {start} .. {end} is shorter than one",
                hint="spinup_years: 0",
            )

    @cached_property
    def weather(self) -> Weather:
        """The forcing of `start` .. `end`."""
        if self.forcing == "synthetic":
            return synthetic(self.seed, self.start, self.end, self.site)
        return read_forcing(Path(self.forcing).expanduser(), self.site).period(self.start, self.end)

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """All that decides a member's output beside its parameters; reads the forcing."""
        return {
            "model": "canopy",
            "version": self.version,
            **self.weather.identity,
            "site": hashlib.sha256(repr(self.site).encode()).hexdigest()[:16],
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "spinup_years": self.spinup_years,
        }

    def files(self) -> Sources:
        """Return the files of the forcing and of the site."""
        files: dict[str, list[Source]] = {}
        if self.forcing != "synthetic":
            path = Path(self.forcing).expanduser()
            files["model.forcing"] = [*sorted(path.glob("*.nc"))] if path.is_dir() else [path]
        if self._site_file is not None:
            files["model.site.file"] = [self._site_file]
        return files

    def check(self) -> None:
        """Raise `BadInput` if the forcing is missing, unreadable, not in CLM's units or too short."""
        _ = self.weather

    def check_names(self, names: Iterable[str]) -> None:
        """Raise `BadInput` for a parameter the model does not have."""
        defaults.check_names(names, self.defaults)

    @cached_property
    def _drivers(self) -> Drivers:
        return drive(self.weather, self.site)

    @cached_property
    def _order(self) -> Array:
        """Driver step of every model step: spin-up on the first years, then the period itself."""
        years = min(self.spinup_years, self.n_days // 365)
        period = np.arange(self.n_days * STEPS_PER_DAY)
        first = period[: years * 365 * STEPS_PER_DAY].reshape(years, 365 * STEPS_PER_DAY)
        spinup = [first[year % years] for year in range(self.spinup_years)]
        return np.concatenate([*spinup, period])

    def simulate(self, theta: Array) -> dict[str, Array]:
        """Run M members in memory.

        Parameters
        ----------
        theta : array (M, P)
            All parameters, columns as in `names`.

        Returns
        -------
        dict of array (M, days)
            Daily means, names as in `kernel.DAILY`; also ``imbalance`` (M, 2): the largest error of any
            step in the balances of energy [W m-2] and water [mm]. A row depends on its own parameters only.

        Raises
        ------
        ModelFailed
            For parameters outside their physical range, or where the fluxes are not finite.
        """
        from fatescal.models.canopy import kernel
        from fatescal.models.canopy.soil_water import soil_of
        from fatescal.models.canopy.traits import traits_of

        theta = np.atleast_2d(np.asarray(theta, float))
        if theta.shape[1] != len(self.names):
            raise ValueError(f"theta is {theta.shape}, expected (M, {len(self.names)})")
        soil = soil_of(self.site)
        daily = np.zeros((len(theta), self.n_days, kernel.N_DAILY))
        imbalance = np.zeros((len(theta), 2))
        n_spin = self.spinup_years * 365 * STEPS_PER_DAY
        split = len(defaults.PFT_PARAMETERS) * len(self.pfts)
        for member, row in enumerate(theta):
            defaults.check_values(row, self.names, self._known)
            traits = traits_of(row[:split].reshape(-1, len(self.pfts)), row[split:], self.site)
            kernel.run_member(
                traits, *self._drivers, soil, self._order, n_spin, daily[member], imbalance[member]
            )
        if not np.isfinite(daily).all():
            raise ModelFailed(Status.NON_FINITE, "the fluxes are not finite")
        return {name: daily[:, :, j] for j, name in enumerate(kernel.DAILY)} | {"imbalance": imbalance}

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        """Run one member and write ``output.nc``; parameters not in `theta` keep their defaults.

        Raises
        ------
        BadInput
            For an unknown parameter.
        ModelFailed
            For parameters outside their physical range.
        """
        self.check_names(theta)
        row = np.array([float(theta.get(name, default)) for name, default in self.defaults.items()])
        fluxes = self.simulate(row)
        series = {
            name: daily.DailyMeans(fluxes[column][0], unit, long_name)
            for name, (column, unit, long_name) in VARIABLES.items()
        }
        daily.write(folder, self.start, series, f"fatescal embedded land model, version {self.version}")

    def read(self, folder: Path) -> xr.Dataset:
        """Return the daily output of a finished run; times are noleap mid-days, with ``time_bounds``."""
        return daily.read(folder)
