"""The verb `run`: a calibration carried to its end, its files written."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

from fatescal import __version__
from fatescal import config as settings
from fatescal.base.errors import NotConfirmed, OutOfTime
from fatescal.cli.run_folder import Fold, checkpoint_writer, load_config, lock_held, logged, results_of
from fatescal.cli.start import make_default_run, source, with_inputs, with_jobs
from fatescal.hpc.communicator import Communicator
from fatescal.storage.store import Store
from fatescal.workflow import cost
from fatescal.workflow.calibrate import calibrate
from fatescal.workflow.calibration_run import CalibrationRun, Problem
from fatescal.workflow.problem import assemble

log = logging.getLogger(__name__)


def run(
    path: Path,
    comm: Communicator,
    fold: Fold = None,
    machine: str | None = None,
    changes: settings.Changes | None = None,
) -> int:
    """Carry the run of a config, or one fold of it, to its end, from wherever it stands; return the exit
    code.
    """
    config = comm.on_root(lambda: load_config(path, fold, machine, changes))
    problem = assemble(config, comm)
    problem = with_jobs(config, problem, comm, source(path, fold, machine, changes))
    directory = config.run.directory.absolute()
    store = Store(directory / "stages", comm, provenance={"fatescal": __version__})
    with lock_held(directory, comm), logged(directory / "run.log", comm):
        problem = with_inputs(config, problem, directory, store, comm)
        if comm.is_root:
            log.info(
                "run %s in %s on %d ranks; %s", config.run.name, directory, comm.size, checkpoint_writer()
            )
        begin = time.monotonic()
        not_confirmed: NotConfirmed | None = None
        try:
            started = CalibrationRun(problem, comm, store)
            make_default_run(started, config, directory)
            calibrate(started)
        except NotConfirmed as error:
            not_confirmed = error
        except OutOfTime:
            took = time.monotonic() - begin
            left = comm.on_root(lambda: _left_to_do(config, problem, comm.size, took))
            if comm.is_root:
                log.warning("%s", left)
            raise
        comm.on_root(lambda: _write_outputs(directory, store, time.monotonic() - begin))
        if not_confirmed is not None:
            raise not_confirmed
    return 0


def _write_outputs(directory: Path, store: Store, seconds: float) -> None:
    """Write the files of a run from its stages, print its scorecard; on root."""
    from fatescal.report import outputs  # matplotlib, for root alone

    results = results_of(directory, store)
    page = outputs.write(results, directory)
    log.info("done in %.0f s", seconds)
    print((directory / "scorecard.txt").read_text())
    for remark in results.said:
        print(remark)
    print(f"report: {page}")
    print(f"figures for a paper (PNG, PDF, csv): fatescal report {directory}")


def _left_to_do(config: settings.Config, problem: Problem, n_ranks: int, seconds: float) -> str:
    """Return what the rest of a run, stopped after `seconds` of this job, will cost."""
    runs = cost.planned_runs(config)
    took = [seconds for site in problem.members.sites for seconds in site.seconds()]
    if not took:
        return f"no member of about {runs} has finished: what the rest will cost is not known"
    rest = max(runs - len(took), 0)
    usual = sum(took) / len(took)
    jobs = math.ceil(math.ceil(rest / n_ranks) * usual / seconds)
    return (
        f"left to do: about {rest} of {runs} model runs of {usual:.3g} s, "
        f"{rest * usual / 3600:.3g} core-hours, {jobs} more {'job' if jobs == 1 else 'jobs'} "
        "as long as this one"
    )


def wall_time_limit() -> float | None:
    """Return the seconds after which the job should stop: ten minutes, or a tenth, before its end; on
    root.
    """
    from fatescal.hpc.schedulers.registry import current

    limit = current().seconds_left()
    if limit is None:
        return None
    left, whole = limit
    return left - min(600.0, 0.1 * whole)
