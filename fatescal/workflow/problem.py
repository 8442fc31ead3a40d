"""Composition root: the names in a config become objects. Nothing else knows all the parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from fatescal import config
from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.config import Config, OneSite
from fatescal.ensemble.evaluate import Ensemble
from fatescal.ensemble.member import Members
from fatescal.ensemble.stragglers import StragglerRule, Stragglers
from fatescal.hpc.communicator import Communicator
from fatescal.hpc.launch import seconds
from fatescal.models.base import Model
from fatescal.observations import measurements, windows
from fatescal.observations.align import align, require_comparable
from fatescal.observations.windows import Summary
from fatescal.parameters.assembly import parameter_space
from fatescal.parameters.space import ParameterSpace
from fatescal.parameters.truth import truth
from fatescal.storage.inputs import Sources
from fatescal.storage.records import ObservationGrid, Observations
from fatescal.update.base import UpdateScheme
from fatescal.workflow import site_models
from fatescal.workflow.calibration_run import Problem
from fatescal.workflow.snapshot import ModelFacts


@dataclass(frozen=True)
class Parts:
    """What root alone reads and checks, and sends to the other ranks; grids by site."""

    space: ParameterSpace
    truth: Array | None
    grids: Mapping[str, ObservationGrid]
    observed: Observations | None
    summary: tuple[Summary, ...]
    table: str
    first: Array
    scheme: UpdateScheme


def assemble(chosen: Config, comm: Communicator) -> Problem:
    """Return what a config describes, checked on root, on all ranks.

    Raises
    ------
    BadInput
        For whatever would make the calibration fail, before any model run.
    """
    others = comm.on_root(
        lambda: {site: site_models.fallback(site_config) for site, site_config in chosen.by_site.items()}
    )
    chosen = comm.on_root(lambda: site_models.located(chosen))
    parts = comm.on_root(lambda: checked_parts(chosen, others))
    errors = {
        site_config.label(name): variable.error
        for site_config in chosen.by_site.values()
        for name, variable in site_config.observations.variables.items()
    }
    sites = [members(site_config, others[site], parts, comm) for site, site_config in chosen.by_site.items()]
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
        first_role="prior" if chosen.calibrate.design.of_prior else "design",
        scheme=parts.scheme,
        emulator=chosen.emulate,
        rounds=chosen.emulate.rounds,
        force=chosen.emulate.force,
        force_prior=chosen.calibrate.force,
        sampling=chosen.sample,
        n_posterior=chosen.posterior.members,
        updates=chosen.calibrate.planned_updates > 0 and chosen.run.stop_after is None,
        stop_after=chosen.run.stop_after,
        scores=chosen.run.scores,
    )


def members(site_config: OneSite, other: OneSite | None, parts: Parts, comm: Communicator) -> Members:
    """Return what runs the members at one site; `other` is its config with the fallback."""
    stop = stragglers(site_config.machine, comm)
    forward, grid = site_models.model(site_config, stop), parts.grids[site_config.site]
    names = _names(site_config)
    return Members(
        model=forward,
        space=parts.space,
        align=partial(align, grid=grid, names=names, calendar=forward.calendar),
        n_predictions=len(grid),
        folder=site_models.members_folder(site_config),
        retries=0 if forward.runs_together else site_config.machine.retries,
        fallback=None if other is None else site_models.model(other, stop),
        windows=grid.windows(names, forward.calendar),
        keep=site_config.machine.keep,
        stragglers=stop,
        site=site_config.site,
    )


def outside_files(chosen: Config, made: Problem) -> dict[str, Sources]:
    """Return the files from outside that a run reads, by site and by the key of the config that names them.

    What is of no site stands under ''.
    """
    sources: dict[str, Sources] = {}
    if design_files := chosen.calibrate.design.files(chosen.folder):
        sources[""] = {"calibrate.design": design_files}
    for site_config, site in zip(chosen.by_site.values(), made.members.sites, strict=True):
        named = dict(site_models.files(site_config, site.model))
        if site.fallback is not None:
            other = site_models.files(site_config, site.fallback)
            differing = {key: several for key, several in other.items() if named.get(key) != several}
            named |= {
                f"model.fallback.{k.removeprefix('model.')}": several for k, several in differing.items()
            }
        if site_config.observations.file is not None:
            named["observations.file"] = [site_config.path(site_config.observations.file)]
        prefix = f"sites.{site_config.site}." if site_config.site else ""
        sources[site_config.site] = {
            **sources.get(site_config.site, {}),
            **{f"{prefix}{k}": v for k, v in named.items()},
        }
    return sources


def model_facts(made: Problem) -> ModelFacts:
    """Return what the models of a problem say of parameters."""
    model = made.members.sites[0].model  # in this they agree
    defaults = {name: float(value) for name, value in model.defaults.items()}
    return ModelFacts(defaults, tuple(model.pfts), model.numbers_pfts, made.members.units)


def _names(site_config: OneSite) -> dict[str, str]:
    """Return the model's name of each observed variable."""
    return {
        site_config.label(name): variable.model
        for name, variable in site_config.observations.variables.items()
    }


