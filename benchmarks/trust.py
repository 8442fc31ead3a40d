"""Is the posterior right? Simulation-based calibration of the whole program (Talts et al. 2018,
arXiv:1804.06788): `python benchmarks/trust.py [replicates] [config] [at a time]`.

Each replicate draws a truth from the prior, makes observations at it with fresh noise, and runs the whole
calibration of a config with a synthetic truth, the demo's without one. If the posteriors are right, the rank
of the truth among independent draws of its posterior is uniform, and q % of the intervals of q % hold it.

Prints a line for each replicate, then for each parameter the counts of the ranks in five bins, p of chi^2,
and the coverage of the 50 and 90 % intervals; last, the verdicts, the model runs they took, and the same
coverage of the confirmed ones alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml
from scipy.stats import chi2

from fatescal.base.random_streams import stream
from fatescal.cli.demo_config import DEFAULT_CONFIG
from fatescal.config.loading import load
from fatescal.hpc.communicator import Communicator
from fatescal.parameters.space import ParameterSpace
from fatescal.workflow.problem import assemble

DRAWS, BINS = 99, 5  # a truth has one of 100 ranks


@dataclass(frozen=True)
class Replicate:
    """What one replicate found: ranks (P) of the truth, the verdict and the model runs up to it."""

    rank: np.ndarray
    outcome: str
    n_runs: int


def replicate(config: Path, space: ParameterSpace, folder: Path, number: int) -> Replicate:
    """Run the calibration of a truth drawn from the prior."""
    rng = stream(number, "truth")
    truth = space.theta(rng.standard_normal((1, len(space.names))))[0]
    content = yaml.safe_load(config.read_text())
    content["observations"]["synthetic"] |= {
        "truth": dict(zip(space.names, truth.tolist(), strict=True)),
        "seed": 1000 + number,
    }
    directory = folder / f"run{number}"
    content["run"] |= {"directory": str(directory), "seed": 2000 + number}
    path = folder / f"{number}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    done = subprocess.run(
        [sys.executable, "-m", "fatescal", "run", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"replicate {number} ended with {done.returncode}: {done.stderr[-2000:]}")
    with h5py.File(directory / "stages" / "verdict.h5") as file:
        outcome, n_runs = str(file.attrs["field.outcome"]), int(file.attrs["field.n_runs"])
    rank = np.full(len(space.names), -1)
    if outcome != "not sampled":
        draws = pd.read_csv(directory / "posterior.csv")[list(space.names)].to_numpy()
        thinned = draws[np.linspace(0, len(draws) - 1, DRAWS).round().astype(int)]
        rank = np.sum(thinned < truth, axis=0)
    print(f"{number:4d} {outcome:14s} {n_runs:5d} runs, ranks {' '.join(map(str, rank))}", flush=True)
    return Replicate(rank, outcome, n_runs)


def coverage(ranks: np.ndarray, share: float) -> np.ndarray:
    """Return the share (P) of `ranks` (R, P) inside the central interval of `share`."""
    edge = (1 - share) / 2 * (DRAWS + 1)
    return np.mean((ranks >= edge) & (ranks < DRAWS + 1 - edge), axis=0)


def report(names: tuple[str, ...], replicates: list[Replicate]) -> None:
    """Print ranks, coverage and verdicts."""
    sampled = np.array([one.rank for one in replicates if one.outcome != "not sampled"])
    print(f"\n{len(sampled)} posteriors; ranks of the truth in {BINS} bins, p of chi^2, coverage of 50, 90 %")
    for name, ranks in zip(names, sampled.T, strict=True):
        counts = np.bincount(ranks * BINS // (DRAWS + 1), minlength=BINS)
        expected = len(ranks) / BINS
        p = chi2.sf(np.sum((counts - expected) ** 2 / expected), BINS - 1)
        half, most = (coverage(ranks[:, None], q)[0] for q in (0.5, 0.9))
        print(f"{name:60s} {counts} p {p:.2f}  {half:.0%} {most:.0%}")
    print(f"all: 50 % {coverage(sampled, 0.5).mean():.1%}, 90 % {coverage(sampled, 0.9).mean():.1%}")
    verdicts = Counter(one.outcome for one in replicates)
    print(f"verdicts: {dict(verdicts)}")
    confirmed = [one for one in replicates if one.outcome == "confirmed"]
    if confirmed:
        ranks = np.array([one.rank for one in confirmed])
        runs = np.quantile([one.n_runs for one in confirmed], [0, 0.5, 1]).astype(int)
        inside = f"50 % {coverage(ranks, 0.5).mean():.1%}, 90 % {coverage(ranks, 0.9).mean():.1%}"
        print(f"confirmed alone: {inside}; model runs {runs[0]} to {runs[2]}, median {runs[1]}")


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    config = Path(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_CONFIG
    at_a_time = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    space = assemble(load(config), Communicator()).space
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_a_time) as pool:
        replicates = list(pool.map(partial(replicate, config, space, Path(folder)), range(n)))
    report(space.names, replicates)


if __name__ == "__main__":
    main()
