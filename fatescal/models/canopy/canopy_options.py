"""The embedded model's section of the config."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fatescal.base.options import Number, Positive, Section, Share, Whole
from fatescal.models.base import Context, Model, ModelOptions

Months = Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=12, max_length=12)]


class PlantType(Section):
    """What differs from the default in a plant type of the embedded model: share of the area, height [m],
    indices."""

    share: Share | None = None
    """Share of the area."""
    height: Positive | None = None
    """Height of the canopy [m]."""
    lai: Months | None = None
    """Leaf area index of each month."""
    sai: Months | None = None
    """Stem area index of each month."""


class CanopySite(Section):
    """The place of the embedded model: a `file` of facts, and what differs from it (without a file from
    Hyytiala)."""

    file: str | None = None
    """A file of the site's facts, as `site.yaml` of the model; Hyytiala without it."""
    latitude: Annotated[Number, Field(ge=-90, le=90)] | None = None
    """Latitude [degrees north]."""
    longitude: Annotated[Number, Field(ge=-180, le=360)] | None = None
    """Longitude [degrees east]."""
    sand: Annotated[Number, Field(ge=0, le=100)] | None = None
    """Sand in the soil [%]."""
    clay: Annotated[Number, Field(ge=0, le=100)] | None = None
    """Clay in the soil [%]."""
    bedrock: Positive | None = None
    """Depth of the bedrock [m]."""
    pfts: dict[str, PlantType] | None = None
    """Plant types that grow there, by name."""


class CanopyOptions(ModelOptions):
    """The embedded land model (`fatescal.models.canopy`)."""

    kind: Literal["canopy"]
    """The embedded land model."""
    forcing: str = "synthetic"
    """`synthetic`, a netCDF file, a folder of CLM's monthly files, or a csv of tower meteorology."""
    weather_seed: Annotated[Whole, Field(ge=0)] | None = None
    """Seed of the synthetic forcing."""
    site: CanopySite | None = None
    """The place; Hyytiala where it is left out."""
    start: date
    """First day of the output."""
    end: date
    """Last day of the output."""
    spinup_years: Annotated[Whole, Field(ge=0)] = 1
    """Years run before, with the weather of the first years."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"model.end {self.end} is not after model.start {self.start}")
        return self

    def make(self, context: Context) -> Model:
        """Return the model with its site."""
        from fatescal.models.canopy.canopy_model import Canopy
        from fatescal.models.canopy.stand import Stand

        site = self.site or CanopySite()
        site_file = None if site.file is None else context.path(site.file)
        return Canopy(
            forcing=self.forcing if self.forcing == "synthetic" else context.path(self.forcing),
            start=self.start,
            end=self.end,
            spinup_years=self.spinup_years,
            seed=1 if self.weather_seed is None else self.weather_seed,
            site=Stand.load(site_file, site.model_dump(exclude={"file"}, exclude_none=True)),
            site_file=site_file,
        )
