"""What the emulator's own error does to the likelihood: the variance modes, named in the config.

With r (K) the residual of the observations from the emulator's mean in latent coordinates, s^2 (K) its
variance there, and observation noise 1, per output and but for constants:

| name | log L | |
|---|---|---|
| `plug-in` | -r^2 / 2 | the emulator is taken at its word |
| `expected` | -(r^2 + s^2) / 2 | E log L: never rewards ignorance, never widens the posterior |
| `marginal` | log N(r; 0, 1 + s^2) | log E L (Cleary et al. 2021, eq. 2.17): right where the model can fit the data |
| `auto` | `marginal`, or `expected` where no run can fit the data | the default |

`expected` does not count the emulator's error as error: 16 runs of a real model give a posterior as narrow as
the noise alone would make it, at the wrong place. `marginal` rewards ignorance where the model cannot fit the
data: a residual of 20 sd, as the structural error of the embedded model leaves in some outputs on real
Hyytiala fluxes, is forgiven wherever s is as large, and chains sat 12 prior sd away from every run, 300 nats
above the true optimum. `auto` tells the two cases apart by the residuals at the optimum of the emulated
posterior.

**Ignorance is charged for in every mode** (`charged`): no mode may exceed `expected` by more than
`MOST_GAIN`, and where the sd of Phi exceeds 2 half the square of the rest is taken off. Where no run vouches
for the emulator, s^2 sums to tens or thousands and `expected` falls by half of that, so that chains stay
where the runs are. Without it the first posterior of a bucket model sat where the median sd of Phi was 154,
and after two refinements 1 % of the draws still did and made the sd of a parameter 1.64 times too large.
Since modes then differ by at most `MOST_GAIN`, a change of `auto` from one round to the next moves no chain
out of the known region. Rejected, all on nine parameters and real fluxes: to decide output by output (the few
that fit then buy ignorance for all: 34 nats), to forgive only what exceeds the structural residual rho^2 (80
nats), to be linear in rho (770 nats, a mean that runs away).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fatescal.base.minimum import minimum
from fatescal.base.types import Array
from fatescal.emulate.gaussian_process import GPMixture

BEYOND = 3.0  # rms residual at the optimum, in sd of noise and emulator, above which no run can fit
# nats above `expected`: what sd of Phi of about 2 gains, beyond which the gate refuses an emulator anyway
MOST_GAIN = 3.0
KNOWN = 2.0  # sd of Phi above which the emulator knows too little to be sampled
Mode = Callable[[Array, Array], Array]


def plug_in(residual: Array, variance: Array) -> Array:
    """Return -1/2 sum r^2 (M) of residuals and variances (M, K)."""
    return -0.5 * np.sum(residual**2, axis=1)


def expected(residual: Array, variance: Array) -> Array:
    """Return E log L (M)."""
    return -0.5 * np.sum(residual**2 + variance, axis=1)


def marginal(residual: Array, variance: Array) -> Array:
    """Return log E L (M).

    >>> marginal(np.array([[3.0]]), np.array([[0.0], [3.0]])).round(3).tolist()
    [-4.5, -1.818]
    """
    return -0.5 * np.sum(residual**2 / (1.0 + variance) + np.log1p(variance), axis=1)


def sd_of_misfit(residual: Array, variance: Array) -> Array:
    """Return the sd (M) of Phi = 1/2 sum r^2, r normal with means `residual` and `variance` (M, K)."""
    return np.sqrt(np.sum(residual**2 * variance + 0.5 * variance**2, axis=1))


def charge(sd: Array) -> Array:
    """Return what is taken off log L (M) where the sd of Phi (M) exceeds `KNOWN`: half the square of the rest.

    >>> charge(np.array([1.0, 5.0])).tolist()
    [0.0, 4.5]
    """
    return 0.5 * np.maximum(sd - KNOWN, 0.0) ** 2


def charged(mode: Mode, residual: Array, variance: Array) -> Array:
    """Return log L (M) of a mode, at most `MOST_GAIN` above `expected`, less the `charge` of its ignorance.

    What a mode gains over `expected` is left as it is where small, and bounded where large: G tanh(gain / G).

    >>> known = charged(plug_in, np.ones((1, 2)), np.full((1, 2), 0.1))
    >>> unknown = charged(plug_in, np.zeros((1, 2)), np.full((1, 2), 500.0))
    >>> known.round(2).tolist(), bool(unknown[0] < -400)
    ([-1.0], True)
    """
    sure = expected(residual, variance)
    gain = MOST_GAIN * np.tanh((mode(residual, variance) - sure) / MOST_GAIN)
    return sure + gain - charge(sd_of_misfit(residual, variance))


MODES: Mapping[str, Mode] = {"plug-in": plug_in, "expected": expected, "marginal": marginal}


def chosen(name: str, process: GPMixture, target: Array, u: Array) -> Mode:
    """Return the mode of a name; for `auto` the one that suits observations and model.

    Parameters
    ----------
    target : (K) array
        The observations in latent coordinates.
    u : (N, P) array
        The runs that `process` has learnt from.
    """
    if name == "auto":
        name = "expected" if best_residual(process, target, u) > BEYOND else "marginal"
    return MODES[name]


def best_residual(process: GPMixture, target: Array, u: Array) -> float:
    """Return the root mean square residual, in sd of noise and emulator, at the optimum of the emulated
    posterior.

    The optimum is looked for from the best runs.
    """

    def cost(points: Array) -> Array:
        return 0.5 * np.sum((target - process.mean(points)) ** 2, axis=1) + 0.5 * np.sum(points**2, axis=1)

    mean, variance = process(minimum(cost, u)[None])
    return float(np.sqrt(np.mean((target - mean) ** 2 / (1.0 + variance))))
