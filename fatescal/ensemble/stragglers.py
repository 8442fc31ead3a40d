"""The straggler rule: give a member up that takes many times longer than the rest of its batch.

One member in an endless iteration holds up all ranks until its time-out. Once a share of the batch is done, a
member that has run for `factor` times their median (and for `least` seconds) is ended; it counts as a
time-out.

Which member that hits depends on the machine, unlike everything else here, so the rule is off unless a
machine file switches it on. It is applied once: a member that was given up is finished, with its status in
its folder, and no resumed run decides about it again.

A rank learns what the others have done from the folders of finished members: while its own member runs it
lists the batch's folder (once a second at first, later each time 2 % of the member's own duration have
passed), and reads each marker once, when enough are there. 128 ranks with members of an hour ask the file
system twice a second in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from fatescal.base.errors import ModelFailed, Status

FIRST_LOOK = 1.0  # s a member runs, and between two looks at least
LOOKS = 0.02  # of a member's duration between two looks


class Straggled(ModelFailed):
    """A member was given up since the others of its batch were done long ago."""

    def __init__(self, reason: str) -> None:
        super().__init__(Status.TIME_OUT, reason)

    def __reduce__(self) -> tuple[type[Straggled], tuple[str]]:  # type: ignore[override]
        return type(self), (self.reason,)


@dataclass(frozen=True)
class StragglerRule:
    """When a member is given up: after `factor` times the median, once a `share` is done; after `least`
    s at the earliest.
    """

    factor: float
    share: float
    least: float

    def limit(self, seconds: list[float], n_done: int, n_members: int) -> float:
        """Return how long a member may run [s] when `n_done` are done, those that came to their end in
        `seconds`.

        >>> StragglerRule(5.0, 0.8, 60.0).limit([30.0, 40.0, 50.0, 40.0], 4, 5)
        200.0
        >>> StragglerRule(5.0, 0.8, 60.0).limit([30.0, 40.0, 50.0], 3, 5)
        inf
        """
        if not seconds or n_done < self.share * n_members:
            return float("inf")
        return max(self.least, self.factor * float(np.median(seconds)))


@dataclass
class Stragglers:
    """Called by a launch: whether to `stop`; raises `Straggled` where the rule gives its member up.

    Parameters
    ----------
    stop : callable
        Whether the job is to stop anyway.
    rule : StragglerRule or None
        None: no member is given up.
    """

    stop: Callable[[], bool]
    rule: StragglerRule | None = None
    _look: Callable[[], Mapping[str, float]] | None = field(default=None, init=False)
    _n_members: int = field(default=0, init=False)
    _begin: float = field(default=0.0, init=False)
    _next: float = field(default=0.0, init=False)

    @contextmanager
    def among(self, n_members: int, look: Callable[[], Mapping[str, float]]) -> Iterator[None]:
        """Apply the rule to a batch; `look` returns its finished members' durations [s], NaN of failed
        ones.
        """
        self._look, self._n_members = look, n_members
        try:
            yield
        finally:
            self._look = None

    def begin(self) -> None:
        """Take note that a member begins now."""
        self._begin = time.monotonic()
        self._next = FIRST_LOOK

    def __call__(self) -> bool:
        if self.rule is not None and self._look is not None:
            elapsed = time.monotonic() - self._begin
            if elapsed > self._next:
                self._next = elapsed + max(FIRST_LOOK, LOOKS * elapsed)
                self._judge(elapsed, self.rule, self._look())
        return self.stop()

    def _judge(self, elapsed: float, rule: StragglerRule, done: Mapping[str, float]) -> None:
        seconds = [s for s in done.values() if s == s]
        if elapsed > rule.limit(seconds, len(done), self._n_members):
            median = float(np.median(seconds))
            raise Straggled(
                f"a straggler: still running after {elapsed:.0f} s, while {len(done)} of the "
                f"{self._n_members} members are done, in {median:.3g} s (median); "
                f"ended by the machine file's rule (factor {rule.factor:g}, share {rule.share:g})"
            )
