"""Section `model`: one class for each kind of forward model."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fatescal.base.errors import did_you_mean
from fatescal.base.options import Finite, Number, Positive, Section, Share, Whole, merged


class Alternatives(BaseModel):
    """Options of a model that take the place of its own where a member has failed with those."""

    fallback: dict[str, Any] | None = None

    @property
    def alternative(self) -> Self | None:
        """The model with its fallback's options; None where it has no fallback."""
        if self.fallback is None:
            return None
        return type(self).model_validate(merged(self.model_dump(exclude={"fallback"}), self.fallback))

    @model_validator(mode="after")
    def _alternative_is_possible(self) -> Self:
        known = [key for key in type(self).model_fields if key not in ("kind", "fallback")]
        for key in self.fallback or ():
            if key in ("kind", "fallback") or (key not in known and self.model_config["extra"] == "forbid"):
                hint = did_you_mean(key, known) or f"known here: {', '.join(known)}"
                raise ValueError(f"model.fallback.{key}: unknown key; {hint}")
        try:
            _ = self.alternative
        except ValidationError as error:
            mistake = error.errors()[0]
            where = ".".join(map(str, ("model.fallback", *mistake["loc"])))
            raise ValueError(f"{where}: {mistake['msg']}") from None
        return self


Months = Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=12, max_length=12)]


class PlantType(Section):
    """What differs from the default in a plant type of the embedded model: share of the area, height [m],
    indices."""

    share: Share | None = None
    height: Positive | None = None
    lai: Months | None = None
    sai: Months | None = None


