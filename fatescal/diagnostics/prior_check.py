"""The prior check: what the prior ensemble tells about the data, and they about the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fatescal.base.linalg import centred
from fatescal.base.types import Array
from fatescal.diagnostics.scores import LEVEL, Coverage
from fatescal.storage.records import Observations

CONFLICT = 0.05  # share of outliers above which prior and data contradict each other
DISJOINT = 0.25  # ... above which no update can bring them together
FACTOR = 20.0  # ratio of modelled to observed magnitudes that only another unit or variable makes
INFORMED = 0.1  # share of a parameter's prior variance that data must remove to speak of it
BEYOND = 5.0  # error sd outside every prior prediction from which a window is named
NAMED = 5  # windows that are named, at most


@dataclass(frozen=True)
class PriorCheck:
    """One variable's check ('all' for all together).

    Attributes
    ----------
    coverage : float
        Share of the observations within the central 90 % of the prior predictions plus error.
    outliers : int
        Windows with |d - gbar| > 3 (s_g + sigma): data and prior predictions are disjoint at three sigma.
    informed : (P,)
        Share of each parameter's prior variance that the data remove, to first order.
    degrees_of_freedom : float
        How many directions of the parameters the data inform: trace[F (I + F)^-1] with F the Fisher
        information in u; the sum of the shares where no parameters are correlated a priori.
    members : int
        Runs that the check is made of.
    constant : bool
        Whether all of them predict the same, in all windows.
    spread : float
        Their variance in units of the error's, summed over windows.
    least, most : float
        The 90 % quantile of the predictions' magnitude over that of the data, of the member with the least
        and the most, which a few outliers don't change; where the data are not larger than twice their
        error, the first is over that, and the second infinite. beyond : tuple of str The windows that lie
        furthest outside every prior prediction, with their distance in error sd.
    """

    variable: str
    windows: int
    coverage: float
    outliers: int
    informed: Array
    degrees_of_freedom: float
    members: int
    constant: bool
    spread: float
    least: float
    most: float
    beyond: tuple[str, ...]
    n_beyond: int

    @property
    def conflict(self) -> bool:
        """Whether the prior ensemble cannot have produced the data."""
        return self.outliers > CONFLICT * self.windows

    @property
    def disjoint(self) -> bool:
        """Whether so many windows differ, or the magnitudes so far, that no update can help."""
        many = self.outliers > DISJOINT * self.windows and self.outliers >= min(2, self.windows)
        return many or self.least > FACTOR or self.most < 1 / FACTOR


def assess(
    observations: Observations,
    u: Array,
    predictions: Array,
    factor: Array | None = None,
    measured: Observations | None = None,
) -> list[PriorCheck]:
    """Return the check of each variable, then of all, in the calibration period.

    Parameters
    ----------
    observations : Observations
        The calibration period.
    u, predictions : (J, P), (J, D) arrays
        The successful members of the prior ensemble.
    factor : (P, P) array
        `ParameterSpace.factor` of correlated priors.
    measured : Observations
        The same without a discrepancy estimated from these predictions, which would excuse any.

    Notes
    -----
    The sensitivities are the least-squares slopes of the whitened predictions on u, so that curvature counts
    as noise: a strongly nonlinear parameter is informed by more than is shown.

    >>> time = np.arange(2).astype("datetime64[s]")
    >>> labels = dict(variable=["a", "a"], unit=["1", "1"], period=["calibration"] * 2)
    >>> obs = Observations(y=np.zeros(2), noise=np.ones(2), start=time, end=time + 1, **labels)
    >>> u = np.array([[1.0], [-1.0], [0.5], [-0.5]])
    >>> assess(obs, u, u * [1.0, 0.0])[0].informed.round(12).tolist()
    [0.5]
    """
    slopes = np.linalg.pinv(centred(u)[1])
    factor = np.eye(u.shape[1]) if factor is None else factor
    masks = {v: observations.variable == v for v in dict.fromkeys(observations.variable.tolist())}
    masks = masks | {"all": np.ones(len(observations), dtype=bool)}
    noise = (measured or observations).sd
    return [
        _of(name, observations.select(m), slopes, predictions[:, m], factor, noise[m])
        for name, m in masks.items()
    ]


def _of(
    name: str, part: Observations, slopes: Array, predictions: Array, factor: Array, noise: Array
) -> PriorCheck:
    sensitivities = slopes @ centred(part.whiten(predictions))[1]  # (P, D)
    fisher = sensitivities @ sensitivities.T
    remaining = np.linalg.inv(np.eye(len(fisher)) + fisher)
    mean, spread = predictions.mean(axis=0), predictions.std(axis=0, ddof=1)
    large, observed = (np.quantile(np.abs(x), 0.9, axis=-1) for x in (predictions, part.y))
    error = float(np.median(noise))
    beyond, n_beyond = _beyond(part, predictions)
    return PriorCheck(
        variable=name,
        windows=len(part),
        coverage=Coverage().value(part.y, predictions, part.sd),
        outliers=int(np.sum(np.abs(part.y - mean) > 3.0 * (spread + part.sd))),
        informed=1.0 - np.diagonal(factor @ remaining @ factor.T),
        degrees_of_freedom=float(np.sum(1.0 - np.diagonal(remaining))),
        members=len(predictions),
        constant=bool((np.ptp(predictions, axis=0) <= 1e-12 * np.abs(predictions).max(axis=0)).all()),
        spread=float(np.sum((spread / part.sd) ** 2)),
        least=float(large.min() / max(observed, 2.0 * error)),
        most=float(large.max() / observed) if observed > 2.0 * error else np.inf,  # else zero does as well
        beyond=beyond,
        n_beyond=n_beyond,
    )


def _beyond(part: Observations, predictions: Array) -> tuple[tuple[str, ...], int]:
    """The windows furthest outside all predictions, named with their distance, and how many there are."""
    z = np.maximum(part.y - predictions.max(axis=0), predictions.min(axis=0) - part.y) / part.sd
    furthest = np.argsort(-z, kind="stable")[:NAMED]
    days = part.start.astype("datetime64[D]")
    named = tuple(f"{part.variable[k]} {days[k]} (z = {z[k]:.3g})" for k in furthest if z[k] > BEYOND)
    return named, int(np.sum(z > BEYOND))


def failure(checks: Sequence[PriorCheck], parameters: Sequence[str]) -> str:
    """Return why a calibration cannot work, '' if it can: a run goes on from there only if it is forced."""
    *parts, both = checks
    if both.constant:
        return f"{_all_same(both)}. {_SAME}"
    disjoint = [e for e in parts if e.disjoint]
    if disjoint:
        return (
            f"{'; '.join(map(_misses, disjoint))}. Try: another unit, variable (model) or period of the "
            "observations; wider priors; a larger error (discrepancy: estimate)"
        )
    if _uninformed(checks) == list(range(len(parameters))) and both.spread < INFORMED * len(parameters):
        return (
            "the data say next to nothing about any parameter; the posterior would be the prior. Try: other "
            "parameters, wider priors, more observations"
        )
    return ""


_SAME = (
    "Try: see whether the model reads the parameters that it is given, and writes its output anew in each "
    "member's folder"
)


def _all_same(e: PriorCheck) -> str:
    what = "output for the observed variables" if e.variable == "all" else f"output for {e.variable}"
    return f"the model's {what} is the same in all {e.members} members: it depends on no parameter"


def _misses(e: PriorCheck) -> str:
    """How a variable's predictions miss the data."""
    if e.least > FACTOR:
        return f"{e.variable}: all members predict at least {e.least:.3g} times what was observed"
    if e.most < 1 / FACTOR:
        return f"{e.variable}: all members predict at most {e.most:.3g} times what was observed"
    share = f"{e.outliers} of {e.windows} windows"
    return f"{e.variable} lies outside what the prior ensemble can produce in {share}"


