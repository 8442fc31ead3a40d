"""Parameters and priors: u is standard normal under every prior, and u and theta say the same."""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from fatescal.base.errors import BadInput
from fatescal.diagnostics.convergence import to_tree
from fatescal.diagnostics.prior_check import assess
from fatescal.parameters.assembly import parameter_space
from fatescal.parameters.derived import Expression
from fatescal.parameters.entries import ParameterEntry
from fatescal.parameters.priors import LogitNormal, LogNormal, Normal, Prior, TruncatedNormal, Uniform
from fatescal.parameters.space import ParameterSpace, factor
from fatescal.parameters.truth import truth
from fatescal.storage.records import Observations

number = st.floats(-100, 100).map(lambda x: round(x, 3))
positive = st.floats(0.01, 50).map(lambda x: round(x, 3))


@st.composite
def bounds(draw: st.DrawFn) -> tuple[float, float]:
    lower = draw(number)
    return lower, lower + draw(positive)


@st.composite
def prior(draw: st.DrawFn) -> Prior:
    """Any prior of any kind that may be asked for."""
    lower, upper = draw(bounds())
    middle = lower + draw(st.floats(0.1, 0.9)) * (upper - lower)
    match draw(st.integers(0, 6)):
        case 0:
            return LogitNormal(median=middle, scale=draw(st.floats(0.05, 2.0)), bounds=(lower, upper))
        case 1:
            return Normal(mean=draw(number), sd=draw(positive))
        case 2:
            return LogNormal(median=draw(positive), scale=draw(st.floats(0.01, 2.0)))
        case 3:
            return Uniform(bounds=(lower, upper))
        case 4:
            return LogNormal.of_moments(draw(positive), draw(positive))
        case 5:
            share = draw(st.floats(0.02, 0.95))
            most = np.sqrt((middle - lower) * (upper - middle))
            try:
                return LogitNormal.of_moments(middle, share * most, lower, upper)
            except BadInput:
                assume(False)
    ends = (draw(st.sampled_from([lower, None])), draw(st.sampled_from([upper, None])))
    scale = draw(positive)
    location = middle + scale * draw(st.floats(-3.0, 3.0))
    return TruncatedNormal(location=location, scale=scale, bounds=ends)


@st.composite
def spaces(draw: st.DrawFn) -> ParameterSpace:
    """One to four parameters, correlated or not."""
    priors = tuple(draw(st.lists(prior(), min_size=1, max_size=4)))
    names = tuple(f"p{i}" for i in range(len(priors)))
    together = None
    if draw(st.booleans()):
        directions = np.random.default_rng(draw(st.integers(0, 99))).standard_normal((len(names), 6))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        together = np.linalg.cholesky(directions @ directions.T)
    return ParameterSpace(names, priors, {}, together)


