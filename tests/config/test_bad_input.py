"""Mistakes of a user: found before any model run, exit code 2, a message that says what to do, no
traceback."""

from __future__ import annotations

import json

import pytest
import yaml
from linear import fatescal, write_problem
from running import change

from fatescal.__main__ import main
from fatescal.cli.arguments import DEFAULT_CONFIG
from fatescal.config import schema
from fatescal.config.yaml_text import read

MISTAKES = {
    "missing file": ("observations.file", "nowhere.csv", "nowhere.csv"),
    "misspelt key": ("calibrate.membres", 20, "did you mean 'members'?"),
    "misspelt column": ("observations.variables.GPP.column", "GPPP", "'GPP'"),
    "unknown unit": ("observations.variables.GPP.unit", "bananas", "bananas"),
    "periods without data": ("observations.calibration", ["1990-01-01", "1990-12-31"], "2004-01-01"),
    "score that is a list": ("run.scores", [["rmse"]], "run.scores.0: unknown score ['rmse']; did you mean"),
    "score by itself": ("run.scores", "rmse", "run.scores: input should be a list ([a, b]), got 'rmse'"),
    "period without an end": ("observations.calibration", ["2004-01-01"], "calibration.1: field required"),
    "reversed period": ("observations.calibration", ["2004-02-29", "2004-01-01"], "reversed"),
    "overlapping periods": ("observations.validation", ["2004-02-01", "2004-03-30"], "overlap"),
    "bounds reversed": (
        "parameters.mean.prior",
        {"kind": "logit-normal", "median": 5, "scale": 1, "bounds": [9, 1]},
        "reversed",
    ),
    "default outside bounds": (
        "parameters.mean",
        {"default": 99.0, "prior": {"kind": "logit-normal", "median": 5, "scale": 1, "bounds": [1, 9]}},
        "outside the prior's bounds",
    ),
    "median outside bounds": (
        "parameters.mean.prior",
        {"kind": "logit-normal", "median": 50, "scale": 1, "bounds": [1, 9]},
        "between 1 and 9",
    ),
    "default unknown": (
        "parameters.mean.prior",
        {"kind": "logit-normal", "scale": 1, "bounds": [1, 9]},
        "give `default:`",
    ),
    "moments impossible": (
        "parameters.mean.prior",
        {"kind": "logit-normal", "mean": 5, "sd": 4.5, "bounds": [1, 9]},
        "less than 4",
    ),
    "moments all at the bounds": (
        "parameters.mean.prior",
        {"kind": "logit-normal", "mean": 5, "sd": 3.99, "bounds": [1, 9]},
        "almost all at its bounds",
    ),
    "mean outside bounds": (
        "parameters.mean.prior",
        {"kind": "logit-normal", "mean": 50, "sd": 1, "bounds": [1, 9]},
        "between 1 and 9",
    ),
    "scale and sd": (
        "parameters.mean.prior",
        {"kind": "log-normal", "median": 5, "scale": 1, "sd": 1},
        "either `scale`",
    ),
    "median and sd": (
        "parameters.mean.prior",
        {"kind": "log-normal", "median": 5, "sd": 1},
        "belong together",
    ),
    "mean of a log-normal negative": (
        "parameters.mean",
        {"default": -2, "prior": {"kind": "log-normal", "mean": "default", "sd": 1}},
        "mean is positive",
    ),
    "cut far out in a tail": (
        "parameters.mean.prior",
        {"kind": "truncated-normal", "location": 0, "scale": 1, "bounds": [9, None]},
        "next to nothing",
    ),
    "correlation of nothing": ("correlations", {"mean": {"wav": 0.5}}, "did you mean 'wave'?"),
    "correlation with itself": ("correlations", {"mean": {"mean": 0.5}}, "with itself"),
    "correlation of one": ("correlations", {"mean": {"wave": 1.0}}, "less than 1"),
    "correlation given twice": (
        "correlations",
        {"mean": {"wave": 0.5}, "wave": {"mean": 0.5}},
        "given twice",
    ),
    "correlations that contradict": (
        "correlations",
        {"mean": {"wave": 0.9, "trend": 0.9}, "wave": {"trend": -0.9}},
        "cannot hold together",
    ),
    "correlations in a list": (
        "correlations",
        [["mean", "wave", 0.5]],
        "correlations: input should be a section with keys",
    ),
    "misspelt kind": (
        "parameters.mean.prior.kind",
        "lognormal",
        "parameters.mean.prior: unknown kind 'lognormal'; did you mean 'log-normal'?",
    ),
    "missing kind": (
        "parameters.mean.prior",
        {"mean": 5, "sd": 1},
        "parameters.mean.prior: `kind` is missing, one of logit-normal, log-normal, normal, "
        "truncated-normal, uniform (line",
    ),
    "a kind that is no text": (
        "parameters.mean.prior",
        {"kind": 5, "mean": 5, "sd": 1},
        "parameters.mean.prior: unknown kind '5'; known are 'logit-normal', 'log-normal'",
    ),
    "key of another prior": (
        "parameters.mean.prior",
        {"kind": "normal", "mean": 5, "scale": 1},
        "parameters.mean.prior.scale: unknown key",
    ),
    "bounds reversed in a line": (
        "parameters.mean.prior",
        {"kind": "truncated-normal", "location": 5, "scale": 1, "bounds": [9, 1]},
        "parameters.mean.prior.bounds: bounds are reversed or empty: lower 9, upper 1 (line",
    ),
    "relative bounds around nothing": (
        "parameters.mean",
        {"default": 0, "prior": {"kind": "uniform", "bounds": {"relative": 0.5}}},
        "parameters.mean: relative bounds around a default of 0 are empty",
    ),
    "years for days": (
        "observations.calibration",
        [2004, 2005],
        "calibration.0: input should be a day as 2004-01-31, got 2004",
    ),
    "more members than draws": ("posterior.members", 5000, "less than or equal to 4001"),
    "unknown design": (
        "calibrate.design",
        "lhc",
        "calibrate.design: unknown design 'lhc'; did you mean 'lhs'?; "
        "a design is one of prior, lhs, sobol, uniform or a file that ends in .csv (line",
    ),
    "unknown kind of design": (
        "calibrate.design",
        {"kind": "lhc"},
        "unknown kind 'lhc'; did you mean 'lhs'?",
    ),
    "a design that is a number": (
        "calibrate.design",
        5,
        "calibrate.design: unknown design 5; a design is one",
    ),
    "option of no design": (
        "calibrate.design",
        {"kind": "lhs", "strata": 5},
        "calibrate.design.strata: unknown",
    ),
    "a csv without a name": ("calibrate.design", "csv", "calibrate.design: csv needs more than its name"),
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
    "wrong form": ("calibrate.form", "stochastic", "'transform' or 'bundle'"),
    "section missing": ("posterior", ..., "posterior"),
    "unwritable run directory": ("run.directory", "/proc/nothing", "cannot be written"),
}


