"""The errors a user can meet, and the exit code each one ends the program with."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from enum import IntEnum


class Status(IntEnum):
    """How one member's run ended; stored per member in every evaluation."""

    OK = 0
    MODEL_ERROR = 1
    TIME_OUT = 2
    TRUNCATED = 3
    NON_FINITE = 4
    MISSING_VARIABLE = 5
    WRONG_UNIT = 6

    @property
    def description(self) -> str:
        """The status as it is shown to a reader.

        >>> Status.TIME_OUT.description
        'time out'
        """
        return self.name.lower().replace("_", " ")


class FatescalError(Exception):
    """Base of every error whose message is meant for the user; the program ends without a traceback."""

    exit_code = 1


class BadInput(FatescalError):
    """Something the user wrote or pointed at is wrong; raised before any model run.

    The message says what happened, what was expected, what was got and what to try.

    >>> str(BadInput("calibrate.members is 1", expected="at least 3", got=1, hint="use 64"))
    'calibrate.members is 1. Expected at least 3, got 1. Try: use 64.'
    >>> str(BadInput("no parameter wav", hint=did_you_mean("wav", ["wave"])))
    "no parameter wav. Try: did you mean 'wave'?"
    """

    exit_code = 2

    def __init__(self, what: str, *, expected: object = None, got: object = None, hint: str = "") -> None:
        message = what.rstrip(".")
        if expected is not None:
            message += f". Expected {expected}"
            if got is not None:
                message += f", got {got}"
        elif got is not None:
            message += f". Got {got}"
        if hint:
            message += f". Try: {hint.rstrip('.')}"
        super().__init__(message if message.endswith("?") else message + ".")


class RunFailed(FatescalError):
    """The calibration cannot go on (too few survivors, full disk, a damaged stage ...)."""


class NotConfirmed(FatescalError):
    """The run ended, but without a posterior that the model confirms: its files say so."""


class OutOfTime(FatescalError):
    """Wall time is over; everything finished is on disk and the same command continues."""

    exit_code = 75


class ModelFailed(Exception):
    """One member's run failed: the only error that is caught, since a member may die.

    Parameters
    ----------
    kind : Status
        What went wrong, as it will stand in the evaluation's ``status``.
    reason : str
        The cause as a sentence, with the last lines of the member's log where there are any.
    """

    def __init__(self, kind: Status, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason

    def __reduce__(self) -> tuple[type[ModelFailed], tuple[Status, str]]:
        return type(self), (self.kind, self.reason)


def did_you_mean(name: object, names: Iterable[object], cutoff: float = 0.6) -> str:
    """Return the question which of the known names was meant, for an error's hint.

    Parameters
    ----------
    name : object
        What was written, and is not among `names`.
    names : iterable
        All that could have been written.
    cutoff : float
        Least similarity, from 0 to 1, of the name that is offered (`difflib.get_close_matches`); case is
        ignored.

    Returns
    -------
    str
        Empty where no name is similar enough.

    >>> did_you_mean("membres", ["scheme", "members"]), did_you_mean("x", ["abc"])
    ("did you mean 'members'?", '')
    >>> did_you_mean("gpp", ["GPP"])
    "did you mean 'GPP'?"
    """
    by_folded = {str(known).casefold(): str(known) for known in names}
    near = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=cutoff)
    return f"did you mean '{by_folded[near[0]]}'?" if near else ""


KEPT = "What is finished is kept: start the same command again to continue."


def error_message(error: BaseException) -> str:
    """Return the message for a user: a sentence where the cause is known, else the traceback.

    >>> error_message(BadInput("a key is wrong", got=1))
    'a key is wrong. Got 1.'
    >>> error_message(OSError(28, "No space left on device", "run/x")).split(". ")[0]
    'No space left on device (run/x)'
    """
    if isinstance(error, OutOfTime):
        return f"{error} {KEPT}"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted. {KEPT}"
    if isinstance(error, FatescalError):
        return str(error)
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{where}. {KEPT}"
    return "".join(traceback.format_exception(error))
