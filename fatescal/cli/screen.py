"""The verb `screen`: the parameters that matter, before a calibration."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from fatescal import __version__
from fatescal import config as settings
from fatescal.base.errors import BadInput
from fatescal.base.random_streams import stream
from fatescal.base.types import Array
from fatescal.cli.run_folder import load_config, lock_held, logged
from fatescal.cli.start import with_inputs
from fatescal.config import Config
from fatescal.diagnostics import morris
from fatescal.hpc.communicator import Communicator
from fatescal.report.csv_table import write_csv
from fatescal.storage.records import Batch, Evaluation, Observations
from fatescal.storage.store import Store
from fatescal.workflow.calibration_run import CalibrationRun
from fatescal.workflow.default_run import try_default
from fatescal.workflow.observed import observe
from fatescal.workflow.problem import assemble

log = logging.getLogger(__name__)
STAGE = "evaluation-screen"


def screen(
    path: Path,
    comm: Communicator,
    n_paths: int | None = None,
    machine: str | None = None,
    changes: settings.Changes | None = None,
) -> int:
    """Move each parameter of a config across half of its prior on several paths; print and write what that
    does to the misfit and to each variable.

    The runs are in ``RUN/screen``, a run of its own: parameters may be left out of the config afterwards. It
    continues where it was interrupted.

    Parameters
    ----------
    path : Path
        The config.
    comm : Communicator
        All ranks run members.
    n_paths : int, optional
        Paths of P + 1 runs.
    machine : str, optional
        Name or path of a machine file.
    changes : mapping, optional
        Values in place of those in the file, by dotted keys.
    """
    config = comm.on_root(lambda: _below(load_config(path, None, machine, changes)))
    if next(iter(config.by_site.values())).machine.execution == "jobs":
        raise BadInput(
            "screen runs members on its own ranks alone",
            got="execution: jobs",
            hint="start it in an allocation, without that machine file",
        )
    problem = assemble(config, comm)
    n_parameters = len(problem.space.names)
    n = morris.usual_paths(n_parameters) if n_paths is None else n_paths
    if n < 1:
        raise BadInput(f"--paths {n}", expected="1 or more")
    directory = config.run.directory
    store = Store(directory / "stages", comm, provenance={"fatescal": __version__})
    with lock_held(directory, comm), logged(directory / "run.log", comm):
        problem = with_inputs(config, problem, directory, store, comm)
        run = CalibrationRun(problem, comm, store)
        if comm.is_root:
            log.info("screening in %s: %d runs on %d ranks", directory, n * (n_parameters + 1), comm.size)
        try_default(run)
        observations = observe(run)
        paths = morris.design(stream(problem.seed, "screen"), n_parameters, n)
        batch = store.once("screen", Batch, lambda: Batch(u=_u(paths)))
        comm.on_root(lambda: _require_same(batch.u, _u(paths), directory))
        run.evaluate(STAGE, batch.u, ["screen"])
        comm.on_root(lambda: _told(run.evaluated(STAGE), observations, paths, config, problem.space.names))
    return 0


def _below(config: Config) -> Config:
    name, directory = f"{config.run.name}-screen", config.run.directory / "screen"
    run = config.run.model_copy(update={"name": name, "directory": directory})
    return config.model_copy(update={"run": run})


def _require_same(before: Array, now: Array, directory: Path) -> None:
    if not np.array_equal(before, now):
        n_paths = len(before) // (before.shape[1] + 1)
        raise BadInput(
            f"{directory} has a screening with {n_paths} paths",
            hint=f"--paths {n_paths}, or rm -r {directory}",
        )


def _u(paths: Array) -> Array:
    from scipy.special import ndtri

    return ndtri(paths.reshape(-1, paths.shape[-1]))


def outputs(evaluation: Evaluation, observations: Observations) -> dict[str, tuple[str, Array]]:
    """Return unit and values (J) of what is screened: the misfit and each variable's mean, calibration
    period; NaN of members that failed."""
    rows = observations.period == "calibration"
    calibration = observations.select(rows)
    g = np.where(evaluation.ok[:, None], evaluation.predictions, np.nan)[1:, rows]
    found = {"misfit": ("1", 2 * calibration.misfit(g) / rows.sum())}
    for variable in dict.fromkeys(calibration.variable.tolist()):
        mine = calibration.variable == variable
        found[variable] = (str(calibration.unit[mine][0]), g[:, mine].mean(axis=1))
    return found


def _told(
    evaluation: Evaluation, observations: Observations, paths: Array, config: Config, names: tuple[str, ...]
) -> None:
    """Print and write the effects, the parameter that matters most first."""
    rows, matters = [], np.zeros(len(names))
    for output, (unit, values) in outputs(evaluation, observations).items():
        of = morris.effects(paths, values.reshape(paths.shape[:2]))
        matters = np.fmax(matters, of.mean / np.nanmax(of.mean) if np.nanmax(of.mean) > 0 else 0.0)
        numbers = zip(of.mean.tolist(), of.error.tolist(), of.sd.tolist(), of.n.tolist(), strict=True)
        rows += [(output, unit, name, *of_name) for name, of_name in zip(names, numbers, strict=True)]
    header = ("output", "unit", "parameter", "mean_absolute_effect", "standard_error", "sd_of_effects", "n")
    table = config.run.directory / "screen.csv"
    write_csv(table, header, rows)
    failed = int((~evaluation.ok[1:]).sum())
    print(f"{len(evaluation.ok) - 1} runs, {failed} failed; a move is across half of a parameter's prior")
    each = list(dict.fromkeys((row[0], row[1]) for row in rows))
    wide = max(map(len, names))
    print(" " * wide + "".join(f"  {f'{output} [{unit}]':>22}" for output, unit in each))
    for p in np.argsort(-matters, kind="stable").tolist():
        cells = [row for output, _ in each for row in rows if row[0] == output and row[2] == names[p]]
        shown = "".join(f"  {f'{row[3]:.3g} +- {row[4]:.2g}':>22}" for row in cells)
        print(f"{names[p]:<{wide}}{shown}")
    little = [names[p] for p in range(len(names)) if matters[p] < 0.05]
    if little:
        print(f"less than 5 % of the largest effect on every output: {', '.join(little)}")
    print(f"screening: {table}")
