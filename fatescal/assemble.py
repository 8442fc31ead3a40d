"""Composition root: the names in a config become objects. Nothing else knows all the parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fatescal import cases, kept, observations, parameters, preparation, settings, tables, units
from fatescal.align import align
from fatescal.emulate.misfit import MisfitEmulator
from fatescal.emulate.outputs import OutputsEmulator
from fatescal.errors import BadInput
from fatescal.forward.command import Command
from fatescal.forward.process import HIDDEN_PREFIXES, seconds
from fatescal.members import Members, previous
from fatescal.noise import ErrorModel, QuantileRule
from fatescal.observations import Quality, Summary, Variable
from fatescal.protocols import Batched, Emulator, Foresighted, ForwardModel, UpdateScheme
from fatescal.records import Array, ObservationGrid, Observations
from fatescal.settings import Settings
from fatescal.stragglers import Rule, Stragglers
from fatescal.trial import Launching
from fatescal.update.es_mda import ESMDA
from fatescal.update.ienks import IEnKS
from fatescal.workflow import Problem
from fatescal.world import World

ENTRY_POINTS = "fatescal.forward_models"


@dataclass(frozen=True)
class Parts:
    """What root alone reads and checks, and sends to the other ranks."""

    space: parameters.ParameterSpace
    truth: Array | None
    grid: ObservationGrid
    observed: Observations | None
    summary: tuple[Summary, ...]
    table: str
    scheme: UpdateScheme


def problem(chosen: Settings, world: World) -> Problem:
    """Return what a config describes, checked on root, on all ranks.

    Raises
    ------
    BadInput
        For whatever would make the calibration fail, before any model run.
    """
    other = world.on_root(lambda: _fallback(chosen))
    chosen = world.on_root(lambda: located(chosen))
    parts = world.on_root(lambda: checked(chosen, other))
    stop = stragglers(chosen.machine, world)
    forward = model(chosen, stop)
    models = {name: variable.model for name, variable in chosen.observations.variables.items()}
    return Problem(
        seed=chosen.run.seed,
        space=parts.space,
        members=Members(
            model=forward,
            space=parts.space,
            align=partial(align, grid=parts.grid, names=models, calendar=forward.calendar),
            n_predictions=len(parts.grid),
            folder=members_folder(chosen),
            retries=0 if isinstance(forward, Batched) else chosen.machine.retries,
            fallback=None if other is None else model(other, stop),
            windows=parts.grid.windows(models, forward.calendar),
            keep=chosen.machine.keep,
            stragglers=stop,
        ),
        grid=parts.grid,
        errors={
            name: error_model(variable.error) for name, variable in chosen.observations.variables.items()
        },
        observed=parts.observed,
        summary=parts.summary,
        table=parts.table,
        truth=parts.truth,
        n_members=chosen.calibrate.members,
        design=chosen.calibrate.design,
        scheme=parts.scheme,
        emulator=emulator(chosen.emulate),
        rounds=chosen.emulate.rounds,
        force=chosen.emulate.force,
        sampling=chosen.sample,
        n_posterior=chosen.posterior.members,
    )


def members_folder(chosen: Settings) -> Path:
    """Return `RUN/members`."""
    return chosen.run.directory.absolute() / "members"


def stragglers(machine: settings.Machine, world: World) -> Stragglers:
    """Return what stops a member: the end of the job, and the machine file's rule for stragglers."""
    given = machine.straggler
    rule = None if given is None else Rule(given.factor, given.share, seconds(given.least))
    return Stragglers(world.stopping, rule)


def _fallback(chosen: Settings) -> Settings | None:
    """Return the config with the model's fallback as its model, located."""
    other = chosen.model.alternative
    return None if other is None else located(chosen.model_copy(update={"model": other}))


def located(chosen: Settings) -> Settings:
    """Return the config with what must be asked for once: where a CIME case runs, a site from the web unpacked."""
    options = chosen.model
    if not isinstance(options, settings.ClmFates):
        return chosen
    found: dict[str, object] = {}
    if options.run_directory is None:
        from fatescal.forward.clm_fates.cime import of_case

        case = _case(chosen, options)
        run_directory, executable = of_case(case)
        found |= {"case": None, "run_directory": str(run_directory), "executable": str(executable)}
        if options.execution == "multi-instance":
            from fatescal.forward.clm_fates.seats import keep_single

            kept = keep_single(case, run_directory, chosen.run.directory.absolute() / "case")
            found |= {"case": str(case), "run_directory": str(kept)}
    if options.site is not None and options.site.url is not None:
        found |= {"site": settings.Site(path=str(cases.site_folder(chosen)))}
    return chosen.model_copy(update={"model": options.model_copy(update=found)})


def _case(chosen: Settings, options: settings.ClmFates) -> Path:
    """Return the case that the config names, or else the one built for it."""
    if options.case is not None:
        return chosen.path(options.case)
    from fatescal.forward.clm_fates.case import require_built

    assert options.build is not None
    built = chosen.path(options.build.case)
    require_built(cases.decisive(options), built, "python -m fatescal build CONFIG --machine MACHINE")
    return built


