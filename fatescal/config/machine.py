"""A machine file (`machines/*.yaml`): what differs between clusters, and decides no result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from fatescal.base.options import Number, Positive, Section, Whole
from fatescal.hpc.schedulers.registry import schedulers
from fatescal.models import registry


class Straggler(Section):
    """When a member is given up that takes much longer than the others of its batch
    (`fatescal.ensemble.stragglers`)."""

    factor: Annotated[Number, Field(gt=1, allow_inf_nan=False)] = 5.0
    """Multiple of the others' median time that a member may take."""
    share: Annotated[Number, Field(ge=0.5, lt=1)] = 0.8
    """Share of the batch that must have finished."""
    least: str | Positive = "1 min"
    """Time that every member may take."""


class MemberJobsSection(Section):
    """Members as jobs of their own, which fatescal submits and waits for
    (`fatescal.ensemble.member_jobs`)."""

    scheduler: str | None = None
    """`slurm`, `pbs`, or that of another package; the one whose commands are here without it."""
    options: tuple[str, ...] = ()
    """Options of sbatch or qsub for each job: nodes, time, account."""
    members: Annotated[Whole, Field(ge=1)] = 1
    """Members in each job, one after another or as `start` says."""
    at_once: Annotated[Whole, Field(ge=1)] = 100
    """Jobs that wait or run at a time."""
    start: tuple[str, ...] = ()
    """What starts the ranks that share a job's members, as `[mpirun, -n, "8"]`; one process without it."""


class _Machine(Section):
    """The machine a run is on; `machines/template.yaml` explains every key."""

    modules: str = ""
    """Environment modules that the job scripts load, before any Python."""
    scratch: Path | None = None
    """Folder below which a relative `run.directory` lies."""
    launcher: tuple[str, ...] = ()
    """Arguments put before the command that runs a member; `{node}` is the node of the rank."""
    hide: tuple[str, ...] | None = None
    """Prefixes of environment variables that do not reach a member."""
    timeout: str | Positive | None = None
    """Longest time of one member; `model.timeout` of a config goes before."""
    retries: Annotated[Whole, Field(ge=0)] = 1
    """How often a failed member is tried again."""
    execution: Literal["ranks", "jobs"] = "ranks"
    """What runs members: the ranks of this program, or jobs of their own, as `jobs` says."""
    jobs: MemberJobsSection = MemberJobsSection()
    """The jobs of `execution: jobs`."""
    straggler: Straggler | None = None
    """When a member is given up that takes much longer than the others; off without it."""
    keep: Literal["all", "predictions"] = "all"
    """What stays of a member that ran: all, or its predictions alone."""

    @model_validator(mode="after")
    def _launcher_sees_its_variables(self) -> Self:
        program = Path(self.launcher[0]).name if self.launcher else ""
        for prefix in {p for c in schedulers().values() if program in c.launchers for p in c.variables}:
            if self.hide is None or any(prefix.startswith(hidden) for hidden in self.hide):
                raise ValueError(
                    f"`launcher: [{program} ...]` needs the {prefix} variables: give `hide` without {prefix}"
                )
        return self

    @property
    def of_models(self) -> Mapping[str, Section]:
        """The sections that models have declared, by name."""
        of_models = {name: getattr(self, name) for name in registry.machine_sections()}
        return {name: section for name, section in of_models.items() if section is not None}


if TYPE_CHECKING:
    Machine = _Machine
else:  # with the sections that models declare
    _sections: dict[str, Any] = {
        name: (c | None, Field(None, description=str(c.__doc__).splitlines()[0]))
        for name, c in registry.machine_sections().items()
    }
    Machine = create_model(
        "Machine", __base__=_Machine, __doc__=_Machine.__doc__, __module__=__name__, **_sections
    )
