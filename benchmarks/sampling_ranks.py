"""Time of the sampling stages on two ranks over that on one, in one run of this script.

    python benchmarks/sampling_ranks.py

The linear problem of the tests: warm-up (2016 steps) and the first block (500) of four tempered runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from linear import fatescal, write_problem


def seconds(n_ranks: int) -> float:
    """Return how long the sampling stages took, by the times of their checkpoints."""
    with tempfile.TemporaryDirectory() as name:
        done = fatescal(n_ranks, write_problem(Path(name)))
        assert done.returncode == 0, done.stderr
        stages = Path(name) / "run" / "stages"
        begin, end = (stages / f"{key}.h5" for key in ("validation-00-rows", "chains-00-000"))
        return end.stat().st_mtime - begin.stat().st_mtime


if __name__ == "__main__":
    one, two = seconds(1), seconds(2)
    print(f"sampling: 1 rank {one:.2f} s, 2 ranks {two:.2f} s, ratio {two / one:.2f}")
