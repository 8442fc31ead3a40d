"""What all sections of a config share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def merged(shared: Any, own: Any) -> Any:
    """Return `shared` with the keys of `own` put in, section by section; null leaves a key out.

    >>> merged({"a": {"b": 1, "c": 2}, "d": [3]}, {"a": {"b": None, "e": 4}, "d": [5]})
    {'a': {'c': 2, 'e': 4}, 'd': [5]}
    """
    if not (isinstance(shared, dict) and isinstance(own, dict)):
        return own
    both = {**shared, **{key: merged(shared.get(key), value) for key, value in own.items()}}
    return {key: value for key, value in both.items() if value is not None}
