"""CLM-FATES's section of the config, and of the machine file."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from fatescal.base.options import Finite, Positive, Section, Whole
from fatescal.models.base import SPIN_UP, Context, Model, ModelOptions
from fatescal.models.clm_fates.verbs import BUILD, INSTALL
from fatescal.storage.inputs import Sources


class Cime(Section):
    """The arguments with which CIME makes a case (`fatescal build`)."""

    machine: str
    """Name of the machine in CIME."""
    compiler: str | None = None
    """Compiler; the machine's default without it."""
    project: str | None = None
    """Account to charge."""
    output_root: str | None = None
    """Folder in which cases are compiled and run; the machine's own without it."""
    inputdata: str | None = None
    """Folder of CESM's input data; the machine's own without it."""


class SpinupOptions(Section):
    """How CLM-FATES comes to its state on the first day of the output.

    `reuse`: `default` runs `years` once with the default parameters and starts all members from there;
    `member` spins each member up in the first ensemble and starts it from its own state in later iterations;
    `none` spins up each member of each ensemble.
    """

    years: Annotated[Whole, Field(ge=0)] = 10
    """Years of spin-up before the output."""
    reuse: Literal["default", "member", "none"] = "default"
    """Which state members start from: that of the default parameters, their own, or none."""


class SiteOptions(Section):
    """A folder with surface data, forcing and `user_mods` of one place, or a zip of it on the web."""

    path: str | None = None
    """The folder."""
    url: str | None = None
    """Address of a zip of the folder."""
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    """Checksum of the zip."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("model.site: give exactly one of `path` and `url`")
        if self.url is not None and self.sha256 is None:
            raise ValueError("model.site: `url` needs `sha256`, the checksum of the zip")
        return self


class SourceOptions(Section):
    """Where the model's source is: a checkout at `path`, cloned from `url` at `tag` by `fatescal install`.

    `no_output_timeout`: time without output after which git, or the tool for the externals, is ended.
    """

    path: str
    """Folder of the checkout."""
    url: str | None = None
    """Repository that it is cloned from."""
    tag: Annotated[str, Field(min_length=1)] | None = None
    """Tag that is checked out."""
    no_output_timeout: str | Positive = "10 min"
    """Time without output after which git, or the tool for the externals, is ended."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.url is None) != (self.tag is None):
            raise ValueError(
                "model.source: give both `url` and `tag`, or `path` alone for a checkout that is there"
            )
        return self


Written = bool | int | Finite | str
ON_OFF = ("CLM_FORCE_COLDSTART", "CLM_ACCELERATED_SPINUP")  # YAML reads on and off as true and false


_XML = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}  # for editors


def _xml_texts(value: Any) -> Any:
    """Return XML values as CIME writes them; YAML takes ``on``, dates and ``12:00:00`` for something else."""
    if not isinstance(value, dict):
        return value
    return {name: _xml_text(str(name), item) for name, item in value.items()}


def _xml_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        texts = ("off", "on") if name in ON_OFF else ("FALSE", "TRUE")
        return texts[value]
    if name == "JOB_WALLCLOCK_TIME" and isinstance(value, int):
        return f"{value // 3600:02d}:{value // 60 % 60:02d}:{value % 60:02d}"
    return str(value)


class BuildOptions(Section):
    """The case that `fatescal build` makes: the arguments of create_newcase, XML values, user_nl files."""

    case: str
    """Folder of the case."""
    compset: str
    """Component set, by its alias or long name."""
    res: str = "CLM_USRDAT"
    """Grid."""
    mpilib: str = "mpi-serial"
    """MPI library of the case."""
    user_mods: tuple[str, ...] = ()
    """Folders of user_mods."""
    xml: Annotated[dict[str, str], BeforeValidator(_xml_texts), WithJsonSchema(_XML)] = Field(
        default_factory=dict
    )
    """Values of XML variables."""
    user_nl_clm: dict[str, Written | list[Written]] = Field(default_factory=dict)
    """Namelist entries of CLM."""
    user_nl_datm: dict[str, Written | list[Written]] = Field(default_factory=dict)
    """Namelist entries of the data atmosphere."""
    user_nl_datm_streams: dict[str, Written | list[Written]] = Field(default_factory=dict)
    """Entries of its streams."""


