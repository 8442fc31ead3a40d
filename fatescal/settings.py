"""The config: one YAML file, every key known, every mistake found before the first model run.

Paths are relative to the config's folder and `$VARIABLES` expand; `run.directory` is relative to the
working directory. Models reject unknown keys and name the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from fatescal.errors import BadInput

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] < pair[1]:
        raise ValueError(f"bounds are reversed or empty: lower {pair[0]:g}, upper {pair[1]:g}")
    return pair


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(Section):
    """Name, place and seed of the run."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    directory: Path
    seed: Annotated[int, Field(ge=0)] = 1


class Canopy(Section):
    """The embedded land model (`fatescal.forward.canopy`)."""

    kind: Literal["canopy"]
    forcing: str = "synthetic"
    start: date
    end: date
    spinup_years: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _in_order(self) -> Canopy:
        if self.end <= self.start:
            raise ValueError(f"model.end {self.end} is not after model.start {self.start}")
        return self


class Command(Section):
    """Any executable that reads a parameter file and leaves a netCDF file."""

    kind: Literal["command"]
    command: Annotated[list[str], Field(min_length=1)]
    parameters_file: str = "parameters.json"
    output: str = "output.nc"
    timeout: str | Positive | None = None
    calendar: str = "standard"


class ExternalModel(BaseModel):
    """A forward model from another package (entry point group `fatescal.forward_models`)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str


class Relative(Section):
    """Bounds as a share of the default value: default * (1 - relative), default * (1 + relative)."""

    relative: Annotated[float, Field(gt=0, lt=1)]


Bounds = Annotated[tuple[Finite, Finite], Field(description="lower and upper")] | Relative


class LogitNormal(Section):
    """Bounded; the logit of the scaled parameter is normal with sd `scale`."""

    kind: Literal["logit-normal"]
    median: Literal["default", "centre"] | Finite = "default"
    scale: Positive
    bounds: Bounds


class Normal(Section):
    kind: Literal["normal"]
    mean: Literal["default"] | Finite = "default"
    sd: Positive


class LogNormal(Section):
    """Positive; the logarithm is normal with sd `scale`."""

    kind: Literal["log-normal"]
    median: Literal["default"] | Positive = "default"
    scale: Positive


class Uniform(Section):
    kind: Literal["uniform"]
    bounds: Bounds


class Parameter(Section):
    """A calibrated parameter; with `pfts` one value for each of them."""

    prior: Annotated[LogitNormal | Normal | LogNormal | Uniform, Field(discriminator="kind")]
    pfts: Annotated[list[str | int], Field(min_length=1)] | None = None
    default: Finite | dict[str | int, Finite] | None = None


class Error(Section):
    """Error of one window's value, in the variable's unit."""

    sd: Positive


class Variable(Section):
    """One observed variable and its counterpart in the model's output."""

    model: str
    unit: str
    error: Error
    column: str | None = None


class Scale(Section):
    """The truth as a multiple of the default."""

    scale: Positive


TruthValue = Annotated[Scale | Finite, Field(union_mode="left_to_right")]


class Synthetic(Section):
    """Observations made from a model run at `truth` plus noise of the error model."""

    truth: dict[str, Annotated[TruthValue | dict[str | int, TruthValue], Field(union_mode="left_to_right")]]


