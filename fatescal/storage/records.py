"""What flows between the stages: frozen records of arrays, checked at birth, stored as declared.

J members, P parameters, D observations, K latent outputs, T temperatures, W walkers, S kept steps,
R independent tempered runs, N training rows. Rows first, float64. Those of sampling stand in
`chain_records.py`, what all have in common in `declaration.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Self

import numpy as np

from fatescal.base.types import Array
from fatescal.storage.declaration import Record, array


@dataclass(frozen=True, eq=False)
class ObservationGrid(Record):
    """What is to be predicted, before anything is measured: one row per variable and window.

    `noise` is the error sd (D), in `unit`. Windows are [start, end).
    `correlation` is empty, or holds for errors that follow an AR(1) process within each variable its
    coefficient `rho` (D) and the `position` (D) of each row in time, counted in windows: rows i and j of one
    variable correlate with rho^|position_i - position_j|, whatever lies between them.
    """

    noise: Array = array("D", "unit of each row")
    variable: Array = array("D", dtype=np.str_)
    unit: Array = array("D", dtype=np.str_)
    start: Array = array("D", "s since 1970-01-01", dtype="datetime64[s]")
    end: Array = array("D", "s since 1970-01-01", dtype="datetime64[s]")
    period: Array = array("D", dtype=np.str_)  # calibration | validation
    correlation: Mapping[str, Array] = field(default_factory=dict, kw_only=True)

    def windows(self, *more: object) -> str:
        """Return a digest of what is predicted (not how well it is measured), and of `more`."""
        columns = (self.variable, self.unit, self.start, self.end)
        return hashlib.sha256(repr(([c.tolist() for c in columns], more)).encode()).hexdigest()

    @cached_property
    def _chain(self) -> tuple[Array, Array, Array]:
        """The rows in order of variable and time (D), the row before each (D; itself if none), and rho^lag
        (D).

        Given the row before it, a row of an AR(1) process depends on no earlier one, across gaps too: the
        inverse Cholesky factor of R has two entries a row, and whitening is O(D).
        """
        position = self.correlation["position"]
        order = np.lexsort([position, self.variable])
        first = np.append(True, self.variable[order][1:] != self.variable[order][:-1])
        before = np.empty(len(self), dtype=np.int64)
        before[order] = np.where(first, order, np.roll(order, 1))
        memory = self.correlation["rho"] ** (position - position[before])
        memory[order[first]] = 0.0
        return order, before, memory

    @property
    def sd(self) -> Array:
        """Error sd (D) of each row, whether or not the errors are correlated."""
        return self.noise

    def whiten(self, x: Array) -> Array:
        """Return R^(-1/2) x for rows of `x` (..., D): dimensionless, unit error covariance."""
        z = np.asarray(x) / self.noise
        if not self.correlation:
            return z
        _, before, memory = self._chain
        return (z - memory * z[..., before]) / np.sqrt(1.0 - memory**2)

    def colour(self, z: Array) -> Array:
        """Return R^(1/2) z for rows of `z` (..., D), the inverse of `whiten`: draws of the error."""
        if not self.correlation:
            return np.asarray(z) * self.noise
        order, before, memory = self._chain
        errors = np.sqrt(1.0 - memory**2) * np.asarray(z)
        for row in order:
            errors[..., row] += memory[row] * errors[..., before[row]]
        return errors * self.noise

    def select(self, rows: Array | slice) -> Self:
        """Return the rows of a boolean mask, index array or slice over D."""
        names = [f.name for f in fields(self) if f.name != "correlation"]
        correlation = {name: values[rows] for name, values in self.correlation.items()}
        return type(self)(correlation=correlation, **{name: getattr(self, name)[rows] for name in names})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of several grids with independent errors, one grid after another."""
        if len(parts) == 1:
            return parts[0]
        names = [f.name for f in fields(cls) if f.name != "correlation"]
        rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        known = [p.correlation or {"rho": np.zeros(len(p)), "position": np.arange(len(p))} for p in parts]
        correlated = any(part.correlation for part in parts)
        both = {name: np.concatenate([k[name] for k in known]) for name in ("rho", "position")}
        return cls(correlation=both if correlated else {}, **rows)

    def widened(self, discrepancies: Mapping[str, float]) -> Self:
        """Return the same with an error sd added to all rows of some variables, in their units."""
        added = np.zeros(len(self))
        for name, sd in discrepancies.items():
            added[self.variable == name] = sd
        return replace(self, noise=np.hypot(self.noise, added))

    def with_values(self, y: Array) -> Observations:
        """Return the observations that have the values `y` (D) on this grid."""
        return Observations(y=y, **{f.name: getattr(self, f.name) for f in fields(ObservationGrid)})

    def __len__(self) -> int:
        return len(self.variable)


