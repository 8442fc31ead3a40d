"""A whole config, of one site or of several that share their parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from fatescal.base.options import Section, Whole
from fatescal.config.machine import Machine
from fatescal.config.model_options import Model
from fatescal.config.stage_options import (
    DEFAULT_EMULATOR,
    EMULATE,
    AnyCalibrate,
    AnyEmulate,
    PosteriorSection,
    SampleSection,
)
from fatescal.diagnostics.scores import USUAL, ScoreName
from fatescal.models.base import ModelOptions
from fatescal.observations.options import ObservationsSection
from fatescal.parameters.entries import Correlations, ParameterEntry

NOT_TOGETHER = "`execution: multi-instance` is for configs without `sites`"
SITE = r"[A-Za-z][\w-]*"  # a site's name is that of a folder


class RunSection(Section):
    """Name, place and seed of the run, how far it goes, what it is scored by."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """Name of the run."""
    directory: Path
    """Folder of the run; a relative one is below the machine's scratch folder, if it has one, else below the
    config's folder."""
    seed: Annotated[Whole, Field(ge=0)] = 1
    """Seed of all random numbers."""
    stop_after: Literal["default", "prior"] | None = None
    """End after the default run alone, or after the first ensemble."""
    scores: Annotated[tuple[ScoreName, ...], Field(min_length=1)] = USUAL
    """Scores of the scorecard, by name."""

    @field_validator("scores")
    @classmethod
    def _each_once(cls, scores: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name in scores if scores.count(name) > 1]:
            raise ValueError(f"{twice[0]} is named twice")
        return scores


class Config(Section):
    """What configs of one site and of several have in common."""

    run: RunSection
    """Name, place and seed of the run."""
    parameters: Annotated[dict[str, ParameterEntry], Field(min_length=1)]
    """The calibrated parameters and those that follow from them, by name."""
    correlations: Correlations | None = None
    """Correlations of parameters under the prior."""
    calibrate: AnyCalibrate
    """The Kalman ensemble: scheme, size, first design."""
    emulate: AnyEmulate = EMULATE[DEFAULT_EMULATOR](target=DEFAULT_EMULATOR)
    """What is emulated, and how often it is refined."""
    sample: SampleSection = SampleSection()
    """The chains and when they count as converged."""
    posterior: PosteriorSection
    """The posterior ensemble that the model runs again."""

    folder: Path = Field(default=Path(), exclude=True)  # of the config file
    machine: Machine = Field(default=Machine(), exclude=True)  # decides no result, so is not kept with it

    @property
    def by_site(self) -> Mapping[str, OneSite]:
        """The config of each site by its name, '' where there is but one."""
        raise NotImplementedError

    def folded(self, number: int, n_folds: int) -> Self:
        """Return the settings of one fold of a cross-validation, a run of its own below the run's
        directory."""
        raise NotImplementedError

    def with_models(self, models: Mapping[str, ModelOptions]) -> Self:
        """Return the settings with other models, by site."""
        raise NotImplementedError

    def path(self, text: str) -> Path:
        """Return a path of the config, relative ones from the config's folder."""
        return (self.folder / text).resolve()

    def on(self, machine: Machine) -> Self:
        """Return the settings on a machine: a relative `run.directory` is below its scratch folder, if it has
        one."""
        directory = (machine.scratch or Path()) / self.run.directory
        run = self.run.model_copy(update={"directory": directory})
        return self.model_copy(update={"machine": machine, "run": run})

    def placed(self, below: Path | None = None) -> Self:
        """Return the settings with an absolute `run.directory`: a relative one begins at the config's folder.

        Parameters
        ----------
        below : Path, optional
            The folder that it begins at instead.
        """
        directory = Path(os.path.normpath(((below or self.folder) / self.run.directory).absolute()))
        return self.model_copy(update={"run": self.run.model_copy(update={"directory": directory})})

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain JSON-able values, without the config's folder."""
        content = self.model_dump(mode="json")
        first = ("run", "model", "sites", "parameters", "observations")  # as people write them
        return {key: content[key] for key in first if key in content} | content

    def _fold_of_run(self, number: int, n_folds: int) -> RunSection:
        fold = f"fold-{number}-of-{n_folds}"
        changed = {"name": f"{self.run.name}-{fold}", "directory": self.run.directory / fold}
        return self.run.model_copy(update=changed)


