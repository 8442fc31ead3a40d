"""Composition root: the names in a config become objects. Nothing else knows all the parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fatescal import (
    cases,
    designs,
    kept,
    observations,
    parameters,
    preparation,
    settings,
    tables,
    units,
)
from fatescal.align import align
from fatescal.emulate.misfit import MisfitEmulator
from fatescal.emulate.outputs import OutputsEmulator
from fatescal.ensemble import Ensemble
from fatescal.errors import BadInput
from fatescal.forward.command import Command
from fatescal.forward.process import HIDDEN_PREFIXES, seconds
from fatescal.members import Members, previous
from fatescal.noise import ErrorModel, QuantileRule
from fatescal.observations import Quality, Summary, Variable
from fatescal.protocols import Batched, Emulator, Foresighted, ForwardModel, UpdateScheme
from fatescal.records import Array, ObservationGrid, Observations
from fatescal.settings import Config, Settings
from fatescal.stragglers import Rule, Stragglers
from fatescal.trial import Launching
from fatescal.update.es_mda import ESMDA
from fatescal.update.ienks import IEnKS
from fatescal.workflow import Problem
from fatescal.world import World

ENTRY_POINTS = "fatescal.forward_models"
C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Parts:
    """What root alone reads and checks, and sends to the other ranks; grids by site."""

    space: parameters.ParameterSpace
    truth: Array | None
    grids: Mapping[str, ObservationGrid]
    observed: Observations | None
    summary: tuple[Summary, ...]
    table: str
    first: Array
    scheme: UpdateScheme


def problem(chosen: Config, world: World) -> Problem:
    """Return what a config describes, checked on root, on all ranks.

    Raises
    ------
    BadInput
        For whatever would make the calibration fail, before any model run.
    """
    others = world.on_root(lambda: {site: _fallback(place) for site, place in chosen.places.items()})
    chosen = world.on_root(lambda: located(chosen))
    parts = world.on_root(lambda: checked(chosen, others))
    errors = {
        place.label(name): error_model(variable.error)
        for place in chosen.places.values()
        for name, variable in place.observations.variables.items()
    }
    sites = [members(place, others[site], parts, world) for site, place in chosen.places.items()]
    return Problem(
        seed=chosen.run.seed,
        space=parts.space,
        members=Ensemble(sites),
        grid=ObservationGrid.joined(list(parts.grids.values())),
        errors=errors,
        observed=parts.observed,
        summary=parts.summary,
        table=parts.table,
        truth=parts.truth,
        noise=noise(_synthetic(chosen)),
        noise_seed=noise_seed(chosen),
        n_members=chosen.calibrate.members,
        first=parts.first,
        first_role="prior" if settings.of_prior(chosen.calibrate.design) else "design",
        scheme=parts.scheme,
        emulator=emulator(chosen.emulate),
        rounds=chosen.emulate.rounds,
        force=chosen.emulate.force,
        sampling=chosen.sample,
        n_posterior=chosen.posterior.members,
        updates=chosen.calibrate.iterations != 0 and chosen.run.stop_after is None,
        stop_after=chosen.run.stop_after,
    )


def members(place: Settings, other: Settings | None, parts: Parts, world: World) -> Members:
    """Return what runs the members at one site; `other` is its config with the fallback."""
    stop = stragglers(place.machine, world)
    forward, grid = model(place, stop), parts.grids[place.site]
    models = {place.label(name): variable.model for name, variable in place.observations.variables.items()}
    return Members(
        model=forward,
        space=parts.space,
        align=partial(align, grid=grid, names=models, calendar=forward.calendar),
        n_predictions=len(grid),
        folder=members_folder(place),
        retries=0 if isinstance(forward, Batched) else place.machine.retries,
        fallback=None if other is None else model(other, stop),
        windows=grid.windows(models, forward.calendar),
        keep=place.machine.keep,
        stragglers=stop,
        site=place.site,
    )


def members_folder(chosen: Config) -> Path:
    """Return `RUN/members`."""
    return chosen.run.directory.absolute() / "members"


def stragglers(machine: settings.Machine, world: World) -> Stragglers:
    """Return what stops a member: the end of the job, and the machine file's rule for stragglers."""
    given = machine.straggler
    rule = None if given is None else Rule(given.factor, given.share, seconds(given.least))
    return Stragglers(world.stopping, rule)