@dataclass(frozen=True, eq=False)
class Observations(ObservationGrid):
    """What was measured, one row per variable and window, and how sure one can be of it.

    This one object gives the likelihood to the update, the emulator and the sampler.
    """

    y: Array = array("D", "unit of each row")

    def misfit(self, predictions: Array) -> Array:
        """Return Phi = 1/2 |R^(-1/2) (y - G)|^2 (J) of the rows of `predictions` (J, D).

        Row by row, so that Phi of a member never depends on its batch mates.
        """
        return np.array([0.5 * float(r @ r) for r in (self.whiten(self.y - g) for g in predictions)])


@dataclass(frozen=True, eq=False)
class KalmanState(Record):
    """What the next Kalman step needs. `u` holds the updated members only, not the default run.

    A scheme that remembers more has a subclass, which declares it; `finished`: no further update is wanted.
    """

    u: Array = array("J P")
    iteration: int = 0
    pseudo_time: float = 0.0
    finished: bool = False


@dataclass(frozen=True, eq=False)
class KalmanInfo(Record):
    """What only the log and the report need of one Kalman step."""

    alpha: float
    misfit: Array = array("J")  # Phi of the survivors
    spread: Array = array("P")  # sd of the updated ensemble in u
    n_failed: int = 0
    degrees_of_freedom: float = 0.0  # trace(S'S (I + S'S)^-1): how many directions the data inform
    step_length: float = 0.0
    projected_iterations: float = 0.0  # adaptive schemes: the expected total, a core-hour budget


@dataclass(frozen=True, eq=False)
class Evaluation(Record):
    """One batch of model runs. Row 0 is the default run. Failed rows of `predictions` are NaN."""

    u: Array = array("J P")
    theta: Array = array("J P", "unit of each parameter")
    predictions: Array = array("J D", "unit of each observation")
    status: Array = array("J", dtype=np.int64)
    seconds: Array = array("J", "s", wall_clock=True)

    @property
    def ok(self) -> Array:
        """Mask (J) of the rows that ran."""
        return self.status == 0


@dataclass(frozen=True, eq=False)
class Batch(Record):
    """Members to be run beside the default one."""

    u: Array = array("J P")


@dataclass(frozen=True, eq=False)
class TrainingSet(Record):
    """Successful runs the emulator learns from; columns are the calibration observations."""

    u: Array = array("N P")
    predictions: Array = array("N D", "unit of each observation")
    source: Array = array("N", dtype=np.int64)  # 0 .. the evaluation each row comes from


@dataclass(frozen=True, eq=False, kw_only=True)
class Surrogate(Record):
    """A fitted emulator as knowledge, never a pickle: all arrays needed to predict.

    Whitened predictions are g ~ mean + basis z, z the K latent outputs. What an emulator remembers beside it
    declares in a record of its own, derived from this one.
    """

    mean: Array = array("D")
    basis: Array = array("D K")
    u: Array = array("N P")
    latent: Array = array("N K")
    scores: Array = array("K")  # Q^2 of held-out runs, of each latent output


@dataclass(frozen=True, eq=False)
class Validation(Record):
    """Whether an emulator may be sampled: its predictions of held-out runs near the optimum, judged."""

    misfit: Array = array("M")  # Phi of the held-out runs
    predicted: Array = array("M")  # the same, predicted without them
    sd: Array = array("M")  # the emulator's own sd of that prediction
    q2: float = np.nan  # explained share of the spread of Phi
    coverage: float = np.nan  # share of latent outputs within their 95 % intervals
    n_near: int = 0  # runs near the optimum
    posterior_sd: float = np.nan  # median sd of Phi over the posterior; NaN before it is sampled
    tail_sd: float = np.nan  # its 99 % quantile
    beyond_1: float = np.nan  # share of the posterior whose sd of Phi exceeds 1
    beyond_2: float = np.nan  # and 2
    passed: bool = False
    verdict: str = ""  # which criterion failed, with number and threshold


