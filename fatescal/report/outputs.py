"""The files of a finished run, made from its stages alone: tables, chains, report."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fatescal.diagnostics import scores
from fatescal.diagnostics.convergence import diagnose, to_tree
from fatescal.diagnostics.prior_conflict import conflicts
from fatescal.diagnostics.verdict_text import advice, details, sentence
from fatescal.ensemble import effects
from fatescal.observations.windows import climatology
from fatescal.parameters.space import ParameterSpace
from fatescal.report.results import Results
from fatescal.storage import atomic
from fatescal.storage.chain_records import ChainBlock
from fatescal.storage.declaration import Record
from fatescal.storage.records import (
    Evaluation,
    KalmanInfo,
    Observations,
    Posterior,
    Scorecard,
    Validation,
    Verdict,
)
from fatescal.storage.store import Store
from fatescal.workflow.snapshot import Snapshot

R = TypeVar("R", bound=Record)
SCORECARDS = ("scorecard", "scorecard-prior", "scorecard-default")  # the last two with run.stop_after


def collect(store: Store, snapshot: Snapshot, further: Iterable[str] = ()) -> Results:
    """Return what a run has reached so far, read from its folder alone; on root.

    Parameters
    ----------
    further : iterable of str
        Remarks beside those that the stages give.
    """
    keys, space = store.keys(), snapshot.space

    def every(prefix: str, record: type[R]) -> dict[str, R]:
        return {k: store.load(k, record) for k in keys if k.startswith(prefix)}

    def maybe(key: str, record: type[R]) -> R | None:
        return store.load(key, record) if key in keys else None

    def last(prefix: str) -> str:
        return max((k for k in keys if k.startswith(prefix)), default="")

    observations = store.load(last("observations"), Observations)
    verdict, verdicts = maybe("verdict", Verdict), list(every("verdict-", Verdict).values())
    sampled = [v for v in verdicts if v.outcome != "not sampled"]
    # a finished run shows the round that its verdict is about; another one how far it is
    round_ = last("surrogate-")[-2:] if verdict is None or not sampled else f"{verdict.round:02d}"
    validations = [maybe(f"validation-{round_}-{what}", Validation) for what in ("draws", "block", "rows")]
    results: dict[str, Any] = {
        "name": snapshot.config.run.name,
        "settings": snapshot.config.plain(),
        "parameter": space.names,
        "default": space.theta_default,
        "prior": space,
        "observations": observations,
        "history": every("evaluation-", Evaluation),
        "units": snapshot.facts.units,
        "truth": snapshot.truth,
        "updates": list(every("update-", KalmanInfo).values()),
        "emulator": snapshot.config.emulate,
        "surrogate": maybe(f"surrogate-{round_}", snapshot.config.emulate.record),
        "validation": next(filter(None, validations), None),
        "chains": list(every(f"chains-{round_}-", ChainBlock).values()) if round_ else [],
        "posterior": maybe(f"posterior-{round_}", Posterior),
        "verdicts": verdicts,
        "verdict": verdict,
        "scorecard": next(filter(None, (maybe(k, Scorecard) for k in SCORECARDS)), None),
        "climatology": climatology(observations),
        "versions": dict(snapshot.versions),
    }
    remarks = [*_discrepancies(store, observations, snapshot), *_remarks(results, snapshot)]
    idle = {k: v for k, v in effects.noted(store.folder.parent).items() if k in space.names}
    remarks += [*effects.remarks(idle, len(snapshot.config.by_site)), *_failures(results), *further]
    return Results(**results, remarks=tuple(remarks))


def _discrepancies(store: Store, observations: Observations, snapshot: Snapshot) -> Iterable[str]:
    """Say what was estimated to lie between model and data beside the measurement error."""
    measured = store.load("observations", Observations)
    for name in snapshot.estimated:
        rows = measured.variable == name
        sd = np.sqrt(np.mean(observations.noise[rows] ** 2 - measured.noise[rows] ** 2))
        error = np.sqrt(np.mean(measured.noise[rows] ** 2))
        yield (
            f"{name}: model discrepancy {sd:.3g} {measured.unit[rows][0]}, estimated so that the best run "
            f"has a reduced chi2 of 1, beside a measurement error of {error:.3g}"
        )


def _remarks(results: Mapping[str, Any], snapshot: Snapshot) -> Iterable[str]:
    """Say whether the result can be trusted, and why not."""
    validation, posterior, verdict = results["validation"], results["posterior"], results["verdict"]
    if verdict is not None:
        yield sentence(verdict) + ("" if verdict.outcome == "not sampled" else f"; {details(verdict)}")
        if verdict.outcome != "confirmed":
            yield f"what to do: {advice(verdict, snapshot.config.emulate.rounds)}"
    stop_after, sampling = snapshot.config.run.stop_after, snapshot.config.sample
    if stop_after is not None and posterior is None:
        yield (
            f"stopped after the {stop_after} run, as run.stop_after says; "
            "without that key the same command goes on"
        )
    if validation is not None:
        yield f"emulator {'validated' if validation.passed else 'NOT VALIDATED'}: {validation.verdict}"
    if posterior is not None:
        draws = np.concatenate([block.u for block in results["chains"]], axis=1)
        diagnosis = diagnose(draws, results["parameter"], rhat=sampling.rhat, ess=sampling.ess)
        yield f"chains {'converged' if diagnosis.converged else 'NOT CONVERGED'}: {diagnosis.summary}"
        space: ParameterSpace = results["prior"]
        beside = conflicts(space.names, space.priors, space.z(posterior.draws_u))
        yield from filter(None, (conflict.sentence for conflict in beside))
    # Default runs that go on from their own state of the iteration before differ; those that spin up repeat.
    sites = snapshot.config.by_site.values()
    going_on = any(site.model.warm_starts for site in sites)
    later = {name for name in results["history"] if going_on and re.fullmatch(r"evaluation-(?!00)\d+", name)}
    defaults = [e.predictions[0] for name, e in results["history"].items() if name not in later]
    if any(not np.array_equal(d, defaults[0], equal_nan=True) for d in defaults):
        yield (
            "the default run did NOT repeat itself from one evaluation to the next: the model is not "
            "deterministic"
        )


def _failures(results: Mapping[str, Any]) -> Iterable[str]:
    """Say of which batches many members failed."""
    for stage, evaluation in results["history"].items():
        failed = int((~evaluation.ok).sum())
        if failed > 0.2 * len(evaluation.status):
            yield f"{stage}: {failed} of {len(evaluation.status)} members FAILED"


def write(results: Results, directory: Path) -> Path:
    """Write scorecard, posterior and report into the run's folder, each whole or not at all; return the
    page.
    """
    from fatescal.report.page import write as write_page  # matplotlib, for root alone and only here

    card, posterior = results.scorecard, results.posterior
    if card is not None:
        names = ("variable", "period", "ensemble", "score", "value")
        columns = [getattr(card, name) for name in names]
        atomic.write(
            directory / "scorecard.csv", lambda part: _write_csv(part, names, zip(*columns, strict=True))
        )
        atomic.write(directory / "scorecard.txt", lambda part: part.write_text(_scored(results, card)))
    else:
        _remove(directory, "scorecard.csv", "scorecard.txt")
    if posterior is not None:
        following = [name for name in results.prior.rules if name in posterior.draws_following]
        header = [*posterior.parameter, *following]
        draws = np.column_stack(
            [posterior.draws_theta, *(posterior.draws_following[name] for name in following)]
        )
        atomic.write(directory / "posterior.csv", lambda part: _write_csv(part, header, draws))
        atomic.write(directory / "posterior.nc", lambda part: _write_chains(part, results))
    else:
        _remove(directory, "posterior.csv", "posterior.nc")
    return write_page(results, directory / "report")


def _remove(directory: Path, *stale: str) -> None:
    """Remove files of what a run has reached no more, since a stage was reset."""
    for name in stale:
        with suppress(FileNotFoundError):
            (directory / name).unlink()


def _scored(results: Results, card: Scorecard) -> str:
    """Return the scorecard as text, under the verdict of the run where there is one."""
    head = f"verdict: {results.headline}\n" if results.verdict is not None else ""
    return f"{head}{scores.render(card)}\n"


def _write_csv(path: Path, header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(str(name) for name in header)
        table.writerows([repr(float(x)) if isinstance(x, float) else str(x) for x in row] for row in rows)


def _write_chains(path: Path, results: Results) -> None:
    """Write all kept cold draws in physical units, as ArviZ knows them."""
    u = np.concatenate([block.u for block in results.chains], axis=1)
    cold = np.concatenate([block.log_likelihood[:, :, -1] for block in results.chains], axis=1)
    theta = results.prior.theta(u.reshape(-1, u.shape[-1])).reshape(u.shape)
    units = [results.units.get(name, "1") for name in results.parameter]
    to_tree(theta, results.parameter, units, cold).to_netcdf(path)