@settings(max_examples=100, deadline=None)
@given(spaces(), st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4))
def test_u_is_the_inverse_of_theta(given_space: ParameterSpace, u: list[float]) -> None:
    points = np.array([u[: len(given_space.names)], np.zeros(len(given_space.names))])
    theta = given_space.theta(points)
    z = given_space.z(points)
    if np.abs(z).max() < 3.0:
        # where one bit of a parameter is wide in z, z cannot come back
        widths = np.column_stack(
            [p.theta(c + 1e-6) - p.theta(c - 1e-6) for p, c in zip(given_space.priors, z.T, strict=True)]
        )
        assume((widths > 1e-11 * np.abs(theta)).all())
        np.testing.assert_allclose(given_space.z(given_space.u(theta)), z, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(prior(), st.floats(-3, 3), st.floats(-3, 3))
def test_a_prior_rises_and_keeps_to_its_bounds(chosen: Prior, a: float, b: float) -> None:
    low, high = chosen.theta(min(a, b)), chosen.theta(max(a, b))
    assert low <= high
    assert chosen.support[0] <= low
    assert high <= chosen.support[1]


Z = np.random.default_rng(5).standard_normal(50_000)


@pytest.mark.parametrize(
    ("chosen", "distribution"),
    [
        (
            TruncatedNormal(location=1.0, scale=2.0, bounds=(0.0, None)),
            stats.truncnorm(-0.5, np.inf, 1.0, 2.0),
        ),
        (TruncatedNormal(location=0.0, scale=1.0, bounds=(5.0, 6.0)), stats.truncnorm(5.0, 6.0)),
        (TruncatedNormal(location=0.0, scale=1.0, bounds=(-6.0, -5.0)), stats.truncnorm(-6.0, -5.0)),
        (LogNormal.of_moments(4.0, 2.0), stats.lognorm(np.sqrt(np.log(1.25)), scale=4 / np.sqrt(1.25))),
        (Uniform(bounds=(1.0, 4.0)), stats.uniform(1.0, 3.0)),
    ],
)
def test_draws_have_the_distribution(chosen: Prior, distribution: stats.rv_continuous) -> None:
    assert stats.kstest(chosen.theta(Z), distribution.cdf).pvalue > 1e-3
    for q in (1e-6, 0.3, 1 - 1e-6):
        assert chosen.theta(stats.norm.ppf(q)) == pytest.approx(distribution.ppf(q), rel=1e-7)


@pytest.mark.parametrize(
    ("mean", "sd", "lower", "upper"),
    [(62.0, 6.8, 15.5, 108.5), (8.0, 1.5, 1.0, 20.0), (0.02, 0.01, 0.0, 1.0), (0.5, 0.4, 0.0, 1.0)],
)
def test_a_logit_normal_of_mean_and_sd_has_them(mean: float, sd: float, lower: float, upper: float) -> None:
    chosen = LogitNormal.of_moments(mean, sd, lower, upper)
    density = stats.norm().expect  # adaptive quadrature, another way than the equal steps of the solver
    assert density(chosen.theta, epsabs=1e-12) == pytest.approx(mean, rel=1e-7)
    variance = density(lambda u: (chosen.theta(u) - mean) ** 2, epsabs=1e-12)
    assert np.sqrt(variance) == pytest.approx(sd, rel=1e-6)


def test_the_study_s_prior_comes_back_from_its_moments() -> None:
    chosen = LogitNormal.of_moments(62.0, 6.8258, 15.5, 108.5)
    assert chosen.scale == pytest.approx(0.3, abs=1e-4)
    assert chosen.median == pytest.approx(62.0)


def test_correlated_priors_correlate_and_keep_their_margins() -> None:
    given_names = ("a", "b", "c")
    priors: tuple[Prior, ...] = (
        LogNormal(median=2.0, scale=0.4),
        Uniform(bounds=(0.0, 1.0)),
        Normal(mean=0.0, sd=3.0),
    )
    given_space = ParameterSpace(
        given_names, priors, {}, factor({"a": {"b": 0.7}, "c": {"a": -0.4}}, given_names)
    )
    u = np.random.default_rng(1).standard_normal((50_000, 3))
    theta = given_space.theta(u)
    normal = np.corrcoef(given_space.z(u).T)
    np.testing.assert_allclose(normal[[0, 0, 1], [1, 2, 2]], [0.7, -0.4, 0.0], atol=0.02)
    ranks = stats.spearmanr(theta).statistic
    np.testing.assert_allclose(ranks[0, 1:], 6 / np.pi * np.arcsin(np.array([0.7, -0.4]) / 2), atol=0.02)
    for p, chosen in enumerate(priors):
        assert stats.kstest(chosen.u(theta[:, p]), "norm").pvalue > 1e-3
    np.testing.assert_allclose(given_space.u(theta), u, atol=1e-8)


def test_a_member_s_parameters_do_not_depend_on_its_batch() -> None:
    given_names = tuple("abcdefgh")
    tied = factor({"a": dict.fromkeys(given_names[1:], 0.3)}, given_names)
    given_space = ParameterSpace(given_names, (Normal(mean=1.0, sd=3.0),) * 8, {}, tied)
    u = np.random.default_rng(1).standard_normal((37, 8))
    alone = np.concatenate([given_space.theta(row) for row in u])
    np.testing.assert_array_equal(given_space.theta(u), alone)


def test_the_evidence_of_correlated_parameters_is_of_the_parameters() -> None:
    """Two parameters correlated by 0.8; the data measure the first alone, and so tell of the second too."""
    given_names = ("a", "b")
    lower = factor({"a": {"b": 0.8}}, given_names)
    u = np.random.default_rng(0).standard_normal((50, 2))
    time = np.arange(1).astype("datetime64[s]")
    words: dict[str, Any] = {"variable": ["x"], "unit": ["1"], "period": ["calibration"]}
    obs = Observations(y=np.zeros(1), noise=np.array([0.5]), start=time, end=time + 1, **words)
    found = assess(obs, u, (u @ lower.T)[:, :1], lower)[0]
    np.testing.assert_allclose(found.informed, [0.8, 0.64 * 0.8], atol=1e-12)
    assert found.degrees_of_freedom == pytest.approx(0.8)


def test_correlated_parameters_move_alone_in_a_canary() -> None:
    given_names = ("a", "b")
    default = {"a": 1.0, "b": 2.0}
    tied = factor({"a": {"b": 0.8}}, given_names)
    made = ParameterSpace(given_names, (Normal(mean=0.0, sd=3.0), Normal(mean=0.0, sd=2.0)), default, tied)
    np.testing.assert_allclose(made.moved(0), [4.0, 2.0])
    np.testing.assert_allclose(made.moved(1), [1.0, 4.0])


def built(**parameters: dict) -> ParameterSpace:
    """Return the space of a model without parameters of its own."""
    return parameter_space(
        {name: ParameterEntry.model_validate(given) for name, given in parameters.items()}, {}, ()
    )


def test_moments_may_refer_to_the_default() -> None:
    made = built(a={"default": 4.0, "prior": {"kind": "log-normal", "mean": "default", "sd": 2.0}})
    assert made.priors == (LogNormal.of_moments(4.0, 2.0),)
    assert made.default == {"a": 4.0}


NORMAL = {"kind": "normal", "mean": 1.0, "sd": 0.1}


def test_every_kind_of_parameter_gets_its_value() -> None:
    made = built(
        a={"prior": NORMAL},
        b={"fixed": 1e-3},
        c={"same_as": "d"},
        d={"derived": "2 * exp(a) - max(b, 0.5) ** 2"},
        group={"prior": {"kind": "log-normal", "scale": 0.2}, "scales": {"e": 4.0, "f": -2.0}},
        helper={"prior": NORMAL, "auxiliary": True},
        g={"derived": "helper / 2"},
    )
    assert made.names == ("a", "group", "helper")
    values = made.named(np.array([0.0, 1.5, 3.0]))
    assert values == {"a": 0.0, "b": 1e-3, "c": 1.75, "d": 1.75, "e": 6.0, "f": -3.0, "g": 1.5}
    np.testing.assert_array_equal(made.following(np.array([[0.0, 1.5, 3.0]] * 2))["e"], [6.0, 6.0])
    assert made.default["group"] == 1.0
    assert pickle.loads(pickle.dumps(made)).named(np.array([0.0, 1.5, 3.0])) == values


DEFAULTS = {"v_tree": 62.0, "v_grass": 78.0, "s_tree": 8.0, "s_grass": 7.0, "k": 0.5}


def of_model(**parameters: dict) -> ParameterSpace:
    """Return the space of a model with two plant types and parameters of its own."""
    given = {name: ParameterEntry.model_validate(value) for name, value in parameters.items()}
    return parameter_space(given, DEFAULTS, ("tree", "grass"))


def test_a_factor_scales_the_defaults_of_all_plant_types() -> None:
    relative = {"kind": "logit-normal", "scale": 0.3, "bounds": {"relative": 0.5}}
    made = of_model(group={"prior": relative, "scales": ["v", "s_tree"]})
    assert made.priors == (LogitNormal(median=1.0, scale=0.3, bounds=(0.5, 1.5)),)
    assert made.named(made.theta_default) == {"v_tree": 62.0, "v_grass": 78.0, "s_tree": 8.0}
    assert made.named(made.moved(0))["s_tree"] > 8.0  # what a canary of the factor gives to the model


def test_a_rule_of_plant_types_means_the_same_plant_type() -> None:
    made = of_model(
        v={"pfts": ["tree"], "prior": {"kind": "normal", "sd": 5}},
        v_grass={"same_as": "v_tree"},
        s={"pfts": ["tree", "grass"], "derived": "v / 10 + k"},
    )
    assert made.named(np.array([70.0])) == {"v_tree": 70.0, "v_grass": 70.0, "s_tree": 7.5, "s_grass": 7.5}
    fixed = of_model(v={"fixed": {"tree": 50, "grass": 60}}, k={"prior": NORMAL})
    assert fixed.named(np.array([1.0])) == {"k": 1.0, "v_tree": 50.0, "v_grass": 60.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a +* 2", "position 4"),
        ("a % 2", "position 1: 'a % 2' is not allowed"),
        ("2 + a.real", "position 5: 'a.real' is not allowed"),
        ("1 + sin(a)", "position 5: there is no function sin"),
        ("__import__('os')", "position 1: there is no function"),
        ("max(a)", "two or more"),
        ("exp(a, 2)", "one number"),
        ("a if a else 2", "not allowed"),
        ("a == 1", "not allowed"),
        ("True * a", "'True' is not allowed"),
        ("3j * a", "'3j' is not allowed"),
        ("'text'", "not allowed"),
        ("[a][0]", "not allowed"),
        ("(lambda: 1)()", "not allowed"),
        ("", "position 1"),
        ("(" * 300 + "a" + ")" * 300, "nest"),
        ("a + 1" + " + 1" * 300, "at most 1000"),
    ],
)
def test_only_arithmetic_is_understood_and_the_place_of_all_else_is_named(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        built(a={"prior": NORMAL}, b={"derived": text})


expressions = st.recursive(
    st.sampled_from(["a", "b", "2", "0.5", "1e300"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner).map(" ".join).map("({})".format),
        st.tuples(st.sampled_from(["exp", "log", "sqrt", "abs"]), inner).map("{0[0]}({0[1]})".format),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(expressions, st.floats(-5, 5), st.floats(-5, 5))
def test_an_expression_is_what_python_says_or_nothing(text: str, a: float, b: float) -> None:
    value = Expression(text).value({"a": a, "b": b})
    scope = {name: getattr(math, name) for name in ("exp", "log", "sqrt")} | {"abs": abs, "a": a, "b": b}
    try:
        expected = eval(text, {"__builtins__": {}}, scope)
    except (ArithmeticError, ValueError, TypeError):
        return  # TypeError: of complex numbers, which are not ours
    if isinstance(expected, complex) or not math.isfinite(expected):
        assert not math.isfinite(value)
    elif math.isfinite(value):
        assert value == pytest.approx(expected, rel=1e-12)


def test_names_of_a_model_are_kept_apart_from_internal_ones() -> None:
    with pytest.raises(BadInput, match="would not get it"):
        of_model(k={"prior": NORMAL, "scales": ["v"]})
    with pytest.raises(BadInput, match="nothing is calibrated"):
        of_model(k={"fixed": 1})
    with pytest.raises(BadInput, match="no such parameter"):
        of_model(kk={"fixed": 1}, k={"prior": NORMAL})


def test_a_truth_is_of_calibrated_parameters_and_decides_the_others() -> None:
    made = built(a={"prior": NORMAL}, b={"derived": "a * 2"})
    assert made.named(truth({"a": 1.2}, made)) == {"a": 1.2, "b": 2.4}
    with pytest.raises(BadInput, match="it is derived, a \\* 2"):
        truth({"b": 3.0}, made)


def of_awkward_names() -> ParameterSpace:
    """Return a space in which one name begins another, and a plant type has an underscore."""
    given: dict[str, dict] = {
        "slope": {"prior": NORMAL},
        "slope_max": {"prior": NORMAL},
        "slope_max_grass": {"prior": NORMAL},
        "v": {"prior": NORMAL, "pfts": ["tree", "c3_grass"]},
        "v_tree_old": {"prior": NORMAL},
        "_": {"prior": NORMAL},
    }
    parameters = {name: ParameterEntry.model_validate(value) for name, value in given.items()}
    return parameter_space(parameters, {}, ("tree", "c3_grass"), numbered=True)


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"slope": 5}, {"slope": 5.0}),
        ({"slope_max": 5}, {"slope_max": 5.0}),
        ({"v": 5}, {"v_tree": 5.0, "v_c3_grass": 5.0}),
        ({"v": {"c3_grass": 5}}, {"v_c3_grass": 5.0}),
        ({"v": {1: 5}}, {"v_tree": 5.0}),
        ({"v_tree": 5, "v_tree_old": 6}, {"v_tree": 5.0, "v_tree_old": 6.0}),
        ({"v_c3_grass": 5}, {"v_c3_grass": 5.0}),
        ({"_": 5}, {"_": 5.0}),
    ],
)
def test_a_truth_sets_the_parameters_it_names_and_no_others(given: dict, changed: dict[str, float]) -> None:
    made = of_awkward_names()
    values = dict(zip(made.names, truth(given, made).tolist(), strict=True))
    assert values == dict.fromkeys(made.names, 1.0) | changed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"slop": 5}, "did you mean 'slope'?"),
        ({"slope": {"max": 5}}, "slope has no plant types"),
        ({"v": {"grass": 5}}, "no plant type grass"),
        ({"v": {1: 5, "tree": 6}}, "names a plant type twice"),
        ({"v": 5, "v_tree": 6}, "v_tree is set twice, by v and v_tree"),
        ({"v_c3": 5}, "not a calibrated parameter"),
    ],
)
def test_a_truth_that_names_no_parameter_or_one_twice_is_refused(given: dict, words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        truth(given, of_awkward_names())


def test_a_truth_that_may_mean_two_parameters_is_refused() -> None:
    given: dict[str, dict] = {
        "a": {"prior": NORMAL, "pfts": ["b"]},
        "a_b": {"prior": NORMAL, "pfts": ["c"]},
    }
    made = parameter_space(
        {name: ParameterEntry.model_validate(value) for name, value in given.items()}, {}, ()
    )
    with pytest.raises(BadInput, match="'a_b' is one parameter, and also one of plant types \\(a_b_c\\)"):
        truth({"a_b": 5}, made)
    np.testing.assert_array_equal(truth({"a_b": {"c": 5}, "a": 2}, made), [2.0, 5.0])


def test_a_default_of_no_use_is_refused() -> None:
    with pytest.raises(BadInput, match="a value for grass, which is not among its `pfts`"):
        of_model(v={"prior": NORMAL, "pfts": ["tree"], "default": {"tree": 1.0, "grass": 1.0}})


FAR = np.linspace(-8.0, 8.0, 4001)
FAR_OUT: list[Prior] = [
    LogitNormal(median=5.0, scale=0.3, bounds=(1.0, 9.0)),
    LogitNormal(median=5.0, scale=5.0, bounds=(0.0, 9.0)),
    LogitNormal(median=-5.0, scale=5.0, bounds=(-9.0, 0.0)),
    LogitNormal(median=5.0, scale=10.0, bounds=(1.0, 9.0)),
    LogitNormal(median=1e-3, scale=2.0, bounds=(0.0, 1e6)),
    LogitNormal.of_moments(0.02, 0.01, 0.0, 1.0),
    Uniform(bounds=(0.0, 1.0)),
    Uniform(bounds=(-1.0, 0.0)),
    Uniform(bounds=(-3.0, 5.0)),
    Uniform(bounds=(1e6, 1e6 + 1.0)),
    TruncatedNormal(location=1.0, scale=2.0, bounds=(0.0, None)),
    TruncatedNormal(location=-1.0, scale=2.0, bounds=(None, 0.0)),
    TruncatedNormal(location=0.0, scale=1.0, bounds=(5.0, 6.0)),
    TruncatedNormal(location=0.0, scale=1.0, bounds=(-6.0, -5.0)),
    TruncatedNormal(location=7.0, scale=1.0, bounds=(0.0, 14.0)),
    TruncatedNormal(location=3.0, scale=1.0, bounds=(0.0, 1.0)),
    TruncatedNormal(location=0.0, scale=1.0, bounds=(-40.0, 1e5)),
    LogNormal(median=2.0, scale=3.0),
    LogNormal(median=2e5, scale=0.01),
    Normal(mean=1.0, sd=1e-5),
]


@pytest.mark.parametrize("chosen", FAR_OUT, ids=repr)
def test_far_out_u_comes_back_as_exactly_as_theta_is_representable(chosen: Prior) -> None:
    """Half the width in u of one bit of theta is the best there is; where that bit ends at the bound, u is
    finite."""
    theta = chosen.theta(FAR)
    lower, upper = chosen.support
    assert ((lower < theta) & (theta < upper)).all()
    assert (np.diff(theta) >= 0).all()
    back = chosen.u(theta)
    assert np.isfinite(back).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        bit = chosen.u(np.nextafter(theta, np.inf)) - chosen.u(np.nextafter(theta, -np.inf))
    representable = np.isfinite(bit)
    assert representable[np.abs(FAR) < 3.2].all() or isinstance(chosen, LogitNormal)
    error = np.abs(back - FAR)[representable]
    assert (error < 1e-8 + bit[representable]).all()


@settings(max_examples=200, deadline=None)
@given(prior(), st.floats(-8, 8))
def test_no_coordinate_leads_to_a_bound(chosen: Prior, u: float) -> None:
    theta = float(chosen.theta(u))
    assert chosen.support[0] < theta < chosen.support[1]
    assert np.isfinite(chosen.u(theta))


def test_a_value_at_a_small_distance_from_its_bound_keeps_its_digits() -> None:
    """Independent values: the logit of theta, and the truncated normal's density at its bound."""
    far = LogitNormal(median=4.5, scale=10.0, bounds=(0.0, 9.0))  # logit of the median is 0
    assert float(far.theta(-8.0)) == pytest.approx(9.0 * np.exp(-80.0), rel=1e-12)
    negative = LogitNormal(median=-4.5, scale=10.0, bounds=(-9.0, 0.0))
    assert float(negative.theta(8.0)) == pytest.approx(-9.0 * np.exp(-80.0), rel=1e-12)
    half = TruncatedNormal(location=0.0, scale=1.0, bounds=(0.0, None))
    assert float(half.theta(-8.0)) == pytest.approx(
        0.5 * stats.norm.cdf(-8.0) / stats.norm.pdf(0.0), rel=1e-12
    )
    assert float(Uniform(bounds=(-1.0, 0.0)).theta(8.0)) == pytest.approx(-stats.norm.cdf(-8.0), rel=1e-12)


@pytest.mark.parametrize(
    "chosen",
    [
        {"kind": "normal", "mean": 1e20, "sd": 1.0},
        {"kind": "uniform", "bounds": [1.0, 1.0000000000000004]},
        {"kind": "logit-normal", "median": 5.0, "scale": 100.0, "bounds": [1.0, 9.0]},
        {"kind": "log-normal", "median": 1.0, "scale": 1e-17},
        {"kind": "log-normal", "median": 1.0, "scale": 400.0},
        {"kind": "truncated-normal", "location": 1e18, "scale": 1.0, "bounds": [0.0, None]},
    ],
    ids=lambda chosen: chosen["kind"],
)
def test_a_prior_without_distinct_values_is_refused(chosen: dict) -> None:
    with pytest.raises(BadInput, match=r"parameters\.a: values of the prior cannot be told apart"):
        built(a={"default": 5.0 if chosen["kind"] == "logit-normal" else None, "prior": chosen})


ONE = ParameterEntry.model_validate({"prior": {"kind": "normal", "mean": 0, "sd": 1}})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chain", "the name of a dimension in posterior.nc"),
        ("draw", "the name of a dimension"),
        ("a/b", "can have: '/'"),
        ("a\\b", "can have: '\\\\'"),
        ('a"b', "can have"),
        ("it's", "can have"),
        ("a\nb", "can have: '\\n'"),
        ("", "it is empty"),
        (" a", "begins or ends with a space"),
        ("-a", "it begins with '-'"),
        (".hidden", "it begins with '.'"),
        ("..", "it begins with '.'"),
        ("ä" * 120, "it has 240 bytes"),
    ],
)
def test_a_name_that_no_file_can_hold_is_refused(name, words):
    for entries, defaults in (({name: ONE, "x": ONE}, {}), ({"x": ONE, name: ONE}, {"x": 0.0, name: 0.0})):
        with pytest.raises(BadInput, match="cannot be used") as caught:
            parameter_space(entries, defaults, ())
        assert words in str(caught.value)


