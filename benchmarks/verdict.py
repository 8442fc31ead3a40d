"""How often the verdict of the rerun errs, where the answer is known: `python benchmarks/verdict.py
[seeds] [random,support,pooled] [3,6,16] [15,31,63,127]`.

The emulated posterior is normal (correlation 0.5) or heavy-tailed, the true one is known; a posterior is
wrong if a mean is off by more than 0.25 sd or an sd by more than 25 %. Prints for each problem in % how often
it is confirmed / not confirmed / cannot tell. Members are random draws; support points of 500 draws; or
pooled, asked where the round's own half cannot tell: the other half is of a round before, whose posterior lay
0.3 sd beside in every parameter and was a tenth wider (normal problems alone).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import numpy as np

from fatescal.base.random_streams import stream
from fatescal.diagnostics.rerun_verdict import judge_rerun
from fatescal.diagnostics.tolerances import RATIO, SHIFT
from fatescal.sample.thinning import representative

BEFORE = 0.3, 1.1  # mean of every parameter and sd of the posterior of the round before
N_DRAWS, N_CANDIDATES, N_TRUTH = 4000, 500, 20_000
OUTCOMES = ("confirmed", "not confirmed", "cannot tell")
Log = Callable[[np.ndarray], np.ndarray]


def normal(rng: np.random.Generator, n: int, p: int) -> np.ndarray:
    return rng.standard_normal((n, p))


def student(nu: float) -> Callable:
    def draw(rng: np.random.Generator, n: int, p: int) -> np.ndarray:
        return rng.standard_normal((n, p)) / np.sqrt(rng.chisquare(nu, n) / nu)[:, None]

    return draw


def outliers(share: float, sd: float) -> Callable:
    def draw(rng: np.random.Generator, n: int, p: int) -> np.ndarray:
        return rng.standard_normal((n, p)) * np.where(rng.random(n) < share, sd, 1.0)[:, None]

    return draw


def shifted(delta: float) -> Callable[[np.random.Generator, int], Log]:
    """The truth is N(delta e_1, I)."""
    return lambda rng, p: lambda z: delta * z[:, 0]


def spread(delta: float) -> Callable[[np.random.Generator, int], Log]:
    """The truth is shifted by delta in every parameter."""
    return lambda rng, p: lambda z: delta * z.sum(axis=1)


def widened(factor: float) -> Callable[[np.random.Generator, int], Log]:
    """The emulated sd is `factor` times the true one, in every parameter."""
    return lambda rng, p: lambda z: -0.5 * (factor**2 - 1) * np.sum(z**2, axis=1)


def widened_one(factor: float) -> Callable[[np.random.Generator, int], Log]:
    return lambda rng, p: lambda z: -0.5 * (factor**2 - 1) * z[:, 0] ** 2


def noisy(sd: float, length: float = 1.0) -> Callable[[np.random.Generator, int], Log]:
    """The emulated log density is wrong by a rough random function of this sd (Fourier features)."""

    def make(rng: np.random.Generator, p: int) -> Log:
        frequency, phase = rng.standard_normal((p, 100)) / length, rng.uniform(0, 2 * np.pi, 100)
        return lambda z: sd * np.sqrt(2 / 100) * np.cos(z @ frequency + phase).sum(axis=1)

    return make


def against_student(nu: float) -> Callable[[np.random.Generator, int], Log]:
    return lambda rng, p: (
        lambda z: -0.5 * np.sum(z**2, axis=1) + 0.5 * (nu + p) * np.log1p(np.sum(z**2, axis=1) / nu)
    )


def against_outliers(share: float, sd: float) -> Callable[[np.random.Generator, int], Log]:
    def make(rng: np.random.Generator, p: int) -> Log:
        def log(z: np.ndarray) -> np.ndarray:
            r2 = np.sum(z**2, axis=1)
            return -0.5 * r2 - np.logaddexp(
                np.log1p(-share) - 0.5 * r2, np.log(share) - p * np.log(sd) - 0.5 * r2 / sd**2
            )

        return log

    return make


PROBLEMS: dict[str, tuple[Callable, Callable]] = {
    **{f"shift {d:g}": (normal, shifted(d)) for d in (0.0, 0.1, 0.2, 0.25, 0.3, 0.5, 1.0)},
    **{f"shift of all {d:g}": (normal, spread(d)) for d in (0.1, 0.3)},
    **{f"sd x {f:g}": (normal, widened(f)) for f in (0.5, 0.75, 0.9, 1.1, 1.33, 2)},
    **{f"sd of one x {f:g}": (normal, widened_one(f)) for f in (0.75, 1.33)},
    **{f"noise {s:g}": (normal, noisy(s)) for s in (0.1, 0.25, 0.5, 1.0)},
    **{f"smooth error {s:g}": (normal, noisy(s, 3.0)) for s in (0.25, 0.5, 1.0)},
    **{f"student {nu:g}": (student(nu), against_student(nu)) for nu in (4, 20)},
    **{f"3 % outliers x {s:g}": (outliers(0.03, s), against_outliers(0.03, s)) for s in (3, 6)},
}


def is_wrong(draw: Callable, log_weight: Log, rng: np.random.Generator, p: int) -> bool:
    """Return whether the emulated posterior is wrong, by a large weighted sample."""
    z = draw(rng, N_TRUTH, p)
    lw = log_weight(z)
    w = np.exp(lw - lw.max())
    w /= w.sum()
    u = correlated(z)
    mean = w @ u
    sd = np.sqrt(w @ (u - mean) ** 2)
    own = u.std(axis=0)
    shift, ratio = np.abs(mean / own).max(), np.abs(np.log(sd / own)).max()
    return bool(shift > SHIFT or ratio > np.log(RATIO))


def correlated(z: np.ndarray) -> np.ndarray:
    """Return parameters that are correlated by 0.5; the first is the first of `z`."""
    return z @ np.linalg.cholesky(0.5 * np.eye(z.shape[1]) + 0.5).T


def pooled_members(z: np.ndarray, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` members (n, P), the second half from draws `z` of N(0, I), and relative densities (n)."""
    before = BEFORE[0] + BEFORE[1] * rng.standard_normal((n // 2, z.shape[1]))
    members = np.concatenate([before, z[rng.choice(len(z), n - n // 2, replace=False)]])
    log_now = -0.5 * np.sum(members**2, axis=1)
    away = (members - BEFORE[0]) / BEFORE[1]
    log_before = -0.5 * np.sum(away**2, axis=1) - z.shape[1] * np.log(BEFORE[1])
    share = (n // 2) / n
    log_mixture = np.logaddexp(np.log(share) + log_before, np.log1p(-share) + log_now)
    return members, np.exp(log_now - log_mixture)


def one(name: str, p: int, n: int, seed: int, way: str) -> tuple[bool, str]:
    """Return whether the posterior is wrong, and the verdict on it."""
    rng = stream(seed, f"{name} {p}")
    draw, make = PROBLEMS[name]
    log_weight = make(rng, p)
    if name.startswith(("noise", "smooth")):
        if (name, p, seed) not in WRONG:
            WRONG[name, p, seed] = is_wrong(draw, log_weight, stream(seed, "truth"), p)
        wrong = WRONG[name, p, seed]
    else:
        wrong = exact_wrong(name)
    z = draw(rng, N_DRAWS, p)
    u = correlated(z)
    names = [f"p{i}" for i in range(p)]
    if way == "pooled":
        members, relative = pooled_members(z, rng, n)
        own = members[n // 2 :]
        verdict = judge_rerun(log_weight(own), correlated(own), u, names)
        if verdict.outcome == "cannot tell":
            together = judge_rerun(log_weight(members), correlated(members), u, names, relative)
            verdict = together if together.outcome == "confirmed" else verdict
        return wrong, verdict.outcome
    pick = representative(u[:N_CANDIDATES], n) if way == "support" else rng.choice(N_DRAWS, n, replace=False)
    verdict = judge_rerun(log_weight(z[pick]), u[pick], u, names)
    return wrong, verdict.outcome


WRONG: dict[tuple[str, int, int], bool] = {}


def exact_wrong(name: str) -> bool:
    """Return whether the emulated posterior of a problem without random parts is wrong, by its formula."""
    if name.startswith("shift"):
        return float(name.split()[-1]) > SHIFT
    if name.startswith("sd"):
        factor = float(name.split()[-1])
        return max(factor, 1 / factor) > RATIO
    if name.startswith("student"):
        nu = float(name.split()[-1])
        return bool(np.sqrt(nu / (nu - 2)) > RATIO)
    sd = float(name.split()[-1])
    return bool(np.sqrt(0.97 + 0.03 * sd**2) > RATIO)


def main() -> None:
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    kinds = sys.argv[2].split(",") if len(sys.argv) > 2 else ["random", "support", "pooled"]
    dimensions = [int(p) for p in sys.argv[3].split(",")] if len(sys.argv) > 3 else [3, 6, 16]
    sizes = [int(n) for n in sys.argv[4].split(",")] if len(sys.argv) > 4 else [15, 31, 63, 127]
    for kind in kinds:
        table(kind, n_seeds, dimensions, sizes)


def table(kind: str, n_seeds: int, dimensions: list[int], sizes: list[int]) -> None:
    """Print the shares of the verdicts for each problem and size, and the errors of all problems together."""
    total: dict[tuple[int, int, bool], Counter] = {}
    for p in dimensions:
        print(f"\n{p} parameters, {kind} members, {n_seeds} seeds: confirmed/not confirmed/cannot tell in %")
        print(f"{'problem':20s}" + "".join(f"{f'J={n}':>12s}" for n in sizes))
        for name, (draw, _) in PROBLEMS.items():
            if kind == "pooled" and draw is not normal:
                continue
            cells = []
            for n in sizes:
                results = [one(name, p, n, seed, kind) for seed in range(n_seeds)]
                for wrong, outcome in results:
                    total.setdefault((p, n, wrong), Counter())[outcome] += 1
                share = [round(100 * sum(o == x for _, o in results) / n_seeds) for x in OUTCOMES]
                wrong_ones = sum(wrong for wrong, _ in results)
                mark = "*" if wrong_ones == n_seeds else "~" if wrong_ones else " "
                cells.append(f"{'/'.join(map(str, share)):>11s}{mark}")
            print(f"{name:20s}" + "".join(cells), flush=True)
    print("* wrong, ~ wrong for some seeds\n")
    for (p, n, wrong), found in sorted(total.items()):
        count, error = sum(found.values()), "confirmed" if wrong else "not confirmed"
        print(
            f"P={p:<3d}J={n:<4d}{'wrong' if wrong else 'right'} ones "
            f"{error:14s}{found[error]:4d} of {count:4d} "
            f"({found[error] / count:.1%}), cannot tell {found['cannot tell'] / count:.0%}"
        )


if __name__ == "__main__":
    main()
