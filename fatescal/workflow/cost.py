"""What a run will cost, as far as its config tells: model runs, waves of them, disk."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from fatescal.config import Config
from fatescal.ensemble import retention
from fatescal.ensemble.member import Members
from fatescal.models.base import Model
from fatescal.workflow import plan


def planned_evaluations(chosen: Config) -> int:
    """Return how many ensembles will run before the posterior's, as far as the config tells."""
    if chosen.run.stop_after is not None:
        return 1
    return chosen.calibrate.planned_updates + 1


def planned_runs(chosen: Config) -> int:
    """Return how often a model will run, as far as the config tells: each member at each site."""
    return sum(stage.runs for stage in plan.stages(chosen, 1) if stage.certain)


def planned_waves(chosen: Config, n_ranks: int) -> int:
    """Return how many model runs each rank makes one after another; of a model that runs batches, how
    many of these.
    """
    return sum(stage.waves for stage in plan.stages(chosen, n_ranks) if stage.certain)


def effect_runs(chosen: Config, sites: Sequence[Members]) -> str:
    """Say how many runs the effect check may take; '' where it takes none."""
    models = [site.model for site in sites]
    n = sum(len(site.space.names) for site in sites if not site.model.runs_together)
    if chosen.run.stop_after == "default" or not n or all(model.makes_effect_runs for model in models):
        return ""
    return f"and up to {n} more: one for each parameter whose effect the first ensemble does not show"


def seconds_each(sites: Sequence[Members]) -> float | None:
    """Return what one model run takes, by the members that have finished; None where none has."""
    took = [seconds for site in sites for seconds in site.seconds_alone()]
    return sum(took) / len(took) if took else None


def describe_model(chosen: Config, forward: Model, runs: int, waves: int) -> list[str]:
    """Return what a model that looks ahead says about itself and its cost."""
    return forward.describe(runs, _warm(chosen), waves)


def _warm(chosen: Config) -> int:
    """Return how many members have the same one in an iteration before theirs."""
    return (planned_evaluations(chosen) - 1) * chosen.calibrate.members


def disk_needed(chosen: Config, sites: Sequence[Members]) -> float | None:
    """Return the bytes a run will leave: as the models say, or by finished members; None if
    nobody knows.
    """
    runs = planned_runs(chosen) // len(sites)
    each = [_needed_at(site, runs, _warm(chosen)) for site in sites]
    known = [n_bytes for n_bytes in each if n_bytes is not None]
    return sum(known) if len(known) == len(each) else None


def _needed_at(site: Members, runs: int, warm: int) -> float | None:
    estimate = site.model.disk_estimate(runs, warm)
    if estimate is not None:
        return estimate
    done = [retention.size(folder) for folder in islice(site.finished(), 8)]
    return runs * sum(done) / len(done) if done else None
