"""How long the embedded model takes: compile, load from cache, milliseconds per member and model year.

Run as ``python benchmarks/canopy_speed.py [members]``; synthetic weather, ten years, one core. Goals: under
10 s for 100 members of ten years, under 1 s for one. Measured on an AMD EPYC core: compile 4 s (once per
installation), load from numba's cache 0.6 s, 4.6 ms per member and year.
"""

from __future__ import annotations

import sys
import time
from datetime import date

import numpy as np

from fatescal.models.canopy import Canopy


def main(members: int = 100) -> None:
    """Print the times."""
    model = Canopy("synthetic", date(2004, 1, 1), date(2013, 12, 31), spinup_years=0)
    row = np.array(list(model.defaults.values()))
    rng = np.random.default_rng(1)
    theta = row * rng.uniform(0.8, 1.2, (members, len(row)))
    theta[:, ["smps" in name for name in model.names]] = row[["smps" in name for name in model.names]]
    begin = time.perf_counter()
    model.check()
    print(f"weather              {time.perf_counter() - begin:8.2f} s")
    for label, batch in (
        ("first member", row),  # compiles, or loads from the cache; also computes the drivers
        ("one member again", row),
        (f"{members} members", theta),
    ):
        begin = time.perf_counter()
        model.simulate(batch)
        seconds = time.perf_counter() - begin
        each = 1e3 * seconds / len(np.atleast_2d(batch)) / 10
        print(f"{label:20} {seconds:8.2f} s, {each:6.1f} ms per member and year")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
