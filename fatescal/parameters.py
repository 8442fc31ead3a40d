"""Parameters and their priors: theta in physical units, u standard normal under the prior.

u ~ N(0, I) becomes z = L u, correlated standard normals (a Gaussian copula; L is the identity where no correlations
are given), and each z_p its parameter by a monotone map, theta_p = T_p(z_p). Update, emulator and sampler then share
one scale, whatever the parameters' units, and none of them knows of correlations.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fatescal import settings
from fatescal.errors import BadInput
from fatescal.priors import LogitNormal, LogNormal, Normal, Prior, TruncatedNormal, Uniform
from fatescal.records import Array


@dataclass(frozen=True)
class ParameterSpace:
    """The P calibrated parameters: flat names as in `parameters.json`, priors, defaults.

    `factor` (P, P), lower triangular with rows of length 1, is L: L L' holds the correlations of z.

    >>> space = ParameterSpace(("a", "b"), (Normal(1.0, 2.0),) * 2, {}, np.array([[1.0, 0.0], [0.6, 0.8]]))
    >>> space.theta(np.array([1.0, 0.5])), space.u(space.theta(np.array([1.0, 0.5])))
    (array([[3., 3.]]), array([[1. , 0.5]]))
    """

    names: tuple[str, ...]
    priors: tuple[Prior, ...]
    default: Mapping[str, float]
    factor: Array | None = None

    def theta(self, u: Array) -> Array:
        """Return physical parameters (J, P) of coordinates (J, P)."""
        return self.margins(self.z(u))

    def u(self, theta: Array) -> Array:
        """Return coordinates (J, P) of physical parameters (J, P)."""
        theta = np.atleast_2d(theta)
        z = np.column_stack([prior.u(theta[:, p]) for p, prior in enumerate(self.priors)])
        if self.factor is None:
            return z
        u = np.empty_like(z)
        for p, row in enumerate(self.factor):
            before = sum((row[q] * u[:, q] for q in np.flatnonzero(row[:p])), np.zeros(len(u)))
            u[:, p] = (z[:, p] - before) / row[p]
        return u

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
        """Return one member's parameters (P) by name, as `parameters.json` has them."""
        return dict(zip(self.names, map(float, theta), strict=True))


def factor(correlations: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Array:
    """Return the lower triangular L (P, P) with L L' the correlations of the parameters called `names`.

    Raises
    ------
    BadInput
        For a name that is not calibrated, a pair given twice, or correlations that cannot all hold at once.
    """
    matrix = np.eye(len(names))
    given = set()
    for first, others in correlations.items():
        for second, rho in others.items():
            where = f"correlations.{first}.{second}"
            for name in (first, second):
                if name not in names:
                    raise BadInput(
                        f"{where}: {name} is not a calibrated parameter",
                        expected=f"among {', '.join(names)}",
                        hint=_nearest(name, names),
                    )
            if first == second:
                raise BadInput(f"{where}: a parameter correlates with itself by 1")
            if frozenset((first, second)) in given:
                raise BadInput(f"{where} is given twice", hint="keep one of them")
            given.add(frozenset((first, second)))
            p, q = names.index(first), names.index(second)
            matrix[p, q] = matrix[q, p] = rho
    least, vectors = np.linalg.eigh(matrix)
    if least[0] < 1e-8:
        blamed = [name for name, share in zip(names, np.abs(vectors[:, 0]), strict=True) if share > 0.1]
        raise BadInput(
            f"correlations: those of {', '.join(blamed)} cannot hold together (the matrix is not positive definite, "
            f"its least eigenvalue is {least[0]:.3g}): what correlates strongly with one thing correlates with all it correlates with",
            hint="correlations nearer to 0, or same_as for parameters that always agree",
        )
    return np.linalg.cholesky(matrix)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}" if near else ""


def flat_names(name: str, pfts: Sequence[str] | None) -> list[str]:
    """Return the names a parameter has in `parameters.json`.

    >>> flat_names("slope", ["grass", "shrub"]), flat_names("albedo", None)
    (['slope_grass', 'slope_shrub'], ['albedo'])
    """
    return [name] if pfts is None else [f"{name}_{pft}" for pft in pfts]


