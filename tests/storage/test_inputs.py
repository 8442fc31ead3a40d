"""A run is what its inputs were: files from outside count by content; nothing finished is mixed or lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml
from clm_problem import write_config
from ctsm_case import write_case
from linear import MODEL, write_problem
from running import change

from fatescal import config as settings
from fatescal.__main__ import main
from fatescal.base.errors import BadInput
from fatescal.cli.arguments import DEFAULT_CONFIG
from fatescal.models.base import Model
from fatescal.models.canopy import stand as canopy_site
from fatescal.models.command import Command
from fatescal.storage import inputs, stage_graph
from fatescal.storage.inputs import Register, Text
from fatescal.workflow.site_models import files

QUICK: dict[str, dict[str, Any]] = {
    "calibrate": {"members": 6, "iterations": 0},
    "run": {"stop_after": "prior"},
}


def local(folder: Path, **changes: Any) -> Path:
    """Write the linear problem up to its first ensemble, its script a copy that reads a file beside it."""
    config = write_problem(folder, **{**QUICK, **changes})
    script = MODEL.read_text().replace(
        "def main() -> None:", "def main() -> None:\n    open(NOTES).close()", 1
    )
    named = 'NOTES = os.path.join(os.path.dirname(__file__), "notes.txt")\n\n\ndef main'
    (folder / "model.py").write_text(script.replace("def main", named, 1))
    (folder / "notes.txt").write_text("read by the model\n")
    (folder / "forcing").mkdir()
    (folder / "forcing" / "2004-01.txt").write_text("weather\n")
    change(config, "model.command", [sys.executable, "-SE", "model.py"])
    change(config, "model.files", ["forcing"])
    return config


def with_design(folder: Path) -> Path:
    config = local(folder, calibrate={"members": 6, "iterations": 0, "design": "members.csv"})
    (folder / "members.csv").write_text("mean,wave,trend\n" + "5,1,0\n6,1,0\n5,2,0\n5,1,1\n4,3,0.5\n")
    return config


def tree(run: Path) -> dict[str, tuple[int, int]]:
    """Return every file of stages and members, with its inode and the time of its content."""
    found = [p for kind in ("stages", "members") for p in (run / kind).rglob("*") if p.is_file()]
    return {str(p.relative_to(run)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in found}


def one_byte(path: Path) -> bytes:
    """Change one byte of a file and give it its old time; return what it held."""
    before, status = path.read_bytes(), path.stat()
    place = before.rindex(b"0") if b"0" in before else len(before) - 2
    path.write_bytes(before[:place] + b"1" + before[place + 1 :])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return before


EDITS: dict[
    str, tuple[str, str, str, Callable[[Path], Path]]
] = {  # file, key, first stage that reads it, config
    "observations": ("fluxes.csv", "observations.file", "observations", local),
    "script": ("model.py", "model.command", "evaluation-00", local),
    "file beside the script": ("notes.txt", "model.command", "evaluation-00", local),
    "folder of the model": ("forcing/2004-01.txt", "model.files", "evaluation-00", local),
    "design": ("members.csv", "calibrate.design", "ensemble-00", with_design),
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_one_other_byte_is_refused_by_name_and_touching_is_not(tmp_path, capsys, edit):
    name, key, stage, write = EDITS[edit]
    config, run = write(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    before = tree(run)
    (tmp_path / name).touch()
    assert main([str(config)]) == 0
    held = one_byte(tmp_path / name)
    capsys.readouterr()
    assert main([str(config)]) == 2
    message = capsys.readouterr().err
    assert (
        f"{key} has changed since stage {stage} of {run} was computed: {tmp_path / name} has another"
        in message
    )
    for way in ("put it back", "another run.directory", f"fatescal reset {run} --from {stage}"):
        assert way in message
    assert "Traceback" not in message
    for verb in (["status", str(run)], ["status", str(config)], ["report", str(run)]):
        assert main(verb) == 0
    assert f"computed: {tmp_path / name} has another content" in capsys.readouterr().out
    assert f"{name} has another content" in (run / "report" / "index.html").read_text()
    assert tree(run) == before
    (tmp_path / name).write_bytes(held)
    assert main([str(config)]) == 0
    assert tree(run) == before
    assert "has changed" not in (run / "report" / "index.html").read_text()


def test_after_a_reset_the_run_goes_on_with_the_edited_file(tmp_path):
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    one_byte(tmp_path / "notes.txt")
    assert main([str(config)]) == 2
    assert main(["reset", str(run), "--from", "evaluation-00"]) == 0
    assert main([str(config)]) == 0
    assert (run / "discarded" / "1" / "members" / "evaluation-00").is_dir()


def test_after_a_reset_no_score_of_before_is_shown(tmp_path, capsys):
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    assert main(["status", str(run)]) == 0
    assert "climatology" in capsys.readouterr().out
    assert main(["reset", str(run), "--from", "evaluation-00"]) == 0
    assert main(["status", str(run)]) == 0
    assert "climatology" not in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    assert not [name for name in ("scorecard.csv", "scorecard.txt") if (run / name).exists()]


DAMAGED = {
    "bytes": ("config.yaml", b"\xff\xfe\x80", "config.yaml cannot be read: "),
    "a list": ("config.yaml", b"[1, 2]", "config.yaml cannot be read: it is not the config of a run"),
    "cut short": ("config.yaml", b"config: {}", "config.yaml cannot be read: it is not the config of a run"),
    "another register": ("inputs.json", b'{"seen": [], "known": 3}', ""),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_of_a_run_is_told_without_a_traceback(tmp_path, capsys, what):
    name, content, words = DAMAGED[what]
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    (run / name).write_bytes(content)
    assert main(["report", str(run)]) == (2 if words else 0)
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_file_that_is_gone_and_one_that_comes_beside_are_named(tmp_path, capsys):
    config = local(tmp_path)
    assert main([str(config)]) == 0
    (tmp_path / "forcing" / "2004-02.txt").write_text("more\n")
    assert main([str(config)]) == 2
    assert "forcing/2004-02.txt has another content" in capsys.readouterr().err
    (tmp_path / "forcing" / "2004-02.txt").unlink()
    (tmp_path / "forcing" / "2004-01.txt").unlink()
    assert main([str(config)]) == 2
    assert "forcing/2004-01.txt is not there" in capsys.readouterr().err


@pytest.mark.parametrize("there", [False, True], ids=["new", "there before"])
def test_what_the_model_writes_beside_itself_is_no_input(tmp_path, capsys, there):
    """A script that appends to a file beside itself can be started again; edits of others are still seen."""
    config = local(tmp_path)
    script = tmp_path / "model.py"
    log = f"def main() -> None:\n    open({str(tmp_path / 'calls.txt')!r}, 'a').write('x')\n"
    script.write_text(script.read_text().replace("def main() -> None:\n", log, 1))
    if there:
        (tmp_path / "calls.txt").write_text("of old\n")
    assert main([str(config)]) == 0
    before = tree(tmp_path / "run")
    assert main([str(config)]) == 0
    assert main(["status", str(config)]) == 0
    assert "has changed" not in capsys.readouterr().out
    assert tree(tmp_path / "run") == before
    one_byte(tmp_path / "notes.txt")
    assert main([str(config)]) == 2
    assert "notes.txt has another content" in capsys.readouterr().err


def test_a_folder_moved_as_a_whole_goes_on(tmp_path, monkeypatch):
    """Script, data, config and run elsewhere: nothing is computed again."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = local(tmp_path / "here")
    change(config, "run.directory", "run")
    assert main([str(config)]) == 0
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    before = tree(tmp_path / "there" / "run")
    assert any(name.startswith("members/effects/") for name in before)
    assert main([str(tmp_path / "there" / config.name)]) == 0
    assert tree(tmp_path / "there" / "run") == before


