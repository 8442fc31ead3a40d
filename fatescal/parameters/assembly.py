"""From the entries of a config to the parameter space: names, priors in numbers, rules in order."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.parameters.derived import RULES, DerivedValue, Fixed, Scaled, ordered
from fatescal.parameters.entries import ParameterEntry
from fatescal.parameters.names import flat_names, pft_name, pft_names, require_known, require_names
from fatescal.parameters.priors.base import Prior, require_distinct_values
from fatescal.parameters.space import ParameterSpace, factor

Made = TypeVar("Made")


@dataclass(frozen=True)
class _Entry:
    """One entry of the config with one of its PFTs."""

    name: str
    pft: str | None
    of: ParameterEntry


@dataclass
class _Draft:
    """A parameter space that is being put together; `known` are all names that have a value."""

    known: list[str]
    priors: dict[str, Prior] = field(default_factory=dict)
    default: dict[str, float] = field(default_factory=dict)
    rules: dict[str, DerivedValue] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)

    def calibrate(self, name: str, prior: Prior, known: float | None) -> None:
        """Add a calibrated parameter, of which `known` is the default."""
        self.priors[name] = _named(name, prior.resolved, known)
        _named(name, require_distinct_values, self.priors[name])
        self.default[name] = _default(name, self.priors[name], known)


def parameter_space(
    parameters: Mapping[str, ParameterEntry],
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
    entries = list(_flattened(parameters, pfts, numbered))
    draft = _drafted(entries, defaults, pfts, numbered)
    require_names(draft.known)
    _require_once(draft.known)
    for other in {n for rule in draft.rules.values() for n in rule.names} - set(draft.known):
        if other in defaults:  # an expression may use what the config does not mention
            draft.rules[other] = Fixed(defaults[other])
            draft.hidden.add(other)
    names = list(draft.priors)
    if not names:
        raise BadInput(
            "parameters: none has a prior, so nothing is calibrated", hint="a prior for one of them"
        )
    made = ParameterSpace(
        names=tuple(names),
        priors=tuple(draft.priors.values()),
        default=draft.default,
        rules=ordered(draft.rules, names),
        factor=factor(correlations, names) if correlations else None,
        hidden=frozenset(draft.hidden),
        plant_types=_plant_types(entries, pfts if numbered else ()),
        labels={entry.name: _label(entry, pfts, numbered) for entry in entries},
    )
    _require_numbers(made)
    return made


def _flattened(
    parameters: Mapping[str, ParameterEntry], pfts: Sequence[str], numbered: bool
) -> Iterator[_Entry]:
    for name, parameter in parameters.items():
        types = list(parameter.fixed) if isinstance(parameter.fixed, dict) else parameter.pfts
        chosen = None if types is None else pft_names(name, types, pfts, numbered)
        for flat, pft in zip(flat_names(name, chosen), chosen or (None,), strict=True):
            yield _Entry(flat, pft, parameter)


def _drafted(
    entries: Sequence[_Entry], defaults: Mapping[str, float], pfts: Sequence[str], numbered: bool
) -> _Draft:
    """Return what the entries say, each by itself."""
    draft = _Draft([entry.name for entry in entries])
    for entry in entries:
        flat, of = entry.name, entry.of
        internal = of.scales is not None or bool(of.auxiliary)
        require_known(flat, defaults, internal, pfts)
        if internal:
            draft.hidden.add(flat)
        if of.prior is None:
            draft.rules[flat] = _rule(entry, [*draft.known, *defaults], pfts, numbered)
            continue
        default = _config_default(entry, pfts, numbered)
        known = (1.0 if of.scales else defaults.get(flat)) if default is None else default
        draft.calibrate(flat, of.prior, known)
        for target, number in _targets(flat, of.scales, defaults, pfts).items():
            draft.known.append(target)
            draft.rules[target] = Scaled(flat, number)
    return draft


def _require_once(names: Sequence[str]) -> None:
    """Refuse a parameter that gets its value in two ways."""
    same = [unicodedata.normalize("NFC", name) for name in names]  # as netCDF stores them
    twice = next((name for i, name in enumerate(same) if name in same[:i]), None)
    if twice is not None:
        raise BadInput(f"parameters: {twice} is given twice", hint="keep one prior, value or factor for it")


def _plant_types(entries: Sequence[_Entry], numbers: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the flat name of each plant type of each calibrated entry, also by its place among `numbers`,
    from 1."""
    names: dict[str, dict[str, str]] = {}
    for entry in entries:
        if entry.of.prior is not None and entry.pft is not None:
            names.setdefault(entry.name.removesuffix(f"_{entry.pft}"), {})[entry.pft] = entry.name
    for of_types in names.values():
        of_types |= {str(i): of_types[pft] for i, pft in enumerate(numbers, 1) if pft in of_types}
    return names


