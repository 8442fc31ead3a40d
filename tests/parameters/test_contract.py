"""What every prior and every design of the registry must do."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import stats

from fatescal.base.errors import BadInput
from fatescal.base.families import Choice, kind_of
from fatescal.config import schema
from fatescal.parameters.priors import Normal, Prior, Uniform
from fatescal.parameters.priors.base import require_distinct_values
from fatescal.parameters.registry import DESIGNS, PRIORS, AnyDesign, AnyPrior, of_prior
from fatescal.parameters.space import ParameterSpace

FAMILIES: dict[str, type[Choice]] = {**PRIORS, **{f"design {kind}": c for kind, c in DESIGNS.items()}}
DEFAULT = 5.0


def example(kind: str) -> Prior:
    return TypeAdapter(AnyPrior).validate_python(PRIORS[kind].example)


def test_no_class_stands_under_the_name_of_another():
    assert {kind: kind_of(c) for family in (PRIORS, DESIGNS) for kind, c in family.items()} == {
        kind: kind for family in (PRIORS, DESIGNS) for kind in family
    }
    names = [c.__name__ for c in FAMILIES.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_key_is_described_in_the_schema_of_the_config(name: str) -> None:
    chosen = FAMILIES[name]
    described = schema()["$defs"][chosen.__name__]
    assert described["examples"] == [chosen.example]
    assert chosen.__doc__
    assert described["description"].startswith(chosen.__doc__.splitlines()[0])
    assert "kind" in described["required"]
    undescribed = [key for key, of in described["properties"].items() if "description" not in of]
    assert undescribed == []


@pytest.mark.parametrize("kind", PRIORS)
def test_a_prior_comes_back_from_its_config_and_from_another_rank(kind: str) -> None:
    chosen = example(kind)
    assert TypeAdapter(AnyPrior).validate_python(chosen.model_dump(mode="json")) == chosen
    ready = chosen.resolved(DEFAULT)
    assert pickle.loads(pickle.dumps(ready)) == ready
    assert ready.resolved(None) == ready


@pytest.mark.parametrize("kind", PRIORS)
def test_a_prior_is_a_rising_map_of_a_normal_coordinate(kind: str) -> None:
    ready = example(kind).resolved(DEFAULT)
    require_distinct_values(ready)
    u = np.linspace(-8.0, 8.0, 321).reshape(3, 107)
    theta = ready.theta(u)
    lower, upper = ready.support
    assert theta.shape == u.shape
    assert ((lower < theta) & (theta < upper)).all()
    assert (np.diff(theta.ravel()) >= 0).all()
    inner = np.abs(u) < 3.5
    assert (np.diff(theta[inner]) > 0).all()
    np.testing.assert_allclose(ready.u(theta)[inner], u[inner], atol=1e-6)
    assert np.isfinite(ready.u(theta)).all()
    np.testing.assert_allclose([ready.theta(x) for x in u[0]], theta[0], rtol=1e-14)


@pytest.mark.parametrize("kind", PRIORS)
def test_a_prior_is_told_in_numbers_and_words(kind: str) -> None:
    ready = example(kind).resolved(DEFAULT)
    np.testing.assert_allclose(
        ready.quantiles((0.025, 0.5, 0.975)), ready.theta(stats.norm.ppf((0.025, 0.5, 0.975)))
    )
    assert ready.numbers
    assert all(isinstance(value, float) for value in ready.numbers.values())
    assert ready.description.startswith(f"{kind}, {next(iter(ready.numbers))} ")


def of_default(kind: str) -> Mapping[str, Any]:
    """Return a config of the kind in which all that can refers to the default."""
    fields = PRIORS[kind].model_fields
    relative: dict[str, Any] = {"bounds": {"relative": 0.5}} if "bounds" in fields else {}
    central: dict[str, Any] = {"location": "default"} if "location" in fields else {}
    if "median" in fields:
        return {"kind": kind, "median": "default", "scale": 0.5, **relative}
    if "mean" in fields:
        return {"kind": kind, "mean": "default", "sd": 1.0, **relative}
    return {**PRIORS[kind].example, **central, **relative}


@pytest.mark.parametrize("kind", PRIORS)
def test_what_refers_to_the_default_is_in_numbers_once_that_is_known(kind: str) -> None:
    chosen = TypeAdapter(AnyPrior).validate_python(of_default(kind))
    with pytest.raises(BadInput, match="the prior refers to the default, and the model knows none"):
        chosen.resolved(None)
    ready = chosen.resolved(DEFAULT)
    assert np.isfinite(ready.u(DEFAULT))
    assert DEFAULT in ready.numbers.values() or ready.support == (2.5, 7.5)


PLAIN = ParameterSpace(("a", "b"), (Normal(mean=1.0, sd=2.0), Uniform(bounds=(0.0, 1.0))), {})


@pytest.mark.parametrize("kind", DESIGNS)
def test_a_design_lays_out_the_members(kind: str, tmp_path: Path) -> None:
    chosen = TypeAdapter(AnyDesign).validate_python(DESIGNS[kind].example)
    (tmp_path / "members.csv").write_text("b,a\n" + "".join(f"{(j + 0.5) / 200},{j}\n" for j in range(200)))
    u = chosen.ensemble(PLAIN, 200, 3, tmp_path)
    assert u.shape == (200, 2)
    assert np.isfinite(u).all()
    np.testing.assert_array_equal(u, chosen.ensemble(PLAIN, 200, 3, tmp_path))
    assert all(path.is_file() for path in chosen.files(tmp_path))
    if chosen.of_prior:
        assert all(stats.kstest(column, "norm").pvalue > 1e-3 for column in u.T)
    assert of_prior(chosen.written) == chosen.of_prior
    assert TypeAdapter(AnyDesign).validate_python(chosen.written) == chosen
    assert pickle.loads(pickle.dumps(chosen)) == chosen


DOCS = Path(__file__).parents[2] / "docs" / "parameters.md"


def table(family: Mapping[str, type[Choice]]) -> str:
    """Return the table of a family in the docs: kind, keys, what the class says of itself."""
    rows = ["| kind | keys | |", "|---|---|---|"]
    for kind, chosen in family.items():
        keys = ", ".join(f"`{key}`" for key in chosen.model_fields if key != "kind")
        rows.append(f"| `{kind}` | {keys} | {str(chosen.__doc__).splitlines()[0]} |")
    return "\n".join(rows)


@pytest.mark.parametrize("family", [PRIORS, DESIGNS], ids=["priors", "designs"])
def test_the_docs_have_the_table_of_the_registry(family: Mapping[str, type[Choice]]) -> None:
    assert table(family) in DOCS.read_text()