class Observations(Section):
    window: str = "1D"
    calibration: tuple[date, date]
    validation: tuple[date, date] | None = None
    variables: Annotated[dict[str, Variable], Field(min_length=1)]
    synthetic: Synthetic | None = None
    file: str | None = None
    time_column: str | None = None
    min_valid: Annotated[float, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _one_source(self) -> Observations:
        if (self.synthetic is None) == (self.file is None):
            raise ValueError("give exactly one of `file` and `synthetic`")
        if self.file is not None and self.time_column is None:
            raise ValueError("`file` needs `time_column`, the name of the column with the time")
        for name, period in (("calibration", self.calibration), ("validation", self.validation)):
            if period is not None and period[1] < period[0]:
                raise ValueError(f"{name} period is reversed: {period[0]} to {period[1]}")
        return self


class Calibrate(Section):
    """The ensemble Kalman update; `members` counts the default run."""

    scheme: Literal["ienks", "es-mda"] = "ienks"
    members: Annotated[int, Field(ge=4)]
    iterations: Count | list[Positive] | Literal["adaptive"] = 4
    form: Literal["transform", "bundle", "stochastic", "square-root"] | None = None
    min_survivors: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _form_of_scheme(self) -> Calibrate:
        allowed = {"ienks": ("transform", "bundle"), "es-mda": ("stochastic", "square-root")}[self.scheme]
        if self.form is not None and self.form not in allowed:
            raise ValueError(f"form of {self.scheme} is one of {', '.join(allowed)}, got {self.form}")
        if self.scheme == "ienks" and not isinstance(self.iterations, int):
            raise ValueError(f"iterations of ienks is a number, got {self.iterations}")
        return self


class Emulate(Section):
    target: Literal["outputs", "misfit"] = "outputs"
    force: bool = False  # sample an emulator that failed its validation; the report says so
    rounds: Annotated[int, Field(ge=0)] = 3  # of refinement when the validation fails


class Sample(Section):
    """Parallel tempering: `runs` independent tempered runs, spread over the ranks."""

    runs: Annotated[int, Field(ge=4)] = 4
    levels: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    walkers: Count = 4
    max_steps: Annotated[int, Field(ge=100)] = 20000
    rhat: Annotated[float, Field(gt=1)] = 1.01
    ess: Positive = 400


class Posterior(Section):
    members: Annotated[int, Field(ge=2)]


def _model_kind(value: Any) -> Any:
    """Choose the model's settings by its kind, so that errors speak of that kind alone."""
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("model needs `kind`: canopy, command or a kind from an installed package")
    known: dict[str, type[BaseModel]] = {"canopy": Canopy, "command": Command}
    return known.get(str(value["kind"]), ExternalModel).model_validate(value)


class Settings(Section):
    """A whole config."""

    run: Run
    model: Annotated[Canopy | Command | ExternalModel, BeforeValidator(_model_kind)]
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    observations: Observations
    calibrate: Calibrate
    emulate: Emulate = Emulate()
    sample: Sample = Sample()
    posterior: Posterior

    folder: Path = Field(default=Path(), exclude=True)  # of the config file

    @field_validator("parameters")
    @classmethod
    def _bounds_in_order(cls, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        for name, parameter in parameters.items():
            bounds = getattr(parameter.prior, "bounds", None)
            if isinstance(bounds, tuple):
                try:
                    _ordered(bounds)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return parameters

    def path(self, text: str) -> Path:
        """Return a path of the config, relative ones from the config's folder."""
        return (self.folder / text).resolve()

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain JSON-able values, without the config's folder."""
        return self.model_dump(mode="json")


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which the standard loader silently drops one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise BadInput(
                    f"key '{key}' is given twice (line {key_node.start_mark.line + 1})",
                    hint="keep one of them",
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _expand(value: Any, where: str = "") -> Any:
    """Expand `$VARIABLES` in all strings below `value`; an undefined one is an error."""
    if isinstance(value, dict):
        return {k: _expand(v, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, where) for v in value]
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(os.path.expanduser(value) if value.startswith("~") else value)
    missing = re.search(r"\$\{?([A-Za-z_]\w*)", expanded)
    if missing:
        raise BadInput(
            f"{where}: environment variable {missing[1]} is not set (in '{value}')",
            hint=f"export {missing[1]}=/path/to/it before starting",
        )
    return expanded


def _known_keys(model: Any, where: tuple[Any, ...]) -> list[str]:
    """Return the keys allowed at a place of the config, for the nearest-name hint."""
    schema = model.model_json_schema()

    def resolve(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        alternatives = node.get("anyOf") or node.get("oneOf")
        return [n for a in alternatives for n in resolve(a)] if alternatives else [node]

    nodes = resolve(schema)
    for part in where:
        below = []
        for node in nodes:
            if part in node.get("properties", {}):
                below += resolve(node["properties"][part])
            elif isinstance(node.get("additionalProperties"), dict):
                below += resolve(node["additionalProperties"])
            elif node.get("properties", {}).get("kind", {}).get("const") == part:
                below.append(node)  # pydantic names the chosen alternative of a tagged union
        nodes = below or nodes
    return sorted({k for n in nodes for k in n.get("properties", {}) if k != "folder"})


def _explain(error: ValidationError) -> str:
    """Return the first mistakes of a config in words, one line each."""
    lines = []
    for mistake in error.errors()[:5]:
        where = ".".join(str(part) for part in mistake["loc"])
        if mistake["type"] == "extra_forbidden":
            known = _known_keys(Settings, mistake["loc"][:-1])
            near = difflib.get_close_matches(str(mistake["loc"][-1]), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
            lines.append(f"{where}: unknown key; {hint}")
        else:
            text = mistake["msg"].removeprefix("Value error, ")
            got = "" if mistake["type"] in ("missing", "value_error") else f", got {mistake['input']!r}"
            lines.append(f"{where}: {text[0].lower()}{text[1:]}{got}".lstrip(": "))
    return "\n  ".join(lines)


def load(path: Path) -> Settings:
    """Return the settings of a config file.

    Raises
    ------
    BadInput
        If the file cannot be read, is not YAML, or contradicts the schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"cannot read the config {path}: {getattr(error, 'strerror', None) or error}",
            hint="give the path of a YAML file",
        ) from None
    try:
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {error}", hint="check indentation and colons") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path} is not a config", expected="sections run, model, parameters ...", got=raw)
    if "folder" in raw:
        raise BadInput(f"{path}: folder: unknown key")
    try:
        return Settings.model_validate({**_expand(raw), "folder": path.resolve().parent})
    except ValidationError as error:
        raise BadInput(f"{path} has mistakes:\n  {_explain(error)}") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def schema() -> dict[str, Any]:
    """Return the JSON schema of a config, for editors."""
    described = Settings.model_json_schema()
    described["properties"].pop("folder")
    return described