NORMAL = {"kind": "normal", "mean": 1, "sd": 0.1}
# further parameters beside `mean`, `wave` and `trend`
FURTHER: dict[str, tuple[dict, str]] = {
    "no kind": ({"b": {"default": 2}}, "parameters.b: give one of `prior`"),
    "two kinds": ({"b": {"fixed": 2, "same_as": "mean"}}, "not fixed and same_as"),
    "default of a fixed one": ({"b": {"fixed": 2, "default": 1}}, "`default` goes with a `prior`"),
    "factor of plant types": ({"b": {"prior": NORMAL, "scales": {"c": 1}, "pfts": ["x"]}}, "without `pfts`"),
    "plant types twice": ({"b": {"fixed": {"x": 1}, "pfts": ["x"]}}, "leave out `pfts`"),
    "tied to nothing": (
        {"b": {"same_as": "maen"}},
        "no parameter maen. Expected one of mean, wave, trend, b. Try: did you mean 'mean'?",
    ),
    "derived from nothing": ({"b": {"derived": "2 * maen"}}, "no parameter maen (position 5 of '2 * maen')"),
    "no arithmetic": (
        {"b": {"derived": "mean % 2"}},
        "parameters.b.derived: 'mean % 2', position 1: 'mean % 2' is not allowed",
    ),
    "power": ({"b": {"derived": "mean^2"}}, "Try: a power is written **"),
    "scales in words": (
        {"b": {"prior": NORMAL, "scales": "c"}},
        "parameters.b.scales: input should be a list ([a, b]) or a section",
    ),
    "torn expression": ({"b": {"derived": "mean +* 2"}}, "position 7: invalid syntax"),
    "circle": (
        {"b": {"derived": "c + mean"}, "c": {"same_as": "b"}},
        "b, c follow from each other in a circle",
    ),
    "itself": ({"b": {"same_as": "b"}}, "b follow from each other"),
    "twice": ({"b": {"prior": NORMAL, "scales": {"mean": 2}}}, "mean is given twice"),
    "no number": ({"b": {"derived": "log(mean - 3)"}}, "b (derived, log(mean - 3)) has no value at mean = 2"),
    "scaled without a number": ({"b": {"prior": NORMAL, "scales": ["c"]}}, "scales: {c: 1.5}"),
    "nothing calibrated": (
        {"mean": {"fixed": 1}, "wave": {"fixed": 1}, "trend": {"fixed": 1}},
        "nothing is calibrated",
    ),
}


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
    "a column less": (
        ROWS.replace("wave", "weave"),
        "no column wave. Expected comma-separated columns mean, wave, trend",
    ),
    "too few rows": (
        ROWS,
        "17 rows. Expected 19, the members without the default run. Try: calibrate.members: 18",
    ),
    "no number": (ROWS + "5,1,0\n5,one,0\n", "line 20: wave is no number. Got 'one'"),
    "a short row": (ROWS + "5,1,0\n5,1\n", "line 20: trend is no number"),
    "outside": (
        ROWS + "#\n5,1,0\n5,1,4\n",
        "line 21: trend is outside its prior's bounds. Expected between -3 and 3, got 4",
    ),
}


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
    assert "did you mean 'cool_c3_grass'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "observations.variables.GPP.model",
            "FATES_GP",
            "writes no variable 'FATES_GP'. Expected among FATES_GPP",
        ),
        (
            "observations.variables.ET.unit",
            "kg",
            "ET is compared in 'kg', and the model gives QFLX_EVAP_TOT in 'kg m-2 s-1'",
        ),
        (
            "observations.validation",
            ["2006-07-01", "2007-06-30"],
            "362 of 2190 windows of calibration and validation",
        ),
    ],
)
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