def _by_name(name: str, pft: str | int, known: Sequence[str], numbered: bool) -> str:
    """Return a PFT's name; a number counts, from 1, in the list of a model that numbers its PFTs."""
    if not isinstance(pft, int):
        return pft
    if not numbered:
        raise BadInput(
            f"parameters.{name}.pfts: {pft} is a number, and files number their PFTs differently",
            hint=f"use names: {', '.join(known) or 'needleleaf_evergreen_extratrop_tree ...'}",
        )
    if not 1 <= pft <= len(known):
        raise BadInput(
            f"parameters.{name}.pfts: there is no PFT number {pft}",
            expected=", ".join(f"{i} {known_name}" for i, known_name in enumerate(known, start=1)),
        )
    return known[pft - 1]


def _pft_names(name: str, chosen: Sequence[str | int], known: Sequence[str], numbered: bool) -> list[str]:
    """Return the PFT names of a parameter, checked against the model's own where it has any."""
    names = []
    for given in chosen:
        pft = _by_name(name, given, known, numbered)
        if known and pft not in known:
            near = difflib.get_close_matches(pft, known, n=1)
            raise BadInput(
                f"parameters.{name}.pfts: unknown PFT '{pft}'",
                expected=f"one of {', '.join(known)}",
                hint=f"did you mean {near[0]}" if near else "",
            )
        names.append(pft)
    if len(set(names)) < len(names):
        raise BadInput(f"parameters.{name}.pfts names a PFT twice", got=", ".join(names))
    return names


def _prior(flat: str, chosen: object, default: float | None) -> Prior:
    """Return the prior of one flat parameter, resolving `default` and relative bounds."""

    def need_default() -> float:
        if default is None:
            raise BadInput(
                f"parameters.{flat}: the prior refers to the default, and the model knows none",
                hint="give `default:` or a number",
            )
        return default

    def bounds(given: object) -> tuple[float, float]:
        if isinstance(given, settings.Relative):
            reach = given.relative * abs(need_default())
            if reach == 0:
                raise BadInput(f"parameters.{flat}: relative bounds around a default of 0 are empty")
            return need_default() - reach, need_default() + reach
        assert isinstance(given, tuple)
        lower, upper = given
        return -np.inf if lower is None else lower, np.inf if upper is None else upper

    def value(of: object) -> float:
        return need_default() if of == "default" else float(of)  # type: ignore[arg-type]

    match chosen:
        case settings.LogitNormal():
            lower, upper = bounds(chosen.bounds)
            if chosen.mean is not None:
                assert chosen.sd is not None
                return _named(flat, LogitNormal.of_moments, value(chosen.mean), chosen.sd, lower, upper)
            assert chosen.scale is not None
            median = (lower + upper) / 2 if chosen.median == "centre" else value(chosen.median)
            if not lower < median < upper:
                raise BadInput(
                    f"parameters.{flat}: the prior's median is outside its bounds",
                    expected=f"between {lower:g} and {upper:g}",
                    got=f"{median:g}",
                )
            return LogitNormal(median, chosen.scale, lower, upper)
        case settings.Normal():
            return Normal(value(chosen.mean), chosen.sd)
        case settings.TruncatedNormal():
            return _named(flat, TruncatedNormal, value(chosen.location), chosen.scale, *bounds(chosen.bounds))
        case settings.LogNormal():
            what = "median" if chosen.mean is None else "mean"
            centre = value(getattr(chosen, what))
            if centre <= 0:
                raise BadInput(f"parameters.{flat}: a log-normal's {what} is positive", got=centre)
            if chosen.scale is not None:
                return LogNormal(centre, chosen.scale)
            assert chosen.sd is not None
            return LogNormal.of_moments(centre, chosen.sd)
        case settings.Uniform():
            return Uniform(*bounds(chosen.bounds))
    raise TypeError(chosen)