@contextmanager
def _at(place: Settings) -> Iterator[None]:
    """Put the name of the site, where it is one of several, before what is wrong there."""
    try:
        yield
    except BadInput as error:
        if not place.site:
            raise
        raise BadInput(f"sites.{place.site}: {error}") from None


def _fallback(place: Settings) -> Settings | None:
    """Return a site's config with the model's fallback as its model, located."""
    other = place.model.alternative
    return None if other is None else located(place.model_copy(update={"model": other}))


def located(chosen: C) -> C:
    """Return the config with what must be asked for once: where a CIME case runs, a site from the web unpacked."""
    return chosen.with_models({site: _located(place) for site, place in chosen.places.items()})


def _located(place: Settings) -> settings.Model:
    options = place.model
    if not isinstance(options, settings.ClmFates):
        return options
    found: dict[str, object] = {}
    with _at(place):
        if options.run_directory is None:
            from fatescal.forward.clm_fates.cime import of_case

            case = _case(place, options)
            run_directory, executable = of_case(case)
            found |= {"case": None, "run_directory": str(run_directory), "executable": str(executable)}
            if options.execution == "multi-instance":
                from fatescal.forward.clm_fates.seats import keep_single

                kept = keep_single(case, run_directory, place.run.directory.absolute() / "case")
                found |= {"case": str(case), "run_directory": str(kept)}
        if options.site is not None and options.site.url is not None:
            found |= {"site": settings.Site(path=str(cases.site_folder(place)))}
    return options.model_copy(update=found)


def _case(place: Settings, options: settings.ClmFates) -> Path:
    """Return the case that the config names, or else the one built for it."""
    if options.case is not None:
        return place.path(options.case)
    from fatescal.forward.clm_fates.case import require_built

    assert options.build is not None
    built = place.path(options.build.case)
    require_built(cases.decisive(options), built, "python -m fatescal build CONFIG --machine MACHINE")
    return built


def checked(chosen: Config, others: Mapping[str, Settings | None] = {}) -> Parts:
    """Read and check the files and names of a config that has been `located`, and of its sites' fallbacks."""
    places, forwards = chosen.places, {}
    for site, place in places.items():
        with _at(place):
            forwards[site] = model(place, lambda: False)
    shared = _space(places, forwards)
    seen = []
    for site, place in places.items():
        with _at(place):
            forward, other = forwards[site], others.get(site)
            forward.check()
            if isinstance(forward, Foresighted):
                check_values(forward, shared)
            if other is not None:
                _check_fallback(model(other, lambda: False), forward, shared)
            seen.append(observe(place, forward.calendar))
    grids, observed, summaries, tables_ = zip(*seen, strict=True)
    synthetic = _synthetic(chosen)
    return Parts(
        space=shared,
        truth=None if synthetic is None else parameters.truth(synthetic.truth, shared),
        grids=dict(zip(places, grids, strict=True)),
        observed=Observations.joined(observed) if synthetic is None else None,
        summary=tuple(s for of_site in summaries for s in of_site),
        table="\n".join(filter(None, tables_)),
        scheme=scheme(chosen.calibrate, len(shared.names)),
        first=first_members(chosen, shared),
    )


def first_members(chosen: Config, space: parameters.ParameterSpace) -> Array:
    """Return the coordinates (J-1, P) of the first ensemble, without the default run."""
    design, n_members = chosen.calibrate.design, chosen.calibrate.members - 1
    if design is not None and design.endswith(".csv"):
        return designs.read_ensemble(chosen.path(design), n_members, space)
    return designs.first_ensemble(design, chosen.run.seed, n_members, space)


def _synthetic(chosen: Config) -> settings.Synthetic | None:
    """Return the synthetic truth, the same at all sites."""
    return next(iter(chosen.places.values())).observations.synthetic


def noise(synthetic: settings.Synthetic | None) -> float:
    """Return the multiple of the error model's noise that a synthetic truth gets."""
    return 1.0 if synthetic is None or synthetic.noise is None else float(synthetic.noise)