def checked(chosen: Settings, other: Settings | None = None) -> Parts:
    """Read and check the files and names of a config, and of the `other` with its fallback."""
    forward = model(chosen, lambda: False)
    chosen_space = _space(chosen, forward)
    forward.check()
    if isinstance(forward, Foresighted):
        check_values(forward, chosen_space)
    if other is not None:
        _check_fallback(model(other, lambda: False), forward, chosen_space)
    synthetic = chosen.observations.synthetic
    grid, observed, summary, table = observe(chosen, forward.calendar)
    return Parts(
        space=chosen_space,
        truth=None if synthetic is None else parameters.truth(synthetic.truth, chosen_space),
        grid=grid,
        observed=observed,
        summary=summary,
        table=table,
        scheme=scheme(chosen.calibrate, len(chosen_space.names)),
    )


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


def space(chosen: Settings) -> parameters.ParameterSpace:
    """Return the parameters of a config, with the defaults of its model."""
    return _space(chosen, model(located(chosen), lambda: False))


def _space(chosen: Settings, forward: ForwardModel) -> parameters.ParameterSpace:
    numbered = getattr(forward, "numbers_pfts", False)
    return parameters.space(chosen.parameters, forward.defaults, forward.pfts, numbered, chosen.correlations)


def model(chosen: Settings, stop: Callable[[], bool]) -> ForwardModel:
    """Return the forward model; `stop` is asked by models that wait for another process."""
    options = chosen.model
    variables = [variable.model for variable in chosen.observations.variables.values()]
    match options:
        case settings.Canopy():
            from fatescal.forward.canopy import Canopy

            forcing = options.forcing
            return Canopy(
                forcing=forcing if forcing == "synthetic" else chosen.path(forcing),
                start=options.start,
                end=options.end,
                spinup_years=options.spinup_years,
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
        spun_up=preparation.folder(members_folder(chosen)) / preparation.SPIN_UP,
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
    if given.file is None:
        variables = [observed_variable(name, v, {}) for name, v in given.variables.items()]
        periods = (given.window, given.calibration, given.validation, calendar)
        return observations.grid_of(variables, *periods, given.fold), None, (), ""
    path = chosen.path(given.file)
    layout = tables.detect(path, given.format)
    variables = [observed_variable(name, v, layout.units) for name, v in given.variables.items()]
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
    return observed, observed, tuple(summary), f"{path.name}: {layout.words}, {every}; {zone}; {told}"


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
    if chosen.scheme == "ienks":
        assert isinstance(chosen.iterations, int)
        return IEnKS(iterations=chosen.iterations, minimum_survivors=chosen.min_survivors, **form)  # type: ignore[arg-type]
    return ESMDA(schedule=chosen.iterations, minimum_survivors=chosen.min_survivors, **form)  # type: ignore[arg-type]


def emulator(chosen: settings.Emulate) -> Emulator:
    """Return the emulator of a config."""
    return OutputsEmulator() if chosen.target == "outputs" else MisfitEmulator()


def planned_evaluations(chosen: Settings) -> int:
    """Return how many ensembles will run before the posterior's, as far as the config tells."""
    iterations = chosen.calibrate.iterations
    if isinstance(iterations, list):
        return len(iterations) + 1
    return iterations + 1 if isinstance(iterations, int) else 8  # adaptive: a usual number


def planned_runs(chosen: Settings) -> int:
    """Return how many members will run, as far as the config tells."""
    return planned_evaluations(chosen) * chosen.calibrate.members + chosen.posterior.members


def planned_waves(chosen: Settings, n_ranks: int) -> int:
    """Return how many members run one after another on each rank; of a model that runs batches, how many of these."""
    if getattr(chosen.model, "execution", "") == "multi-instance":
        return planned_evaluations(chosen) + 1
    per_ensemble = -(-chosen.calibrate.members // n_ranks)
    return planned_evaluations(chosen) * per_ensemble + -(-chosen.posterior.members // n_ranks)


def told(chosen: Settings, forward: ForwardModel, runs: int, waves: int) -> list[str]:
    """Return what a model that looks ahead says about itself and its cost."""
    return forward.told(runs, _warm(chosen), waves) if isinstance(forward, Foresighted) else []


def _warm(chosen: Settings) -> int:
    """Return how many members have the same one in an iteration before theirs."""
    return (planned_evaluations(chosen) - 1) * (chosen.calibrate.members - 1)


def needed(chosen: Settings, forward: ForwardModel) -> float | None:
    """Return the bytes a run will leave: by the model's word, or as its finished members tell; None if nobody knows."""
    runs = planned_runs(chosen)
    if isinstance(forward, Foresighted):
        return forward.disk(runs, _warm(chosen))
    done = [kept.size(path.parent) for path in islice(members_folder(chosen).glob("*/[0-9]*/member.json"), 8)]
    return runs * sum(done) / len(done) if done else None


def summary(chosen: Settings, made: Problem) -> list[str]:
    """Return lines that say which windows of which variable are used, and what was dropped and why."""
    if made.observed is not None:
        return [made.table, *observations.describe(made.summary).splitlines()]
    counts = {name: np.sum(made.grid.variable == name) for name in chosen.observations.variables}
    return [f"{name}: {count} windows, made from a run at the truth" for name, count in counts.items()]
