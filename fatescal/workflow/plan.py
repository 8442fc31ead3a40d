"""What a run will do, stage by stage: model runs, waves of them over the ranks, hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fatescal.config import Config

HEAD = ("stage", "model runs", "waves", "hours", "core-hours")
WIDTH = 40  # of the first column


@dataclass(frozen=True)
class PlannedStage:
    """One batch of model runs.

    Attributes
    ----------
    runs : int
        Members at all sites.
    waves : int
        How many of them each rank makes one after another.
    certain : bool
        Whether it is part of every run; else `runs` and `waves` are what it may take at most.
    """

    name: str
    runs: int
    waves: int
    certain: bool = True


def stages(chosen: Config, n_ranks: int) -> list[PlannedStage]:
    """Return the batches of model runs of a config, in order, as far as the config tells.

    A model that runs batches takes one wave for each, the default run included.
    """
    sites = len(chosen.by_site)
    together = any(site.model.runs_together for site in chosen.by_site.values())
    posterior, members = chosen.posterior.members, chosen.calibrate.members

    def batches(name: str, size: int, n: int = 1, certain: bool = True) -> PlannedStage:
        waves = 1 if together else -(-size * sites // n_ranks)
        return PlannedStage(name, n * size * sites, n * waves, certain)

    if chosen.run.stop_after == "default":
        return [batches("default run", 1)]
    default = PlannedStage("default run", sites, 0 if together else -(-sites // n_ranks))
    planned = [default, batches("prior ensemble", members - 1)]
    if chosen.run.stop_after == "prior":
        return planned
    if updates := chosen.calibrate.planned_updates:
        planned.append(batches(f"{updates} Kalman iterations of {members}", members, updates))
    planned.append(batches("posterior ensemble", posterior))
    if rounds := chosen.emulate.rounds:
        more = f"{rounds} more rounds, while not confirmed"
        planned.append(batches(more, max(members, posterior), rounds, certain=False))
    return planned


def table(planned: Sequence[PlannedStage], seconds: float | None) -> list[str]:
    """Return the plan as a table, a line each.

    Parameters
    ----------
    planned : sequence of PlannedStage
    seconds : float or None
        What one model run takes on one core; None where that is not known.

    >>> more = PlannedStage("more", 64, 32, certain=False)
    >>> for line in table([PlannedStage("first", 1, 1), more], 90.0):
    ...     print(line[:7] + line[WIDTH:])
    stage    model runs       waves       hours  core-hours
    first             1           1       0.025       0.025
    in all            1           1       0.025       0.025
    more       up to 64    up to 32         0.8         1.6
    """
    certain = [stage for stage in planned if stage.certain]
    whole = PlannedStage("in all", sum(s.runs for s in certain), sum(s.waves for s in certain))
    head = f"{HEAD[0]:<{WIDTH}}" + "".join(f"{name:>12}" for name in HEAD[1 : 3 if seconds is None else 5])
    rows = [*certain, whole, *(stage for stage in planned if not stage.certain)]
    return [head, *(_row(stage, seconds) for stage in rows)]


def _row(stage: PlannedStage, seconds: float | None) -> str:
    most = "" if stage.certain else "up to "
    counts = [f"{most}{stage.runs}", f"{most}{stage.waves}"]
    hours = [] if seconds is None else [_hours(n * seconds) for n in (stage.waves, stage.runs)]
    return f"{stage.name:<{WIDTH}}" + "".join(f"{cell:>12}" for cell in [*counts, *hours])


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2g}" if seconds < 360000 else f"{seconds / 3600:.0f}"
