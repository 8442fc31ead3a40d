"""Mistakes of a user: found before any model run, exit code 2, a message that says what to do, no traceback."""

from __future__ import annotations

import json

import pytest
import yaml
from linear import fatescal, write_problem

from fatescal.__main__ import DEFAULT_CONFIG, main
from fatescal.settings import schema


def change(config, path, value):
    """Set (or with ... remove) one key of a config file, by dotted path."""
    content = yaml.safe_load(config.read_text())
    *parents, last = path.split(".")
    node = content
    for part in parents:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    config.write_text(yaml.safe_dump(content, sort_keys=False))


MISTAKES = {
    "missing file": ("observations.file", "nowhere.csv", "nowhere.csv"),
    "misspelt key": ("calibrate.membres", 20, "did you mean 'members'?"),
    "misspelt column": ("observations.variables.GPP.column", "GPPP", "'GPP'"),
    "unknown unit": ("observations.variables.GPP.unit", "bananas", "bananas"),
    "periods without data": ("observations.calibration", ["1990-01-01", "1990-12-31"], "2004-01-01"),
    "reversed period": ("observations.calibration", ["2004-02-29", "2004-01-01"], "reversed"),
    "overlapping periods": ("observations.validation", ["2004-02-01", "2004-03-30"], "overlap"),
    "bounds reversed": (
        "parameters.mean.prior", {"kind": "logit-normal", "median": 5, "scale": 1, "bounds": [9, 1]}, "reversed",
    ),
    "default outside bounds": (
        "parameters.mean",
        {"default": 99.0, "prior": {"kind": "logit-normal", "median": 5, "scale": 1, "bounds": [1, 9]}},
        "outside the prior's bounds",
    ),
    "median outside bounds": (
        "parameters.mean.prior", {"kind": "logit-normal", "median": 50, "scale": 1, "bounds": [1, 9]}, "between 1 and 9",
    ),
    "default unknown": (
        "parameters.mean.prior", {"kind": "logit-normal", "scale": 1, "bounds": [1, 9]}, "give `default:`",
    ),
    "moments impossible": (
        "parameters.mean.prior", {"kind": "logit-normal", "mean": 5, "sd": 4.5, "bounds": [1, 9]}, "less than 4",
    ),
    "moments all at the bounds": (
        "parameters.mean.prior", {"kind": "logit-normal", "mean": 5, "sd": 3.99, "bounds": [1, 9]}, "almost all at its bounds",
    ),
    "mean outside bounds": (
        "parameters.mean.prior", {"kind": "logit-normal", "mean": 50, "sd": 1, "bounds": [1, 9]}, "between 1 and 9",
    ),
    "scale and sd": (
        "parameters.mean.prior", {"kind": "log-normal", "median": 5, "scale": 1, "sd": 1}, "either `scale`",
    ),
    "median and sd": ("parameters.mean.prior", {"kind": "log-normal", "median": 5, "sd": 1}, "belong together"),
    "mean of a log-normal negative": (
        "parameters.mean", {"default": -2, "prior": {"kind": "log-normal", "mean": "default", "sd": 1}}, "mean is positive",
    ),
    "cut far out in a tail": (
        "parameters.mean.prior", {"kind": "truncated-normal", "location": 0, "scale": 1, "bounds": [9, None]}, "next to nothing",
    ),
    "correlation of nothing": ("correlations", {"mean": {"wav": 0.5}}, "did you mean wave"),
    "correlation with itself": ("correlations", {"mean": {"mean": 0.5}}, "with itself"),
    "correlation of one": ("correlations", {"mean": {"wave": 1.0}}, "less than 1"),
    "correlation given twice": ("correlations", {"mean": {"wave": 0.5}, "wave": {"mean": 0.5}}, "given twice"),
    "correlations that contradict": (
        "correlations", {"mean": {"wave": 0.9, "trend": 0.9}, "wave": {"trend": -0.9}}, "cannot hold together",
    ),
    "correlations in a list": ("correlations", [["mean", "wave", 0.5]], "correlations: input should be a section with keys"),
    "misspelt kind": ("parameters.mean.prior.kind", "lognormal", "parameters.mean.prior: unknown kind 'lognormal'; did you mean 'log-normal'?"),
    "years for days": ("observations.calibration", [2004, 2005], "calibration.0: input should be a day as 2004-01-31, got 2004"),
    "more members than draws": ("posterior.members", 5000, "less than or equal to 4001"),
    "unknown design": ("calibrate.design", "lhc", "prior, lhs, sobol, uniform or a file"),
    "updates of a design": ("calibrate.design", "uniform", "goes with `iterations: 0` alone"),
    "updates of a csv": ("calibrate.design", "members.csv", "goes with `iterations: 0` alone"),
    "negative iterations": ("calibrate.iterations", -1, "greater than or equal to 0"),
    "unknown stop": ("run.stop_after", "posterior", "'default' or 'prior'"),
    "zero sd": ("observations.variables.GPP.error.sd", 0, "greater than 0"),
    "negative sd": ("observations.variables.GPP.error.sd", -1, "greater than 0"),
    "not a number": ("parameters.mean.prior.sd", float("nan"), "finite"),
    "one member": ("calibrate.members", 1, "greater than or equal to 4"),
    "too few members": ("calibrate.members", 5, "at least 6"),
    "unknown model": ("model.kind", "nothing", "canopy, command"),
    "no executable": ("model.command", ["no_such_program"], "no_such_program"),
    "bad time-out": ("model.timeout", "soon", "60 s"),
    "no such variable of the environment": ("observations.file", "$NO_SUCH_FOLDER/x.csv", "NO_SUCH_FOLDER"),
    "wrong form": ("calibrate.form", "stochastic", "transform, bundle"),
    "section missing": ("posterior", ..., "posterior"),
    "unwritable run directory": ("run.directory", "/proc/nothing", "cannot be written"),
}  # fmt: skip