def test_a_table_in_place_of_a_config_is_refused_in_one_line(tmp_path, capsys):
    path = tmp_path / "fluxes.csv"
    path.write_text("date,GPP\n" + "2004-01-01,1.5\n" * 1000)
    assert main(["check", str(path)]) == 2
    message = capsys.readouterr().err
    assert "fluxes.csv is not a config" in message
    assert len(message) < 400


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


READ_AS = {
    "a merged section": (
        "a: &base {b: 1, c: 2}\nd: {<<: *base, c: 3}",
        {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}},
    ),
    "two merged": (
        "a: &x {b: 1}\nc: &y {b: 2, e: 3}\nd: {<<: [*x, *y]}",
        {"a": {"b": 1}, "c": {"b": 2, "e": 3}, "d": {"b": 1, "e": 3}},
    ),
    "merged within merged": (
        "x: {y: &b {<<: &o {a: 0}, a: 1}}\nz: {<<: *b}",
        {"x": {"y": {"a": 1}}, "z": {"a": 1}},
    ),
    "a time": ("a: 1:30\nb: 12:00:00", {"a": "1:30", "b": "12:00:00"}),
    "a day": ("a: 2004-01-31\nb: 2004-02-30", {"a": "2004-01-31", "b": "2004-02-30"}),
    "logical values": ("a: on\nb: no\nc: 'on'\nd: true", {"a": True, "b": False, "c": "on", "d": True}),
    "names that YAML takes for logical": ("NO: 1\non: 2\nnull: 3", {"NO": 1, "on": 2, "null": 3}),
    "numbers": (
        "a: 1e-3\nb: 2E6\nc: .5\nd: -3.\ne: 0x1F\nf: 0\ng: 1.5e3",
        {"a": 1e-3, "b": 2e6, "c": 0.5, "d": -3.0, "e": 31, "f": 0, "g": 1500.0},
    ),
    "what only looks like a number": (
        "a: 12e0345\nb: 1_000\nc: 1.2.3\nd: '010'",
        {"a": "12e0345", "b": "1_000", "c": "1.2.3", "d": "010"},
    ),
}


@pytest.mark.parametrize("what", READ_AS)
def test_yaml_is_read_as_it_is_meant(what):
    text, value = READ_AS[what]
    assert read(text)[0] == value


