"""The order of the stages, written here and nowhere else: calibrate, emulate, sample, rerun, score.

All ranks run these functions. What is named is a stage and kept by the store. A `compute` handed to
`store.once` runs on root alone, so what only root holds (evaluations, chain blocks) is read there only.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from fatescal.base.errors import NotConfirmed, RunFailed
from fatescal.base.random_streams import stream
from fatescal.base.types import Array, LogLikelihood
from fatescal.config import DRAWS, SampleSection
from fatescal.diagnostics import failures, prior_check, scores
from fatescal.diagnostics.convergence import diagnose
from fatescal.diagnostics.rerun_verdict import (
    LEAST_MEMBERS,
    Round,
    advice,
    details,
    judge_rounds,
    not_sampled,
    sentence,
)
from fatescal.emulate.acquisition import next_batch
from fatescal.emulate.base import Emulator
from fatescal.emulate.training import NEAR, near_optimum
from fatescal.emulate.validation import validate
from fatescal.ensemble import effects
from fatescal.ensemble.evaluate import Ensemble
from fatescal.ensemble.preparation import prepare
from fatescal.hpc.communicator import Communicator
from fatescal.observations.noise import ErrorModel, discrepancies
from fatescal.observations.windows import Summary, climatology, synthesise
from fatescal.parameters.space import ParameterSpace
from fatescal.sample.log_evidence import evidence
from fatescal.sample.tempered_run import LEAST_ROUNDS, advance, end_states, warm_up
from fatescal.sample.thinning import representative
from fatescal.storage.records import (
    Batch,
    ChainBlock,
    Evaluation,
    KalmanInfo,
    KalmanState,
    ObservationGrid,
    Observations,
    Posterior,
    Scorecard,
    Surrogate,
    TemperedState,
    TrainingSet,
    Validation,
    Verdict,
)
from fatescal.storage.store import Store
from fatescal.update.base import UpdateScheme

log = logging.getLogger(__name__)
TUNING = 6  # rounds of tuning before chains that are to converge
BLOCK = 500  # kept steps between two looks at R-hat; each block is a checkpoint


@dataclass(frozen=True)
class Problem:
    """All that decides the result of a calibration, assembled from a config (`assemble.py`)."""

    seed: int
    space: ParameterSpace
    members: Ensemble
    grid: ObservationGrid
    errors: Mapping[str, ErrorModel]  # of each observed variable, as the config gives them
    observed: Observations | None  # None: made from a model run at `truth`
    summary: tuple[Summary, ...]  # of `observed`: windows used, dropped and why
    table: str  # how the file of `observed` was read
    truth: Array | None
    noise: float  # of the observations made at `truth`, in units of the error model
    noise_seed: int
    n_members: int
    first: Array  # coordinates (J-1, P) of the first ensemble
    first_role: str  # "prior", or "design" where its members are no draws of the prior
    scheme: UpdateScheme
    emulator: Emulator
    rounds: int
    force: bool
    force_prior: bool  # go on where the prior check failed
    sampling: SampleSection
    n_posterior: int
    updates: bool  # whether the scheme takes any step
    stop_after: str | None  # "default": run that alone; "prior": the first ensemble


@dataclass
class CalibrationRun:
    """A problem on its way: who computes it, where it is kept, and the evaluations so far."""

    problem: Problem
    comm: Communicator
    store: Store
    history: dict[str, Evaluation | None] = field(default_factory=dict)  # by stage; contents on root only
    likelihood: str = "observations"  # the stage of the observations with the errors in use

    def evaluate(self, stage: str, u: Array, inputs: list[str]) -> None:
        self.history[stage] = self.problem.members.evaluate(stage, u, self.comm, self.store, inputs)

    def evaluated(self, stage: str) -> Evaluation:
        """Return a finished evaluation; on root."""
        result = self.history[stage]
        assert result is not None, f"{stage} is read on another rank than root"
        return result


def calibrate(run: CalibrationRun) -> Scorecard:
    """Carry a run to its scorecard, from wherever it stands.

    Raises
    ------
    NotConfirmed
        No emulator passed its validation, or the model does not confirm the posterior: what there is is
        scored.
    RunFailed
        Too few members survive, or the chains do not converge within `sample.max_steps`.
    """
    problem = run.problem
    try_default(run)
    observations = observe(run)
    if problem.stop_after == "default":
        run.evaluate("evaluation-default", np.empty((0, len(problem.space.names))), [])
        return score(run, observations, "scorecard-default", "evaluation-default", {})
    last, observations = smooth(run, observations)
    ensembles = {problem.first_role: "evaluation-00"}
    if problem.stop_after == "prior":
        return score(run, observations, "scorecard-prior", "evaluation-00", ensembles)
    if last != "evaluation-00":
        ensembles["last"] = last
    calibration = observations.select(observations.period == "calibration")
    verdict = explore(run, observations, calibration)
    if verdict.outcome != "not sampled":
        ensembles["posterior"] = f"evaluation-posterior-{verdict.round:02d}"
    card = score(run, observations, "scorecard", "evaluation-00", ensembles, ["verdict"])
    if verdict.outcome != "confirmed":
        run.comm.agree(NotConfirmed(f"{sentence(verdict)}. Try: {advice(verdict, problem.rounds)}"))
    return card


def try_default(run: CalibrationRun) -> None:
    """Make the default run, before any other, and what the model wants made before its members.

    Raises
    ------
    RunFailed
        When it fails, or its output cannot be compared.
    """
    first = first_evaluation(run.problem)
    finished = run.comm.on_root(run.store.path(first).exists)
    prepare(run.problem.members.sites, run.comm, None if finished else first)


def first_evaluation(problem: Problem) -> str:
    """Return the first stage in which the model runs, by the default run first."""
    if problem.observed is None:
        return "truth"
    return "evaluation-default" if problem.stop_after == "default" else "evaluation-00"


def score(
    run: CalibrationRun,
    observations: Observations,
    key: str,
    default: str,
    ensembles: Mapping[str, str],
    further: Sequence[str] = (),
) -> Scorecard:
    """Score the ensembles, stages by role, side by side with the default run of a stage and the seasons'
    mean; `further` are stages that decide which.
    """

    def scored() -> Scorecard:
        predictions = {"climatology": climatology(observations)}
        predictions["default"] = run.evaluated(default).predictions[0]
        for name, stage in ensembles.items():
            result = run.evaluated(stage)
            predictions[name] = result.predictions[1:][result.ok[1:]]
        return scores.score_table(observations, predictions)

    inputs = list(dict.fromkeys([run.likelihood, *further, default, *ensembles.values()]))
    return run.store.once(key, Scorecard, scored, inputs)


def observe(run: CalibrationRun) -> Observations:
    """Return the observations: as read, or a run at the truth plus noise of the error model, each site's
    its own.
    """
    problem = run.problem
    if problem.observed is not None:
        observed = problem.observed
        return run.store.once("observations", Observations, lambda: observed)
    assert problem.truth is not None
    run.evaluate("truth", problem.space.u(problem.truth), [])

    def noisy() -> Observations:
        truth = run.evaluated("truth").predictions[1]
        parts = []
        for site, columns in problem.members.columns.items():
            rng = stream(problem.noise_seed, f"observations of {site}" if site else "observations")
            grid = problem.grid.select(columns)
            parts.append(synthesise(rng, grid, truth[columns], problem.errors, problem.noise))
        return Observations.joined(parts)

    return run.store.once("observations", Observations, noisy, ["truth"])


def smooth(run: CalibrationRun, measured: Observations) -> tuple[str, Observations]:
    """Evaluate and update the ensemble until the scheme has finished.

    Returns
    -------
    stage : str
        The last evaluation.
    observations : Observations
        As `measured`, with the discrepancies that all runs so far tell, where they are to be estimated.
    """
    problem, store = run.problem, run.store

    state = store.once("ensemble-00", KalmanState, lambda: problem.scheme.start(problem.first))
    for iteration in itertools.count():
        stage, inputs = f"evaluation-{iteration:02d}", [f"ensemble-{iteration:02d}"]
        run.evaluate(stage, state.u, inputs)
        if iteration == 0:
            effects.check(problem.members.sites, run.history[stage], run.comm)
        observations = widen(run, measured)
        calibration = observations.select(observations.period == "calibration")
        if iteration == 0:
            check_prior(run, observations, measured)
        if state.finished or not problem.updates:
            return stage, observations
        step = _Step(run, state, stage, observations, calibration)
        inputs += [stage, run.likelihood]
        info = store.once(f"update-{iteration + 1:02d}", KalmanInfo, step.info, inputs)
        state = store.once(f"ensemble-{iteration + 1:02d}", problem.scheme.record, step.state, inputs)
        log.info(
            "update %d: mean reduced chi-squared %.3f, the data constrain about %.1f of %d directions, "
            "ensemble spread is %.0f %% of the prior's",
            iteration + 1,
            2 * info.misfit.mean() / len(calibration),
            info.degrees_of_freedom,
            len(problem.space.names),
            100 * info.spread.mean(),
        )
    raise AssertionError("unreachable")


def check_prior(run: CalibrationRun, observations: Observations, measured: Observations) -> None:
    """Log what the first ensemble says about the data, and they about the parameters.

    Raises
    ------
    RunFailed
        Where it says that no calibration can work, unless `calibrate.force` is set or the run ends here
        anyway.
    """
    problem = run.problem
    text, reason, hopeless = run.comm.on_root(functools.partial(_prior_check, run, observations, measured))
    log.info("%s", text)
    if not reason or problem.stop_after is not None:
        return
    if problem.force_prior and not hopeless:
        log.warning("calibrate.force: the calibration goes on although the prior check failed")
        return
    way_out = "" if hopeless else "; or calibrate.force: true, to go on at your own risk"
    run.comm.agree(RunFailed(f"the prior check failed: {reason}{way_out}"))


def _prior_check(
    run: CalibrationRun, observations: Observations, measured: Observations
) -> tuple[str, str, bool]:
    """The check in words, why it failed ('': it passed), and whether nothing can be calibrated at all; on
    root.

    Of an ensemble that is no draw of the prior, the data's share in its variance means nothing, but a
    conflict does.
    """
    stage, names = run.evaluated("evaluation-00"), run.problem.space.names
    rows = np.flatnonzero(stage.ok[1:]) + 1
    if len(rows) < 3:
        return "prior check: too few members ran to tell", "", False
    columns = observations.period == "calibration"
    predictions, calibration = stage.predictions[rows][:, columns], observations.select(columns)
    found = prior_check.weigh(
        calibration, stage.u[rows], predictions, run.problem.space.factor, measured.select(columns)
    )
    hopeless = found[-1].constant
    reason = prior_check.failure(found, names)
    if run.problem.first_role == "prior" or hopeless or any(e.disjoint for e in found[:-1]):
        return prior_check.render(found, names), reason, hopeless
    return "prior check: not made, because the first ensemble is no draw of the prior", "", False


def widen(run: CalibrationRun, measured: Observations) -> Observations:
    """Return the observations with the discrepancies estimated from all runs so far, a stage of its own.

    The same object as `measured` where the config asks for no estimate. Each Kalman update uses the estimate
    of its time, the emulator, the sampler and the scores the last one.
    """
    estimated = [name for name, error in run.problem.errors.items() if error.estimate]
    if not estimated:
        return measured
    stages = [stage for stage in run.history if stage != "truth"]

    def wider() -> Observations:
        training = training_set(run, measured)
        calibration = measured.select(measured.period == "calibration")
        best, found = discrepancies(calibration, training.predictions, estimated)
        words = ", ".join(f"{name} {sd:.4g} {_unit(measured, name)}" for name, sd in found.items())
        log.info("discrepancy estimated: %s; best run in %s", words, stages[training.source[best]])
        return measured.widened(found)

    run.likelihood = f"observations-{len(stages):02d}"
    return run.store.once(run.likelihood, Observations, wider, ["observations", *stages])


def _unit(observations: Observations, variable: str) -> str:
    return str(observations.unit[observations.variable == variable][0])


@dataclass
class _Step:
    """One step of the scheme, made on root when its state or its info is first asked for."""

    run: CalibrationRun
    before: KalmanState
    stage: str
    observations: Observations
    calibration: Observations

    @functools.cached_property
    def _result(self) -> tuple[KalmanState, KalmanInfo]:
        columns = self.observations.period == "calibration"
        predictions = self.run.evaluated(self.stage).predictions[1:, columns]
        rng = stream(self.run.problem.seed, "update", self.before.iteration)
        try:
            return self.run.problem.scheme.step(rng, self.before, predictions, self.calibration)
        except RunFailed as failure:
            result = self.run.evaluated(self.stage)
            lines = failures.where(result.theta, result.ok, self.run.problem.space.names)
            causes = f"{self.stage}: {self.run.problem.members.causes(result) or 'no member failed'}"
            raise RunFailed("\n  ".join([f"{failure}", causes, *lines])) from None

    def state(self) -> KalmanState:
        return self._result[0]

    def info(self) -> KalmanInfo:
        return self._result[1]


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
        word, chains, inputs, accepted = gate(run, round_, surrogate, observations, calibration)
        if accepted:
            rerun(run, round_, chains)
            verdicts.append(judge(run, round_, verdicts, observations, inputs))
        else:
            refused = functools.partial(_refused, run, round_, word)
            verdicts.append(run.store.once(f"verdict-{round_:02d}", Verdict, refused, inputs))
            if round_ < problem.rounds:
                extend(run, round_, surrogate, calibration, chains)
        tell(run, round_, verdicts[-1], observations)
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
    """Return the word on an emulator, the chains, the stages they are, and whether the model is to judge them.

    An emulator that is refused by its rows, or by its first block of steps, is not sampled any further: one
    block tells where to run the model next. In the last round one that predicts left-out runs is sampled
    though it is uncertain in places: the model judges its posterior, and there is no further round to mend it.
    """
    log_likelihood = run.problem.emulator.log_likelihood(surrogate, calibration)
    check = functools.partial(validated, run, round_, surrogate, observations, calibration)
    by_rows = check("rows", None)
    trusted = by_rows.passed or run.problem.force
    last = round_ == run.problem.rounds
    chains = begin_sampling(run, round_, log_likelihood, trusted)
    word, what = check("block", chains), "block"
    accepted = word.passed or run.problem.force or (last and by_rows.passed)
    if accepted:
        sample(run, round_, log_likelihood, chains)
        word, what = check("draws", chains), "draws"
        accepted = word.passed or run.problem.force or last
    inputs = [f"surrogate-{round_:02d}", f"validation-{round_:02d}-{what}"]
    return word, chains, inputs, accepted


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
        verdict = judge_rounds(rounds, run.problem.space.names)
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


def _refused(run: CalibrationRun, round_: int, word: Validation) -> Verdict:
    """Return the verdict of a round whose emulator was refused; on root."""
    reason = f"the emulator of round {round_} was refused: {word.verdict}"
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


def tell(run: CalibrationRun, round_: int, verdict: Verdict, observations: Observations) -> None:
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
        words = "%s: %d of %d runs came near the optimum (Phi - Phi_min < %g)%s"
        log.log(level, words, stage, near, n, NEAR, wasted)


def _near(run: CalibrationRun, stage: str, observations: Observations) -> tuple[int, int]:
    """Return how many members of a stage came near the least misfit of all runs, and how many there were; on
    root.
    """
    training = training_set(run, observations)
    calibration = observations.select(observations.period == "calibration")
    near = near_optimum(calibration.misfit(training.predictions))
    number = [s for s in run.history if s != "truth"].index(stage)
    return int(near[training.source == number].sum()), len(run.evaluated(stage).status) - 1


def emulate(
    run: CalibrationRun, round_: int, observations: Observations, calibration: Observations
) -> Surrogate:
    """Return the emulator of all model runs so far."""

    def fit() -> Surrogate:
        rng = stream(run.problem.seed, "emulate", round_)
        training = training_set(run, observations)
        try:
            return run.problem.emulator.fit(rng, training, calibration, map=run.comm.map)
        except np.linalg.LinAlgError as error:
            raise RunFailed(
                f"the emulator cannot be fitted to {len(training.u)} runs: {error}. Try: leave out windows that lie "
                "far outside every prediction (the prior check names them; observations.outliers: drop), or more "
                "members"
            ) from None

    inputs = [run.likelihood, *(s for s in run.history if s != "truth")]
    return run.store.once(f"surrogate-{round_:02d}", run.problem.emulator.record, fit, inputs)


def training_set(run: CalibrationRun, observations: Observations) -> TrainingSet:
    """Return the calibration columns of all successful runs, the default run once; on root."""
    columns = observations.period == "calibration"
    u, predictions, source = [], [], []
    for number, stage in enumerate(s for s in run.history if s != "truth"):
        result = run.evaluated(stage)
        rows = np.flatnonzero(result.ok)
        rows = rows if number == 0 else rows[rows > 0]
        u.append(result.u[rows])
        predictions.append(result.predictions[np.ix_(rows, columns)])
        source.append(np.full(len(rows), number))
    return TrainingSet(np.concatenate(u), np.concatenate(predictions), np.concatenate(source))


def begin_sampling(
    run: CalibrationRun, round_: int, log_likelihood: LogLikelihood, trusted: bool
) -> list[ChainBlock | None]:
    """Return the first block of kept steps (on root), after a warm-up that is short where the emulator is
    refused already.
    """
    problem, key = run.problem, f"warm-up-{round_:02d}"
    settings = problem.sampling

    def tuned() -> ChainBlock:
        return warm_up(
            stream(problem.seed, key),
            log_likelihood,
            len(problem.space.names),
            n_runs=settings.runs,
            n_walkers=settings.walkers,
            levels=settings.levels,
            n_rounds=TUNING if trusted else LEAST_ROUNDS,
            map=run.comm.parallel_map,
        )

    inputs = [f"surrogate-{round_:02d}", f"validation-{round_:02d}-rows"]
    states = end_states(run.store.once_together(key, ChainBlock, tuned, inputs))
    return [_block(run, f"chains-{round_:02d}-000", states, log_likelihood, key)]


def sample(
    run: CalibrationRun, round_: int, log_likelihood: LogLikelihood, blocks: list[ChainBlock | None]
) -> None:
    """Append blocks of kept steps (on root) to the first ones until they converge.

    Raises
    ------
    RunFailed
        If they have not converged after `sample.max_steps`.
    """
    comm, settings, names = run.comm, run.problem.sampling, run.problem.space.names
    while True:
        key = f"chains-{round_:02d}-{len(blocks) - 1:03d}"
        diagnosis = comm.on_root(lambda: diagnose(_cold(blocks), names, rhat=settings.rhat, ess=settings.ess))
        n_steps = BLOCK * len(blocks)
        log.info("%s: %d steps: %s", key, n_steps, diagnosis.words)
        if diagnosis.converged:
            return
        if n_steps >= settings.max_steps:
            not_converged = RunFailed(
                f"the chains have not converged after {n_steps} steps: {'; '.join(diagnosis.reasons)}. "
                "Try: raise sample.max_steps and start the same command again; it goes on from here"
            )
            comm.agree(not_converged)
        states = comm.on_root(lambda: end_states(_held(blocks[-1])))
        blocks.append(_block(run, f"chains-{round_:02d}-{len(blocks):03d}", states, log_likelihood, key))


def _block(
    run: CalibrationRun, key: str, states: list[TemperedState], log_likelihood: LogLikelihood, before: str
) -> ChainBlock | None:
    """Return (on root) the next block of all runs, one run a task."""

    def row(r: int) -> dict[str, Array]:
        block = advance(stream(run.problem.seed, key, r), states[r], log_likelihood, BLOCK)
        return {f.name: getattr(block, f.name)[0] for f in fields(ChainBlock)}

    return run.store.once_rows(
        key, ChainBlock, len(states), lambda: run.comm.parallel_for(row, len(states)), [before]
    )


def _held(block: ChainBlock | None) -> ChainBlock:
    assert block is not None, "chain blocks are on root only"
    return block


def _cold(blocks: list[ChainBlock | None]) -> Array:
    """Return the cold draws (R, S, W, P) of all blocks; on root."""
    return np.concatenate([_held(block).u for block in blocks], axis=1)


def thinned(blocks: list[ChainBlock | None]) -> Array:
    """Return evenly thinned draws (N, P) of all runs, N at most `DRAWS`; on root."""
    pooled = _cold(blocks)
    pooled = pooled.reshape(-1, pooled.shape[-1])
    return pooled[:: -(-len(pooled) // DRAWS)]


def validated(
    run: CalibrationRun,
    round_: int,
    surrogate: Surrogate,
    observations: Observations,
    calibration: Observations,
    what: str,
    chains: list[ChainBlock | None] | None,
) -> Validation:
    """Return the word on an emulator: of its held-out training `rows`, with `chains` of its posterior too.

    `what` is `rows`, `block` (of steps, the first) or `draws` (all).
    """

    def judged() -> Validation:
        draws = None if chains is None else thinned(chains)
        training = training_set(run, observations)
        return validate(run.problem.emulator, surrogate, training, calibration, draws)

    inputs = [f"surrogate-{round_:02d}", run.likelihood]
    inputs += [] if chains is None else [f"chains-{round_:02d}-{len(chains) - 1:03d}"]
    word = run.store.once(f"validation-{round_:02d}-{what}", Validation, judged, inputs)
    log.info("emulator %s by its %s: %s", "validated" if word.passed else "refused", what, word.verdict)
    return word


def condense(run: CalibrationRun, chains: list[ChainBlock | None]) -> Posterior:
    """Return the posterior: thinned draws, and among them the representative few to run again; on root."""
    space = run.problem.space
    draws = thinned(chains)
    draws_theta = space.theta(draws)
    u = draws[representative(draws, run.problem.n_posterior - 1)]
    return Posterior(
        u=u,
        theta=space.theta(u),
        parameter=np.array(space.names),
        draws_u=draws,
        draws_theta=draws_theta,
        draws_following=space.following(draws_theta),
        log_evidence=evidence([_held(block) for block in chains]).log_z,
    )


def refine(
    run: CalibrationRun,
    round_: int,
    surrogate: Surrogate,
    calibration: Observations,
    chains: list[ChainBlock | None],
) -> Batch:
    """Return the next model runs, drawn where the emulated posterior is; on root."""
    rng = stream(run.problem.seed, "refine", round_)
    n_members = run.problem.n_members - 1
    return Batch(next_batch(rng, run.problem.emulator, surrogate, calibration, thinned(chains), n_members))
