"""Names of parameters: flat ones, as `parameters.json` has them, and those of plant functional types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.options import wrong_name

DIMENSIONS = ("chain", "draw", "sample")  # of posterior.nc, and of what ArviZ makes of it


def flat_names(name: str, pfts: Sequence[str] | None) -> list[str]:
    """Return the names a parameter has in `parameters.json`.

    >>> flat_names("slope", ["grass", "shrub"]), flat_names("albedo", None)
    (['slope_grass', 'slope_shrub'], ['albedo'])
    """
    return [name] if pfts is None else [f"{name}_{pft}" for pft in pfts]


def pft_name(name: str, pft: str | int, known: Sequence[str], numbered: bool) -> str:
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


def pft_names(name: str, chosen: Sequence[str | int], known: Sequence[str], numbered: bool) -> list[str]:
    """Return the PFT names of a parameter, checked against the model's own where it has any."""
    names = []
    for choice in chosen:
        pft = pft_name(name, choice, known, numbered)
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


def require_known(flat: str, defaults: Mapping[str, float], internal: bool, pfts: Sequence[str]) -> None:
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


def require_names(names: Sequence[str]) -> None:
    """Refuse names that posterior.nc or a folder named after a parameter cannot hold."""
    for name in names:
        if wrong := wrong_name(name, DIMENSIONS):
            raise BadInput(
                f"parameters: the name {name!r} cannot be used: {wrong}",
                hint="another name, in the config and where the model reads it",
            )
