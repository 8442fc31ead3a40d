"""What the verbs do around the stages: a run's folder and lock, its log, its files, what is printed."""

from __future__ import annotations

import csv
import json
import logging
import math
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fatescal import __version__
from fatescal import config as settings
from fatescal.base.errors import BadInput, FatescalError, NotConfirmed, OutOfTime, RunFailed, Status
from fatescal.diagnostics import scores
from fatescal.ensemble import preparation
from fatescal.ensemble.member import begun
from fatescal.hpc.communicator import Communicator
from fatescal.models import registry
from fatescal.models.base import Verb
from fatescal.parameters import table as overview
from fatescal.report import outputs
from fatescal.report.results import Results
from fatescal.storage.inputs import Register
from fatescal.storage.lock import locked
from fatescal.storage.records import Scorecard
from fatescal.storage.stage_graph import EFFECTS, PREPARATION, Reached, from_on, reads
from fatescal.storage.store import PARALLEL, Store, discard
from fatescal.workflow import cost, preflight, site_models
from fatescal.workflow import problem as assemble
from fatescal.workflow.calibrate import calibrate
from fatescal.workflow.calibration_run import CalibrationRun, Problem
from fatescal.workflow.default_run import first_evaluation, try_default
from fatescal.workflow.snapshot import (
    Snapshot,
    differences,
    edited_files,
    require_same_config,
    require_same_files,
    unverified,
)

log = logging.getLogger(__name__)


Fold = tuple[int, int] | None


def run(config: Path, comm: Communicator, fold: Fold = None, machine: str | None = None) -> int:
    """Carry the run of a config, or one fold of it, to its end, from wherever it stands; return the exit
    code.
    """
    chosen = comm.on_root(lambda: _chosen(config, fold, machine))
    problem = assemble.problem(chosen, comm)
    directory = chosen.run.directory.absolute()
    store = Store(directory / "stages", comm, provenance={"fatescal": __version__})
    with _held(directory, comm), _logged(directory / "run.log", comm):
        problem = _with_inputs(chosen, problem, directory, store, comm)
        if comm.is_root:
            log.info("run %s in %s on %d ranks; %s", chosen.run.name, directory, comm.size, _writer())
        begin = time.monotonic()
        not_confirmed: NotConfirmed | None = None
        try:
            started = CalibrationRun(problem, comm, store)
            _try_default(started, chosen, directory)
            calibrate(started)
        except NotConfirmed as error:
            not_confirmed = error
        except OutOfTime:
            took = time.monotonic() - begin
            left = comm.on_root(lambda: _left_to_do(chosen, problem, comm.size, took))
            if comm.is_root:
                log.warning("%s", left)
            raise
        comm.on_root(lambda: _finish(directory, store, time.monotonic() - begin))
        if not_confirmed is not None:
            raise not_confirmed
    return 0


def _with_inputs(
    chosen: settings.Config, problem: Problem, directory: Path, store: Store, comm: Communicator
) -> Problem:
    """Return the problem with the digests of its files from outside, which store and members keep; see `_accepted`."""
    inputs = comm.on_root(lambda: _accepted(chosen, problem, directory, store))
    store.files = {key: digest for of_site in inputs.values() for key, digest in of_site.items()}
    of_members = {
        site: {k: d for k, d in of.items() if reads("evaluation-00", k)} for site, of in inputs.items()
    }
    return replace(problem, members=problem.members.with_inputs(of_members))


def _accepted(
    chosen: settings.Config, problem: Problem, directory: Path, store: Store
) -> dict[str, dict[str, str]]:
    """Keep a snapshot of the config; return the digests of all files from outside, by site; on root.

    Raises
    ------
    BadInput
        Where a key or a file has changed that decides what is there already.
    """
    reached = _reached(directory, store)
    require_same_config(chosen, directory, reached)
    register = Register.of(directory)
    sources = assemble.outside(chosen, problem)
    by_site = {site: register.digests(sources.get(site, {})) for site in ["", *chosen.places]}
    now = {key: digest for of_site in by_site.values() for key, digest in of_site.items()}
    require_same_files(now, register, directory, reached)
    for line in unverified(now, reached):
        log.warning(line)
    Snapshot(chosen, _versions(), assemble.facts(problem)).write(directory)
    register.save(directory)
    return by_site


