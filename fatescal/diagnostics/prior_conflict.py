"""Prior and posterior in conflict: parameters that the data carry to where the prior had little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fatescal.base.types import Array
from fatescal.parameters.priors.base import Prior

SHIFT = 2.0  # prior sd between the posterior mean and the prior's centre from which they conflict
CENTRAL = 1.959963984540054  # half width, in standard deviations, of a normal's central 95 %
INSIDE = 0.5  # share of the draws in the prior's central 95 % below which they conflict
EDGE = 0.05  # of the width of a prior counts as its edge
PILED = 0.2  # share of the draws at an edge from which they pile up there ...
EXCESS = 4.0  # ... where it is also so many times the prior's own


@dataclass(frozen=True)
class PriorConflict:
    """One parameter's posterior beside its prior.

    Attributes
    ----------
    shift : float
        Mean of the posterior in prior standard deviations from the prior's centre, on the scale on which the
        prior is normal.
    inside : float
        Share of the draws in the prior's central 95 %: their overlap.
    lower, upper : float
        Share of the draws at each bound, within 5 % of the prior's width from it; 0 where there is no bound.
    piles : tuple of str
        The bounds at which they pile up: "lower", "upper".
    """

    parameter: str
    shift: float
    inside: float
    lower: float
    upper: float
    piles: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The conflict in one sentence, '' where there is none."""
        reasons = ", ".join(self.reasons)
        return f"prior and posterior of {self.parameter} are in conflict: {reasons}" if reasons else ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """What the conflict is, empty where there is none."""
        reasons = []
        if abs(self.shift) > SHIFT:
            reasons.append(
                f"its mean lies {abs(self.shift):.1f} prior sd {'above' if self.shift > 0 else 'below'}"
            )
        if self.inside < INSIDE:
            reasons.append(f"{self.inside:.0%} of the draws are in the prior's central 95 %")
        reasons += [f"{getattr(self, end):.0%} of the draws pile up at the {end} bound" for end in self.piles]
        return tuple(reasons)


def conflicts(names: Sequence[str], priors: Sequence[Prior], z: Array) -> list[PriorConflict]:
    """Return each parameter's posterior beside its prior.

    Parameters
    ----------
    names : sequence of str
        Of the P parameters.
    priors : sequence of Prior
        Of each, in numbers.
    z : (N, P) array
        The posterior draws in the coordinates that are standard normal under each prior.

    >>> from fatescal.parameters.priors import Uniform
    >>> prior = Uniform(bounds=(1.0, 9.0))
    >>> draws = np.linspace(8.5, 8.99, 99)[:, None]
    >>> conflicts(["slope"], [prior], prior.u(draws))[0].reasons
    ('79% of the draws pile up at the upper bound',)
    """
    return [_of(name, prior, z[:, p]) for p, (name, prior) in enumerate(zip(names, priors, strict=True))]


def _of(name: str, prior: Prior, z: Array) -> PriorConflict:
    from scipy.special import ndtr

    low, high = prior.support
    ends = prior.theta(np.array([-CENTRAL, CENTRAL]))
    edge = EDGE * (high - low if np.isfinite(high - low) else ends[1] - ends[0])
    theta = prior.theta(z)
    shares, piles = {"lower": 0.0, "upper": 0.0}, []
    for end, bound, inward in (("lower", low, 1), ("upper", high, -1)):
        if not np.isfinite(bound):
            continue
        shares[end] = float(np.mean(np.abs(theta - bound) <= edge))
        of_prior = float(ndtr(inward * prior.u(bound + inward * edge)))
        if shares[end] > max(PILED, EXCESS * of_prior):
            piles.append(end)
    inside = float(np.mean(np.abs(z) <= CENTRAL))
    return PriorConflict(name, float(z.mean()), inside, **shares, piles=tuple(piles))