def test_a_plant_type_is_part_of_a_name():
    one = ParameterEntry.model_validate({"prior": {"kind": "normal", "mean": 0, "sd": 1}, "pfts": ["C3/C4"]})
    with pytest.raises(BadInput, match="'k_C3/C4' cannot be used"):
        parameter_space({"k": one}, {}, ())


def test_two_spellings_of_one_letter_are_one_name():
    with pytest.raises(BadInput, match="given twice"):
        parameter_space({"m\u00fc": ONE, "mu\u0308": ONE}, {}, ())


def test_names_of_other_models_are_taken_as_they_are():
    names = ("k%leaf(1)", "2stream", "soil:depth", "T opt", "k.a-b", "μ_max", "Chain")
    made = parameter_space(dict.fromkeys(names, ONE), {}, ())
    assert made.names == names


def test_every_name_that_is_allowed_can_be_written(tmp_path):
    names = ("k%leaf(1)", "2stream", "soil:depth", "T opt", "k.a-b", "μ_max", "Chain", "x" * 200)
    theta = np.arange(8.0 * len(names)).reshape(2, 4, 1, len(names))
    to_tree(theta, names, ["1"] * len(names), theta[..., 0]).to_netcdf(tmp_path / "posterior.nc")
    found = xr.open_datatree(tmp_path / "posterior.nc")["posterior"]
    assert [str(name) for name in found.data_vars] == list(names)
    for name in names:
        (tmp_path / f"canary-{name}").mkdir()
