"""Have the chains converged? R-hat of runs and of walkers, effective sample sizes, Monte Carlo errors
(ArviZ).

Two R-hat answer two questions, and both are reported. Nested R-hat compares the R independent tempered runs,
never levels, with all that varies within a run, walkers included (Margossian et al. 2024). R-hat of the
walkers takes each of the R*W walkers for a chain: it is what ArviZ says of `posterior.nc`, and it sees a
walker that stays where the others of its run do not. It is about 1 + 1/(2 ESS per half chain) at its best, so
that of 16 short chains it must be larger than nested R-hat of 4 runs: its excess over 1 may be `WALKERS`
times as large. Effective sample sizes see each walker as a chain of its own: once everything is frozen, the
columns of a run never meet. ArviZ's array statistics are imported by the functions that need them: they take
two seconds, on the root rank alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fatescal.base.types import Array
from fatescal.sample.ladder import barrier
from fatescal.storage.chain_records import ChainBlock

if TYPE_CHECKING:
    import xarray as xr

LEAST_RUNS = 4  # below which R-hat has too few independent runs to compare (Vehtari et al. 2021)
WALKERS = 5.0  # times the excess of R-hat over 1 that walkers may show
TAILS = (0.05, 0.95)  # quantiles whose effective sample size, the smaller one, is that of the tails
LEAST_STEPS = 8  # of a chain: the halves of split R-hat need 4 draws each


@dataclass(frozen=True)
class Diagnosis:
    """Convergence of every parameter, and what is still missing.

    `rhat` is nested R-hat of the runs, `rhat_walkers` that of all walkers, as ArviZ computes it. `mcse` is
    the Monte Carlo standard error of the posterior mean, in the unit of the draws. `reasons` says, one
    sentence each, why sampling must go on; empty when it need not.
    """

    parameter: tuple[str, ...]
    rhat: Array  # (P,)
    rhat_walkers: Array  # (P,)
    ess_bulk: Array  # (P,)
    ess_tail: Array  # (P,)
    mcse: Array  # (P,)
    reasons: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether every threshold is met."""
        return not self.reasons

    @property
    def summary(self) -> str:
        """The worst numbers as one line for the log."""
        return (
            f"R-hat at most {np.max(self.rhat):.3f} (of single walkers {np.max(self.rhat_walkers):.3f}), "
            f"bulk ESS at least {np.min(self.ess_bulk):.0f}, tail ESS at least {np.min(self.ess_tail):.0f}"
        )


def diagnose(
    draws: Array,
    parameter: Sequence[str],
    *,
    rhat: float = 1.01,
    ess: float = 400,
    of_mean: Array | None = None,
) -> Diagnosis:
    """Return the diagnosis of the cold draws of all runs.

    Parameters
    ----------
    draws : (R, S, W, P)
        In u, which the sampler judges.
    parameter : P names
    rhat, ess : float
        Nested R-hat must be below, bulk and tail ESS above. The excess over 1 of R-hat of the walkers may be
        5 times as large.
    of_mean : (R, S, W, P), optional
        The same draws in the unit that `mcse` shall have.

    References
    ----------
    Vehtari et al. 2021, doi:10.1214/20-BA1221. Margossian et al. 2024, doi:10.1214/24-BA1453.
    """
    from arviz_stats.base import array_stats

    n_runs, n_steps, _, _ = draws.shape
    if n_steps < LEAST_STEPS:
        raise ValueError(f"{n_steps} steps cannot be diagnosed, at least {LEAST_STEPS} can")
    chains = _chains(draws)
    walker_limit = 1 + WALKERS * (rhat - 1)
    with np.errstate(
        invalid="ignore", divide="ignore"
    ):  # a chain that never moved has R-hat NaN, which is reported
        rhats = np.array([nested_rhat(x) for x in draws.transpose(3, 0, 2, 1)])
        of_walkers = _each(array_stats.rhat, chains, method="rank")
        bulk = _each(array_stats.ess, chains, method="bulk")
        tail = _each(array_stats.ess, chains, method="tail", prob=TAILS)
        mcse = _each(array_stats.mcse, chains if of_mean is None else _chains(of_mean), method="mean")
    reasons = []
    for name, r, w, b, t in zip(parameter, rhats, of_walkers, bulk, tail, strict=True):
        # written in this form because NaN must fail
        if not r < rhat:
            reasons.append(f"R-hat of {name} is {r:.3f}, not below {rhat:g}")
        if not w < walker_limit:
            reasons.append(f"R-hat of the single walkers in {name} is {w:.3f}, not below {walker_limit:g}")
        if not b > ess:
            reasons.append(f"bulk ESS of {name} is {b:.0f}, not above {ess:g}")
        if not t > ess:
            reasons.append(f"tail ESS of {name} is {t:.0f}, not above {ess:g}")
    if n_runs < LEAST_RUNS:
        reasons.append(f"{n_runs} independent runs cannot show convergence, at least {LEAST_RUNS} can")
    return Diagnosis(tuple(parameter), rhats, of_walkers, bulk, tail, mcse, tuple(reasons))


