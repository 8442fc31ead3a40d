"""How far a posterior may be from the truth, and how many members a verdict takes."""

from __future__ import annotations

from typing import Literal

Outcome = Literal["confirmed", "not confirmed", "cannot tell", "not sampled"]
SHIFT = 0.25  # of a mean, in posterior sd: more makes a posterior wrong
RATIO = 1.25  # of two sd: more, or less than 1 / RATIO, makes a posterior wrong
LEAST_MEMBERS = 4
MOST_MORE = 10_000  # members: a larger need is named as out of reach