def noise_seed(chosen: Config) -> int:
    """Return the seed of a synthetic truth's noise."""
    synthetic = _synthetic(chosen)
    return chosen.run.seed if synthetic is None or synthetic.seed is None else synthetic.seed


def _check_fallback(other: ForwardModel, forward: ForwardModel, space: parameters.ParameterSpace) -> None:
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
        if isinstance(other, Foresighted):
            check_values(other, space)
    except BadInput as error:
        raise BadInput(f"model.fallback: {error}") from None


def check_values(forward: Foresighted, space: parameters.ParameterSpace) -> None:
    """Let the model see its default and both ends of the priors, at three standard deviations."""
    for theta in (space.theta_default, *space.ends()):
        forward.check_values(space.named(theta))


def space(chosen: Config) -> parameters.ParameterSpace:
    """Return the parameters of a config, with the defaults of its model."""
    places = located(chosen).places
    return _space(places, {site: model(place, lambda: False) for site, place in places.items()})


def _space(places: Mapping[str, Settings], forwards: Mapping[str, ForwardModel]) -> parameters.ParameterSpace:
    """Return the parameters, which the models of all sites must know under the same names, with the same defaults."""
    spaces = {}
    for site, forward in forwards.items():
        numbered, place = getattr(forward, "numbers_pfts", False), places[site]
        with _at(place):
            spaces[site] = parameters.space(
                place.parameters, forward.defaults, forward.pfts, numbered, place.correlations
            )
    (first, shared), *others = spaces.items()
    for site, other in others:
        for name, same in zip(shared.names, other.names, strict=True):
            if name != same:
                raise BadInput(
                    f"sites.{site}: parameter {same} is {name} at {first}", hint="PFTs by name, not number"
                )
            if shared.default[name] != other.default[name]:
                raise BadInput(
                    f"parameters.{name}: the models' defaults differ: {shared.default[name]:g} at {first}, "
                    f"{other.default[name]:g} at {site}",
                    hint="give `default:`, one for all sites",
                )
    return shared


def model(chosen: Settings, stop: Callable[[], bool]) -> ForwardModel:
    """Return the forward model; `stop` is asked by models that wait for another process."""
    options = chosen.model
    variables = [variable.model for variable in chosen.observations.variables.values()]
    match options:
        case settings.Canopy():
            from fatescal.forward.canopy import Canopy
            from fatescal.forward.canopy.site import Site

            forcing, given = options.forcing, options.site or settings.CanopySite()
            return Canopy(
                forcing=forcing if forcing == "synthetic" else chosen.path(forcing),
                start=options.start,
                end=options.end,
                spinup_years=options.spinup_years,
                seed=1 if options.weather_seed is None else options.weather_seed,
                site=Site.load(
                    None if given.file is None else chosen.path(given.file),
                    given.model_dump(exclude={"file"}, exclude_none=True),
                ),
            )
        case settings.ClmFates():
            return _clm_fates(chosen, options, variables, stop)
        case settings.Command():
            return Command(
                options.command,
                chosen.folder,
                parameters_file=options.parameters_file,
                output=options.output,
                calendar=options.calendar,
                variables=variables,
                **_launching(chosen, options.timeout, stop),
            )
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if options.kind not in found:
        raise BadInput(
            f"model.kind {options.kind} is unknown",
            expected=f"one of {', '.join(['canopy', 'command', 'clm_fates', *found])}",
            hint="install the package that brings it",
        )
    return found[options.kind].load()(options.model_dump(exclude={"kind", "fallback"}), chosen.folder)


def _clm_fates(
    chosen: Settings, options: settings.ClmFates, variables: list[str], stop: Callable[[], bool]
) -> ForwardModel:
    from fatescal.forward.clm_fates.model import ClmFates
    from fatescal.forward.clm_fates.site import Site
    from fatescal.forward.clm_fates.template import Template

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
        spun_up=preparation.folder(members_folder(chosen), chosen.site) / preparation.SPIN_UP,
        previous=previous,
        parameter_file=None if options.parameter_file is None else chosen.path(options.parameter_file),
        keep=options.keep,
        **launching,
    )
    if options.execution == "processes":
        return single
    from fatescal.forward.clm_fates.instances import MultiInstance

    assert options.case is not None
    return MultiInstance(
        single, Path(options.case), retries=chosen.machine.retries, hide=launching["hide"], stop=stop
    )