def _try_default(run: CalibrationRun, chosen: settings.Config, directory: Path) -> None:
    """Make the default run, if it is to be made, and note which of its own files the model writes meanwhile.

    A log that a script appends to beside itself would else count as an edited file at the next start.
    """

    def contents() -> dict[str, str]:
        sources = assemble.outside(chosen, run.problem).values()
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


def _reached(directory: Path, store: Store) -> dict[str, Reached]:
    """Return what is there, in order: the runs before all members, finished stages, those begun.

    The effect runs stand behind the first ensemble, which asks for them.
    """
    finished = store.reached()
    others = begun(directory / "members", finished)
    first = {PREPARATION: others.pop(PREPARATION)} if PREPARATION in others else {}
    there = first | finished | others
    if EFFECTS not in there:
        return there
    order = [stage for stage in there if stage != EFFECTS]
    at = order.index("evaluation-00") + 1 if "evaluation-00" in order else len(order)
    return {stage: there[stage] for stage in [*order[:at], EFFECTS, *order[at:]]}


def _results(directory: Path, store: Store) -> Results:
    """Return what a run has reached, read from its folder alone."""
    snapshot = Snapshot.read(directory)
    edited = edited_files(directory, _reached(directory, store))
    return outputs.collect(store, snapshot, edited)


def _finish(directory: Path, store: Store, seconds: float) -> None:
    """Write the files of a run from its stages, print its scorecard; on root."""
    results = _results(directory, store)
    page = outputs.write(results, directory)
    log.info("done in %.0f s", seconds)
    print((directory / "scorecard.txt").read_text())
    for remark in results.remarks:
        print(remark)
    print(f"report: {page}")


def _left_to_do(chosen: settings.Config, problem: Problem, n_ranks: int, seconds: float) -> str:
    """Return what the rest of a run, stopped after `seconds` of this job, will cost."""
    runs = cost.planned_runs(chosen)
    took = [seconds for site in problem.members.sites for seconds in site.seconds()]
    if not took:
        return f"no member of about {runs} has finished: what the rest will cost is not known"
    rest = max(runs - len(took), 0)
    usual = sum(took) / len(took)
    jobs = math.ceil(math.ceil(rest / n_ranks) * usual / seconds)
    return (
        f"left to do: about {rest} of {runs} model runs of {usual:.3g} s, {rest * usual / 3600:.3g} core-hours, "
        f"{jobs} more {'job' if jobs == 1 else 'jobs'} as long as this one"
    )


def _chosen(config: Path, fold: Fold, machine: str | None) -> settings.Config:
    chosen = settings.load(config)
    if machine is not None:
        chosen = chosen.on(settings.load_machine(machine))
    return chosen if fold is None else chosen.folded(*fold)


def check(
    config: Path | None,
    comm: Communicator,
    fold: Fold = None,
    machine: str | None = None,
    default_run: bool = False,
) -> int:
    """Find out, and print, all that can be known before a core-hour is spent; return the exit code.

    On a machine, or on several ranks, that is also what the ranks can do there; without a config nothing
    else. With `default_run` the default run is made as well, which the run itself then starts from.
    """
    if config is None:
        given = comm.on_root(lambda: settings.load_machine(str(machine)))
        directory = (given.scratch or Path()).absolute()
        comm.on_root(lambda: _require_writable(directory))
        return _try_out(given, directory, comm, lambda: preflight.space(directory, None, None))
    chosen = comm.on_root(lambda: _chosen(config, fold, machine))
    problem = assemble.problem(chosen, comm)
    comm.on_root(lambda: _tell_checked(config, chosen, problem, comm))
    directory = chosen.run.directory.absolute()
    if default_run:
        store = Store(directory / "stages", comm)
        with _held(directory, comm):
            known = _with_inputs(chosen, problem, directory, store, comm)
            _try_default(CalibrationRun(known, comm, store), chosen, directory)
        comm.on_root(lambda: _tell_tried(chosen, problem, comm.size))
    if machine is None and comm.size == 1:
        return 0
    runs, needed = cost.planned_runs(chosen), partial(cost.needed, chosen, problem.members.sites)
    return _try_out(chosen.machine, directory, comm, lambda: preflight.space(directory, runs, needed()))