def test_members_of_an_unfinished_stage_are_never_mixed(tmp_path, capsys):
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    (run / "stages" / "evaluation-00.h5").unlink()
    (run / "stages" / "scorecard-prior.h5").unlink()
    shutil.rmtree(run / "members" / "evaluation-00" / "0003")
    before = tree(run)
    held = one_byte(tmp_path / "model.py")
    assert main([str(config)]) == 2
    message = capsys.readouterr().err
    assert (
        f"model.command has changed since stage evaluation-00 of {run} was begun: {tmp_path / 'model.py'}"
        in message
    )
    assert tree(run) == before
    (tmp_path / "model.py").write_bytes(held)
    change(config, "model.output", "output2.nc")
    assert main([str(config)]) == 2
    assert "model.output has changed since stage evaluation-00" in capsys.readouterr().err
    change(config, "model.output", "output.nc")
    assert main([str(config)]) == 0
    assert tree(run).items() > {k: v for k, v in before.items() if k.startswith("members")}.items()


def test_a_fallback_given_later_is_for_the_members_that_failed(tmp_path, capsys):
    """Those that ran with the model count; another fallback than that of its members is refused."""
    config, run = local(tmp_path), tmp_path / "run"
    change(config, "model.command", [sys.executable, "-SE", "model.py", "--fail-above", "5.1"])
    assert main([str(config)]) == 0
    markers = (run / "members" / "evaluation-00").glob("[0-9][0-9][0-9][0-9]/member.json")
    before = {path: json.loads(path.read_text()) for path in markers}
    failed = {name for name, marker in before.items() if marker["status"] != 0}
    assert 0 < len(failed) < len(before)
    for stage in ("evaluation-00", "scorecard-prior"):
        (run / "stages" / f"{stage}.h5").unlink()
    (tmp_path / "other.py").write_text((tmp_path / "model.py").read_text())
    change(config, "model.fallback", {"command": [sys.executable, "-SE", "other.py"]})
    assert main([str(config)]) == 0
    after = {path: json.loads(path.read_text()) for path in before}
    assert {name for name in after if after[name]["by"] == "fallback"} == failed
    assert all(after[name] == before[name] for name in before if name not in failed)
    one_byte(tmp_path / "other.py")
    capsys.readouterr()
    assert main([str(config)]) == 2
    assert "model.fallback.command has changed since stage evaluation-00" in capsys.readouterr().err
    for stage in ("evaluation-00", "scorecard-prior"):
        (run / "stages" / f"{stage}.h5").unlink()
    assert main([str(config)]) == 2
    begun = f"model.fallback.command has changed since stage evaluation-00 of {run} was begun"
    assert begun in capsys.readouterr().err