def _launching(chosen: Settings, timeout: str | float | None, stop: Callable[[], bool]) -> dict[str, Any]:
    """Return how the processes of members are launched on this machine; the model's own time-out goes before."""
    machine = chosen.machine
    how = launching(machine)
    limit = machine.timeout if timeout is None else timeout
    return {"timeout": limit, "hide": how.hide, "launcher": how.launcher, "stop": stop}


def launching(machine: settings.Machine) -> Launching:
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


def observe(
    chosen: Settings, calendar: str
) -> tuple[ObservationGrid, Observations | None, tuple[Summary, ...], str]:
    """Return the windows to predict, and from a file what was measured, what was dropped, how the file was read."""
    given = chosen.observations

    def labelled(told: Mapping[str, str]) -> list[Variable]:
        found = ((name, observed_variable(name, v, told)) for name, v in given.variables.items())
        return [replace(variable, name=chosen.label(name)) for name, variable in found]

    if given.file is None:
        variables = labelled({})
        periods = (given.window, given.calibration, given.validation, calendar)
        return observations.grid_of(variables, *periods, given.fold), None, (), ""
    path = chosen.path(given.file)
    layout = tables.detect(path, given.format)
    variables = labelled(layout.units)
    periods = (given.window, given.calibration, given.validation, calendar)
    columns = [v.column for v in variables]
    columns += [v.quality.column for v in variables if v.quality] + [
        v.temperature for v in variables if v.temperature
    ]
    table, layout = tables.read(path, columns, given.time_column, given.time_zone, given.format)
    observed, summary = observations.build(table, variables, *periods, given.min_valid, given.fold)
    zone = (
        f"times of {given.time_zone} turned to UTC" if given.time_zone else "times as written (no time_zone)"
    )
    told = ", ".join(_unit_told(variable, layout.units) for variable in variables)
    step = observations.step_of(table)
    every = f"a row each {step / 3600:g} h" if step % 86400 else f"a row each {step // 86400} d"
    words = f"{path.name}: {layout.words}, {every}; {zone}; {told}"
    return observed, observed, tuple(summary), f"{chosen.site}: {words}" if chosen.site else words


def _unit_told(variable: Variable, told: Mapping[str, str]) -> str:
    """Return in words what a column is taken for, with whatever may be a mistake."""
    unit, said = variable.measured_in or variable.unit, told.get(variable.column)
    words = f"{variable.column} in {unit}"
    if said is not None and not units.same(said, unit):
        words += f" (THE FILE SAYS {said})"
    if variable.per_record:
        words += f" a row, summed over windows, compared in {variable.unit}"
    elif units.is_amount(variable.unit):
        words += " (taken as a state, its mean compared; sums over each row need `compare_in`, a rate)"
    elif variable.measured_in:
        words += f" compared in {variable.unit}"
    return words


def observed_variable(name: str, chosen: settings.Variable, told: Mapping[str, str]) -> Variable:
    """Return an observed variable; its unit is that `told` of its column where the config gives none.

    Raises
    ------
    BadInput
        If neither gives a unit.
    """
    column = chosen.column or name
    unit = chosen.unit or told.get(column)
    if unit is None:
        raise BadInput(
            f"observations.variables.{name} needs `unit`: that of column {column!r} is not known by name",
            hint="unit: g C m-2 d-1",
        )
    quality = None
    if chosen.qc is not None:
        bounds = {"low": chosen.qc.min, "high": chosen.qc.max}
        quality = Quality(chosen.qc.column, **{k: v for k, v in bounds.items() if v is not None})
    return Variable(
        name=name,
        unit=chosen.compare_in or unit,
        error=error_model(chosen.error),
        column=column,
        measured_in=unit if chosen.compare_in not in (None, unit) else "",
        temperature=chosen.temperature or "",
        quality=quality,
        min_valid=chosen.min_valid,
    )


def error_model(chosen: settings.Error) -> ErrorModel:
    """Return the error model of an observed variable."""
    given = {name: value for name, value in chosen if value is not None}
    if isinstance(chosen.random, settings.QuantileRule):
        given["random"] = QuantileRule(chosen.random.share, chosen.random.quantile)
    if chosen.discrepancy == "estimate":
        given |= {"discrepancy": 0.0, "estimate": True}
    return ErrorModel(**given)


