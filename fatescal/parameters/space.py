"""Parameters and their priors: theta in physical units, u standard normal under the prior.

u ~ N(0, I) becomes z = L u, correlated standard normals (a Gaussian copula; L is the identity where no
correlations are given), and each z_p its parameter by a monotone map, theta_p = T_p(z_p). Update, emulator
and sampler then share one scale, whatever the parameters' units, and none of them knows of correlations.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from fatescal import config
from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.types import Array
from fatescal.parameters.derived import Expression, Fixed, Rule, Same, Scaled, ordered
from fatescal.parameters.priors import (
    LogitNormal,
    LogNormal,
    Normal,
    Prior,
    TruncatedNormal,
    Uniform,
    require_distinct_values,
)

DIMENSIONS = ("chain", "draw", "sample")  # of posterior.nc, and of what ArviZ makes of it
Made = TypeVar("Made")


@dataclass(frozen=True)
class ParameterSpace:
    """The P calibrated parameters: flat names as in `parameters.json`, priors, defaults; and what follows
    from them.

    `rules` give the parameters that are not calibrated, each after those it follows from; `hidden` are names
    that the model does not get. `factor` (P, P), lower triangular with rows of length 1, is L: L L' holds the
    correlations of z. `plant_types` has, for each calibrated entry of the config that has plant types, the
    flat name of each of them (also by its number, where the model numbers them).

    >>> space = ParameterSpace(("a", "b"), (Normal(1.0, 2.0),) * 2, {}, np.array([[1.0, 0.0], [0.6, 0.8]]))
    >>> space.theta(np.array([1.0, 0.5])), space.u(space.theta(np.array([1.0, 0.5])))
    (array([[3., 3.]]), array([[1. , 0.5]]))
    """

    names: tuple[str, ...]
    priors: tuple[Prior, ...]
    default: Mapping[str, float]
    factor: Array | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    plant_types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

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
    given = set()
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
            if frozenset((first, second)) in given:
                raise BadInput(f"{where} is given twice", hint="keep one of them")
            given.add(frozenset((first, second)))
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
            raise BadInput(
                f"parameters.{name}.pfts: unknown PFT '{pft}'",
                expected=f"one of {', '.join(known)}",
                hint=did_you_mean(pft, known),
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
        if isinstance(given, config.Relative):
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
        case config.LogitNormal():
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
        case config.Normal():
            return Normal(value(chosen.mean), chosen.sd)
        case config.TruncatedNormal():
            return _named(flat, TruncatedNormal, value(chosen.location), chosen.scale, *bounds(chosen.bounds))
        case config.LogNormal():
            what = "median" if chosen.mean is None else "mean"
            centre = value(getattr(chosen, what))
            if centre <= 0:
                raise BadInput(f"parameters.{flat}: a log-normal's {what} is positive", got=centre)
            if chosen.scale is not None:
                return LogNormal(centre, chosen.scale)
            assert chosen.sd is not None
            return LogNormal.of_moments(centre, chosen.sd)
        case config.Uniform():
            return Uniform(*bounds(chosen.bounds))
    raise TypeError(chosen)


def _named(flat: str, make: Callable[..., Made], *of: Any) -> Made:
    """Return what is made of some values; what is refused is told with the parameter's name."""
    try:
        return make(*of)
    except BadInput as error:
        raise BadInput(f"parameters.{flat}: {error}") from None


def _given_default(
    flat: str, pft: str | None, parameter: config.Parameter, known: Sequence[str], numbered: bool
) -> float | None:
    if isinstance(parameter.default, dict):
        by_name = {_by_name(flat, p, known, numbered): value for p, value in parameter.default.items()}
        chosen = [_by_name(flat, p, known, numbered) for p in parameter.pfts or ()]
        unused = [p for p in by_name if p not in chosen]
        if unused and chosen:
            raise BadInput(
                f"parameters.{flat}: `default` has a value for {unused[0]}, which is not among its `pfts`",
                expected=f"among {', '.join(chosen)}",
                hint=did_you_mean(unused[0], chosen),
            )
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


