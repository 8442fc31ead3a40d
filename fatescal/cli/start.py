"""The start of a run: its files from outside, the snapshot of its config, its default run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fatescal import config as settings
from fatescal.cli.run_folder import Fold, stages_reached
from fatescal.cli.versions import versions
from fatescal.ensemble.member_jobs import MemberJobs
from fatescal.hpc.communicator import Communicator
from fatescal.hpc.launch import HIDDEN_PREFIXES
from fatescal.storage.inputs import Register
from fatescal.storage.stage_graph import reads
from fatescal.storage.store import Store
from fatescal.workflow.calibration_run import CalibrationRun, Problem
from fatescal.workflow.default_run import try_default
from fatescal.workflow.problem import model_facts, outside_files
from fatescal.workflow.snapshot import (
    Snapshot,
    require_same_config,
    require_same_files,
    unverified,
)

log = logging.getLogger(__name__)


def with_inputs(
    config: settings.Config, problem: Problem, directory: Path, store: Store, comm: Communicator
) -> Problem:
    """Return the problem with the digests of its files from outside, which store and members keep.

    Raises as `_accepted` does.
    """
    inputs = comm.on_root(lambda: _accepted(config, problem, directory, store))
    store.files = {key: digest for of_site in inputs.values() for key, digest in of_site.items()}
    of_members = {
        site: {k: d for k, d in of.items() if reads("evaluation-00", k)} for site, of in inputs.items()
    }
    return replace(problem, members=problem.members.with_inputs(of_members))


def source(
    path: Path, fold: Fold, machine: str | None, changes: settings.Changes | None
) -> dict[str, object]:
    """Return config, fold, machine and changes as a job gets them, which starts in the same folder."""
    return {
        "path": str(path.absolute()),
        "fold": fold,
        "machine": machine,
        "changes": None if changes is None else dict(changes),
    }


def with_jobs(
    config: settings.Config, problem: Problem, comm: Communicator, source: Mapping[str, object]
) -> Problem:
    """Return the problem with jobs that make its runs, where the machine file asks for them.

    Parameters
    ----------
    source : mapping
        The arguments of `load_config`, as they were given.

    Raises
    ------
    BadInput
        Where no scheduler takes jobs.
    """
    machine = next(iter(config.by_site.values())).machine
    if machine.execution != "jobs":
        return problem
    hide = HIDDEN_PREFIXES if machine.hide is None else machine.hide
    jobs = MemberJobs(machine.jobs, source, machine.retries, hide, comm.stopping)
    comm.on_root(lambda: jobs.queue.kind)  # or what is wrong with it
    return replace(problem, members=problem.members.with_jobs(jobs))


def _accepted(
    config: settings.Config, problem: Problem, directory: Path, store: Store
) -> dict[str, dict[str, str]]:
    """Keep a snapshot of the config; return the digests of all files from outside, by site; on root.

    Raises
    ------
    BadInput
        Where a key or a file has changed that decides what is there already.
    """
    reached = stages_reached(directory, store)
    require_same_config(config, directory, reached)
    register = Register.of(directory)
    sources = outside_files(config, problem)
    by_site = {site: register.digests(sources.get(site, {})) for site in ["", *config.by_site]}
    now = {key: digest for of_site in by_site.values() for key, digest in of_site.items()}
    require_same_files(now, register, directory, reached)
    for line in unverified(now, reached):
        log.warning(line)
    Snapshot(config, versions(), model_facts(problem)).write(directory)
    register.save(directory)
    return by_site


def make_default_run(run: CalibrationRun, config: settings.Config, directory: Path) -> None:
    """Make the default run, if it is to be made, and note which of its own files the model writes meanwhile.

    A log that a script appends to beside itself would else count as an edited file at the next start.
    """

    def contents() -> dict[str, str]:
        sources = outside_files(config, run.problem).values()
        of_model = [{k: v for k, v in of.items() if ".model." in f".{k}"} for of in sources]
        return {
            path: digest for of in of_model for path, digest in Register.of(directory).contents(of).items()
        }

    def note(before: dict[str, str]) -> None:
        register = Register.of(directory)
        for path in register.note_written(before, contents()):
            log.warning(
                "the default run has written %s: it does not count as a file that the model reads", path
            )
        register.save(directory)

    before = run.comm.on_root(contents)
    try_default(run)
    run.comm.on_root(lambda: note(before))