class CanopySite(Section):
    """The place of the embedded model: a `file` of facts, and what differs from it (without a file from
    Hyytiala)."""

    file: str | None = None
    latitude: Annotated[Number, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[Number, Field(ge=-180, le=360)] | None = None
    sand: Annotated[Number, Field(ge=0, le=100)] | None = None
    clay: Annotated[Number, Field(ge=0, le=100)] | None = None
    bedrock: Positive | None = None
    pfts: dict[str, PlantType] | None = None


class Canopy(Alternatives, Section):
    """The embedded land model (`fatescal.models.canopy`)."""

    kind: Literal["canopy"]
    forcing: str = "synthetic"
    weather_seed: Annotated[Whole, Field(ge=0)] | None = None  # of the synthetic forcing
    site: CanopySite | None = None
    start: date
    end: date
    spinup_years: Annotated[Whole, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _in_order(self) -> Canopy:
        if self.end <= self.start:
            raise ValueError(f"model.end {self.end} is not after model.start {self.start}")
        return self


class Command(Alternatives, Section):
    """Any executable that reads a parameter file and leaves a netCDF file."""

    kind: Literal["command"]
    command: Annotated[list[str], Field(min_length=1)]
    parameters_file: str = "parameters.json"
    output: str = "output.nc"
    timeout: str | Positive | None = None
    calendar: str = "standard"
    files: list[str] | None = None  # files and folders that it reads beside those named in `command`


class Spinup(Section):
    """How CLM-FATES comes to its state on the first day of the output.

    `reuse`: `default` runs `years` once with the default parameters and starts all members from there;
    `member` spins each member up in the first ensemble and starts it from its own state in later iterations;
    `none` spins up each member of each ensemble.
    """

    years: Annotated[Whole, Field(ge=0)] = 10
    reuse: Literal["default", "member", "none"] = "default"


class Site(Section):
    """A folder with surface data, forcing and `user_mods` of one place, or a zip of it on the web."""

    path: str | None = None
    url: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Site:
        if (self.path is None) == (self.url is None):
            raise ValueError("model.site: give exactly one of `path` and `url`")
        if self.url is not None and self.sha256 is None:
            raise ValueError("model.site: `url` needs `sha256`, the checksum of the zip")
        return self


class Source(Section):
    """Where the model's source is: a checkout at `path`, cloned from `url` at `tag` by `fatescal install`.

    `no_output_timeout`: time without output after which git, or the tool for the externals, is ended.
    """

    path: str
    url: str | None = None
    tag: Annotated[str, Field(min_length=1)] | None = None
    no_output_timeout: str | Positive = "10 min"

    @model_validator(mode="after")
    def _both(self) -> Source:
        if (self.url is None) != (self.tag is None):
            raise ValueError(
                "model.source: give both `url` and `tag`, or `path` alone for a checkout that is there"
            )
        return self


Written = bool | int | Finite | str
ON_OFF = ("CLM_FORCE_COLDSTART", "CLM_ACCELERATED_SPINUP")  # YAML reads on and off as true and false


_XML = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}  # for editors


def _xml_words(value: Any) -> Any:
    """Return XML values as CIME writes them; YAML takes ``on``, dates and ``12:00:00`` for something else."""
    if not isinstance(value, dict):
        return value
    return {name: _xml_word(str(name), given) for name, given in value.items()}


def _xml_word(name: str, value: Any) -> str:
    if isinstance(value, bool):
        words = ("off", "on") if name in ON_OFF else ("FALSE", "TRUE")
        return words[value]
    if name == "JOB_WALLCLOCK_TIME" and isinstance(value, int):
        return f"{value // 3600:02d}:{value // 60 % 60:02d}:{value % 60:02d}"
    return str(value)


class Build(Section):
    """The case that `fatescal build` makes: the words of create_newcase, xmlchange and the user_nl files."""

    case: str
    compset: str
    res: str = "CLM_USRDAT"
    mpilib: str = "mpi-serial"
    user_mods: tuple[str, ...] = ()
    xml: Annotated[dict[str, str], BeforeValidator(_xml_words), WithJsonSchema(_XML)] = Field(
        default_factory=dict
    )
    user_nl_clm: dict[str, Written | list[Written]] = Field(default_factory=dict)
    user_nl_datm: dict[str, Written | list[Written]] = Field(default_factory=dict)
    user_nl_datm_streams: dict[str, Written | list[Written]] = Field(default_factory=dict)


class ClmFates(Alternatives, Section):
    """CLM-FATES at one point: a CIME case that is there or is built, or a run directory with its executable.

    `execution`: `processes` runs each member by itself; `multi-instance` a whole ensemble as a job of the
    case.
    """

    kind: Literal["clm_fates"]
    source: Source | None = None
    build: Build | None = None
    case: str | None = None
    run_directory: str | None = None
    executable: str | None = None
    execution: Literal["processes", "multi-instance"] = "processes"
    site: Site | None = None
    start: date
    end: date
    spinup: Spinup = Spinup()
    parameter_file: str | None = None
    namelist: dict[str, bool | int | Finite | str] = Field(default_factory=dict)
    timeout: str | Positive | None = None
    keep: Literal["history", "all"] = "history"

    @field_validator("case", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value  # case: ${FATESCAL_CTSM_CASE:-}

    @model_validator(mode="after")
    def _whole(self) -> ClmFates:
        if self.end <= self.start:
            raise ValueError(f"model.end {self.end} is not after model.start {self.start}")
        if (2, 29) in {(day.month, day.day) for day in (self.start, self.end)}:
            raise ValueError("model.start and model.end: the model's calendar has no 29 February")
        if self.case is not None and self.run_directory is not None:
            raise ValueError("give one of `case` and `run_directory`")
        if self.case is None and self.run_directory is None and self.build is None:
            raise ValueError("give one of `build`, `case` and `run_directory`")
        if self.build is not None and self.source is None:
            raise ValueError("`build` needs `source`: where the model's checkout is")
        if self.run_directory is not None and self.executable is None:
            raise ValueError("`run_directory` needs `executable`, the path of cesm.exe")
        if self.execution == "multi-instance":
            self._require_for_instances()
        return self

    def _require_for_instances(self) -> None:
        """Refuse what goes with members as processes alone."""
        if self.case is None and self.build is None:
            raise ValueError(
                "`execution: multi-instance` needs `case` or `build`: the case's jobs run the members"
            )
        if self.build is not None and self.build.mpilib == "mpi-serial":
            raise ValueError(
                "`execution: multi-instance` needs `build: {mpilib: ...}`, an MPI library of the machine"
            )
        if self.spinup.years > 0 and self.spinup.reuse == "member":
            raise ValueError("`execution: multi-instance` knows `spinup: {reuse: default}` and `none` alone")
        if self.fallback is not None:
            raise ValueError("`execution: multi-instance` runs all members alike: it has no `fallback`")
        if self.site is not None or self.timeout is not None:
            raise ValueError(
                "`execution: multi-instance` has no `site` (make the case of that place) and no `timeout` "
                "(./xmlchange JOB_WALLCLOCK_TIME)"
            )


class ExternalModel(Alternatives):
    """A forward model from another package (entry point group `fatescal.forward_models`)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str


def _model_kind(value: Any) -> Any:
    """Choose the model's settings by its kind, so that errors speak of that kind alone."""
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("model needs `kind`: canopy, command, clm_fates or a kind from an installed package")
    known: dict[str, type[BaseModel]] = {"canopy": Canopy, "command": Command, "clm_fates": ClmFates}
    return known.get(str(value["kind"]), ExternalModel).model_validate(value)


Model = Annotated[Canopy | Command | ClmFates | ExternalModel, BeforeValidator(_model_kind)]
