"""Parameters and their priors: theta in physical units, u standard normal under the prior.

Every prior is a monotone map of a standard normal coordinate, theta = T(u), u ~ N(0, 1). Update,
emulator and sampler then share one scale, whatever the parameter's unit.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fatescal import settings
from fatescal.errors import BadInput
from fatescal.records import Array


class Prior(Protocol):
    """One parameter's prior."""

    def theta(self, u: npt.ArrayLike) -> Array:
        """Return the parameter at standard normal coordinates `u`, elementwise."""

    def u(self, theta: npt.ArrayLike) -> Array:
        """Return the coordinates of `theta`, the inverse of `theta`."""


@dataclass(frozen=True)
class LogitNormal:
    """theta = a + (b - a) expit(logit((median - a)/(b - a)) + scale u).

    >>> prior = LogitNormal(62.0, 0.3, 15.5, 108.5)
    >>> float(prior.theta(0.0)), round(float(prior.u(prior.theta(1.5))), 12)
    (62.0, 1.5)
    """

    median: float
    scale: float
    lower: float
    upper: float

    def _logit(self, theta: npt.ArrayLike) -> Array:
        return np.log((np.asarray(theta) - self.lower) / (self.upper - np.asarray(theta)))

    def theta(self, u: npt.ArrayLike) -> Array:
        x = self._logit(self.median) + self.scale * np.asarray(u)
        return self.lower + (self.upper - self.lower) * 0.5 * (1.0 + np.tanh(0.5 * x))

    def u(self, theta: npt.ArrayLike) -> Array:
        return (self._logit(theta) - self._logit(self.median)) / self.scale


@dataclass(frozen=True)
class Normal:
    """theta = mean + sd u."""

    mean: float
    sd: float

    def theta(self, u: npt.ArrayLike) -> Array:
        return self.mean + self.sd * np.asarray(u)

    def u(self, theta: npt.ArrayLike) -> Array:
        return (np.asarray(theta) - self.mean) / self.sd


@dataclass(frozen=True)
class LogNormal:
    """theta = median exp(scale u)."""

    median: float
    scale: float

    def theta(self, u: npt.ArrayLike) -> Array:
        return self.median * np.exp(self.scale * np.asarray(u))

    def u(self, theta: npt.ArrayLike) -> Array:
        return np.log(np.asarray(theta) / self.median) / self.scale


@dataclass(frozen=True)
class Uniform:
    """theta = a + (b - a) Phi(u), Phi the standard normal distribution function."""

    lower: float
    upper: float

    def theta(self, u: npt.ArrayLike) -> Array:
        from scipy.special import ndtr

        return self.lower + (self.upper - self.lower) * ndtr(u)

    def u(self, theta: npt.ArrayLike) -> Array:
        from scipy.special import ndtri

        return ndtri((np.asarray(theta) - self.lower) / (self.upper - self.lower))


@dataclass(frozen=True)
class ParameterSpace:
    """The P calibrated parameters: flat names as in `parameters.json`, priors, defaults."""

    names: tuple[str, ...]
    priors: tuple[Prior, ...]
    default: Mapping[str, float]

    def theta(self, u: Array) -> Array:
        """Return physical parameters (J, P) of coordinates (J, P)."""
        u = np.atleast_2d(u)
        return np.column_stack([prior.theta(u[:, p]) for p, prior in enumerate(self.priors)])

    def u(self, theta: Array) -> Array:
        """Return coordinates (J, P) of physical parameters (J, P)."""
        theta = np.atleast_2d(theta)
        return np.column_stack([prior.u(theta[:, p]) for p, prior in enumerate(self.priors)])

    @property
    def u_default(self) -> Array:
        """Coordinates (P) of the default run, member 0 of every evaluation."""
        return self.u(np.array([[self.default[name] for name in self.names]]))[0]

    def named(self, theta: Array) -> dict[str, float]:
        """Return one member's parameters (P) by name, as `parameters.json` has them."""
        return dict(zip(self.names, map(float, theta), strict=True))


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
        return given

    match chosen:
        case settings.LogitNormal():
            lower, upper = bounds(chosen.bounds)
            median = {"default": default, "centre": (lower + upper) / 2}.get(
                str(chosen.median), chosen.median
            )
            median = need_default() if median is None else float(median)
            if not lower < median < upper:
                raise BadInput(
                    f"parameters.{flat}: the prior's median is outside its bounds",
                    expected=f"between {lower:g} and {upper:g}",
                    got=f"{median:g}",
                )
            return LogitNormal(median, chosen.scale, lower, upper)
        case settings.Normal():
            return Normal(need_default() if chosen.mean == "default" else float(chosen.mean), chosen.sd)
        case settings.LogNormal():
            median = need_default() if chosen.median == "default" else float(chosen.median)
            if median <= 0:
                raise BadInput(f"parameters.{flat}: a log-normal's median is positive", got=median)
            return LogNormal(median, chosen.scale)
        case settings.Uniform():
            return Uniform(*bounds(chosen.bounds))
    raise TypeError(chosen)


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
    return ParameterSpace(tuple(names), tuple(priors), default)


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
