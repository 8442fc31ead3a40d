"""Section `model`: the options of whichever kind of model is named there."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, GetJsonSchemaHandler, SerializeAsAny

from fatescal.models import registry
from fatescal.models.base import ModelOptions


def _of_its_kind(value: Any) -> Any:
    """Return the options of the kind that is named, so that errors speak of that kind alone."""
    if isinstance(value, ModelOptions):
        return value
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError(f"model needs `kind`: one of {', '.join(registry.known())}")
    return registry.options_of(str(value["kind"])).model_validate(value)


class _OfEveryKind:
    """In the schema: the options of all kinds that are installed."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        every = registry.described().values()
        return {"anyOf": [c.__get_pydantic_json_schema__(c.__pydantic_core_schema__, handler) for c in every]}


Model = Annotated[SerializeAsAny[ModelOptions], BeforeValidator(_of_its_kind), _OfEveryKind()]
