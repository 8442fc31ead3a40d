"""What the observations can say, told from the prior ensemble alone, before the costly rest of a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fatescal.linalg import centred
from fatescal.records import Array, Observations
from fatescal.scores import LEVEL, coverage

CONFLICT = 0.05  # share of outliers above which prior and data contradict each other
INFORMED = 0.1  # share of a parameter's prior variance that data must remove to speak of it


@dataclass(frozen=True)
class Evidence:
    """One variable's word ('all' for all together).

    Attributes
    ----------
    coverage : float
        Share of the observations within the central 90 % of the prior predictions plus error.
    outliers : int
        Windows with |d - gbar| > 3 (s_g + sigma): data and prior predictions are disjoint at three sigma.
    informed : (P,)
        Share of each parameter's prior variance that the data remove, to first order.
    degrees_of_freedom : float
        How many directions of the parameters the data inform: trace[F (I + F)^-1] with F the Fisher information
        in u; the sum of the shares where no parameters are correlated a priori.
    """

    variable: str
    windows: int
    coverage: float
    outliers: int
    informed: Array
    degrees_of_freedom: float

    @property
    def conflict(self) -> bool:
        """Whether the prior ensemble cannot have produced the data."""
        return self.outliers > CONFLICT * self.windows


def weigh(
    observations: Observations, u: Array, predictions: Array, factor: Array | None = None
) -> list[Evidence]:
    """Return the evidence of each variable, then of all, in the calibration period.

    Parameters
    ----------
    observations : Observations
        The calibration period.
    u, predictions : (J, P), (J, D) arrays
        The successful members of the prior ensemble.
    factor : (P, P) array
        `ParameterSpace.factor` of correlated priors.

    Notes
    -----
    The sensitivities are the least-squares slopes of the whitened predictions on u, so that curvature counts as
    noise: a strongly nonlinear parameter is informed by more than is told.

    >>> time = np.arange(2).astype("datetime64[s]")
    >>> words = dict(variable=["a", "a"], unit=["1", "1"], period=["calibration"] * 2)
    >>> obs = Observations(y=np.zeros(2), noise=np.ones(2), start=time, end=time + 1, **words)
    >>> u = np.array([[1.0], [-1.0], [0.5], [-0.5]])
    >>> weigh(obs, u, u * [1.0, 0.0])[0].informed.round(12).tolist()
    [0.5]
    """
    slopes = np.linalg.pinv(centred(u)[1])
    factor = np.eye(u.shape[1]) if factor is None else factor
    masks = {v: observations.variable == v for v in dict.fromkeys(observations.variable.tolist())}
    masks = masks | {"all": np.ones(len(observations), dtype=bool)}
    return [_of(name, observations.select(m), slopes, predictions[:, m], factor) for name, m in masks.items()]


def _of(name: str, part: Observations, slopes: Array, predictions: Array, factor: Array) -> Evidence:
    sensitivities = slopes @ centred(part.whiten(predictions))[1]  # (P, D)
    fisher = sensitivities @ sensitivities.T
    remaining = np.linalg.inv(np.eye(len(fisher)) + fisher)
    mean, spread = predictions.mean(axis=0), predictions.std(axis=0, ddof=1)
    return Evidence(
        variable=name,
        windows=len(part),
        coverage=coverage(part.y, predictions, part.sd),
        outliers=int(np.sum(np.abs(part.y - mean) > 3.0 * (spread + part.sd))),
        informed=1.0 - np.diagonal(factor @ remaining @ factor.T),
        degrees_of_freedom=float(np.sum(1.0 - np.diagonal(remaining))),
    )


def word(found: Sequence[Evidence], parameters: Sequence[str]) -> str:
    """Return 'go', 'go, but ...' or 'no-go: ...' in words."""
    conflicts = [e.variable for e in found[:-1] if e.conflict]
    if conflicts:
        return (
            f"no-go: {', '.join(conflicts)} lies outside what the prior ensemble can produce. "
            "Look at units, model and error; widen the priors or the error (discrepancy: estimate)"
        )
    mute = [name for name, share in zip(parameters, found[-1].informed, strict=True) if share < INFORMED]
    if len(mute) == len(parameters):
        return "no-go: the data say next to nothing about any parameter; the posterior will be the prior"
    if mute:
        return f"go, but the data say next to nothing about {', '.join(mute)}"
    return "go"


def render(found: Sequence[Evidence], parameters: Sequence[str]) -> str:
    """Return the evidence as lines for the log, ending with the word."""
    lines = [
        f"evidence of {e.variable}: {e.windows} windows, prior predictive coverage {e.coverage:.2f} (of {LEVEL:g}), "
        f"{e.outliers} outliers{' IN CONFLICT' if e.conflict else ''}, {e.degrees_of_freedom:.1f} of {len(parameters)} "
        f"degrees of freedom"
        for e in found
    ]
    return "\n".join([*lines, f"evidence: {word(found, parameters)}"])
