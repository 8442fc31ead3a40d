"""The wall time that is left, and what a member takes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fatescal.base.errors import OutOfTime


@dataclass
class WallTimeGuard:
    """How long members take, as far as this rank knows, and the time it has `left`.

    Parameters
    ----------
    left : callable
        -> seconds until the job must end.
    seconds : list of float
        Durations of members that ran.
    """

    left: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    def require_time(self) -> None:
        """Raise `OutOfTime` where nine of ten members would not finish any more.

        >>> WallTimeGuard(lambda: 50.0, [10.0, 20.0]).require_time()
        """
        if not self.seconds:
            return
        usual, left = float(np.quantile(self.seconds, 0.9)), self.left()
        if usual > left:
            raise OutOfTime(
                f"a member takes {usual:.0f} s, {max(left, 0.0):.0f} s are left: none was started."
            )