def test_a_run_that_has_only_begun_is_reported_as_far_as_it_came(tmp_path, capsys):
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    for stage in ("scorecard-prior", "evaluation-00", "ensemble-00"):
        (run / "stages" / f"{stage}.h5").unlink()
        assert main(["report", str(run)]) == 0
    (run / "stages" / "observations.h5").unlink()
    assert main(["report", str(run)]) == 2
    assert "has nothing to report yet" in capsys.readouterr().err


def test_members_that_another_model_left_are_refused(tmp_path, capsys):
    """The snapshot is gone, the stages too: the members alone tell."""
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    shutil.rmtree(run / "stages")
    (run / "config.yaml").unlink()
    change(config, "model.output", "other.nc")
    assert main([str(config)]) == 2
    message = capsys.readouterr().err
    assert "members/evaluation-00/0000 was run with other parameters or by another model" in message
    assert "it differs in output" in message
    assert f"fatescal reset {run} --from evaluation-00" in message
    assert main(["reset", str(run), "--from", "evaluation-00"]) == 0
    change(config, "model.output", "output.nc")
    assert main([str(config)]) == 0


def test_a_reset_takes_members_of_later_unfinished_stages_along(tmp_path):
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    shutil.copytree(run / "members" / "evaluation-00", run / "members" / "evaluation-01")
    assert main(["reset", str(run), "--from", "ensemble-00"]) == 0
    assert list((run / "members").iterdir()) == []
    assert main(["reset", str(run), "--from", "evaluation-01"]) == 2