def _try_out(
    machine: settings.Machine, directory: Path, comm: Communicator, space: Callable[[], preflight.Finding]
) -> int:
    """Print what a trial in `directory` has found; return 0 if all is well."""
    launching = comm.on_root(lambda: site_models.launching(machine))
    findings = preflight.trial(directory, launching, comm, space)
    if comm.is_root:
        for found in findings:
            print(found)
    wrong = [found.what for found in findings if found.wrong]
    if wrong:
        comm.agree(RunFailed(f"{len(wrong)} of {len(findings)} things tried are wrong: {', '.join(wrong)}"))
    return 0


def _tell_checked(config: Path, chosen: settings.Config, problem: Problem, comm: Communicator) -> None:
    directory = chosen.run.directory.absolute()
    _require_writable(directory)
    runs = cost.planned_runs(chosen)
    print(f"config        {config}: ok")
    waves = cost.planned_waves(chosen, comm.size)
    for place, site in zip(chosen.places.values(), problem.members.sites, strict=True):
        where = f"{place.site}: " if place.site else ""
        print(f"model         {where}{place.model.kind}: ok, {site.model.calendar} calendar")
        for line in cost.told(chosen, site.model, runs // len(chosen.places), waves):
            print(line)
    for row in overview.overview(problem.space, chosen.correlations):
        print(f"parameter     {row['parameter']}: default {row['default']:g}, {overview.words(row)}")
    for line in assemble.summary(chosen, problem):
        print(f"observations  {line}")
    if problem.observed is not None:
        from fatescal.report.check_plot import plot  # matplotlib, for root alone and only here

        for path in plot(problem.observed, directory):
            print(f"observations  plotted in {path}")
    print(f"run           {directory}: can be written")
    print(f"MPI           {comm.size} ranks; {_writer()}")
    print(f"model runs    about {runs}, at most {waves} one after another; the default run goes first")
    if more := cost.effect_runs(chosen, problem.members.sites):
        print(f"model runs    {more}")
    if chosen.run.stop_after is None and chosen.emulate.rounds:
        print(
            f"model runs    and up to {chosen.emulate.rounds} rounds of {chosen.calibrate.members} or "
            f"{chosen.posterior.members} more, while the emulator or its posterior is not confirmed"
        )


def _tell_tried(chosen: settings.Config, problem: Problem, n_ranks: int) -> None:
    """Print what the default run has left, and what the whole run will cost by its duration."""
    stage, seconds = first_evaluation(problem), 0.0
    for place, site in zip(chosen.places.values(), problem.members.sites, strict=True):
        took = site.took(stage, 0)
        if took is None:
            print(f"default run   {place.site or 'the model'} runs its members as a job: not tried")
            return
        seconds += took
        where = f"{place.site}: " if place.site else ""
        print(f"default run   {where}ok in {took:.3g} s, in {site.place(stage, 0)}")
        names = {variable.model: None for variable in place.observations.variables.values()}
        for line in site.contents(stage, 0, names):
            print(f"default run   {where}{line}")
    n_sites = len(chosen.places)
    runs, waves = cost.planned_runs(chosen), cost.planned_waves(chosen, n_ranks)
    each = seconds / n_sites
    print(
        f"cost          about {runs * each / 3600:.3g} core-hours for {runs} model runs as long as this one, "
        f"{waves * each / 3600:.3g} h on {n_ranks} {'rank' if n_ranks == 1 else 'ranks'}"
    )


def of_models(name: str, config: Path, machine: str | None = None, **flags: bool) -> int:
    """Do what a verb that a model brings does, for the config's sites; return the exit code."""
    chosen = _chosen(config, None, machine)
    verbs = {place.model.kind: _verb(place, name) for place in chosen.places.values()}
    for kind, verb in verbs.items():
        places = [place for place in chosen.places.values() if place.model.kind == kind]
        verb.action([(place.model, site_models.context(place)) for place in places], _say, **flags)
    return 0


def _verb(place: settings.OneSite, name: str) -> Verb:
    """Return the verb of that name of a site's model."""
    verb = next((verb for verb in place.model.verbs if verb.name == name), None)
    if verb is None:
        kinds = [kind for kind, c in registry.described().items() if name in {v.name for v in c.verbs}]
        raise BadInput(
            f"model.kind is {place.model.kind}", expected=f"{' or '.join(kinds)}: no other can {name}"
        )
    return verb


def _say(line: str) -> None:
    print(line, flush=True)


def status(where: Path, comm: Communicator, fold: Fold = None, machine: str | None = None) -> int:
    """Print what of a run is finished (stages, members under way, scorecard), and what has changed since.

    It is named by its folder or its config.
    """
    chosen = _chosen(where, fold, machine) if where.is_file() else None
    directory = where if chosen is None else chosen.run.directory
    store = _opened(directory, comm)
    reached = _reached(directory, store)
    finished = store.keys()
    for key in finished:
        print(f"{key:28s} {store.digest(key)[:16]}")
    prepared = preparation.folder(directory / "members")
    if prepared.is_dir():
        made = [marker.parent for marker in prepared.rglob("member.json")]
        made += [result.parents[2] for result in prepared.glob("*/jobs/*/result.json")]  # by a job of a case
        names = sorted(str(place.relative_to(prepared)) for place in made)
        print(f"{prepared.name:28s} made beforehand: {', '.join(names) or 'nothing yet'}")
        for note in prepared.glob("*/jobs/submission.json"):
            print(f"{prepared.name:28s} under way: {_under_way(note.parents[1])}")
    for folder in sorted((directory / "members").glob("*")):
        if folder.name == EFFECTS:
            print(f"{folder.name:28s} {len([*folder.rglob('member.json')])} runs with one parameter moved")
        elif folder.name not in finished and folder != prepared:
            print(f"{folder.name:28s} under way: {_under_way(folder)}")
    if (directory / "scorecard.txt").exists():
        print((directory / "scorecard.txt").read_text())
    for line in edited_files(directory, reached):
        print(line)
    for difference in [] if chosen is None else differences(chosen, directory, reached):
        print(difference)
    return 0


def _under_way(folder: Path) -> str:
    """Return how many members of a stage are finished; of several sites, how many at each."""
    paths = [*folder.glob("[0-9]*/member.json"), *folder.glob("[0-9]*/*/member.json")]
    paths = [path for path in paths if "." not in str(path.parent.relative_to(folder))]
    markers = {path: content for path in paths if (content := _content(path)) is not None}
    failed = sum(content["status"] != Status.OK for content in markers.values())
    sites = Counter(path.parent.name for path in markers if path.parent.parent != folder)
    where = ", ".join(f"{n} at {site}" for site, n in sorted(sites.items()))
    notes = [note for path in folder.glob("jobs/submission.json") if (note := _content(path)) is not None]
    in_job = f"; job {notes[0]['number']} was submitted for them" if notes and notes[0]["number"] else ""
    return f"{where or len(markers)} members finished, {failed} of them failed{in_job}"


def _content(path: Path) -> dict[str, Any] | None:
    """Return what a file of a run under way holds; None where it has vanished, or is being written."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def report(directory: Path, comm: Communicator) -> int:
    """Write the files and the report of a run again, from its stages alone; of folds, their mean scores."""
    folds = sorted(directory.glob("fold-*-of-*"))
    if folds and not (directory / "stages").is_dir():
        return _report_folds(directory, folds, comm)
    store = _opened(directory, comm)
    if not store.path("observations").exists():
        raise BadInput(f"{directory} has nothing to report yet", hint=f"fatescal status {directory}")
    results = _results(directory, store)
    print(f"report: {outputs.write(results, directory)}")
    return 0


def _report_folds(directory: Path, folds: list[Path], comm: Communicator) -> int:
    """Print the mean scores of the finished folds and write them, with their sd, into ``folds.csv``."""
    counts = {folder.name.rsplit("-", 1)[-1] for folder in folds}
    if len(counts) > 1:
        raise BadInput(f"{directory} holds folds of {' and '.join(sorted(counts))}", hint="move one set away")
    stores = {folder.name: _opened(folder, comm) for folder in folds if (folder / "stages").is_dir()}
    cards = {n: s.load("scorecard", Scorecard) for n, s in stores.items() if s.path("scorecard").exists()}
    wanted = [f"fold-{i}-of-{n}" for n in counts for i in range(1, int(n) + 1)]
    missing = [name for name in wanted if name not in cards]
    print(
        f"{len(cards)} of {len(wanted)} folds are scored{'; missing: ' if missing else ''}{', '.join(missing)}"
    )
    if not cards:
        return 1
    mean, sd = scores.over_folds(list(cards.values()))
    print(f"mean over the folds; each validates with the years it was not fitted to\n{scores.render(mean)}")
    with open(directory / "folds.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["variable", "period", "ensemble", "score", "mean", "sd", "folds"])
        columns = (mean.variable, mean.period, mean.ensemble, mean.score, mean.value.tolist(), sd.tolist())
        table.writerows([*row, len(cards)] for row in zip(*columns, strict=True))
    print(f"report: {directory / 'folds.csv'}")
    return 1 if missing else 0


def priors(config: Path, form: str) -> int:
    """Print all that decides the parameters: default, median, central 95 %, prior or rule, correlations."""
    chosen = settings.load(config)
    rows = overview.overview(assemble.space(chosen), chosen.correlations)
    if form == "text":
        print(overview.as_text(rows))
    elif form == "json":
        print(json.dumps(rows, indent=1))
    else:
        flat = [overview.flat(row) for row in rows]
        columns = list(dict.fromkeys(k for row in flat for k in row))
        table = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(flat)
    return 0


def reset(directory: Path, stage: str, comm: Communicator) -> int:
    """Set a stage, all later ones and their members aside, to be computed again."""
    store = _opened(directory, comm)
    with locked(directory):
        reached = list(_reached(directory, store))
        if stage not in reached:
            raise BadInput(
                f"reset --from {stage}", expected=f"a finished stage, one of {', '.join(reached)}", got=stage
            )
        aside = discard(directory, stage, reached)
    print(f"{', '.join(from_on(stage, reached))}: moved to {aside}")
    return 0


def _opened(directory: Path, comm: Communicator) -> Store:
    # A first job may wait for days with members, or a spin-up, and no stage yet.
    if not any((directory / name).is_dir() for name in ("stages", "members")):
        raise BadInput(
            f"{directory} is no run", expected="a folder with stages/ in it", hint="your run.directory"
        )
    return Store(directory / "stages", comm)


@contextmanager
def _held(directory: Path, comm: Communicator) -> Iterator[None]:
    """Hold the run's lock, on root, until all ranks are done with it."""
    with ExitStack() as stack:

        def take() -> None:
            _require_writable(directory)
            stack.enter_context(locked(directory))

        comm.on_root(take)
        yield


@contextmanager
def _logged(path: Path, comm: Communicator) -> Iterator[None]:
    """Write root's log into the run's folder as well."""
    if not comm.is_root:
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except FatescalError as error:
        handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, "ended: %s", (error,), None))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _require_writable(directory: Path) -> None:
    probe = directory / ".probe"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_text("fatescal writes here")
        probe.unlink()
    except OSError as error:
        raise BadInput(
            f"run.directory {directory} cannot be written: {error.strerror}", hint="another run.directory"
        ) from None


def _writer() -> str:
    return (
        "checkpoints are written by all ranks (parallel HDF5)"
        if PARALLEL
        else "checkpoints are written by the root rank (h5py without MPI)"
    )


def _versions() -> dict[str, str]:
    """Return the versions of all that can change a result's bits."""
    packages = (
        "numpy",
        "scipy",
        "scikit-learn",
        "numba",
        "h5py",
        "mpi4py",
        "xarray",
        "netCDF4",
        "arviz-stats",
    )
    return {
        "fatescal": __version__,
        "git": _git_hash(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _git_hash() -> str:
    """Return the commit fatescal runs from, `unknown` outside a checkout."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"