def _uninformed(checks: Sequence[PriorCheck]) -> list[int]:
    """The parameters of which the data say next to nothing."""
    return [p for p, share in enumerate(checks[-1].informed) if share < INFORMED]


def verdict(checks: Sequence[PriorCheck], parameters: Sequence[str]) -> str:
    """Return the verdict: 'passed', 'passed, but ...' or 'failed: ...'."""
    reason = failure(checks, parameters)
    if reason:
        return f"failed: {reason}"
    remarks = [_all_same(e) for e in checks[:-1] if e.constant]
    remarks += [_misses(e) for e in checks[:-1] if e.conflict and not e.constant]
    uninformed = [parameters[p] for p in _uninformed(checks)]
    if uninformed:
        remarks.append(f"the data say next to nothing about {', '.join(uninformed)}")
    return f"passed, but {'; '.join(remarks)}" if remarks else "passed"


def render(checks: Sequence[PriorCheck], parameters: Sequence[str]) -> str:
    """Return the check as lines for the log, ending with the verdict."""
    lines = [
        f"prior check of {e.variable}: {e.windows} windows, {100 * e.coverage:.0f} % of the data lie in the "
        f"{100 * LEVEL:.0f} % range, {e.outliers} outliers{' IN CONFLICT' if e.conflict else ''}, the data "
        f"constrain about {e.degrees_of_freedom:.1f} of {len(parameters)} directions"
        for e in checks
    ]
    both = checks[-1]
    if both.beyond:
        more = f" and {both.n_beyond - len(both.beyond)} more" if both.n_beyond > len(both.beyond) else ""
        where = f"prior check: outside every prior prediction by more than {BEYOND:g} error sd"
        lines.append(f"{where}: {', '.join(both.beyond)}{more}")
    return "\n".join([*lines, f"prior check {verdict(checks, parameters)}"])
