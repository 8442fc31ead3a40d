"""What a run will cost, as far as its config tells: model runs, waves of them, disk."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from fatescal.config import Config
from fatescal.ensemble import retention
from fatescal.ensemble.member import Members
from fatescal.models.base import Model


def planned_evaluations(chosen: Config) -> int:
    """Return how many ensembles will run before the posterior's, as far as the config tells."""
    if chosen.run.stop_after is not None:
        return 1
    return chosen.calibrate.planned_updates + 1


def _planned_batches(chosen: Config) -> list[int]:
    """Return how many members each batch will have, as far as the config tells."""
    if chosen.run.stop_after == "default":
        return [1]
    last = [] if chosen.run.stop_after == "prior" else [chosen.posterior.members]
    return [chosen.calibrate.members] * planned_evaluations(chosen) + last


def planned_runs(chosen: Config) -> int:
    """Return how often a model will run, as far as the config tells: each member at each site."""
    return sum(_planned_batches(chosen)) * len(chosen.by_site)


def planned_waves(chosen: Config, n_ranks: int) -> int:
    """Return how many model runs each rank makes one after another; of a model that runs batches, how
    many of these.
    """
    batches, n_sites = _planned_batches(chosen), len(chosen.by_site)
    if any(site.model.runs_together for site in chosen.by_site.values()):
        return len(batches)
    first = -(-n_sites // n_ranks)  # the default run, before all others
    rest = [size * n_sites for size in batches]
    rest[0] -= n_sites
    return first + sum(-(-size // n_ranks) for size in rest)


def effect_runs(chosen: Config, sites: Sequence[Members]) -> str:
    """Say how many runs the effect check may take; '' where it takes none."""
    models = [site.model for site in sites]
    n = sum(len(site.space.names) for site in sites if not site.model.runs_together)
    if chosen.run.stop_after == "default" or not n or all(model.makes_effect_runs for model in models):
        return ""
    return f"and up to {n} more: one for each parameter whose effect the first ensemble does not show"


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