def test_every_site_s_files_count(tmp_path, capsys):
    config = write_problem(tmp_path, **QUICK)
    content = yaml.safe_load(config.read_text())
    shutil.copy(tmp_path / "fluxes.csv", tmp_path / "south.csv")
    names = {"north": "fluxes.csv", "south": "south.csv"}
    content["sites"] = {site: {"observations": {"file": name}} for site, name in names.items()}
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main([str(config)]) == 0
    one_byte(tmp_path / "south.csv")
    assert main([str(config)]) == 2
    assert f": {tmp_path / 'south.csv'} has another" in capsys.readouterr().err


def test_the_embedded_model_tells_its_files(tmp_path):
    shutil.copy(Path(canopy_site.__file__).with_name("site.yaml"), tmp_path / "place.yaml")
    config = tmp_path / "config.yaml"
    config.write_text(DEFAULT_CONFIG.read_text())
    change(config, "model.site", {"file": "place.yaml"})
    place = settings.load(config).by_site[""]
    from fatescal.workflow import site_models

    assert files(place, site_models.model(place, lambda: False)) == {
        "model.site.file": [tmp_path / "place.yaml"]
    }


def test_a_model_from_elsewhere_is_known_by_what_its_options_name_and_by_its_source(tmp_path):
    config = write_problem(tmp_path)
    (tmp_path / "drivers").mkdir()
    options = {
        "kind": "other",
        "weather": "drivers",
        "more": [{"table": "fluxes.csv"}],
        "n": 3,
        "word": "none",
    }
    change(config, "model", options)
    found = files(settings.load(config).by_site[""], Elsewhere())
    assert found == {
        "model.weather": [tmp_path / "drivers"],
        "model.more.table": [tmp_path / "fluxes.csv"],
        "model.kind": [Path(__file__)],
    }


class Elsewhere(Model):
    """A model that does not tell its files."""

    identity: Mapping[str, object] = {}

    def run(self, theta: Mapping[str, float], folder: Path, warm_start: Path | None = None) -> None:
        """Do nothing."""

    def read(self, folder: Path) -> Any:
        """Return nothing."""


def test_a_script_s_own_modules_count_and_what_a_run_writes_does_not(tmp_path):
    (tmp_path / "model.py").write_text(
        "from physics import leaf\nopen('parameters.json'); open('output.nc')\n"
    )
    (tmp_path / "physics.py").write_text("import soil\n")
    for name in ("soil.py", "plot.py", "output.nc", "parameters.json", "model.log"):
        (tmp_path / name).write_text("")
    named = Command([sys.executable, "model.py"], tmp_path).files()["model.command"]
    own = [path for path in named if path != Path(sys.executable)]  # which counts unless it is the system's
    assert own == [tmp_path / name for name in ("model.py", "physics.py", "soil.py")]


def test_a_large_file_is_read_again_only_when_it_was_touched(tmp_path, monkeypatch):
    large = tmp_path / "forcing.nc"
    large.write_bytes(bytes(2 * inputs.SMALL))
    monkeypatch.setattr(inputs, "SETTLED", -1.0)
    register = Register()
    first = register.digests({"model.forcing": [large]})
    register.save(tmp_path)
    register = Register.of(tmp_path)
    read: list[str] = []

    def counted(file: Any, name: str) -> Any:
        read.append(file.name)
        return hashlib.new(name, file.read())

    monkeypatch.setattr(inputs.hashlib, "file_digest", counted)
    assert register.digests({"model.forcing": [large]}) == first
    assert read == []
    large.touch()
    assert register.digests({"model.forcing": [large]}) == first
    assert read == [str(large)]


def test_of_some_files_a_part_counts(tmp_path):
    path = tmp_path / "nuopc.runconfig"
    path.write_text("log.1 orbit")
    register = Register()
    first = register.digests({"model.case": [Text(path, "orbit")]})
    path.write_text("log.2 orbit")
    assert register.digests({"model.case": [Text(path, "orbit")]}) == first
    assert register.edited("model.case", first["model.case"]) == []
    assert register.digests({"model.case": [Text(path, "other orbit")]}) != first


def test_a_register_that_is_damaged_costs_a_reading(tmp_path):
    (tmp_path / inputs.NAME).write_text('{"seen": {')
    assert Register.of(tmp_path) == Register()


# ---- CLM-FATES


