"""How the likelihood enters step by step: alpha of each update, sum of 1/alpha = 1 over all of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import NamedTuple, Protocol

import numpy as np

from fatescal.base.errors import BadInput
from fatescal.base.types import Array
from fatescal.storage.records import KalmanState

log = logging.getLogger(__name__)


class Stride(NamedTuple):
    """One step in pseudo-time: noise inflation `alpha`, the time it leads to, the expected total of steps."""

    alpha: float
    pseudo_time: float
    projected_iterations: float


class Schedule(Protocol):
    """Chooses the next stride."""

    def stride(self, state: KalmanState, misfit: Array, n_observations: int) -> Stride:
        """Return the stride from `state`, whose members have `misfit` (J)."""


def normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """Return alphas in the proportions of `weights`, scaled so that the sum of 1/alpha is 1.

    >>> normalised([4, 2, 1])
    (7.0, 3.5, 1.75)

    Raises
    ------
    BadInput
        If there is no weight or one is not positive.
    """
    if not weights or not all(0 < w < np.inf for w in weights):
        raise BadInput(
            "ES-MDA weights are wrong",
            expected="positive numbers",
            got=list(weights),
            hint="[28/3, 7, 4, 2] written as decimals, or the number of equal steps",
        )
    scale = sum(1 / w for w in weights)
    return tuple(scale * w for w in weights)


@dataclass(frozen=True)
class FixedSchedule:
    """Alphas known beforehand (Emerick & Reynolds 2013, eq. 7)."""

    alphas: tuple[float, ...]

    def stride(self, state: KalmanState, misfit: Array, n_observations: int) -> Stride:
        """Return the stride number `state.iteration`."""
        n_steps, done = len(self.alphas), state.iteration + 1
        time = 1.0 if done == n_steps else sum(1 / a for a in self.alphas[:done])
        return Stride(self.alphas[state.iteration], time, n_steps)


@dataclass(frozen=True)
class AdaptiveSchedule:
    """Data misfit controller: steps as long as the misfit allows (Iglesias & Yang 2021).

    When `max_iterations` steps do not reach time 1, the last one takes all that is left, and says so:
    the ensemble is then a posterior with one step longer than advised. Stopping short would hand
    over a tempered posterior; refusing would throw the model runs away.
    """

    max_iterations: int

    def stride(self, state: KalmanState, misfit: Array, n_observations: int) -> Stride:
        """Return the stride the present `misfit` (J) allows.

        The projected total takes the steps to double each time: with a linear model whose parameters the data
        inform, the misfit's sd falls as 1/t, and dt = t sqrt(D/P) follows.
        """
        left = 1.0 - state.pseudo_time
        advised = controlled_step(misfit, n_observations)
        done = state.iteration + 1
        if advised >= left:
            return Stride(1 / left, 1.0, done)
        if done >= self.max_iterations:
            log.warning("step %d is the last allowed: %.3g where %.3g is advised", done, left, advised)
            return Stride(1 / left, 1.0, done)
        projected = state.iteration + ceil(log2(1 + left / advised))
        if projected > self.max_iterations:
            log.warning("about %d steps are needed, %d allowed", projected, self.max_iterations)
        return Stride(1 / advised, state.pseudo_time + advised, projected)


def controlled_step(misfit: Array, n_observations: int) -> float:
    """Return max{D / (2 mean Phi), sqrt(D / (2 var Phi))}, the step the data misfit controller advises.

    Parameters
    ----------
    misfit : (J)
        Phi of the members.
    n_observations : int
        D.

    References
    ----------
    Iglesias & Yang 2021, doi:10.1088/1361-6420/abd29b. The variance is the sample variance (J - 1).

    >>> controlled_step(np.array([8.0, 12.0]), 5)
    0.5590169943749475
    """
    mean, variance = float(np.mean(misfit)), float(np.var(misfit, ddof=1))
    if mean == 0.0 or variance == 0.0:  # every member fits alike: nothing can degenerate
        return np.inf
    return max(n_observations / (2 * mean), float(np.sqrt(n_observations / (2 * variance))))