def scheme(chosen: settings.Calibrate, n_parameters: int) -> UpdateScheme:
    """Return the update scheme of a config.

    Raises
    ------
    BadInput
        If there are too few members for the number of parameters.
    """
    least = n_parameters + 3  # P + 2 to regress on, and the default run
    if chosen.members < least:
        raise BadInput(
            f"calibrate.members is too small for {n_parameters} parameters",
            expected=f"at least {least}",
            got=chosen.members,
            hint="10 members per parameter",
        )
    form = {} if chosen.form is None else {"form": chosen.form}
    iterations = 1 if chosen.iterations == 0 else chosen.iterations  # with 0 no step is taken
    if chosen.scheme == "ienks":
        assert isinstance(iterations, int)
        return IEnKS(iterations=iterations, minimum_survivors=chosen.min_survivors, **form)  # type: ignore[arg-type]
    return ESMDA(schedule=iterations, minimum_survivors=chosen.min_survivors, **form)  # type: ignore[arg-type]


def emulator(chosen: settings.Emulate) -> Emulator:
    """Return the emulator of a config."""
    return (
        OutputsEmulator(variance=chosen.variance or "auto")
        if chosen.target == "outputs"
        else MisfitEmulator()
    )


def planned_evaluations(chosen: Config) -> int:
    """Return how many ensembles will run before the posterior's, as far as the config tells."""
    if chosen.run.stop_after is not None:
        return 1
    iterations = chosen.calibrate.iterations
    if isinstance(iterations, list):
        return len(iterations) + 1
    return iterations + 1 if isinstance(iterations, int) else 8  # adaptive: a usual number


def _planned_batches(chosen: Config) -> list[int]:
    """Return how many members each batch will have, as far as the config tells."""
    if chosen.run.stop_after == "default":
        return [1]
    last = [] if chosen.run.stop_after == "prior" else [chosen.posterior.members]
    return [chosen.calibrate.members] * planned_evaluations(chosen) + last


def planned_runs(chosen: Config) -> int:
    """Return how often a model will run, as far as the config tells: each member at each site."""
    return sum(_planned_batches(chosen)) * len(chosen.places)


def planned_waves(chosen: Config, n_ranks: int) -> int:
    """Return how many model runs each rank makes one after another; of a model that runs batches, how many of these."""
    batches, n_sites = _planned_batches(chosen), len(chosen.places)
    if any(getattr(place.model, "execution", "") == "multi-instance" for place in chosen.places.values()):
        return len(batches)
    return sum(-(-size * n_sites // n_ranks) for size in batches)


def told(chosen: Config, forward: ForwardModel, runs: int, waves: int) -> list[str]:
    """Return what a model that looks ahead says about itself and its cost."""
    return forward.told(runs, _warm(chosen), waves) if isinstance(forward, Foresighted) else []


def _warm(chosen: Config) -> int:
    """Return how many members have the same one in an iteration before theirs."""
    return (planned_evaluations(chosen) - 1) * (chosen.calibrate.members - 1)


def needed(chosen: Config, sites: Sequence[Members]) -> float | None:
    """Return the bytes a run will leave: by the models' word, or as finished members tell; None if nobody knows."""
    runs = planned_runs(chosen) // len(sites)
    each = [_needed_at(site, runs, _warm(chosen)) for site in sites]
    known = [n_bytes for n_bytes in each if n_bytes is not None]
    return sum(known) if len(known) == len(each) else None


def _needed_at(site: Members, runs: int, warm: int) -> float | None:
    if isinstance(site.model, Foresighted):
        return site.model.disk(runs, warm)
    done = [kept.size(folder) for folder in islice(site.finished(), 8)]
    return runs * sum(done) / len(done) if done else None


def summary(chosen: Config, made: Problem) -> list[str]:
    """Return lines that say which windows of which variable are used, and what was dropped and why."""
    if made.observed is not None:
        return [*made.table.splitlines(), *observations.describe(made.summary).splitlines()]
    counts = {name: np.sum(made.grid.variable == name) for name in made.errors}
    return [f"{name}: {count} windows, made from a run at the truth" for name, count in counts.items()]
