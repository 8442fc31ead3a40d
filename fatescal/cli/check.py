"""The verb `check`: all that can be known before compute time is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fatescal import config as settings
from fatescal.base.errors import RunFailed
from fatescal.cli.run_folder import Fold, checkpoint_writer, load_config, lock_held, require_writable
from fatescal.cli.start import make_default_run, source, with_inputs, with_jobs
from fatescal.hpc.communicator import Communicator
from fatescal.parameters import table
from fatescal.storage.store import Store
from fatescal.workflow import cost, plan, preflight, site_models
from fatescal.workflow.calibration_run import CalibrationRun, Problem
from fatescal.workflow.default_run import first_evaluation
from fatescal.workflow.problem import assemble, observation_lines


def check(
    path: Path | None,
    comm: Communicator,
    fold: Fold = None,
    machine: str | None = None,
    default_run: bool = False,
    changes: settings.Changes | None = None,
) -> int:
    """Find out, and print, all that can be known before compute time is used; return the exit code.

    On a machine, or on several ranks, that is also what the ranks can do there; without a config nothing
    else. With `default_run` the default run is made as well, which the run itself then starts from.
    """
    if path is None:
        chosen = comm.on_root(lambda: settings.load_machine(str(machine)))
        directory = (chosen.scratch or Path()).absolute()
        comm.on_root(lambda: require_writable(directory))
        return _preflight(chosen, directory, comm, lambda: preflight.space(directory, None, None))
    config = comm.on_root(lambda: load_config(path, fold, machine, changes))
    problem = assemble(config, comm)
    problem = with_jobs(config, problem, comm, source(path, fold, machine, changes))
    comm.on_root(lambda: _print_checked(path, config, problem, comm))
    directory = config.run.directory.absolute()
    if default_run:
        store = Store(directory / "stages", comm)
        with lock_held(directory, comm):
            known = with_inputs(config, problem, directory, store, comm)
            make_default_run(CalibrationRun(known, comm, store), config, directory)
        comm.on_root(lambda: _print_default_run(config, problem))
    comm.on_root(lambda: _print_plan(config, problem, comm.size))
    if machine is None and comm.size == 1:
        return 0
    runs, needed = cost.planned_runs(config), partial(cost.disk_needed, config, problem.members.sites)
    return _preflight(config.machine, directory, comm, lambda: preflight.space(directory, runs, needed()))


def _preflight(
    machine: settings.Machine, directory: Path, comm: Communicator, space: Callable[[], preflight.Finding]
) -> int:
    """Print the findings of a preflight in `directory`; return 0 if nothing is wrong."""
    launching = comm.on_root(lambda: site_models.launching(machine))
    findings = preflight.findings(directory, launching, comm, space)
    if comm.is_root:
        for finding in findings:
            print(finding)
    wrong = [finding.what for finding in findings if finding.wrong]
    if wrong:
        comm.agree(RunFailed(f"{len(wrong)} of {len(findings)} things tried are wrong: {', '.join(wrong)}"))
    return 0


def _print_checked(path: Path, config: settings.Config, problem: Problem, comm: Communicator) -> None:
    directory = config.run.directory.absolute()
    require_writable(directory)
    runs = cost.planned_runs(config)
    print(f"config        {path}: ok")
    waves = cost.planned_waves(config, comm.size)
    for site_config, site in zip(config.by_site.values(), problem.members.sites, strict=True):
        where = f"{site_config.site}: " if site_config.site else ""
        print(f"model         {where}{site_config.model.kind}: ok, {site.model.calendar} calendar")
        for line in cost.describe_model(config, site.model, runs // len(config.by_site), waves):
            print(line)
    for row in table.parameter_table(problem.space, config.correlations):
        print(f"parameter     {row['parameter']}: default {row['default']:g}, {table.origin(row)}")
    for line in observation_lines(config, problem):
        print(f"observations  {line}")
    if problem.observed is not None:
        from fatescal.report.check_plot import plot  # matplotlib, for root alone and only here

        for figure in plot(problem.observed, directory):
            print(f"observations  plotted in {figure}")
    print(f"run           {directory}: can be written")
    print(f"MPI           {comm.size} ranks; {checkpoint_writer()}")


def _print_plan(config: settings.Config, problem: Problem, n_ranks: int) -> None:
    """Print the stages with their model runs, and what these take of time and disk, as far as it is known."""
    sites = problem.members.sites
    seconds, disk = cost.seconds_each(sites), cost.disk_needed(config, sites)
    for line in plan.table(plan.stages(config, n_ranks), seconds):
        print(f"plan          {line}")
    if more := cost.effect_runs(config, sites):
        print(f"plan          {more}")
    ranks = f"{n_ranks} {'rank' if n_ranks == 1 else 'ranks'}"
    each = "hours are known after the default run (`check --try`)"
    if seconds is not None:
        each = f"hours by a model run of {seconds:.3g} s"
    needed = "" if disk is None else f"; about {preflight.size(disk)} of disk"
    print(f"plan          on {ranks}, one run each at a time (a wave); {each}{needed}")


def _print_default_run(config: settings.Config, problem: Problem) -> None:
    """Print what the default run has left."""
    stage = first_evaluation(problem)
    for site_config, site in zip(config.by_site.values(), problem.members.sites, strict=True):
        took = site.took(stage, 0)
        if took is None:
            print(f"default run   {site_config.site or 'the model'} runs its members as a job: not tried")
            return
        where = f"{site_config.site}: " if site_config.site else ""
        print(f"default run   {where}ok in {took:.3g} s, in {site.member_folder(stage, 0)}")
        names = {variable.model: None for variable in site_config.observations.variables.values()}
        for line in site.contents(stage, 0, names):
            print(f"default run   {where}{line}")
