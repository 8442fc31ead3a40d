"""Rounds of emulator, chains and posterior ensemble, until the model itself confirms the posterior."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fatescal.base.types import Array
from fatescal.diagnostics.rerun_verdict import Round, judge_rounds, not_sampled
from fatescal.diagnostics.tolerances import LEAST_MEMBERS
from fatescal.diagnostics.verdict_text import details, sentence
from fatescal.emulate.training import near_limit, near_optimum
from fatescal.storage.chain_records import ChainBlock
from fatescal.storage.records import Batch, Observations, Posterior, Surrogate, Validation, Verdict
from fatescal.workflow.calibration_run import CalibrationRun, training_set
from fatescal.workflow.emulation import emulate, refine, validated
from fatescal.workflow.sampling import begin_sampling, condense, sample

log = logging.getLogger(__name__)


def explore(run: CalibrationRun, observations: Observations, calibration: Observations) -> Verdict:
    """Emulate, sample, run the posterior ensemble again, until the model confirms it or all rounds are spent.

    Each round that ends otherwise adds its model runs to those that the next emulator learns from: the
    posterior ensemble itself, or, where the emulator was refused, a batch where its posterior seems to be.

    Returns
    -------
    Verdict
        Of the last round that was sampled; `not sampled` where none was.
    """
    problem = run.problem
    verdicts: list[Verdict] = []
    for round_ in range(problem.rounds + 1):
        surrogate = emulate(run, round_, observations, calibration)
        validation, chains, inputs, accepted = gate(run, round_, surrogate, observations, calibration)
        if accepted:
            rerun(run, round_, chains)
            verdicts.append(judge(run, round_, verdicts, observations, inputs))
        else:
            refused = functools.partial(_refused, run, round_, validation)
            verdicts.append(run.store.once(f"verdict-{round_:02d}", Verdict, refused, inputs))
            if round_ < problem.rounds:
                extend(run, round_, surrogate, calibration, chains)
        log_round(run, round_, verdicts[-1], observations)
        if verdicts[-1].outcome == "confirmed" or _too_few(verdicts[-1]):
            break
    sampled = [verdict for verdict in verdicts if verdict.outcome != "not sampled"]
    chosen = (sampled or verdicts)[-1]
    every = [f"verdict-{verdict.round:02d}" for verdict in verdicts]
    return run.store.once("verdict", Verdict, lambda: chosen, every)


def _too_few(verdict: Verdict) -> bool:
    """Tell whether the posterior ensemble is so small that it could confirm nothing, however often it is
    run.
    """
    return verdict.outcome == "cannot tell" and len(verdict.weights) < LEAST_MEMBERS


def gate(
    run: CalibrationRun,
    round_: int,
    surrogate: Surrogate,
    observations: Observations,
    calibration: Observations,
) -> tuple[Validation, list[ChainBlock | None], list[str], bool]:
    """Return an emulator's validation, the chains, their stages, and whether the model is to judge them.

    An emulator that is refused by its rows, or by its first block of steps, is not sampled any further: one
    block tells where to run the model next. In the last round one that predicts left-out runs is sampled
    though it is uncertain in places: the model judges its posterior, and no further round could improve it.
    """
    log_likelihood = run.problem.emulator.log_likelihood(surrogate, calibration)
    check = functools.partial(validated, run, round_, surrogate, observations, calibration)
    by_rows = check("rows", None)
    trusted = by_rows.passed or run.problem.force
    last = round_ == run.problem.rounds
    chains = begin_sampling(run, round_, log_likelihood, surrogate.u, trusted)
    validation, what = check("block", chains), "block"
    accepted = validation.passed or run.problem.force or (last and by_rows.passed)
    if accepted:
        sample(run, round_, log_likelihood, chains)
        validation, what = check("draws", chains), "draws"
        accepted = validation.passed or run.problem.force or last
    inputs = [f"surrogate-{round_:02d}", f"validation-{round_:02d}-{what}"]
    return validation, chains, inputs, accepted


def rerun(run: CalibrationRun, round_: int, chains: list[ChainBlock | None]) -> None:
    """Run the model at the posterior ensemble of a round."""
    key, last = f"posterior-{round_:02d}", f"chains-{round_:02d}-{len(chains) - 1:03d}"
    posterior = run.store.once(key, Posterior, functools.partial(condense, run, chains), [last])
    run.evaluate(f"evaluation-{key}", posterior.u, [key])


def judge(
    run: CalibrationRun, round_: int, before: Sequence[Verdict], observations: Observations, inputs: list[str]
) -> Verdict:
    """Return what the model says of the posterior of a round, with those sampled before it."""
    sampled = [verdict.round for verdict in before if verdict.outcome != "not sampled"]
    inputs = [run.likelihood, *inputs]
    for r in (*sampled, round_):
        inputs += [f"surrogate-{r:02d}", f"posterior-{r:02d}", f"evaluation-posterior-{r:02d}"]

    def judged() -> Verdict:
        rounds = [_round(run, r, observations) for r in (*sampled, round_)]
        left_out = functools.partial(_left_out, run, round_, sampled, observations)
        verdict = judge_rounds(rounds, run.problem.space.names, left_out if sampled else None)
        return replace(verdict, round=round_, n_runs=_n_runs(run))

    return run.store.once(f"verdict-{round_:02d}", Verdict, judged, list(dict.fromkeys(inputs)))


def _round(run: CalibrationRun, round_: int, observations: Observations) -> Round:
    """Return a finished round as it is judged; on root."""
    posterior = run.store.load(f"posterior-{round_:02d}", Posterior)
    surrogate = run.store.load(f"surrogate-{round_:02d}", run.problem.emulator.record)
    result = run.evaluated(f"evaluation-posterior-{round_:02d}")
    rows = np.flatnonzero(result.ok[1:])
    columns = observations.period == "calibration"
    calibration = observations.select(columns)
    return Round(
        u=posterior.u[rows],
        misfit=calibration.misfit(result.predictions[1:][rows][:, columns]),
        draws=posterior.draws_u,
        log_likelihood=run.problem.emulator.log_likelihood(surrogate, calibration),
        log_evidence=posterior.log_evidence,
    )


def _left_out(
    run: CalibrationRun, round_: int, before: Sequence[int], observations: Observations
) -> list[Array]:
    """Return the log likelihood (J) of the emulator of a round at the members of each round before, each
    member predicted without itself; on root.
    """
    surrogate = run.store.load(f"surrogate-{round_:02d}", run.problem.emulator.record)
    stages = [stage for stage in run.history if stage != "truth"]
    source = training_set(run, observations).source[: len(surrogate.u)]
    rows = [np.flatnonzero(source == stages.index(f"evaluation-posterior-{r:02d}")) for r in before]
    calibration = observations.select(observations.period == "calibration")
    return [run.problem.emulator.left_out_log_likelihood(surrogate, calibration, of) for of in rows]


def _refused(run: CalibrationRun, round_: int, validation: Validation) -> Verdict:
    """Return the verdict of a round whose emulator was refused; on root."""
    reason = f"the emulator of round {round_} was refused: {validation.verdict}"
    verdict = not_sampled(run.problem.space.names, reason)
    return replace(verdict, round=round_, n_runs=_n_runs(run))


def _n_runs(run: CalibrationRun) -> int:
    return sum(len(run.evaluated(stage).status) for stage in run.history)


def extend(
    run: CalibrationRun,
    round_: int,
    surrogate: Surrogate,
    calibration: Observations,
    chains: list[ChainBlock | None],
) -> None:
    """Run the model where the posterior of a refused emulator seems to be."""
    key = f"refinement-{round_ + 1:02d}"
    inputs = [run.likelihood, f"surrogate-{round_:02d}", f"chains-{round_:02d}-{len(chains) - 1:03d}"]
    batch = functools.partial(refine, run, round_, surrogate, calibration, chains)
    run.evaluate(f"evaluation-{key}", run.store.once(key, Batch, batch, inputs).u, [key])


def log_round(run: CalibrationRun, round_: int, verdict: Verdict, observations: Observations) -> None:
    """Log the verdict of a round, and how many of its model runs came near the optimum."""
    if run.comm.is_root:
        numbers = "" if verdict.outcome == "not sampled" else f"; {details(verdict)}"
        level = logging.INFO if verdict.outcome == "confirmed" else logging.WARNING
        log.log(level, "round %d, %d model runs: %s%s", round_, verdict.n_runs, sentence(verdict), numbers)
    stage = list(run.history)[-1]
    if not stage.startswith(("evaluation-refinement", "evaluation-posterior")):
        return
    near, n = run.comm.on_root(lambda: _near(run, stage, observations))
    if run.comm.is_root:
        level, wasted = (logging.INFO, "") if near else (logging.WARNING, ": the round was WASTED")
        message = "%s: %d of %d runs came near the optimum (Phi - Phi_min < %.3g)%s"
        log.log(level, message, stage, near, n, near_limit(len(run.problem.space.names)), wasted)


def _near(run: CalibrationRun, stage: str, observations: Observations) -> tuple[int, int]:
    """Return how many members of a stage came near the least misfit of all runs, and how many there were; on
    root.
    """
    training = training_set(run, observations)
    calibration = observations.select(observations.period == "calibration")
    near = near_optimum(calibration.misfit(training.predictions), training.u.shape[1])
    number = [s for s in run.history if s != "truth"].index(stage)
    return int(near[training.source == number].sum()), len(run.evaluated(stage).status) - 1