NORMAL = {"kind": "normal", "mean": 1, "sd": 0.1}
# further parameters beside `mean`, `wave` and `trend`
FURTHER: dict[str, tuple[dict, str]] = {
    "no kind": ({"b": {"default": 2}}, "parameters.b: give one of `prior`"),
    "two kinds": ({"b": {"fixed": 2, "same_as": "mean"}}, "not fixed and same_as"),
    "default of a fixed one": ({"b": {"fixed": 2, "default": 1}}, "`default` goes with a `prior`"),
    "factor of plant types": ({"b": {"prior": NORMAL, "scales": {"c": 1}, "pfts": ["x"]}}, "without `pfts`"),
    "plant types twice": ({"b": {"fixed": {"x": 1}, "pfts": ["x"]}}, "leave out `pfts`"),
    "tied to nothing": ({"b": {"same_as": "maen"}}, "no parameter maen. Expected one of mean, wave, trend, b. Try: did you mean mean"),
    "derived from nothing": ({"b": {"derived": "2 * maen"}}, "no parameter maen (position 5 of '2 * maen')"),
    "no arithmetic": ({"b": {"derived": "mean % 2"}}, "parameters.b.derived: 'mean % 2', position 1: 'mean % 2' is not allowed"),
    "power": ({"b": {"derived": "mean^2"}}, "Try: a power is written **"),
    "scales in words": ({"b": {"prior": NORMAL, "scales": "c"}}, "parameters.b.scales: input should be a list ([a, b]) or a section"),
    "torn expression": ({"b": {"derived": "mean +* 2"}}, "position 7: invalid syntax"),
    "circle": ({"b": {"derived": "c + mean"}, "c": {"same_as": "b"}}, "b, c follow from each other in a circle"),
    "itself": ({"b": {"same_as": "b"}}, "b follow from each other"),
    "twice": ({"b": {"prior": NORMAL, "scales": {"mean": 2}}}, "mean is given twice"),
    "no number": ({"b": {"derived": "log(mean - 3)"}}, "b (derived, log(mean - 3)) has no value at mean = 2"),
    "scaled without a number": ({"b": {"prior": NORMAL, "scales": ["c"]}}, "scales: {c: 1.5}"),
    "nothing calibrated": ({"mean": {"fixed": 1}, "wave": {"fixed": 1}, "trend": {"fixed": 1}}, "nothing is calibrated"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", FURTHER)
def test_a_parameter_that_cannot_be_given_to_the_model_is_refused(tmp_path, capsys, mistake):
    parameters, words = FURTHER[mistake]
    config = write_problem(tmp_path)
    for name, given in parameters.items():
        change(config, f"parameters.{name}", given)
    assert main([str(config)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_any_run(tmp_path, capsys, mistake):
    path, value, words = MISTAKES[mistake]
    config = write_problem(tmp_path)
    change(config, path, value)
    assert main([str(config)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not (tmp_path / "run" / "members").exists()


ROWS = "mean,wave,trend\n" + "5,1,0\n" * 17
ENSEMBLES = {
    "no file": (None, "No such file"),
    "nothing in it": ("", "no column mean, wave, trend"),
    "a column less": (ROWS.replace("wave", "weave"), "no column wave. Expected comma-separated columns mean, wave, trend"),
    "too few rows": (ROWS, "17 rows. Expected 19, the members without the default run. Try: calibrate.members: 18"),
    "no number": (ROWS + "5,1,0\n5,one,0\n", "line 20: wave is no number. Got 'one'"),
    "a short row": (ROWS + "5,1,0\n5,1\n", "line 20: trend is no number"),
    "outside": (ROWS + "#\n5,1,0\n5,1,4\n", "line 21: trend is outside its prior's bounds. Expected between -3 and 3, got 4"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", ENSEMBLES)
def test_an_ensemble_that_cannot_be_run_is_refused(tmp_path, capsys, mistake):
    text, words = ENSEMBLES[mistake]
    config = write_problem(tmp_path, calibrate={"design": "members.csv", "iterations": 0})
    change(config, "parameters.trend.prior", {"kind": "uniform", "bounds": [-3, 3]})
    if text is not None:
        (tmp_path / "members.csv").write_text(text)
    assert main([str(config)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


def test_a_column_of_nan_is_refused(tmp_path, capsys):
    config = write_problem(tmp_path)
    table = tmp_path / "fluxes.csv"
    head, names, *rows = table.read_text().splitlines()
    table.write_text(
        "\n".join([head, names, *(",".join([*row.split(",")[:2], "NaN"]) for row in rows)]) + "\n"
    )
    assert main([str(config)]) == 2
    assert "ET" in capsys.readouterr().err


def test_an_unknown_pft_gets_the_nearest_name(tmp_path, capsys):
    config = write_problem(tmp_path)
    content = yaml.safe_load(config.read_text())
    content["model"] = {"kind": "canopy", "start": "2004-01-01", "end": "2004-12-31"}
    prior = {"kind": "logit-normal", "scale": 0.3, "bounds": {"relative": 0.75}}
    content["parameters"] = {"fates_leaf_vcmax25top": {"pfts": ["cool_c4_grass"], "prior": prior}}
    config.write_text(yaml.safe_dump(content))
    assert main([str(config)]) == 2
    assert "did you mean cool_c3_grass" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("observations.variables.GPP.model", "FATES_GP", "writes no variable 'FATES_GP'. Expected among FATES_GPP"),
        ("observations.variables.ET.unit", "kg", "ET is compared in 'kg', and the model gives QFLX_EVAP_TOT in 'kg m-2 s-1'"),
        ("observations.validation", ["2006-07-01", "2007-06-30"], "362 of 2190 windows of calibration and validation"),
    ],
)  # fmt: skip
def test_what_the_embedded_model_does_not_write_is_refused_before_a_run(tmp_path, capsys, path, value, words):
    config = tmp_path / "twin.yaml"
    config.write_text(DEFAULT_CONFIG.read_text())
    change(config, path, value)
    assert main(["check", str(config)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "- a list", "run: {name: [", "run: {name: a}\nrun: {name: b}"])
def test_what_is_no_config_is_refused(tmp_path, capsys, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main([str(path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_config_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.mpi
def test_many_ranks_say_it_once(tmp_path):
    config = write_problem(tmp_path)
    change(config, "calibrate.members", 1)
    done = fatescal(4, config)
    assert done.returncode == 2
    assert done.stderr.count("calibrate.members") == 1


def test_the_schema_is_that_of_the_shipped_config():
    described = schema()
    assert json.dumps(described)
    assert {"run", "model", "parameters", "observations", "calibrate", "posterior"} <= set(
        described["properties"]
    )


def test_all_that_decides_the_parameters_is_printed_as_text_csv_and_json(tmp_path, capsys):
    config = write_problem(tmp_path, correlations={"mean": {"wave": 0.5}})
    change(config, "parameters.trend", {"derived": "2 * slope"})
    change(config, "parameters.slope", {"auxiliary": True, "prior": NORMAL})
    change(config, "parameters.group", {"prior": NORMAL, "scales": {"a": 3, "b": 4}})
    assert main(["priors", str(config)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "mean 5 3.04 5 6.96 normal, mean 5, sd 1; correlation 0.5 with wave",
        "slope 1 0.804 1 1.196 normal, mean 1, sd 0.1; not given to the model",
        "group 1 0.804 1 1.196 normal, mean 1, sd 0.1; times it: a, b",
    ):
        assert line in lines
    assert next(line for line in lines if line.startswith("trend 2 1.6")).endswith("derived, 2 * slope")
    assert main(["priors", str(config), "--format", "csv"]) == 0
    header, first, second, *_ = capsys.readouterr().out.splitlines()
    assert header == "parameter,default,q025,q500,q975,given_to_model,prior,rule,scales,correlations,mean,sd"
    assert first.startswith("mean,5.0,3.04")
    assert second.endswith(",True,normal,,,mean 0.5,1.0,0.5")
    assert main(["priors", str(config), "--format", "json"]) == 0
    found = {row["parameter"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(found) == ["mean", "wave", "slope", "group", "trend", "a", "b"]
    assert found["group"]["scales"] == ["a", "b"]
