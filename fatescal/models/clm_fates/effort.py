"""What a model year of CLM-FATES takes of time and disk: as measured, or as this run has shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fatescal.base.errors import BadInput, Status

# One point, satellite phenology, one daily tape: ctsm5.1.dev151 and ctsm5.4.053 on one loaded core.
CPU_SECONDS = (43.0, 80.0)  # a model year
MEMORY = 85.0 + 100.0  # MB of a member and of the rank that waits for it
DISK = 4.0  # MB a model year: 3.6 to 4.0, most of it atm.log
FASTER = 0.5  # of the least time: a machine twice as fast as the one measured is possible


@dataclass(frozen=True)
class Effort:
    """Seconds of one core [s] that a model year takes, at least and at most."""

    least: float
    most: float

    @classmethod
    def of(cls, folder: Path, years: float) -> Effort:
        """Return what a finished run of `years` in `folder` took; without one, what was measured before."""
        try:
            marker = json.loads((folder / "member.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(*CPU_SECONDS)
        if marker["status"] != Status.OK or not years:
            return cls(*CPU_SECONDS)
        return cls(marker["seconds"] / years, marker["seconds"] / years)

    def lines(self, years: float, longest: float) -> list[str]:
        """Return the cost of `years` model years, `longest` of which run in sequence on one core."""
        hours, sequence = self._span(years / 3600), self._span(longest / 3600)
        each = f"{self._span(1)} s each{'' if self.most > self.least else ', as the default run took'}"
        return [
            f"cost          about {hours} core-hours for {figure(years)} model years ({each}), {sequence} h "
            f"if all goes well; {MEMORY:.0f} MB a rank",
            f"disk          about {figure(DISK * years / 1000)} GB",
        ]

    def require_time(self, timeout: float, years: float) -> list[str]:
        """Return a line where a time-out [s] may be too short for a run of `years`.

        Raises
        ------
        BadInput
            Where no run can finish in it.
        """
        takes = f"a run of {figure(years)} model years takes {self._span(years)} s"
        if timeout < FASTER * self.least * years:
            raise BadInput(
                f"the time-out of {figure(timeout)} s is shorter than any run: {takes}",
                hint="a longer model.timeout, or timeout of the machine file",
            )
        return (
            [f"time-out      {figure(timeout)} s may be too short: {takes}"]
            if timeout < self.most * years
            else []
        )

    def _span(self, factor: float) -> str:
        least, most = figure(self.least * factor), figure(self.most * factor)
        return least if least == most else f"{least} to {most}"


def figure(number: float) -> str:
    """Return a number with two digits at least.

    >>> figure(348.0), figure(4.16), figure(0.00123)
    ('348', '4.2', '0.0012')
    """
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"
