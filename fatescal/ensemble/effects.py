"""Which parameters have no effect on what is compared: by one changed run each, where the ensemble is silent.

Nothing else would show it: the posterior of a parameter that the model never reads (a mistyped name, a
process that is switched off) is simply its prior. The first ensemble shows the effect of most parameters at
no cost: ranks of its leading predictions are regressed on all parameters. Each parameter without a
significant coefficient gets one run of its own, the default's with this parameter moved by one prior standard
deviation. Where all predictions are the default's bit for bit, it has no effect. A parameter that has one,
but shows none in the ensemble, costs that run and nothing else.

The runs are kept in `RUN/members/effects`. The result stands in `RUN/no-effect.json`, from which the report
takes it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fatescal.base.errors import ModelFailed
from fatescal.base.types import Array
from fatescal.ensemble import retention
from fatescal.ensemble.marker import MARKER
from fatescal.ensemble.member import Members, in_jobs
from fatescal.ensemble.single_run import once
from fatescal.hpc.communicator import Communicator
from fatescal.storage import atomic
from fatescal.storage.records import Evaluation
from fatescal.storage.stage_graph import EFFECTS

log = logging.getLogger(__name__)
NOTE = "no-effect.json"
LEADING = 5  # principal components of the predictions that are looked at
SMALLEST = 1e-6  # of the first one's variance
LEVEL = 1e-3  # the share of cases in which a parameter without effect passes for one that has it


def check(sites: Sequence[Members], ensemble: Evaluation | None, comm: Communicator) -> None:
    """Make the runs that the first ensemble (on root) leaves necessary; warn of parameters without effect.

    Models that make such runs before all members, or run whole ensembles as a job, are left out.
    """
    others = [k for k, s in enumerate(sites) if not (s.model.makes_effect_runs or s.model.runs_together)]
    unseen_effects = comm.on_root(lambda: _unseen_effects(ensemble) if others else None)
    if unseen_effects is None:
        return
    numbers, default = unseen_effects
    tasks = [(k, p) for k in others for p in numbers]
    begin = np.cumsum([0, *(site.n_predictions for site in sites)])

    failed = comm.on_root(lambda: _failed_in_jobs(sites, tasks)) if sites[0].jobs is not None else set()

    def same(task: tuple[int, int]) -> bool:
        if task in failed:
            return False
        k, p = task
        predictions = _moved(sites[k], p)
        return predictions is not None and np.array_equal(predictions, default[begin[k] : begin[k + 1]])

    unchanged = comm.parallel_map(same, tasks)
    idle: dict[str, list[str]] = {}
    for (k, p), nothing in zip(tasks, unchanged, strict=True):
        if nothing:
            idle.setdefault(sites[k].space.names[p], []).append(sites[k].site)
    comm.on_root(lambda: _note_and_warn(sites, idle, len(tasks)))


def _unseen_effects(ensemble: Evaluation | None) -> tuple[list[int], Array] | None:
    """Return the parameters to look at and the default's predictions (D); None where there are none."""
    assert ensemble is not None
    rows = np.flatnonzero(ensemble.ok[1:]) + 1
    if not ensemble.ok[0]:
        return None
    return unseen(ensemble.u[rows], ensemble.predictions[rows]), ensemble.predictions[0]


def unseen(u: Array, predictions: Array) -> list[int]:
    """Return the numbers of those parameters whose effect an ensemble does not show.

    Parameters
    ----------
    u : array (J, P)
        Coordinates of the members that ran.
    predictions : array (J, D)
        Theirs.

    >>> rng = np.random.default_rng(1)
    >>> u = rng.normal(size=(40, 3))
    >>> unseen(u, np.outer(2.0 * u[:, 0] - u[:, 2], np.ones(5)))
    [1]
    """
    from scipy.stats import t

    n, n_parameters = u.shape
    free = n - n_parameters - 1
    design = np.column_stack([np.ones(n), u])
    scores = _leading(predictions)
    if free < 1 or not scores.size or np.linalg.matrix_rank(design) <= n_parameters:
        return list(range(n_parameters))
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ scores
    variance = ((scores - design @ coefficients) ** 2).sum(axis=0) / free
    error = np.sqrt(np.outer(np.diag(inverse), np.maximum(variance, 1e-30)))
    chance = 2 * t.sf(np.abs(coefficients / error)[1:], free)
    return np.flatnonzero(chance.min(axis=1) * scores.shape[1] > LEVEL).tolist()