@pytest.fixture
def clm(data, tmp_path):
    case = write_case(tmp_path / "case", data, "A")
    month = {"start": "2005-06-01", "end": "2005-06-30", "spinup": {"years": 1}}
    config = write_config(
        tmp_path, case, model=month, calibrate={"members": 5}, run={"stop_after": "prior"},
        observations={"calibration": ["2005-06-01", "2005-06-30"]},
    )  # fmt: skip
    assert main([str(config)]) == 0
    return case, config, tmp_path / "calibration"


@pytest.mark.slow
def test_a_linked_again_executable_and_an_edited_case_are_refused_and_nothing_is_removed(clm, capsys):
    case, config, run = clm
    before = tree(run)
    assert "members/preparation/spin-up/member.json" in before
    case.executable.touch()
    assert main([str(config)]) == 0
    case.executable.write_text(case.executable.read_text() + "\n# linked again\n")
    assert main([str(config)]) == 2
    message = capsys.readouterr().err
    assert (
        f"model.executable has changed since the preparation of {run} was computed: {case.executable} has"
        in message
    )
    assert f"fatescal reset {run} --from preparation" in message
    assert tree(run) == before
    case.executable.write_text(case.executable.read_text().removesuffix("\n# linked again\n"))
    lnd_in = case.run_directory / "lnd_in"
    text = lnd_in.read_text()
    assert "use_bedrock = .true." in text
    lnd_in.write_text(text.replace("use_bedrock = .true.", "use_bedrock = .false."))
    assert main([str(config)]) == 2
    assert (
        f"model.run_directory has changed since the preparation of {run} was computed: {lnd_in}"
        in capsys.readouterr().err
    )
    assert main(["status", str(run)]) == main(["report", str(run)]) == 0
    assert f"{lnd_in} has another content" in capsys.readouterr().out
    assert tree(run) == before
    assert main(["reset", str(run), "--from", "preparation"]) == 0
    assert main([str(config)]) == 0
    gone = {path.name for path in (run / "discarded" / "1" / "members").iterdir()}
    assert gone == {"preparation", "truth", "evaluation-00"}


@pytest.mark.slow
def test_a_prior_that_moves_a_canary_is_tried_again_after_its_reset(clm, capsys):
    """The spin-up stays: it has default parameters."""
    _, config, run = clm
    spin_up = tree(run)["members/preparation/spin-up/member.json"]
    content = yaml.safe_load(config.read_text())
    name = next(iter(content["parameters"]))
    content["parameters"][name]["prior"]["scale"] = 0.2
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main([str(config)]) == 2
    assert f"parameters.{name}.prior.scale has changed since stage truth" in capsys.readouterr().err
    assert main(["reset", str(run), "--from", "truth"]) == 0
    assert main([str(config)]) == 0
    assert tree(run)["members/preparation/spin-up/member.json"] == spin_up


# ---- the graph


def leaves(section: Any, where: str = "") -> list[str]:
    if not isinstance(section, dict) or not section:
        return [where]
    return [leaf for key, below in section.items() for leaf in leaves(below, f"{where}.{key}".lstrip("."))]


def test_the_graph_knows_every_key_of_a_config(tmp_path):
    everything = tuple(one.key for one in stage_graph.GRAPH)
    plain = settings.load(DEFAULT_CONFIG).plain()
    assert [key for key in leaves(plain) if stage_graph.deciding(key) == everything] == []
    assert stage_graph.deciding("invented.key") == everything


