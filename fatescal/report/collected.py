"""What a run has reached, read from its folder alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from fatescal.diagnostics.verdict_text import details, sentence
from fatescal.ensemble import effects
from fatescal.observations.windows import climatology
from fatescal.report.results import Results
from fatescal.storage.chain_records import ChainBlock
from fatescal.storage.declaration import Record
from fatescal.storage.inputs import Register
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
    history = every("evaluation-", Evaluation)
    results: dict[str, Any] = {
        "name": snapshot.config.run.name,
        "settings": snapshot.config.plain(),
        "parameter": space.names,
        "default": space.theta_default,
        "prior": space,
        "observations": observations,
        "history": history,
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
        "repeats": _repeats(history, snapshot),
        "versions": dict(snapshot.versions),
        "inputs": _inputs(store),
    }
    remarks = [*_discrepancies(store, observations, snapshot), *_remarks(results, snapshot)]
    idle = {k: v for k, v in effects.noted(store.folder.parent).items() if k in space.names}
    remarks += [*effects.remarks(idle, len(snapshot.config.by_site)), *further]
    return Results(**results, remarks=tuple(remarks))


def _inputs(store: Store) -> dict[str, dict[str, str]]:
    """Return the digest of every file from outside that the stages were computed from, by key and path."""
    register, used = Register.of(store.folder.parent), [reached.files for reached in store.reached().values()]
    keys = {key: digest for files in used for key, digest in files.items()}
    known = ((key, register.known.get(key, {}).get(digest, {})) for key, digest in keys.items())
    return {key: {path: raw for path, (_, raw) in files.items()} for key, files in known}


def _repeats(history: Mapping[str, Evaluation], snapshot: Snapshot) -> bool | None:
    """Tell whether the default run gave the same in every batch; None where there is but one.

    Default runs that go on from their own state of the iteration before differ; those that spin up repeat.
    """
    going_on = any(site.model.warm_starts for site in snapshot.config.by_site.values())
    later = {name for name in history if going_on and re.fullmatch(r"evaluation-(?!00)\d+", name)}
    first, *others = [e.predictions[0] for name, e in history.items() if name not in later] or [None]
    return all(np.array_equal(d, first, equal_nan=True) for d in others) if others else None


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
        numbers = "" if verdict.outcome == "not sampled" else f"; {details(verdict)}"
        yield f"{sentence(verdict)}{numbers}"
    stop_after = snapshot.config.run.stop_after
    if stop_after is not None and posterior is None:
        yield (
            f"stopped after the {stop_after} run, as run.stop_after says; "
            "without that key the same command goes on"
        )
    if validation is not None:
        yield f"emulator {'validated' if validation.passed else 'NOT VALIDATED'}: {validation.verdict}"