class OneSite(Config):
    """A config of one site; `site` is its name where it is one of several."""

    model: Model
    """The model and its options."""
    observations: ObservationsSection
    """The data, their windows and their errors."""

    site: str = Field(default="", exclude=True)

    @property
    def by_site(self) -> Mapping[str, OneSite]:
        return {self.site: self}

    def folded(self, number: int, n_folds: int) -> OneSite:
        run = self._fold_of_run(number, n_folds)
        return _with_fold(self, number, n_folds).model_copy(update={"run": run})

    def with_models(self, models: Mapping[str, ModelOptions]) -> OneSite:
        return self.model_copy(update={"model": models[self.site]})

    def label(self, variable: str) -> str:
        """Return what an observed variable is called among those of all sites."""
        return f"{self.site}/{variable}" if self.site else variable


class SiteSection(Section):
    """What one of several sites has to itself; what the config gives for all of them has been filled in."""

    model: Model
    """What the model has at this site to itself."""
    observations: ObservationsSection
    """What the observations have at this site to themselves."""


Part = TypeVar("Part", OneSite, SiteSection)


class SeveralSites(Config):
    """A config of several sites: one model and its observations at each, parameters that are the same at
    all."""

    sites: Annotated[dict[Annotated[str, Field(pattern=f"^{SITE}$")], SiteSection], Field(min_length=1)]
    """Sites that share the parameters, each by its name."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> SeveralSites:
        truths = {name: site.observations.synthetic for name, site in self.sites.items()}
        (first, truth), *others = truths.items()
        for name, other in others:
            if (other is None) != (truth is None):
                of_first, of_other = ("measured", "synthetic") if truth is None else ("synthetic", "measured")
                raise ValueError(
                    f"sites.{name}: its observations are {of_other}, those of {first} {of_first}; "
                    "give `file` at all sites, or `synthetic` for all"
                )
            if other != truth:
                raise ValueError(
                    f"sites.{name}: `observations.synthetic` must be that of {first}: one truth for all"
                )
        for name, site in self.sites.items():
            if site.model.runs_together:
                raise ValueError(f"sites.{name}: {NOT_TOGETHER}")
        return self

    @model_validator(mode="after")
    def _no_conflict(self) -> SeveralSites:
        for (first, one), (name, other) in combinations(self.sites.items(), 2):
            if conflict := other.model.conflict(one.model):
                raise ValueError(f"sites.{name}: {conflict.format(other=first)}")
        return self

    @property
    def by_site(self) -> Mapping[str, OneSite]:
        common = {name: getattr(self, name) for name in Config.model_fields}
        return {
            name: OneSite.model_construct(**common, model=p.model, observations=p.observations, site=name)
            for name, p in self.sites.items()
        }

    def folded(self, number: int, n_folds: int) -> SeveralSites:
        run = self._fold_of_run(number, n_folds)
        sites = {name: _with_fold(site, number, n_folds) for name, site in self.sites.items()}
        return self.model_copy(update={"run": run, "sites": sites})

    def with_models(self, models: Mapping[str, ModelOptions]) -> SeveralSites:
        sites = {name: site.model_copy(update={"model": models[name]}) for name, site in self.sites.items()}
        return self.model_copy(update={"sites": sites})


def _with_fold(part: Part, number: int, n_folds: int) -> Part:
    observations = part.observations.model_copy(update={"fold": (number, n_folds)})
    return part.model_copy(update={"observations": observations})
