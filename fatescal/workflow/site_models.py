"""The model of each site, as the config describes it: located, made, checked, and how its members are
launched.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from fatescal import config
from fatescal.base.errors import BadInput
from fatescal.config import Config, Settings
from fatescal.ensemble import preparation
from fatescal.hpc.launch import HIDDEN_PREFIXES
from fatescal.models.base import SPIN_UP, Model
from fatescal.models.clm_fates import case_plan
from fatescal.models.command import Command
from fatescal.models.external import Adapted
from fatescal.parameters import space as parameters
from fatescal.storage.inputs import Source, Sources
from fatescal.workflow.preflight import Launching

ENTRY_POINTS = "fatescal.forward_models"
C = TypeVar("C", bound=Config)


@contextmanager
def at_site(place: Settings) -> Iterator[None]:
    """Put the name of the site, where it is one of several, before what is wrong there."""
    try:
        yield
    except BadInput as error:
        if not place.site:
            raise
        raise BadInput(f"sites.{place.site}: {error}") from None


def located(chosen: C) -> C:
    """Return the config with what must be asked for once: where a CIME case runs, a site from the web
    unpacked.
    """
    return chosen.with_models({site: _located(place) for site, place in chosen.places.items()})


def _located(place: Settings) -> config.Model:
    options = place.model
    if not isinstance(options, config.ClmFates):
        return options
    found: dict[str, object] = {}
    with at_site(place):
        if options.run_directory is None:
            from fatescal.models.clm_fates.cime import of_case

            case = _case(place, options)
            run_directory, executable = of_case(case)
            found |= {"case": None, "run_directory": str(run_directory), "executable": str(executable)}
            if options.execution == "multi-instance":
                from fatescal.models.clm_fates.jobs import require_idle_case
                from fatescal.models.clm_fates.seats import keep_single

                folder = place.run.directory.absolute() / "case"
                kept = keep_single(case, run_directory, folder, require_idle_case)
                found |= {"case": str(case), "run_directory": str(kept)}
        if options.site is not None and options.site.url is not None:
            found |= {"site": config.Site(path=str(case_plan.site_folder(place)))}
    return options.model_copy(update=found)


def _case(place: Settings, options: config.ClmFates) -> Path:
    """Return the case that the config names, or else the one built for it."""
    if options.case is not None:
        return place.path(options.case)
    from fatescal.models.clm_fates.case import require_built

    assert options.build is not None
    built = place.path(options.build.case)
    require_built(case_plan.decisive(options), built, "python -m fatescal build CONFIG --machine MACHINE")
    return built


def members_folder(chosen: Config) -> Path:
    """Return `RUN/members`."""
    return chosen.run.directory.absolute() / "members"


def fallback(place: Settings) -> Settings | None:
    """Return a site's config with the model's fallback as its model, located."""
    other = place.model.alternative
    return None if other is None else located(place.model_copy(update={"model": other}))


def model(chosen: Settings, stop: Callable[[], bool]) -> Model:
    """Return the forward model; `stop` is asked by models that wait for another process."""
    options = chosen.model
    variables = [variable.model for variable in chosen.observations.variables.values()]
    match options:
        case config.Canopy():
            from fatescal.models.canopy import Canopy
            from fatescal.models.canopy.stand import Site

            forcing, given = options.forcing, options.site or config.CanopySite()
            site_file = None if given.file is None else chosen.path(given.file)
            return Canopy(
                forcing=forcing if forcing == "synthetic" else chosen.path(forcing),
                start=options.start,
                end=options.end,
                spinup_years=options.spinup_years,
                seed=1 if options.weather_seed is None else options.weather_seed,
                site=Site.load(site_file, given.model_dump(exclude={"file"}, exclude_none=True)),
                site_file=site_file,
            )
        case config.ClmFates():
            return _clm_fates(chosen, options, variables, stop)
        case config.Command():
            return Command(
                options.command,
                chosen.folder,
                parameters_file=options.parameters_file,
                output=options.output,
                calendar=options.calendar,
                variables=variables,
                reads=[chosen.path(path) for path in options.files or ()],
                **_launching(chosen, options.timeout, stop),
            )
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if options.kind not in found:
        raise BadInput(
            f"model.kind {options.kind} is unknown",
            expected=f"one of {', '.join(['canopy', 'command', 'clm_fates', *found])}",
            hint="install the package that brings it",
        )
    made = found[options.kind].load()(options.model_dump(exclude={"kind", "fallback"}), chosen.folder)
    return made if isinstance(made, Model) else Adapted(made)


def files(place: Settings, forward: Model) -> Sources:
    """Return the files from outside that a site's model reads, by the key of the config that names them.

    Of a model from another package that does not tell: those that its options name, and its own source.
    """
    found: dict[str, Sequence[Source]]
    told = forward.files()
    if told is not None:
        found = dict(told)
    else:
        found = dict(_named_by(place))
        if forward.source is not None:
            found["model.kind"] = [forward.source]
    options = place.model
    if (
        isinstance(options, config.ClmFates) and options.run_directory is None
    ):  # the case has told where they are
        case = "model.build.case" if options.case is None else "model.case"
        of_case = [name for name in ("model.run_directory", "model.executable") if name in found]
        found[case] = [source for name in of_case for source in found.pop(name)]
    return found


def _named_by(place: Settings) -> dict[str, list[Source]]:
    """Return the files that the options of a model name, at any depth."""
    found: dict[str, list[Source]] = {}

    def look(value: object, key: str) -> None:
        if isinstance(value, Mapping):
            for name, below in value.items():
                look(below, f"{key}.{name}")
        elif isinstance(value, list | tuple):
            for below in value:
                look(below, key)
        elif isinstance(value, str | Path) and value and (path := place.path(str(value))).exists():
            found.setdefault(key, []).append(path)

    look(place.model.model_dump(exclude={"kind", "fallback"}), "model")
    return found


def _clm_fates(
    chosen: Settings, options: config.ClmFates, variables: list[str], stop: Callable[[], bool]
) -> Model:
    from fatescal.models.clm_fates.clm_model import ClmFates
    from fatescal.models.clm_fates.site_folder import Site
    from fatescal.models.clm_fates.template import Template

    assert options.run_directory is not None, "the case has been located"
    assert options.executable is not None
    site = None
    if options.site is not None:
        site = Site.of(chosen.path(str(options.site.path)))
    launching = _launching(chosen, options.timeout, stop)
    single = ClmFates(
        Template(chosen.path(options.run_directory), chosen.path(options.executable), options.namelist, site),
        options.start,
        options.end,
        spinup_years=options.spinup.years,
        reuse=options.spinup.reuse,
        variables=variables,
        spun_up=preparation.folder(members_folder(chosen), chosen.site) / SPIN_UP,
        parameter_file=None if options.parameter_file is None else chosen.path(options.parameter_file),
        keep=options.keep,
        **launching,
    )
    if options.execution == "processes":
        return single
    from fatescal.models.clm_fates.instances import MultiInstance

    assert options.case is not None
    return MultiInstance(
        single, Path(options.case), retries=chosen.machine.retries, hide=launching["hide"], stop=stop
    )


def _launching(chosen: Settings, timeout: str | float | None, stop: Callable[[], bool]) -> dict[str, Any]:
    """Return how the processes of members are launched on this machine; the model's own time-out goes
    before.
    """
    machine = chosen.machine
    how = launching(machine)
    limit = machine.timeout if timeout is None else timeout
    return {"timeout": limit, "hide": how.hide, "launcher": how.launcher, "stop": stop}


def launching(machine: config.Machine) -> Launching:
    """Return how members are launched on a machine.

    Raises
    ------
    BadInput
        If its launcher is not found.
    """
    if machine.launcher and shutil.which(machine.launcher[0]) is None:
        raise BadInput(
            f"the machine file's launcher {machine.launcher[0]} is not found",
            expected="a program on the PATH",
            hint="load the module that brings it, or launch members directly: launcher: []",
        )
    return Launching(machine.launcher, HIDDEN_PREFIXES if machine.hide is None else machine.hide)


def check_values(forward: Model, space: parameters.ParameterSpace) -> None:
    """Let the model see its default and both ends of the priors, at three standard deviations."""
    for theta in (space.theta_default, *space.ends()):
        forward.check_values(space.named(theta))


def check_fallback(other: Model, forward: Model, space: parameters.ParameterSpace) -> None:
    """Raise `BadInput` for a fallback that cannot run, or is another model than the one it stands in for."""
    for key in ("calendar", "pfts"):
        if getattr(other, key) != getattr(forward, key):
            raise BadInput(
                f"model.fallback: its {key} differ from those of the model",
                expected=getattr(forward, key),
                got=getattr(other, key),
            )
    try:
        other.check()
        check_values(other, space)
    except BadInput as error:
        raise BadInput(f"model.fallback: {error}") from None
