"""What the report is made from: the records of a run, as far as it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fatescal.base.types import Array
from fatescal.diagnostics.answer import (
    NOT_YET,
    Answer,
    Caveat,
    answer,
    of_conflicts,
    of_residuals,
    of_scores,
)
from fatescal.diagnostics.convergence import LEAST_STEPS, Diagnosis, diagnose
from fatescal.diagnostics.prior_conflict import PriorConflict, conflicts
from fatescal.diagnostics.residual_checks import Residuals, residuals
from fatescal.emulate.base import Emulator
from fatescal.parameters.priors.base import Prior
from fatescal.parameters.registry import of_prior
from fatescal.storage.chain_records import ChainBlock
from fatescal.storage.records import (
    Evaluation,
    KalmanInfo,
    Observations,
    Posterior,
    Scorecard,
    Surrogate,
    Validation,
    Verdict,
)

FAILED = 0.2  # share of the members of a batch above which their failing is told
RERUN = "evaluation-posterior-"  # of each round


class PriorMap(Protocol):
    """The map from standard normal coordinates to parameters (`parameters.ParameterSpace`)."""

    @property
    def factor(self) -> Array | None:
        """Lower triangular (P, P), where parameters are correlated a priori."""

    @property
    def priors(self) -> Sequence[Prior]:
        """The prior of each parameter, in numbers."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What tables and figures call the parameters that have a label."""

    @property
    def rules(self) -> Mapping[str, object]:
        """Parameters that are not calibrated, and what they follow from."""

    def theta(self, u: Array) -> Array:
        """Return physical parameters (J, P) of coordinates (J, P)."""

    def following(self, theta: Array) -> dict[str, Array]:
        """Return the values (J) of each parameter that is not calibrated, given the calibrated ones (J,
        P).
        """

    def u(self, theta: Array) -> Array:
        """Return coordinates (J, P) of physical parameters (J, P)."""

    def z(self, u: Array) -> Array:
        """Return the standard normal coordinate (J, P) of each parameter by itself, of coordinates (J, P)."""

    def margins(self, z: Array) -> Array:
        """Return physical parameters (J, P), each of its own standard normal coordinate."""


