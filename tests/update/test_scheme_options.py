"""The section `calibrate` of a config: each scheme's options and no other's; mistakes told in words."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml
from linear import QUICK, fatescal, require_exact, write_problem
from pydantic import TypeAdapter, ValidationError

from fatescal import config
from fatescal.__main__ import main
from fatescal.config.stage_options import SECTIONS, AnyCalibrate, CalibrateSection
from fatescal.hpc.communicator import Communicator
from fatescal.storage.store import Store
from fatescal.update.base import RESERVED, UpdateScheme
from fatescal.update.registry import SCHEMES
from fatescal.workflow import problem
from fatescal.workflow.calibration_run import CalibrationRun
from fatescal.workflow.default_run import try_default
from fatescal.workflow.kalman_iteration import smooth
from fatescal.workflow.observed import observe

CALIBRATE: TypeAdapter[CalibrateSection] = TypeAdapter(AnyCalibrate)
DEFAULTS = {"form": "transform", "method": "gauss-newton", "step_length": 1.0, "tolerance": 1e-3}

# what a config says of a scheme, and the options it then has, each with a value other than its default
OPTIONS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({}, "ienks", DEFAULTS),
    ({"form": "bundle", "bundle_width": 0.01}, "ienks", DEFAULTS | {"form": "bundle", "bundle_width": 0.01}),
    ({"step_length": 0.5, "tolerance": 1e-5}, "ienks", DEFAULTS | {"step_length": 0.5, "tolerance": 1e-5}),
    (
        {"method": "levenberg-marquardt", "damping": 0.1, "min_survivors": 0.7},
        "ienks",
        DEFAULTS | {"method": "levenberg-marquardt", "damping": 0.1, "min_survivors": 0.7},
    ),
    ({"scheme": "es-mda"}, "es-mda", {"form": "stochastic", "truncation": 1.0}),
    (
        {"scheme": "es-mda", "form": "square-root", "truncation": 0.9},
        "es-mda",
        {"form": "square-root", "truncation": 0.9},
    ),
    (
        {"scheme": "es-mda", "iterations": "adaptive", "max_iterations": 2},
        "es-mda",
        {"iterations": "adaptive", "max_iterations": 2, "form": "stochastic", "truncation": 1.0},
    ),
    (
        {"scheme": "es-mda", "iterations": [4, 2]},
        "es-mda",
        {"iterations": [4.0, 2.0], "form": "stochastic", "truncation": 1.0},
    ),
    ({"scheme": "ies"}, "ies", {"first_step": 0.6, "last_step": 0.3, "half_life": 1.5}),
    (
        {"scheme": "ies", "first_step": 1.0, "last_step": 0.5, "half_life": 3},
        "ies",
        {"first_step": 1.0, "last_step": 0.5, "half_life": 3.0},
    ),
]


def chosen(**given: Any) -> CalibrateSection:
    return CALIBRATE.validate_python({"members": 20, "iterations": 3, **given})


@pytest.mark.parametrize(("given", "kind", "options"), OPTIONS, ids=str)
def test_a_section_is_its_scheme_with_its_options(
    given: dict[str, Any], kind: str, options: dict[str, Any]
) -> None:
    section = chosen(**given)
    assert isinstance(section, SCHEMES[kind])
    common = {"scheme": kind, "members": 20, "design": "prior", "force": False, "iterations": 3}
    assert section.model_dump(mode="json") == {"min_survivors": 0.5, **common, **options}
    assert CALIBRATE.validate_python(section.model_dump(mode="json")) == section
    assert pickle.loads(pickle.dumps(section)) == section  # as it reaches the other ranks
    assert problem.scheme(section, 3) is section


@pytest.mark.parametrize("kind", SCHEMES)
def test_every_option_of_every_scheme_has_a_description(kind: str) -> None:
    described = SECTIONS[kind].model_json_schema()
    assert described["properties"].keys() == {*RESERVED, *SCHEMES[kind].model_fields}
    assert [key for key, one in described["properties"].items() if not one.get("description")] == []
    assert described["properties"]["scheme"]["const"] == kind
    everywhere = config.schema()
    assert f"Calibrate_{kind}" in {one["title"] for one in everywhere["$defs"].values()}
    tested = {key for given, _, _ in OPTIONS for key in given}
    assert tested >= SCHEMES[kind].model_fields.keys() - {"iterations"}


def test_the_keys_of_all_schemes_are_those_that_no_scheme_may_have() -> None:
    assert set(RESERVED) == CalibrateSection.model_fields.keys() - UpdateScheme.model_fields.keys()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheme": "ies", "truncation": 0.9}, "`truncation` is an option of scheme es-mda, not of ies"),
        ({"scheme": "es-mda", "method": "gauss-newton"}, "`method` is an option of scheme ienks"),
        ({"first_step": 0.5}, "`first_step` is an option of scheme ies, not of ienks"),
        ({"damping": 0.5}, "`damping` goes with `method: levenberg-marquardt`"),
        ({"damping": 1.0}, "`damping` goes with `method: levenberg-marquardt`"),
        ({"bundle_width": 0.5}, "`bundle_width` goes with `form: bundle`"),
        ({"scheme": "es-mda", "max_iterations": 5}, "`max_iterations` goes with `iterations: adaptive`"),
        ({"scheme": "ies", "form": "bundle"}, "`form` is an option of scheme ienks and es-mda, not of ies"),
        ({"form": "stochastic"}, "Input should be 'transform' or 'bundle'"),
        ({"scheme": "es-mda", "form": "bundle"}, "Input should be 'stochastic' or 'square-root'"),
        ({"scheme": "ies", "iterations": "adaptive"}, "should be a valid integer"),
        ({"scheme": "ies", "iterations": [4.0, 2.0]}, "should be a valid integer"),
        ({"scheme": "es-mda", "iterations": []}, "at least 1 item"),
        ({"scheme": "es-mda", "iterations": [4, -2]}, "greater than 0"),
        ({"scheme": "es-mda", "iterations": True}, "should be a number, got true"),
        ({"step_length": 1.5}, "less than or equal to 1"),
        ({"step_length": 0}, "greater than 0"),
        ({"step_length": True}, "should be a number, got true"),
        ({"tolerance": float("inf")}, "finite"),
        ({"scheme": "ienk"}, "'ienk'"),
        ({"scheme": False}, "'False'"),
        ({"scheme": ["ienks"]}, "['ienks']"),
    ],
)
def test_an_option_that_its_scheme_does_not_have_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        chosen(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheme": "ienk"}, "calibrate: unknown scheme 'ienk'; did you mean 'ienks'?"),
        ({"scheme": "kalman"}, "calibrate: unknown scheme 'kalman'; known are 'ienks', 'es-mda', 'ies'"),
        (
            {"trunkation": 0.9, "scheme": "es-mda"},
            "calibrate.trunkation: unknown key; did you mean 'truncation'?",
        ),
        ({"first_step": 0.5}, "calibrate: `first_step` is an option of scheme ies, not of ienks (line"),
        ({"form": "stochastic"}, "calibrate.form: input should be 'transform' or 'bundle', got 'stochastic'"),
        ({"members": 5}, "calibrate.members is too small for 3 parameters. Expected at least 6, got 5"),
        ({"scheme": "es-mda", "members": 5}, "is too small for 3 parameters. Expected at least 6, got 5"),
        ({"scheme": "ies", "members": 5}, "is too small for 3 parameters. Expected at least 6, got 5"),
    ],
    ids=str,
)
def test_a_mistake_is_told_in_words_before_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, Any], words: str
) -> None:
    path = write_problem(tmp_path, calibrate=given)
    assert main([str(path)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_null_leaves_a_key_out() -> None:
    assert chosen(form=None, truncation=None) == chosen()


@pytest.mark.parametrize(
    ("given", "updates"),
    [
        ({}, 3),
        ({"iterations": 0}, 0),
        ({"scheme": "es-mda", "iterations": [4, 2]}, 2),
        ({"scheme": "es-mda", "iterations": "adaptive"}, 7),
        ({"scheme": "es-mda", "iterations": "adaptive", "max_iterations": 2}, 2),
        ({"scheme": "ies"}, 3),
    ],
    ids=str,
)
def test_a_scheme_tells_how_many_updates_are_planned(given: dict[str, Any], updates: int) -> None:
    assert chosen(**given).planned_updates == updates


@pytest.mark.parametrize("design", ["uniform", "members.csv"])
def test_updates_of_a_design_are_refused_whatever_the_scheme(design: str) -> None:
    for kind in SCHEMES:
        assert chosen(scheme=kind, iterations=0, design=design).design.written == design
        with pytest.raises(ValidationError, match="goes with `iterations: 0` alone"):
            chosen(scheme=kind, design=design)


# ---- whole runs


def rewrite(path: Path, **sections: dict[str, Any]) -> None:
    content = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        content[name] |= values
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def smoothed(path: Path) -> Store:
    """Return the stages of a run up to its last ensemble, in this process."""
    chosen, comm = config.load(path).on(config.Machine()), Communicator()
    store = Store(chosen.run.directory / "stages", comm)
    store.folder.mkdir(parents=True, exist_ok=True)
    run = CalibrationRun(problem.assemble(chosen, comm), comm, store)
    try_default(run)
    smooth(run, observe(run))
    return store


def test_a_scheme_can_be_changed_between_the_prior_ensemble_and_the_first_update(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each scheme then goes on to the very ensembles of a run that had it from the start."""
    few = {"members": 16}
    for first, second in (("es-mda", "ienks"), ("ienks", "ies"), ("ies", "es-mda")):
        folders = [tmp_path / f"{first}-{second}", tmp_path / f"{second}-alone"]
        for folder in folders:
            folder.mkdir()
        changed = write_problem(folders[0], calibrate={"scheme": first, **few}, run={"stop_after": "prior"})
        assert main([str(changed)]) == 0
        rewrite(changed, calibrate={"scheme": second}, run={"stop_after": None})
        of_changed = smoothed(changed)
        alone = smoothed(write_problem(folders[1], calibrate={"scheme": second, **few}))
        for key in ("ensemble-00", "ensemble-01", "ensemble-02", "update-02"):
            assert of_changed.digest(key) == alone.digest(key), key
    capsys.readouterr()
    rewrite(changed, calibrate={"scheme": "ienks"})
    assert main([str(changed)]) == 2
    message = capsys.readouterr().err
    assert "calibrate.scheme has changed since stage update-01" in message
    assert "Expected ies as before, got ienks" in message  # as its last whole start said


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "remembered"),
    [
        (
            {"scheme": "ies", "iterations": 3, "first_step": 1.0, "last_step": 1.0},
            {"u0": "J0 P", "alive": "J0"},
        ),
        (
            {"scheme": "ienks", "iterations": 3, "method": "levenberg-marquardt", "damping": 0.01},
            {"u0": "J0 P", "alive": "J0", "accepted": "J P", "target": "J P", "predicted": "D"},
        ),
    ],
    ids=lambda given: given.get("scheme", ""),
)
def test_a_run_with_options_finds_the_exact_posterior(
    tmp_path: Path, given: dict[str, Any], remembered: dict[str, str]
) -> None:
    """On two ranks, from the config to the posterior; what a scheme remembers is stored as it declares it."""
    done = fatescal(2, write_problem(tmp_path, calibrate=given, emulate=QUICK))
    assert done.returncode == 0, done.stderr
    require_exact(tmp_path)
    with h5py.File(tmp_path / "run" / "stages" / "ensemble-01.h5") as file:
        assert {
            name: file[name].attrs["dims"] for name in file if name not in ("checksums", "u")
        } == remembered