@dataclass(frozen=True)
class _Flat:
    """One entry of the config with one of its PFTs."""

    name: str
    pft: str | None
    of: config.Parameter


def space(
    parameters: Mapping[str, config.Parameter],
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
        (where the model lists its parameters) a parameter it does not have; for values that follow from
        unknown parameters, from each other in a circle, or are no numbers within the priors.
    """
    names, priors, default, hidden = [], [], {}, set()
    rules: dict[str, Rule] = {}
    entries = list(_flattened(parameters, pfts, numbered))
    known_names = [entry.name for entry in entries]
    for entry in entries:
        flat, of = entry.name, entry.of
        internal = of.scales is not None or bool(of.auxiliary)
        _require_known(flat, defaults, internal, pfts)
        if internal:
            hidden.add(flat)
        if of.prior is None:
            rules[flat] = _rule(entry, [*known_names, *defaults], pfts, numbered)
            continue
        given = _given_default(flat, entry.pft, of, pfts, numbered)
        known = (1.0 if of.scales else defaults.get(flat)) if given is None else given
        names.append(flat)
        priors.append(_prior(flat, of.prior, known))
        _named(flat, require_distinct_values, priors[-1])
        default[flat] = _default(flat, priors[-1], known)
        for target, number in _targets(flat, of.scales, defaults, pfts).items():
            known_names.append(target)
            rules[target] = Scaled(flat, number)
    _require_names(known_names)
    same = [unicodedata.normalize("NFC", name) for name in known_names]  # as netCDF stores them
    twice = next((name for i, name in enumerate(same) if name in same[:i]), None)
    if twice is not None:
        raise BadInput(f"parameters: {twice} is given twice", hint="keep one prior, value or factor for it")
    for other in {n for rule in rules.values() for n in rule.names} - set(known_names):
        if other in defaults:  # an expression may use what the config does not mention
            rules[other] = Fixed(defaults[other])
            hidden.add(other)
    if not names:
        raise BadInput(
            "parameters: none has a prior, so nothing is calibrated", hint="a prior for one of them"
        )
    in_order = ordered(rules, names)
    together = factor(correlations, names) if correlations else None
    of_types = _plant_types(entries, pfts if numbered else ())
    made = ParameterSpace(
        tuple(names), tuple(priors), default, together, in_order, frozenset(hidden), of_types
    )
    _require_numbers(made)
    return made


def _plant_types(entries: Sequence[_Flat], numbers: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the flat name of each plant type of each calibrated entry, also by its place among `numbers`,
    from 1."""
    found: dict[str, dict[str, str]] = {}
    for entry in entries:
        if entry.of.prior is not None and entry.pft is not None:
            found.setdefault(entry.name.removesuffix(f"_{entry.pft}"), {})[entry.pft] = entry.name
    for of_types in found.values():
        of_types |= {str(i): of_types[pft] for i, pft in enumerate(numbers, 1) if pft in of_types}
    return found


def _require_names(names: Sequence[str]) -> None:
    """Refuse names that posterior.nc or a folder named after a parameter cannot hold."""
    for name in names:
        if wrong := config.wrong_name(name, DIMENSIONS):
            raise BadInput(
                f"parameters: the name {name!r} cannot be used: {wrong}",
                hint="another name, in the config and where the model reads it",
            )


def _flattened(
    parameters: Mapping[str, config.Parameter], pfts: Sequence[str], numbered: bool
) -> Iterator[_Flat]:
    for name, parameter in parameters.items():
        given = list(parameter.fixed) if isinstance(parameter.fixed, dict) else parameter.pfts
        chosen = None if given is None else _pft_names(name, given, pfts, numbered)
        for flat, pft in zip(flat_names(name, chosen), chosen or (None,), strict=True):
            yield _Flat(flat, pft, parameter)


def _require_known(flat: str, defaults: Mapping[str, float], internal: bool, pfts: Sequence[str]) -> None:
    """Refuse a name that a model with a list of its parameters lacks, or an internal one that it has."""
    if internal and flat in defaults:
        raise BadInput(
            f"parameters.{flat}: the model has a parameter of this name, but would not get it",
            hint="another name for the factor or auxiliary parameter",
        )
    if defaults and not internal and flat not in defaults:
        _refuse_other_dimensions(flat, defaults, pfts)
        raise BadInput(
            f"parameters.{flat}: the model has no such parameter",
            hint=did_you_mean(flat, defaults)
            or ("its parameter files list them" if len(defaults) > 50 else f"one of {', '.join(defaults)}"),
        )


def _refuse_other_dimensions(flat: str, defaults: Mapping[str, float], pfts: Sequence[str]) -> None:
    """Raise `BadInput` where the model has a parameter of this name with other dimensions."""
    if any(f"{flat}_{pft}" in defaults for pft in pfts):
        raise BadInput(
            f"parameters.{flat} needs pfts: the model has a value for each plant type",
            expected=f"pfts: [{pfts[0]}, ...]",
            hint=f"one or more of {', '.join(pfts)}",
        )
    whole = next((flat.removesuffix(f"_{pft}") for pft in pfts if flat.endswith(f"_{pft}")), None)
    if whole in defaults:
        raise BadInput(f"parameters.{whole} has one value for all plant types", hint="take pfts away")
    ending = next((f"_{pft}" for pft in pfts if any(n.endswith(f"_{pft}") for n in defaults)), "")
    parts = [
        n.removesuffix(ending) for n in defaults if n.startswith(f"{whole or flat}_") and n.endswith(ending)
    ]
    if parts:
        more = ", ..." if len(parts) > 8 else ""
        raise BadInput(
            f"parameters.{whole or flat}: the model has several values, each with a name of its own",
            hint=f"one of {', '.join(parts[:8])}{more}",
        )


def _targets(
    flat: str,
    scales: Sequence[str] | Mapping[str, float] | None,
    defaults: Mapping[str, float],
    pfts: Sequence[str],
) -> dict[str, float]:
    """Return the parameters that a factor scales, with what it multiplies."""
    targets: dict[str, float] = {}
    for name in scales or ():
        if isinstance(scales, Mapping):
            _require_known(name, defaults, internal=False, pfts=pfts)
            targets[name] = scales[name]
            continue
        found = [n for n in (name, *flat_names(name, pfts)) if n in defaults]
        if not found:
            near = did_you_mean(name, defaults)
            raise BadInput(
                f"parameters.{flat}.scales: the model does not tell a default of {name}",
                hint=near or f"give the number that is multiplied: scales: {{{name}: 1.5}}",
            )
        targets |= {n: defaults[n] for n in found}
    return targets


def _rule(entry: _Flat, known: Sequence[str], pfts: Sequence[str], numbered: bool) -> Rule:
    """Return how a parameter without a prior gets its value."""
    of = entry.of

    def meant(name: str) -> str:
        """Return the parameter that a name stands for: the same PFT's, where it is none itself."""
        own = f"{name}_{entry.pft}"
        return own if name not in known and entry.pft is not None and own in known else name

    if of.fixed is not None:
        if not isinstance(of.fixed, dict):
            return Fixed(of.fixed)
        by_name = {_by_name(entry.name, p, pfts, numbered): value for p, value in of.fixed.items()}
        return Fixed(by_name[str(entry.pft)])
    if of.same_as is not None:
        return Same(meant(of.same_as))
    assert of.derived is not None
    try:
        plain = Expression(of.derived)
    except BadInput as error:
        raise BadInput(f"parameters.{entry.name}.derived: {error}") from None
    meaning = {name: meant(name) for name in plain.written}
    return Expression(of.derived, {n: m for n, m in meaning.items() if n != m} or None)


def _require_numbers(made: ParameterSpace) -> None:
    """Refuse rules that give no number at the default, at the ends of the priors, or among 200 draws of
    them."""
    if not made.rules:
        return
    draws = made.theta(np.random.default_rng(0).standard_normal((200, len(made.names))))
    for theta in (made.theta_default, *made.ends(), *draws):
        values = made._values(theta)
        for name, rule in made.rules.items():
            if not np.isfinite(values[name]):
                raise BadInput(
                    f"parameters.{name} ({rule}) has no value at "
                    f"{', '.join(f'{n} = {values[n]:.4g}' for n in rule.names)}",
                    expected="a finite number wherever the priors reach",
                    hint="narrower priors, or another expression",
                )


def truth(given: Mapping[str, object], space: ParameterSpace) -> Array:
    """Return the parameters (P) of a synthetic truth: named ones set or scaled, others at the default.

    A name is that of one parameter (`slope_grass`), or of one with plant types (`slope`): a number is then
    for all of them, a mapping for those it names.

    Raises
    ------
    BadInput
        If a name is not calibrated or means two things, one parameter is set twice, or a value lies outside
        its prior's bounds.
    """
    values, set_by = dict(space.default), dict[str, str]()
    for name, value in given.items():
        for flat, item in _meant(name, value, space).items():
            if flat in set_by:
                raise BadInput(
                    f"observations.synthetic.truth: {flat} is set twice, by {set_by[flat]} and {name}",
                    hint=f"one of them, or {{PLANT_TYPE: value}} in {set_by[flat]}",
                )
            set_by[flat] = name
            values[flat] = item.scale * space.default[flat] if isinstance(item, config.Scale) else float(item)
    theta = np.array([values[n] for n in space.names])
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = ~np.isfinite(space.u(theta)[0])
    if outside.any():
        bad = space.names[int(np.argmax(outside))]
        raise BadInput(f"observations.synthetic.truth: {bad} = {values[bad]:g} is outside its prior's bounds")
    return theta


def _meant(name: str, value: object, space: ParameterSpace) -> dict[str, Any]:
    """Return the values of the calibrated parameters that a name in a truth stands for."""
    where = "observations.synthetic.truth"
    of_types = space.plant_types.get(name, {})
    if isinstance(value, dict):
        unknown = next((pft for pft in value if str(pft) not in of_types), None)
        if of_types and unknown is not None:
            raise BadInput(
                f"{where}: {name} has no plant type {unknown} that is calibrated",
                expected=f"among {', '.join(of_types)}",
                hint=did_you_mean(unknown, of_types),
            )
        if of_types and len({of_types[str(pft)] for pft in value}) < len(value):
            raise BadInput(f"{where}: {name} names a plant type twice", got=", ".join(map(str, value)))
        if of_types:
            return {of_types[str(pft)]: item for pft, item in value.items()}
        if name in space.names:
            raise BadInput(f"{where}: {name} has no plant types", expected="a number", got=value)
    elif name in space.names and of_types:
        flat = ", ".join(dict.fromkeys(of_types.values()))
        raise BadInput(
            f"{where}: '{name}' is one parameter, and also one of plant types ({flat})",
            hint=f"{{{next(iter(of_types))}: value}} for the latter, or other names in `parameters`",
        )
    elif name in space.names or of_types:
        return dict.fromkeys(of_types.values() if of_types else [name], value)
    rule = space.rules.get(name)
    raise BadInput(
        f"{where}: '{name}' is not a calibrated parameter" + (f", it is {rule}" if rule is not None else ""),
        expected=f"among {', '.join(dict.fromkeys([*space.plant_types, *space.names]))}",
        hint="" if rule is not None else did_you_mean(name, [*space.plant_types, *space.names]),
    )