@dataclass(frozen=True)
class Results:
    """A run as its report shows it; None or empty is what the run has not reached.

    Attributes
    ----------
    settings : mapping
        The config as plain values.
    default, truth : (P,)
        Parameters of the default run and, of a synthetic run, those that made the observations.
    history : mapping of str to Evaluation
        In order: "evaluation-00" (prior), "evaluation-01" ... of the Kalman iterations, perhaps
        "evaluation-refinement-01" or "evaluation-posterior-00" ..., of each round of emulation.
    verdicts : sequence of Verdict
        Of each finished round.
    verdict : Verdict or None
        That of the run: of the last round that was sampled.
    climatology : (D,)
        Day-of-year means of the calibration period, as predictions.
    remarks : sentences
        What a reader must know before trusting the run, beside the state of the chains (`said`).
    repeats : bool or None
        Whether the default run gave the same in every batch; None where there is but one.
    inputs : mapping of str to mapping
        Of each key of the config that names files from outside: digest of each file, by its path.
    """

    name: str
    settings: Mapping[str, Any]
    parameter: tuple[str, ...]
    default: Array
    prior: PriorMap
    observations: Observations
    history: Mapping[str, Evaluation]
    units: Mapping[str, str] = field(default_factory=dict)
    truth: Array | None = None
    updates: Sequence[KalmanInfo] = ()
    emulator: Emulator | None = None
    surrogate: Surrogate | None = None
    validation: Validation | None = None
    chains: Sequence[ChainBlock] = ()
    posterior: Posterior | None = None
    scorecard: Scorecard | None = None
    verdicts: Sequence[Verdict] = ()
    verdict: Verdict | None = None
    climatology: Array | None = None
    remarks: tuple[str, ...] = ()
    repeats: bool | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def name_of(self, p: int) -> str:
        """Return what tables and figures call the p-th parameter."""
        return self.prior.labels.get(self.parameter[p], self.parameter[p])

    def unit_of(self, p: int) -> str:
        """Return the unit of the p-th parameter, nothing for a dimensionless one."""
        unit = self.units.get(self.parameter[p], "1")
        return "" if unit == "1" else unit

    @property
    def names(self) -> tuple[str, ...]:
        """What tables and figures call the parameters."""
        return tuple(self.name_of(p) for p in range(len(self.parameter)))

    def labelled(self, text: str) -> str:
        """Return text with each parameter's label in place of its name."""
        for p in sorted(range(len(self.parameter)), key=lambda p: -len(self.parameter[p])):
            text = text.replace(self.parameter[p], self.name_of(p))
        return text

    @property
    def kalman(self) -> list[Evaluation]:
        """Evaluations of the prior ensemble and of every Kalman iteration."""
        return [e for key, e in self.history.items() if is_kalman(key)]

    @property
    def ensembles(self) -> dict[str, Evaluation]:
        """The ensembles that are compared with each other, by role: prior, last, posterior.

        Only those with a member that ran.
        """
        kalman = self.kalman
        roles = {
            self.first_role: kalman[0] if kalman else None,
            "last": kalman[-1] if len(kalman) > 1 else None,
            "posterior": self.history.get(self.rerun),
        }
        return {role: e for role, e in roles.items() if e is not None and ran(e).any()}

    @property
    def default_predictions(self) -> Array | None:
        """Predictions (D) of the default run, of the first batch in which it succeeded."""
        return next((e.predictions[0] for e in self.history.values() if e.ok[0]), None)

    @property
    def compared(self) -> dict[str, Array]:
        """Predictions (J, D) that are compared with each other: the default run's, then the ensembles'."""
        default = self.default_predictions
        alone = {} if default is None else {"default": default[None]}
        return alone | {role: members(e) for role, e in self.ensembles.items()}

    def role(self, stage: str) -> str:
        """Return what an evaluation of `history` stands for: prior, iteration, last or posterior."""
        kalman = [key for key in self.history if is_kalman(key)]
        ends = {kalman[-1]: "last", kalman[0]: self.first_role} if kalman else {}
        return (ends | {self.rerun: "posterior"}).get(stage, "iteration")

    @property
    def rerun(self) -> str:
        """The evaluation of the posterior ensemble: of the round that the run's verdict is about, or the
        last.
        """
        if self.verdict is not None and self.verdict.outcome != "not sampled":
            return f"{RERUN}{self.verdict.round:02d}"
        return max((stage for stage in self.history if stage.startswith(RERUN)), default="")

    @cached_property
    def answer(self) -> Answer:
        """Whether the posterior may be used, why, and what to do."""
        if self.scorecard is not None and self.verdict is None:  # with run.stop_after
            stopped = str(self.settings.get("run", {}).get("stop_after"))
            return Answer(
                NOT_YET, f"stopped after the {stopped} run", advice=("run without `run.stop_after` to go on",)
            )
        rounds = int(self.settings.get("emulate", {}).get("rounds", 0))
        return answer(self.verdict, self._caveats(), rounds)

    def _caveats(self) -> list[Caveat]:
        """Return what must be minded of a posterior that the model confirms."""
        caveats = []
        if self.diagnosis is not None and not self.diagnosis.converged:
            why = f"the chains have not converged: {'; '.join(self.diagnosis.reasons)}"
            caveats.append(Caveat(why, "a larger sample.max_steps"))
        if self.validation is not None and not self.validation.passed:
            why = f"the emulator did not pass its validation: {self.validation.verdict}"
            caveats.append(Caveat(why, "more calibrate.members"))
        if self.repeats is False:
            why = "the default run did NOT repeat itself: the model is not deterministic"
            caveats.append(
                Caveat(why, "find what varies from run to run of the model: a clock, a random seed")
            )
        for stage, evaluation in self.history.items():
            n, failed = len(evaluation.status), int((~evaluation.ok).sum())
            if failed > FAILED * n:
                why = f"{stage}: {failed} of {n} members FAILED"
                caveats.append(Caveat(why, "see their member.json for the reasons; perhaps narrower priors"))
        return [*caveats, *of_conflicts(self.conflicts), *of_scores(self.scorecard), *self.overconfident]

    @property
    def first_role(self) -> str:
        """What the first ensemble is: prior, or design where its members are no draws of the prior."""
        return "prior" if of_prior(self.settings.get("calibrate", {}).get("design")) else "design"

    def label(self, stage: str) -> str:
        """Return what an evaluation is called on the page."""
        return self.first_role if stage == "evaluation-00" else label(stage)

    @property
    def cold_u(self) -> Array | None:
        """Kept draws (R, S, W, P) of the cold level in u, of all blocks."""
        return np.concatenate([block.u for block in self.chains], axis=1) if self.chains else None

    @cached_property
    def cold(self) -> Array | None:
        """Those draws in `theta`."""
        u = self.cold_u
        return None if u is None else self.prior.theta(u.reshape(-1, u.shape[-1])).reshape(u.shape)

    @cached_property
    def diagnosis(self) -> Diagnosis | None:
        """Convergence of the chains by the thresholds of the config, in u as sampled; `mcse` in theta."""
        draws, theta = self.cold_u, self.cold
        if draws is None or draws.shape[1] < LEAST_STEPS:
            return None
        wanted = self.settings.get("sample", {})
        thresholds = {key: wanted[key] for key in ("rhat", "ess") if key in wanted}
        return diagnose(draws, self.parameter, of_mean=theta, **thresholds)

    @property
    def said(self) -> tuple[str, ...]:
        """The remarks, and whether the chains have converged."""
        if self.posterior is None or self.diagnosis is None:
            return self.remarks
        converged = "converged" if self.diagnosis.converged else "NOT CONVERGED"
        return (*self.remarks, f"chains {converged}: {self.diagnosis.summary}")

    @cached_property
    def conflicts(self) -> list[PriorConflict]:
        """Each parameter's posterior beside its prior; empty before anything is sampled."""
        if self.posterior is None:
            return []
        return conflicts(self.parameter, self.prior.priors, self.prior.z(self.posterior.draws_u))

    @cached_property
    def residuals(self) -> dict[tuple[str, str], Residuals]:
        """What the furthest ensemble leaves of each variable in each period."""
        if not self.ensembles:
            return {}
        g = members(list(self.ensembles.values())[-1])
        rows = {(v, p): self.rows(p, v) for v in self.variables for p in self.periods}
        return {
            key: residuals(self.observations.select(mask), g[:, mask])
            for key, mask in rows.items()
            if mask.any()
        }

    @cached_property
    def overconfident(self) -> list[Caveat]:
        """What the posterior's residuals contradict in the error model that made it."""
        used = {v: of for (v, p), of in self.residuals.items() if p == "calibration"}
        return of_residuals(used) if "posterior" in self.ensembles else []

    def rows(self, period: str | None = None, variable: str | None = None) -> Array:
        """Return the mask (D) of a period's and a variable's observations."""
        mask = np.ones(len(self.observations), bool)
        if period is not None:
            mask &= self.observations.period == period
        if variable is not None:
            mask &= self.observations.variable == variable
        return mask

    @property
    def periods(self) -> list[str]:
        """Periods that have observations, calibration first."""
        return [p for p in ("calibration", "validation") if self.rows(p).any()]

    @property
    def variables(self) -> list[str]:
        """Names of the observed variables, in the order of the observations."""
        return list(dict.fromkeys(self.observations.variable.tolist()))

    def unit(self, variable: str) -> str:
        """Return the unit of an observed variable."""
        return str(self.observations.unit[np.argmax(self.observations.variable == variable)])

    def reduced_chi2(self, predictions: Array, period: str, variable: str | None = None) -> Array:
        """Return 2 Phi / D (J) of `predictions` (J, D) over the D rows of a period and variable."""
        mask = self.rows(period, variable)
        return 2 * self.observations.select(mask).misfit(predictions[:, mask]) / mask.sum()


def is_kalman(stage: str) -> bool:
    """Whether an evaluation is of the prior ensemble or of a Kalman iteration."""
    return stage.removeprefix("evaluation-").isdigit()


def label(stage: str) -> str:
    """Return what an evaluation is called on the page.

    >>> label("evaluation-00"), label("evaluation-02"), label("evaluation-refinement-01")
    ('prior', 'iteration 2', 'refinement 1')
    """
    parts = [str(int(w)) if w.isdigit() else w for w in stage.removeprefix("evaluation-").split("-")]
    if parts == ["0"]:
        return "prior"
    return " ".join(parts if not parts[0].isdigit() else ["iteration", *parts])


def ran(evaluation: Evaluation) -> Array:
    """Return the mask (J) of the ensemble's members that ran; row 0, the default run, is none of them."""
    return evaluation.ok & (np.arange(len(evaluation.status)) > 0)


def members(evaluation: Evaluation) -> Array:
    """Return the predictions of the ensemble's members that ran, without the default run."""
    return evaluation.predictions[ran(evaluation)]
