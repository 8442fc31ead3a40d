"""A synthetic truth: the parameters that observations are made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from fatescal.base.errors import BadInput, did_you_mean
from fatescal.base.options import Field, Finite, Positive, Section
from fatescal.base.types import Array
from fatescal.parameters.space import ParameterSpace


class Scale(Section):
    """The truth as a multiple of the default."""

    scale: Positive
    """what the default is multiplied by"""


TruthValue = Annotated[Scale | Finite, Field(union_mode="left_to_right")]


def truth(settings: Mapping[str, object], space: ParameterSpace) -> Array:
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
    for name, value in settings.items():
        for flat, item in _meant(name, value, space).items():
            if flat in set_by:
                raise BadInput(
                    f"observations.synthetic.truth: {flat} is set twice, by {set_by[flat]} and {name}",
                    hint=f"one of them, or {{PLANT_TYPE: value}} in {set_by[flat]}",
                )
            set_by[flat] = name
            values[flat] = item.scale * space.default[flat] if isinstance(item, Scale) else float(item)
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