def nested_rhat(chains: Array) -> float:
    """Return rank-normalised nested R-hat of `chains` (R, W, S): runs, their walkers, steps.

    Halves of a run in time count as runs, so that a drift is seen. The larger one of the values of the draws
    and of their distances from the median. NaN or infinite where no chain moved.

    References
    ----------
    Margossian et al. 2024, Nested R-hat, doi:10.1214/24-BA1453, eqs 7-10; ranks and folding as in Vehtari et
    al. 2021.

    >>> x = np.random.default_rng(0).standard_normal((4, 4, 1000))
    >>> nested_rhat(x) < 1.005, nested_rhat(x + np.arange(4.0)[:, None, None]) > 1.3
    (True, True)
    """
    half = chains.shape[-1] // 2
    split = np.concatenate([chains[..., :half], chains[..., -half:]])
    folded = np.abs(split - np.median(split))
    return max(_nested(_normal_scores(split)), _nested(_normal_scores(folded)))


def _normal_scores(x: Array) -> Array:
    """Return normal quantiles of the ranks of `x`, ties averaged."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(x).reshape(x.shape) - 0.375) / (x.size + 0.25))


def _nested(x: Array) -> float:
    """Return sqrt(1 + between / within) of `x` (R, W, S)."""
    n_walkers = x.shape[1]
    means = x.mean(axis=2)
    within = float(x.var(axis=2, ddof=1).mean())
    if n_walkers > 1:
        within += float(means.var(axis=1, ddof=1).mean())
    between = float(means.mean(axis=1).var(ddof=1)) if len(x) > 1 else np.nan
    return float(np.sqrt(1 + np.float64(between) / within))


def _each(measure: Callable, chains: Array, **how: object) -> Array:
    """Return what ArviZ's `measure` says of each parameter's chains (P)."""
    return np.array([np.asarray(measure(x, **how)).item() for x in chains])


def _chains(draws: Array) -> Array:
    """Return draws (R, S, W, P) as (P, R*W, S): per parameter what ArviZ calls (chain, draw)."""
    n_runs, n_steps, n_walkers, n_parameters = draws.shape
    return draws.transpose(3, 0, 2, 1).reshape(n_parameters, n_runs * n_walkers, n_steps)


@dataclass(frozen=True)
class Mixing:
    """How well the levels of the tempered runs exchange states.

    Rates are round trips per step and column. `ideal_round_trip_rate` is what the rejections alone would
    allow, 1 / (2 + 2 sum r/(1-r)), were every local move an independent draw (Syed et al. 2022, cor. 2): a
    measured rate far below it says that the local moves are what is slow.
    """

    beta: Array  # (T,)
    barrier: Array  # (T,), cumulative
    acceptance: Array  # (T,), of local moves
    rejection: Array  # (T-1,), of swaps
    round_trip_rate: float
    ideal_round_trip_rate: float


def mixing(blocks: Sequence[ChainBlock]) -> Mixing:
    """Return how the levels mixed over all steps of `blocks`, which share one ladder."""
    steps = np.array([block.u.shape[1] for block in blocks], float)
    rejection = np.average([block.rejected.mean(axis=0) for block in blocks], axis=0, weights=steps)
    acceptance = np.average([block.accepted.mean(axis=0) for block in blocks], axis=0, weights=steps)
    n_runs, _, n_walkers, _ = blocks[0].u.shape
    round_trips = sum(float(block.round_trips.sum()) for block in blocks)
    with np.errstate(divide="ignore"):  # one pair that never swaps: the ideal rate is 0
        ideal = 1 / (2 + 2 * np.sum(rejection / (1 - rejection)))
    return Mixing(
        beta=blocks[0].beta[0],
        barrier=barrier(rejection),
        acceptance=acceptance,
        rejection=rejection,
        round_trip_rate=round_trips / (n_runs * n_walkers * steps.sum()),
        ideal_round_trip_rate=float(ideal),
    )


def to_tree(
    theta: Array, parameter: Sequence[str], unit: Sequence[str], log_likelihood: Array
) -> xr.DataTree:
    """Return the posterior as ArviZ knows it; what its ``to_netcdf`` writes ``xarray.open_datatree`` reads.

    Parameters
    ----------
    theta : (R, S, W, P)
        Cold draws, physical.
    parameter, unit : P names and units
        The names become variables of the group ``posterior``.
    log_likelihood : (R, S, W)
        Of the cold draws, as the sampler saw it: ``lp`` of the group ``sample_stats``.
    """
    import xarray as xr

    n_runs, n_steps, n_walkers, _ = theta.shape
    where = {"chain": np.arange(n_runs * n_walkers), "draw": np.arange(n_steps)}
    attributes = {"walkers": n_walkers, "chains": "chain = run * walkers + walker"}

    def group(of_chains: dict[str, tuple]) -> xr.Dataset:
        return xr.Dataset(of_chains, where, attributes)

    draws = zip(parameter, _chains(theta), unit, strict=True)
    posterior = {name: (("chain", "draw"), x, {"units": its_unit}) for name, x, its_unit in draws}
    seen = {"lp": (("chain", "draw"), _chains(log_likelihood[..., None])[0])}
    return xr.DataTree.from_dict({"posterior": group(posterior), "sample_stats": group(seen)})