def stragglers(machine: config.Machine, comm: Communicator) -> Stragglers:
    """Return what stops a member: the end of the job, and the machine file's rule for stragglers."""
    straggler = machine.straggler
    rule = (
        None
        if straggler is None
        else StragglerRule(straggler.factor, straggler.share, seconds(straggler.least))
    )
    return Stragglers(comm.stopping, rule)


def checked_parts(chosen: Config, others: Mapping[str, OneSite | None] = {}) -> Parts:
    """Read and check the files and names of a config that has been `located`, and of its sites' fallbacks."""
    configs, forwards = chosen.by_site, {}
    for site, site_config in configs.items():
        with site_models.at_site(site_config):
            forwards[site] = site_models.model(site_config, lambda: False)
    shared = _space(configs, forwards)
    seen = []
    for site, site_config in configs.items():
        with site_models.at_site(site_config):
            forward, other = forwards[site], others.get(site)
            forward.check()
            site_models.check_values(forward, shared)
            if other is not None:
                site_models.check_fallback(site_models.model(other, lambda: False), forward, shared)
            seen.append(measurements.observe(site_config, forward.calendar))
            require_comparable(seen[-1][0], _names(site_config), forward)
    grids, observed, summaries, tables_ = zip(*seen, strict=True)
    synthetic = _synthetic(chosen)
    return Parts(
        space=shared,
        truth=None if synthetic is None else truth(synthetic.truth, shared),
        grids=dict(zip(configs, grids, strict=True)),
        observed=Observations.joined(observed) if synthetic is None else None,
        summary=tuple(s for of_site in summaries for s in of_site),
        table="\n".join(filter(None, tables_)),
        scheme=scheme(chosen.calibrate, len(shared.names)),
        first=chosen.calibrate.design.ensemble(
            shared, chosen.calibrate.members - 1, chosen.run.seed, chosen.folder
        ),
    )


def _synthetic(chosen: Config) -> config.SyntheticSection | None:
    """Return the synthetic truth, the same at all sites."""
    return next(iter(chosen.by_site.values())).observations.synthetic


def noise(synthetic: config.SyntheticSection | None) -> float:
    """Return the multiple of the error model's noise that a synthetic truth gets."""
    return 1.0 if synthetic is None or synthetic.noise is None else float(synthetic.noise)


def noise_seed(chosen: Config) -> int:
    """Return the seed of a synthetic truth's noise."""
    synthetic = _synthetic(chosen)
    return chosen.run.seed if synthetic is None or synthetic.seed is None else synthetic.seed


def calibrated_space(chosen: Config) -> ParameterSpace:
    """Return the parameters of a config, with the defaults of its model."""
    configs = site_models.located(chosen).by_site
    return _space(
        configs,
        {site: site_models.model(site_config, lambda: False) for site, site_config in configs.items()},
    )


def _space(configs: Mapping[str, OneSite], forwards: Mapping[str, Model]) -> ParameterSpace:
    """Return the parameters, which the models of all sites must know under the same names, with the same
    defaults."""
    spaces = {}
    for site, forward in forwards.items():
        numbered, site_config = forward.numbers_pfts, configs[site]
        with site_models.at_site(site_config):
            spaces[site] = parameter_space(
                site_config.parameters, forward.defaults, forward.pfts, numbered, site_config.correlations
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


def scheme(chosen: config.CalibrateSection, n_parameters: int) -> UpdateScheme:
    """Return the update scheme of a config, which is its section `calibrate`.

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
    return chosen


def observation_lines(chosen: Config, made: Problem) -> list[str]:
    """Return lines that say which windows of which variable are used, and what was dropped and why."""
    if made.observed is not None:
        return [*made.table.splitlines(), *windows.describe(made.summary).splitlines()]
    lines = []
    for name in made.errors:
        periods, counts = np.unique(made.grid.period[made.grid.variable == name], return_counts=True)
        listed = ", ".join(f"{n} of {period}" for period, n in zip(periods, counts, strict=True))
        lines.append(f"{name}: windows made from a run at the truth, {listed}")
    return lines
