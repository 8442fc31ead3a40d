"""Parameters and their priors: theta in physical units, u standard normal under the prior.

u ~ N(0, I) becomes z = L u, correlated standard normals (a Gaussian copula; L is the identity where no
correlations are given), and each z_p its parameter by a monotone map, theta_p = T_p(z_p). Update, emulator
and sampler then share one scale, whatever the parameters' units, and none of them knows of correlations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.types import Array
from fatescal.parameters.derived import DerivedValue
from fatescal.parameters.priors.base import Prior


@dataclass(frozen=True)
class ParameterSpace:
    """The P calibrated parameters: flat names as in `parameters.json`, priors, defaults; and what follows
    from them.

    `rules` give the parameters that are not calibrated, each after those it follows from; `hidden` are names
    that the model does not get. `factor` (P, P), lower triangular with rows of length 1, is L: L L' holds the
    correlations of z. `plant_types` has, for each calibrated entry of the config that has plant types, the
    flat name of each of them (also by its number, where the model numbers them). `labels` say what tables and
    figures call a parameter.

    >>> from fatescal.parameters.priors import Normal
    >>> lower = np.array([[1.0, 0.0], [0.6, 0.8]])
    >>> space = ParameterSpace(("a", "b"), (Normal(mean=1.0, sd=2.0),) * 2, {}, lower)
    >>> space.theta(np.array([1.0, 0.5])), space.u(space.theta(np.array([1.0, 0.5])))
    (array([[3., 3.]]), array([[1. , 0.5]]))
    """

    names: tuple[str, ...]
    priors: tuple[Prior, ...]
    default: Mapping[str, float]
    factor: Array | None = None
    rules: Mapping[str, DerivedValue] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    plant_types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def theta(self, u: Array) -> Array:
        """Return physical parameters (J, P) of coordinates (J, P)."""
        return self.margins(self.z(u))

    def u(self, theta: Array) -> Array:
        """Return coordinates (J, P) of physical parameters (J, P)."""
        z = self.margin_u(theta)
        if self.factor is None:
            return z
        u = np.empty_like(z)
        for p, row in enumerate(self.factor):
            before = sum((row[q] * u[:, q] for q in np.flatnonzero(row[:p])), np.zeros(len(u)))
            u[:, p] = (z[:, p] - before) / row[p]
        return u

    def margin_u(self, theta: Array) -> Array:
        """Return z (J, P), the standard normal coordinate of each parameter (J, P) by itself; infinite at a
        bound."""
        theta = np.atleast_2d(theta)
        return np.column_stack([prior.u(theta[:, p]) for p, prior in enumerate(self.priors)])

    def z(self, u: Array) -> Array:
        """Return L u (J, P), the standard normal coordinate of each parameter by itself.

        Term by term: rows of a matrix product differ in the last bits between batch sizes.
        """
        u = np.atleast_2d(u)
        if self.factor is None:
            return u
        terms = ([row[q] * u[:, q] for q in np.flatnonzero(row)] for row in self.factor)
        return np.column_stack([sum(column, np.zeros(len(u))) for column in terms])

    def margins(self, z: Array) -> Array:
        """Return physical parameters (J, P), each of its own coordinate `z` (J, P)."""
        z = np.atleast_2d(z)
        return np.column_stack([prior.theta(z[:, p]) for p, prior in enumerate(self.priors)])

    @property
    def theta_default(self) -> Array:
        """Parameters (P) of the default run."""
        return self.theta(self.u_default)[0]

    @property
    def u_default(self) -> Array:
        """Coordinates (P) of the default run, member 0 of every evaluation."""
        return self.u(np.array([[self.default[name] for name in self.names]]))[0]

    def moved(self, p: int, by: float = 1.0) -> Array:
        """Return the default run's parameters (P), the p-th moved by so many prior standard deviations."""
        theta, z = self.theta_default, self.z(self.u_default)[0]
        theta[p] = self.priors[p].theta(z[p] + by)
        return theta

    def named(self, theta: Array) -> dict[str, float]:
        """Return all that the model gets of one member's parameters (P), by name, as `parameters.json` has
        it."""
        return {n: value for n, value in self._values(theta).items() if n not in self.hidden}

    def following(self, theta: Array, hidden: bool = False) -> dict[str, Array]:
        """Return the values (J) of each parameter that is not calibrated, given the calibrated ones (J, P).

        Of those that the model gets; with `hidden` of those as well that only serve others.
        """
        members = [self._values(row) for row in np.atleast_2d(theta)]
        shown = [n for n in self.rules if hidden or n not in self.hidden]
        return {n: np.array([m[n] for m in members]) for n in shown}

    def _values(self, theta: Array) -> dict[str, float]:
        values = dict(zip(self.names, map(float, theta), strict=True))
        for name, rule in self.rules.items():
            values[name] = rule.value(values)
        return values

    def ends(self, reach: float = 3.0) -> Array:
        """Return parameters (E, P) at the ends of the priors: all low, all high; with rules, each alone low
        and high."""
        numbers = range(len(self.names) if self.rules else 0)
        alone = [self.moved(p, by) for p in numbers for by in (-reach, reach)]
        together = [np.full(len(self.names), by) for by in (-reach, reach)]
        return np.vstack([self.margins(np.array(together)), *alone])


def factor(correlations: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Array:
    """Return the lower triangular L (P, P) with L L' the correlations of the parameters called `names`.

    Raises
    ------
    BadInput
        For a name that is not calibrated, a pair given twice, or correlations that cannot all hold at once.
    """
    matrix = np.eye(len(names))
    pairs = set()
    for first, others in correlations.items():
        for second, rho in others.items():
            where = f"correlations.{first}.{second}"
            for name in (first, second):
                if name not in names:
                    raise BadInput(
                        f"{where}: {name} is not a calibrated parameter",
                        expected=f"among {', '.join(names)}",
                        hint=did_you_mean(name, names),
                    )
            if first == second:
                raise BadInput(f"{where}: a parameter correlates with itself by 1")
            if frozenset((first, second)) in pairs:
                raise BadInput(f"{where} is given twice", hint="keep one of them")
            pairs.add(frozenset((first, second)))
            p, q = names.index(first), names.index(second)
            matrix[p, q] = matrix[q, p] = rho
    least, vectors = np.linalg.eigh(matrix)
    if least[0] < 1e-8:
        blamed = [name for name, share in zip(names, np.abs(vectors[:, 0]), strict=True) if share > 0.1]
        raise BadInput(
            f"correlations: those of {', '.join(blamed)} cannot hold together (the matrix is not positive "
            f"definite, its least eigenvalue is {least[0]:.3g}): what correlates strongly with one thing "
            "correlates with all it correlates with",
            hint="correlations nearer to 0, or same_as for parameters that always agree",
        )
    return np.linalg.cholesky(matrix)