REFUSED = {
    "a list as key": ("run:\n  ? [a, b]\n  : 1", "line 2: a key is a list or a section"),
    "braces without quotes": ("run:\n  name: a\n  {{x}}: 1", "line 3"),
    "a template": ("run: {{name}}", "line 1: a key is a list or a section"),
    "a key twice": ("run: {name: a}\nmodel: 1\nrun: 2", "key 'run' is given twice (line 3, and line 1)"),
    "a key twice below": ("a:\n  - {b: 1,\n     b: 2}", "key 'b' is given twice (line 3, and line 2)"),
    "two merges": (
        "a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x",
        "key '<<' is given twice (line 4, and line 3). Try: <<: [*first, *second]",
    ),
    "a merge of text": ("a: {<<: text}", "line 1, column 9"),
    "a tab": ("run:\n\tname: a", "line 2, column 1: while scanning for the next token found character '\\t'"),
    "an anchor within itself": ("a: 1\nb: &x\n  c: *x", "line 2: an anchor (&) holds itself"),
    "an anchor that is not there": ("a: *base", "line 1, column 4: found undefined alias 'base'"),
    "aliases without end": (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n" for x, y in ("ab", "bc", "cd", "de")),
        "more than 100000 values",
    ),
    "octal": ("a:\n  b: 010", "line 2: 010 begins with 0"),
    "no octal": (
        "a: [1, 09]",
        "line 1: 09 begins with 0, which makes it an octal number for some programs. Try: 9, or '09'",
    ),
    "a wrong tag": ("a: !!int abc", "line 1: 'abc' cannot be read"),
    "a tag of Python": (
        "a: !!python/object:os.system x",
        "line 1, column 4: could not determine a constructor",
    ),
    "two documents": ("a: 1\n---\nb: 2", "line 2, column 1"),
    "too deep": ("a: " + "[" * 3000, "too deeply nested"),
    "a control character": ("a: \0", "character #x0000"),
    "a number of 5000 digits": ("a: " + "9" * 5000, "line 1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_yaml_that_may_mean_something_else_is_refused_with_its_line(tmp_path, capsys, what):
    text, words = REFUSED[what]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["check", str(path)]) == 2
    message = capsys.readouterr().err
    assert f"{path}: " in message
    assert words in message
    assert "Traceback" not in message
    assert len(message) < 600


def test_a_mistake_in_a_config_is_told_with_its_line(tmp_path, capsys):
    config = write_problem(tmp_path)
    text = config.read_text()
    for wrong, words in (
        ("members: 20", "calibrate.members: input should be a whole number"),
        ("iterations: 2", "calibrate.iterations: "),
        ("name: linear", "run.name: input should be text, got True"),
    ):
        key = wrong.partition(":")[0]
        assert text.count(wrong) == 1
        changed = text.replace(wrong, f"{key}: 1:30" if key != "name" else f"{key}: on")
        config.write_text(changed)
        line = next(i for i, row in enumerate(changed.splitlines(), 1) if "1:30" in row or ": on" in row)
        assert main(["check", str(config)]) == 2
        message = capsys.readouterr().err
        assert words in message
        assert f"(line {line})" in message


def test_a_list_of_one_wrong_item_is_not_called_too_short(tmp_path, capsys):
    config = write_problem(tmp_path)
    change(config, "run.scores", ["rsme"])
    assert main(["check", str(config)]) == 2
    said = capsys.readouterr().err
    assert "run.scores.0: unknown score 'rsme'; did you mean 'rmse'?" in said
    assert "at least 1 item" not in said


def test_sections_of_a_config_may_share_an_anchor(tmp_path, capsys):
    config = write_problem(tmp_path)
    text = config.read_text()
    content = yaml.safe_load(text)
    content["parameters"] = {}
    shared = "parameters:\n  mean: &p\n    prior: &n {kind: normal, mean: 5.0, sd: 1.0}\n"
    shared += "  wave: {prior: {<<: *n, mean: 1.0, sd: 0.5}}\n"
    shared += "  trend: {<<: *p, prior: {<<: *n, mean: 0, sd: 0.8}}\n"
    config.write_text(yaml.safe_dump(content, sort_keys=False).replace("parameters: {}\n", shared))
    assert main(["priors", str(config), "--format", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(",")[0] for row in rows] == ["parameter", "mean", "wave", "trend"]
    assert rows[3].endswith("0.0,0.8")
