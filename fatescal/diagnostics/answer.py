"""May I use this posterior? One answer, in the same words in log, status, scorecard and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fatescal.diagnostics.prior_conflict import PriorConflict
from fatescal.diagnostics.residual_checks import Residuals, autocorrelation
from fatescal.diagnostics.scores import LEVEL
from fatescal.diagnostics.verdict_text import HEADLINES, advice, sentence
from fatescal.storage.records import Scorecard, Verdict

QUESTION = "May I use this posterior?"
YES, WITH_CARE, NO, NOT_YET = "yes", "with care", "no", "not yet"
LEAST_COVERAGE = 0.8  # share of the data in the central interval below which the posterior is too narrow


@dataclass(frozen=True)
class Caveat:
    """Why a posterior that the model confirms needs care, and what to do about it; a phrase each."""

    why: str
    todo: str


@dataclass(frozen=True)
class Answer:
    """Whether a posterior may be used.

    Attributes
    ----------
    word : str
        `yes`, `with care`, `no`, or `not yet` of a run that is not finished. A run ends with exit code 0 by
        the first two and 1 by `no`.
    headline : str
        What the run came to: confirmed by the model, not confirmed, cannot tell, not sampled.
    because : tuple of str
        The reasons, a phrase each.
    advice : tuple of str
        What to do, a phrase each.
    """

    word: str
    headline: str
    because: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The answer in one line.

        >>> Answer("yes", "confirmed by the model").line
        'May I use this posterior? Yes: confirmed by the model'
        """
        return f"{QUESTION} {self.word.capitalize()}: {self.headline}"

    @property
    def lines(self) -> list[str]:
        """The answer with its reasons and what to do, a line each."""
        return [
            self.line,
            *(f"  because {reason}" for reason in self.because),
            *(f"  do: {todo}" for todo in self.advice),
        ]


def answer(verdict: Verdict | None, caveats: Sequence[Caveat] = (), n_rounds: int = 0) -> Answer:
    """Return the answer of a run.

    Parameters
    ----------
    verdict : Verdict or None
        Of the run; None where it has not got there.
    caveats : sequence of Caveat
        What a posterior that the model confirms leaves to be minded.
    n_rounds : int
        The rounds of refinement that the config allows.
    """
    if verdict is None:
        return Answer(NOT_YET, "the run is not finished", advice=("start the same command again",))
    headline = HEADLINES[verdict.outcome]
    if verdict.outcome != "confirmed":
        return Answer(NO, headline, (sentence(verdict),), (advice(verdict, n_rounds),))
    if not caveats:
        return Answer(YES, headline, (sentence(verdict),))
    todo = dict.fromkeys(caveat.todo for caveat in caveats)
    return Answer(WITH_CARE, headline, tuple(caveat.why for caveat in caveats), tuple(todo))


def of_conflicts(conflicts: Sequence[PriorConflict]) -> list[Caveat]:
    """Return a caveat for each parameter whose posterior is in conflict with its prior."""
    return [
        Caveat(
            conflict.sentence,
            f"see whether {conflict.parameter} makes up for an error of the model or of the data; else widen "
            "its prior",
        )
        for conflict in conflicts
        if conflict.sentence
    ]


def of_scores(card: Scorecard | None) -> list[Caveat]:
    """Return the caveats of a posterior that is too narrow for the data, or predicts them badly.

    The validation period counts where there is one. Scores that the config does not ask for are not missed.
    """
    if card is None:
        return []
    keys = zip(card.variable, card.period, card.ensemble, card.score, strict=True)
    value = dict(zip(keys, card.value.tolist(), strict=True))
    period = "validation" if "validation" in card.period else "calibration"
    caveats = []
    for variable in dict.fromkeys(card.variable.tolist()):
        coverage = value.get((variable, period, "posterior", "coverage"), np.nan)
        if coverage < LEAST_COVERAGE:
            caveats.append(
                Caveat(
                    f"{coverage:.0%} of the {variable} data of the {period} period lie in the posterior's "
                    f"{LEVEL:.0%} range, error included: the intervals are too narrow",
                    f"a larger `error` of {variable}, or `discrepancy: estimate`",
                )
            )
        rmse, simple = (
            value.get((variable, period, e, "rmse"), np.nan) for e in ("posterior", "climatology")
        )
        if period == "validation" and rmse > simple:
            caveats.append(
                Caveat(
                    f"in the validation period the mean seasonal cycle predicts {variable} better than the "
                    f"posterior (RMSE {simple:.3g} against {rmse:.3g})",
                    f"do not use the run to predict {variable}; see its residuals under Fit in time",
                )
            )
    return caveats


def of_residuals(parts: Mapping[str, Residuals]) -> list[Caveat]:
    """Return a caveat for each variable whose neighbouring residuals are more alike than was assumed.

    Parameters
    ----------
    parts : mapping of str to Residuals
        Of each variable, in the calibration period.
    """
    caveats = []
    for variable, of in parts.items():
        found = autocorrelation(of)
        if not found.beyond:
            continue
        near, times = float(found.found[0]), found.overcounted
        caveats.append(
            Caveat(
                f"the residuals of {variable} persist from window to window (autocorrelation {near:.2f}, the "
                f"error model assumes {of.rho:.2f}): they count as up to {times:.2g} times more data than "
                "they are, and the posterior is too narrow",
                f"`ar1: {min(found.ar1, 0.95):.2g}` in the `error` of {variable}, or a longer `window`",
            )
        )
    return caveats