def _leading(predictions: Array) -> Array:
    """Return the leading principal components (J, K) as normal scores of ranks: none outweighs others."""
    from scipy.stats import norm, rankdata

    centred = predictions - predictions.mean(axis=0)
    sd = centred.std(axis=0)
    varied = sd > 1e-12 * np.abs(predictions).max(axis=0)
    centred = centred[:, varied] / sd[varied]
    sizes, vectors = np.linalg.eigh(centred @ centred.T)
    large = sizes[::-1] > SMALLEST * sizes[-1]
    leading = vectors[:, ::-1][:, large][:, :LEADING]
    return norm.ppf(rankdata(leading, axis=0) / (len(leading) + 1))


def _folder(members: Members, p: int) -> Path:
    """Return the folder of a run; what is compared decides too: after a change of the windows there is
    another.
    """
    return members.folder / EFFECTS / members.site / f"{members.space.names[p]}-{members.windows[:8]}"


def make(members: Members, p: int) -> None:
    """Make the default run with the p-th parameter moved, where it is not made; `ModelFailed` as the
    model.
    """
    theta = members.space.named(members.space.moved(p))

    def work(part: Path) -> None:
        members.stragglers.begin()
        members.model.run(theta, part)
        retention.save(part, members.read(part, members.model), members.windows)
        if members.keep == "predictions":
            retention.trim(part, [retention.PREDICTIONS])

    identity = {**members.identity, "windows": members.windows}
    once(_folder(members, p), theta, identity, work, EFFECTS)


def _moved(members: Members, p: int) -> Array | None:
    """Return the predictions of the default run with the p-th parameter moved, None where it failed."""
    try:
        make(members, p)
    except ModelFailed as failure:
        _warn_of_failure(members.space.names[p], failure)
        return None
    return retention.load(_folder(members, p), members.windows)


def _warn_of_failure(name: str, failure: object) -> None:
    log.warning(
        "whether %s has an effect is not known: the run with it moved by one prior sd failed (%s)",
        name,
        failure,
    )


def _failed_in_jobs(sites: Sequence[Members], tasks: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Let jobs make the runs where such make all runs; return those that failed; on root."""
    runs = {}
    for k, p in tasks:
        members = sites[k]
        if not (_folder(members, p) / MARKER).exists():
            name, theta = members.space.names[p], members.space.moved(p)
            runs[members.job_task("effect", EFFECTS, name, theta)] = (k, p)
    outcomes = in_jobs(sites, EFFECTS, list(runs))
    for task, outcome in outcomes.items():
        if outcome.status:
            _warn_of_failure(task.name, outcome.reason)
    return {runs[task] for task, outcome in outcomes.items() if outcome.status}


def _note_and_warn(sites: Sequence[Members], idle: Mapping[str, Sequence[str]], n_runs: int) -> None:
    """Write down and log which parameters have no effect."""
    if n_runs:
        log.info("effect check: %d %s with one parameter moved", n_runs, "run" if n_runs == 1 else "runs")
    note(sites[0].folder.parent, "first ensemble", idle)
    for line in remarks(idle, len(sites)):
        log.warning(line)


def note(run: Path, source: str, idle: Mapping[str, Sequence[str]]) -> None:
    """Write into a run's folder which parameters have no effect, and at which sites, by one `source`."""
    path = run / NOTE
    if idle or path.exists():
        atomic.write_json(path, {**_notes(path), source: idle})


def noted(run: Path) -> dict[str, list[str]]:
    """Return the parameters that have no effect, with the sites, by all sources; read from a run's folder."""
    idle: dict[str, list[str]] = {}
    for of_source in _notes(run / NOTE).values():
        for name, where in of_source.items():
            idle.setdefault(name, []).extend(where)
    return idle


def _notes(path: Path) -> dict[str, dict[str, list[str]]]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def remarks(idle: Mapping[str, Sequence[str]], n_sites: int) -> list[str]:
    """Say what it means that parameters have no effect at some of the sites."""
    return [
        f"{name} has no effect on the output, so its posterior is its prior: is its name right, and the "
        "process it belongs to switched on?"
        if len(where) == n_sites
        else f"{name} has no effect on the output at {', '.join(where)}: only the other sites inform it"
        for name, where in idle.items()
    ]