def _named(flat: str, make: Callable[..., Prior], *numbers: float) -> Prior:
    """Return a prior; what it refuses is told with the parameter's name."""
    try:
        return make(*numbers)
    except BadInput as error:
        raise BadInput(f"parameters.{flat}: {error}") from None


def _given_default(
    flat: str, pft: str | None, parameter: settings.Parameter, known: Sequence[str], numbered: bool
) -> float | None:
    if isinstance(parameter.default, dict):
        by_name = {_by_name(flat, p, known, numbered): value for p, value in parameter.default.items()}
        if pft not in by_name:
            raise BadInput(f"parameters.{flat}: `default` has no value for it", got=list(parameter.default))
        return by_name[pft]
    return parameter.default


def _default(flat: str, prior: Prior, known: float | None) -> float:
    """Return the default run's value, checked to lie where the prior allows it."""
    median = float(prior.theta(np.float64(0.0)))
    value = median if known is None else known
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.isfinite(prior.u(np.float64(value)))
    if not inside:
        raise BadInput(
            f"parameters.{flat}: the default {value:g} is outside the prior's bounds",
            hint="widen the bounds or set `default:`",
        )
    return value


def space(
    parameters: Mapping[str, settings.Parameter],
    defaults: Mapping[str, float],
    pfts: Sequence[str],
    numbered: bool = False,
    correlations: Mapping[str, Mapping[str, float]] | None = None,
) -> ParameterSpace:
    """Return the parameter space of a config, given the model's own `defaults` and `pfts`.

    Where the model's PFTs are `numbered`, the config may call them by their number from 1.

    Raises
    ------
    BadInput
        For an unknown PFT, a default outside the bounds, a prior that needs a default nobody knows, or
        (where the model lists its parameters) a parameter it does not have.
    """
    names, priors, default = [], [], {}
    for name, parameter in parameters.items():
        chosen = None if parameter.pfts is None else _pft_names(name, parameter.pfts, pfts, numbered)
        for flat, pft in zip(flat_names(name, chosen), chosen or (None,), strict=True):
            if defaults and flat not in defaults:
                near = difflib.get_close_matches(flat, list(defaults), n=1)
                raise BadInput(
                    f"parameters.{flat}: the model has no such parameter",
                    hint=f"did you mean {near[0]}"
                    if near
                    else "its parameter files list them"
                    if len(defaults) > 50
                    else f"one of {', '.join(defaults)}",
                )
            given = _given_default(flat, pft, parameter, pfts, numbered)
            known = defaults.get(flat) if given is None else given
            names.append(flat)
            priors.append(_prior(flat, parameter.prior, known))
            default[flat] = _default(flat, priors[-1], known)
    together = factor(correlations, names) if correlations else None
    return ParameterSpace(tuple(names), tuple(priors), default, together)


def truth(given: Mapping[str, object], space: ParameterSpace) -> Array:
    """Return the parameters (P) of a synthetic truth: named ones set or scaled, others at the default.

    Raises
    ------
    BadInput
        If a name is not calibrated, or a value lies outside its prior's bounds.
    """
    values = dict(space.default)
    for name, value in given.items():
        spelled = value if isinstance(value, dict) else None
        flat = [n for n in space.names if n == name or n.startswith(f"{name}_")]
        if not flat or (spelled and not {f"{name}_{pft}" for pft in spelled} <= set(flat)):
            raise BadInput(
                f"observations.synthetic.truth: '{name}' is not a calibrated parameter",
                expected=f"among {', '.join(space.names)}",
            )
        for n in flat:
            item = spelled.get(n.removeprefix(f"{name}_")) if spelled else value
            if isinstance(item, settings.Scale):
                values[n] = item.scale * space.default[n]
            elif item is not None:
                values[n] = float(item)  # type: ignore[arg-type]
    theta = np.array([values[n] for n in space.names])
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = ~np.isfinite(space.u(theta)[0])
    if outside.any():
        bad = space.names[int(np.argmax(outside))]
        raise BadInput(f"observations.synthetic.truth: {bad} = {values[bad]:g} is outside its prior's bounds")
    return theta