class ClmFatesOptions(ModelOptions):
    """CLM-FATES at one point: a CIME case that is there or is built, or a run directory with its executable.

    `execution`: `processes` runs each member by itself; `multi-instance` a whole ensemble as a job of the
    case.
    """

    machine_sections: ClassVar = {"cime": Cime}
    verbs: ClassVar = (INSTALL, BUILD)

    kind: Literal["clm_fates"]
    """CLM-FATES."""
    source: SourceOptions | None = None
    """Where the model's source is."""
    build: BuildOptions | None = None
    """The case that `fatescal build` makes."""
    case: str | None = None
    """A CIME case that is there; it goes before `build`."""
    run_directory: str | None = None
    """A run directory instead of a case."""
    executable: str | None = None
    """The cesm.exe, where `run_directory` is given."""
    execution: Literal["processes", "multi-instance"] = "processes"
    """How members run."""
    site: SiteOptions | None = None
    """The place: a folder with its surface data and forcing."""
    start: date
    """First day of the output."""
    end: date
    """Last day of the output."""
    spinup: SpinupOptions = SpinupOptions()
    """How the model comes to its state on the first day."""
    parameter_file: str | None = None
    """FATES parameter file instead of the case's."""
    namelist: dict[str, bool | int | Finite | str] = Field(default_factory=dict)
    """Keys of lnd_in and their values."""
    timeout: str | Positive | None = None
    """Time limit of one run, `12 h` or seconds."""
    keep: Literal["history", "all"] = "history"
    """What of a member stays: its history, or restart files too."""

    @field_validator("case", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value  # case: ${FATESCAL_CTSM_CASE:-}

    @model_validator(mode="after")
    def _whole(self) -> Self:
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

    @property
    def runs_together(self) -> bool:
        """Whether a job of the case runs all members of a stage."""
        return self.execution == "multi-instance"

    @property
    def warm_starts(self) -> bool:
        """Whether a member starts from its own state one iteration before."""
        return self.spinup.reuse == "member"

    def conflict(self, other: ModelOptions) -> str:
        """Return that the two build different cases in one folder, where they do."""
        if not isinstance(other, ClmFatesOptions) or self.build is None or other.build is None:
            return ""
        if self.case is not None or other.case is not None or self.build.case != other.build.case:
            return ""
        same = (self.source, self.build, self.site) == (other.source, other.build, other.site)
        reason = "and the two are built otherwise; give each a folder of its own"
        return "" if same else f"`model.build.case` is that of {{other}}, {reason}"

    def located(self, context: Context) -> Self:
        """Return the options with the run directory of the case, and a site from the web unpacked."""
        changes: dict[str, object] = {}
        if self.run_directory is None:
            changes |= self._of_case(context)
        if self.site is not None and self.site.url is not None:
            from fatescal.models.clm_fates.case_plan import site_folder

            changes |= {"site": SiteOptions(path=str(site_folder(self, context)))}
        return self.model_copy(update=changes)

    def _of_case(self, context: Context) -> dict[str, object]:
        """Return where the case runs, and what, as it tells."""
        from fatescal.models.clm_fates.batch_case import require_idle_case
        from fatescal.models.clm_fates.cime import of_case
        from fatescal.models.clm_fates.instance_files import keep_single

        case = self._case(context)
        run_directory, executable = of_case(case)
        if not self.runs_together:
            return {"case": None, "run_directory": str(run_directory), "executable": str(executable)}
        kept = keep_single(case, run_directory, context.run / "case", require_idle_case)
        return {"case": str(case), "run_directory": str(kept), "executable": str(executable)}

    def _case(self, context: Context) -> Path:
        """Return the case that the config names, or else the one built for it."""
        if self.case is not None:
            return context.path(self.case)
        from fatescal.models.clm_fates.case import require_built
        from fatescal.models.clm_fates.case_plan import decisive

        assert self.build is not None
        built = context.path(self.build.case)
        require_built(decisive(self), built, "python -m fatescal build CONFIG --machine MACHINE")
        return built

    def make(self, context: Context) -> Model:
        """Return the model, of options that have been `located`."""
        from fatescal.models.clm_fates.clm_model import ClmFates
        from fatescal.models.clm_fates.instances import MultiInstance
        from fatescal.models.clm_fates.site_folder import SiteFolder
        from fatescal.models.clm_fates.template import Template

        assert self.run_directory is not None, "the case has been located"
        assert self.executable is not None
        run_directory, executable = context.path(self.run_directory), context.path(self.executable)
        site = None if self.site is None else SiteFolder.of(context.path(str(self.site.path)))
        single = ClmFates(
            Template(run_directory, executable, self.namelist, site),
            self.start,
            self.end,
            spinup_years=self.spinup.years,
            reuse=self.spinup.reuse,
            variables=context.variables,
            spun_up=context.preparation / SPIN_UP,
            parameter_file=None if self.parameter_file is None else context.path(self.parameter_file),
            keep=self.keep,
            **context.launching(self.timeout),
        )
        if not self.runs_together:
            return single
        assert self.case is not None
        return MultiInstance(
            single, Path(self.case), retries=context.retries, hide=context.hide, stop=context.stop
        )

    def sources(self, model: Model) -> Sources:
        """Return the model's files; those that a case names under the case's key."""
        sources = dict(model.files() or {})
        if self.run_directory is None:
            case = "model.build.case" if self.case is None else "model.case"
            of_case = [name for name in ("model.run_directory", "model.executable") if name in sources]
            sources[case] = [source for name in of_case for source in sources.pop(name)]
        return sources