@dataclass(frozen=True, eq=False)
class Posterior(Record):
    """The posterior ensemble that is run again: `theta` (J, P) drawn from the chains.

    `draws_following` (N) holds, by name, what follows from `draws_theta`: all else that a model gets by the
    config.
    """

    u: Array = array("J P")
    theta: Array = array("J P", "unit of each parameter")
    parameter: Array = array("P", dtype=np.str_)
    draws_u: Array = array("N P")
    draws_theta: Array = array("N P", "unit of each parameter")
    draws_following: Mapping[str, Array] = field(default_factory=dict)
    log_evidence: float = np.nan  # log Z of the emulated likelihood, from the chains


@dataclass(frozen=True, eq=False)
class Verdict(Record):
    """What the model's own runs of the posterior ensemble say about the emulated posterior.

    Attributes
    ----------
    outcome : str
        `confirmed`, `not confirmed`, `cannot tell`, or `not sampled` where the emulator was refused.
    parameter : P names
    shift, shift_error : (P) arrays
        Of the mean by reweighting, in sd of the emulated posterior, and its standard error.
    ratio, ratio_error : (P) arrays
        Of the reweighted sd to the emulated one, and its standard error.
    unreached : (P) array
        sd of all draws over the sd that those as central as the members tell: far above 1 where it rests on a
        few far draws.
    distrust : (P) mask
        Parameters that are wrong (`not confirmed`) or undecided (`cannot tell`).
    weights : (J) array
        Importance weights of the members of the last round that ran, sum 1.
    pooled_weights : (M) array
        Those of the members of all rounds so far, as one sample of the mixture of their emulated posteriors.
    pooled_shift, pooled_ratio : (P) arrays
        Of the weighted mean and sd of that sample, in sd of the emulated posterior.
    log_weight_sd : float
    k, pooled_k : float
        Pareto k-hat; NaN below 100 members, -inf where all weights agree.
    n_judged : int
        Members that the verdict rests on: those of rounds before have a say too.
    more : int
        Members that must be added before the verdict can be expected; 0 if it stands.
    round : int
    n_runs : int
        Model runs up to here, default runs and failed ones included.
    distance : float
        Kullback-Leibler divergence of the posterior of the sampled round before from this one, both as normal
        distributions; NaN in the first.
    reason : str
        Why nothing was sampled.
    """

    outcome: str
    parameter: Array = array("P", dtype=np.str_)
    shift: Array = array("P", "posterior sd")
    shift_error: Array = array("P", "posterior sd")
    ratio: Array = array("P")
    ratio_error: Array = array("P")
    unreached: Array = array("P")
    distrust: Array = array("P", dtype=np.bool_)
    weights: Array = array("J")
    pooled_weights: Array = array("M")
    pooled_shift: Array = array("P", "posterior sd")
    pooled_ratio: Array = array("P")
    log_weight_sd: float = np.nan
    k: float = np.nan
    pooled_k: float = np.nan
    n_judged: int = 0
    more: int = 0
    round: int = 0
    n_runs: int = 0
    distance: float = np.nan
    reason: str = ""

    @property
    def distrusted(self) -> tuple[str, ...]:
        """The names of the parameters to distrust."""
        return tuple(self.parameter[self.distrust].tolist())

    @property
    def effective_size(self) -> float:
        """How many equally weighted members the ensemble is worth, 1 / sum w^2; 0 of none."""
        return float(1 / np.sum(self.weights**2)) if len(self.weights) else 0.0

    @property
    def pooled_size(self) -> float:
        """How many equally weighted members those of all rounds are worth; 0 of none."""
        return float(1 / np.sum(self.pooled_weights**2)) if len(self.pooled_weights) else 0.0


@dataclass(frozen=True, eq=False)
class Scorecard(Record):
    """Long table of scores: one row per variable, period, ensemble and score."""

    variable: Array = array("I", dtype=np.str_)
    period: Array = array("I", dtype=np.str_)
    ensemble: Array = array("I", dtype=np.str_)  # default | prior | last | posterior | climatology
    score: Array = array("I", dtype=np.str_)  # by its name (`diagnostics.scores`)
    value: Array = array("I", "unit of the variable, or 1")