def test_a_changed_key_is_told_of_the_first_stage_it_decides():
    reached = {
        key: stage_graph.Reached(inputs)
        for key, inputs in {
            "preparation": (), "truth": (), "observations": ("truth",), "ensemble-00": (),
            "evaluation-00": ("ensemble-00",), "update-01": ("ensemble-00", "evaluation-00", "observations"),
            "ensemble-01": (), "surrogate-00": ("observations",), "warm-up-00": ("surrogate-00",),
        }.items()
    }  # fmt: skip
    first = {
        "model.start": "preparation", "model.fallback.command": "truth", "model.timeout": None,
        "run.name": None, "run.seed": "observations",
        "parameters.a.prior.sd": "truth", "observations.synthetic.noise": "observations",
        "observations.window": "truth", "calibrate.scheme": "update-01", "calibrate.members": "ensemble-00",
        "calibrate.iterations": "update-01", "emulate.target": "surrogate-00", "emulate.rounds": None,
        "emulate.variance": "warm-up-00", "sample.max_steps": None, "sample.walkers": "warm-up-00",
        "sites.north.observations.variables.GPP.error.sd": "truth", "posterior.members": None,
    }  # fmt: skip
    assert {key: stage_graph.decided(key, reached) for key in first} == first
    del reached["observations"]
    del reached["truth"]
    assert stage_graph.decided("observations.file", reached) == "update-01"  # which was computed from them


def test_what_ends_the_loop_decides_the_verdict_alone():
    keys = ("surrogate-00", "validation-00-rows", "warm-up-00", "chains-00-000", "validation-00-block",
            "validation-00-draws", "posterior-00", "evaluation-posterior-00", "verdict-00", "surrogate-01",
            "verdict", "scorecard")  # fmt: skip
    reached = {key: stage_graph.Reached() for key in keys}
    first = {
        "emulate.rounds": "verdict", "emulate.force": "warm-up-00", "posterior.members": "posterior-00",
        "sample.ess": "posterior-00", "sample.walkers": "warm-up-00",
        "model.start": "evaluation-posterior-00",
    }  # fmt: skip
    assert {key: stage_graph.decided(key, reached) for key in first} == first
    families = [stage_graph.family(key) for key in keys[-4:]]
    assert [family.key for family in families if family is not None] == [
        "verdict-RR", "surrogate-RR", "verdict", "scorecard",
    ]  # fmt: skip


# ---- a run's folder alone


@pytest.mark.slow
def test_an_old_run_without_its_records_is_told_what_to_do(tmp_path, capsys):
    config, run = local(tmp_path), tmp_path / "run"
    assert main([str(config)]) == 0
    (run / "model.json").unlink()
    with h5py.File(run / "stages" / "observations.h5", "r+") as file:
        del file.attrs["file.observations.file"]
    assert main(["report", str(run)]) == 2
    message = capsys.readouterr().err
    assert "has no model.json: it is a run of an earlier version" in message
    assert "start its config once more" in message
    assert main([str(config)]) == 0
    assert (
        "observations is of a version of fatescal that kept no digest of observations.file"
        in (run / "run.log").read_text()
    )
    assert main(["report", str(run)]) == 0
    (run / "model.json").write_text("{")
    assert main(["report", str(run)]) == 2
    assert "model.json cannot be read" in capsys.readouterr().err


def test_status_meets_markers_that_vanish_or_are_being_written(tmp_path, capsys):
    members = tmp_path / "members" / "evaluation-00"
    whole = '{"status": 0, "fingerprint": "f", "seconds": 1.0}'
    for j, text in enumerate((whole, "", None)):
        (members / f"{j:04d}").mkdir(parents=True)
        marker = members / f"{j:04d}" / "member.json"
        if text is None:
            marker.symlink_to(tmp_path / "vanished")
        else:
            marker.write_text(text)
    (members / "jobs").mkdir()
    (members / "jobs" / "submission.json").symlink_to(tmp_path / "vanished")
    assert main(["status", str(tmp_path)]) == 0
    assert "1 members finished, 0 of them failed" in capsys.readouterr().out


def test_what_may_not_be_read_is_told(tmp_path):
    register = Register()
    (tmp_path / "table.csv").write_text("x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", refused)
        with pytest.raises(BadInput, match=r"table.csv cannot be read: Permission denied"):
            register.digests({"observations.file": [tmp_path / "table.csv"]})


def refused(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_markers_hold_what_model_and_files_they_are_of(tmp_path):
    config = local(tmp_path)
    assert main([str(config)]) == 0
    marker = json.loads((tmp_path / "run" / "members" / "evaluation-00" / "0002" / "member.json").read_text())
    assert set(marker["model"]["inputs"]) == {"model.command", "model.files"}
    assert marker["model"]["kind"] == "command"