def _config_default(entry: _Entry, known: Sequence[str], numbered: bool) -> float | None:
    """Return the default that the config gives for an entry; None: none."""
    flat, pft, parameter = entry.name, entry.pft, entry.of
    if not isinstance(parameter.default, dict):
        return parameter.default
    by_name = _by_pft(entry, "default", parameter.default, known, numbered)
    if pft not in by_name:
        raise BadInput(f"parameters.{flat}: `default` has no value for it", got=list(parameter.default))
    return by_name[pft]


def _by_pft(
    entry: _Entry, key: str, given: Mapping[str | int, Made], known: Sequence[str], numbered: bool
) -> dict[str, Made]:
    """Return what a key gives for each PFT, by name; refuse one that is not among the entry's own."""
    by_name = {pft_name(entry.name, p, known, numbered): value for p, value in given.items()}
    chosen = [pft_name(entry.name, p, known, numbered) for p in entry.of.pfts or ()]
    unused = [p for p in by_name if p not in chosen]
    if unused and chosen:
        raise BadInput(
            f"parameters.{entry.name}: `{key}` has a value for {unused[0]}, which is not among its `pfts`",
            expected=f"among {', '.join(chosen)}",
            hint=did_you_mean(unused[0], chosen),
        )
    return by_name


def _label(entry: _Entry, known: Sequence[str], numbered: bool) -> str:
    """Return what a parameter is called in tables and figures: its name where the config gives no label."""
    label = entry.of.label
    if label is None:
        return entry.name
    if isinstance(label, dict):
        return _by_pft(entry, "label", label, known, numbered).get(entry.pft or "", entry.name)
    return label if entry.pft is None else f"{label} {entry.pft.replace('_', ' ')}"


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


def _named(flat: str, make: Callable[..., Made], *of: Any) -> Made:
    """Return what is made of some values; an error names the parameter."""
    try:
        return make(*of)
    except BadInput as error:
        raise BadInput(f"parameters.{flat}: {error}") from None


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
            require_known(name, defaults, internal=False, pfts=pfts)
            targets[name] = scales[name]
            continue
        matches = [n for n in (name, *flat_names(name, pfts)) if n in defaults]
        if not matches:
            near = did_you_mean(name, defaults)
            raise BadInput(
                f"parameters.{flat}.scales: the model does not tell a default of {name}",
                hint=near or f"give the number that is multiplied: scales: {{{name}: 1.5}}",
            )
        targets |= {n: defaults[n] for n in matches}
    return targets


def _rule(entry: _Entry, known: Sequence[str], pfts: Sequence[str], numbered: bool) -> DerivedValue:
    """Return how a parameter without a prior gets its value."""

    def meant(name: str) -> str:
        """Return the parameter that a name stands for: the same PFT's, where it is none itself."""
        own = f"{name}_{entry.pft}"
        return own if name not in known and entry.pft is not None and own in known else name

    key = next(key for key in RULES if getattr(entry.of, key) is not None)
    value = getattr(entry.of, key)
    if isinstance(value, dict):
        value = {pft_name(entry.name, p, pfts, numbered): v for p, v in value.items()}[str(entry.pft)]
    try:
        return RULES[key].of(value, meant)
    except BadInput as error:
        raise BadInput(f"parameters.{entry.name}.{key}: {error}") from None


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
