"""The verbs on a finished run, on one that died, and on a table of observations, as a user calls them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from linear import fatescal, write_problem

from fatescal import config as settings
from fatescal.__main__ import main
from fatescal.cli.arguments import OWN, VERBS
from fatescal.cli.run_state import age
from fatescal.storage import lock


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a run of the linear problem that has come to its end."""
    path = write_problem(tmp_path_factory.mktemp("site"), posterior={"members": 32})
    done = fatescal(1, path)
    assert "May I use this posterior?" in done.stdout, done.stderr
    return path


@pytest.fixture(scope="module")
def run(config: Path) -> Path:
    return config.parent / "run"


def said(capsys: pytest.CaptureFixture, *arguments: object, code: int = 0) -> str:
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


def test_every_verb_has_help_with_an_example(capsys: pytest.CaptureFixture) -> None:
    for verb in OWN:
        with pytest.raises(SystemExit) as end:
            main([verb.name, "--help"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        assert all(example in text for example in verb.examples)
        assert "examples:" in text


def test_status_answers_first_and_in_the_words_of_the_scorecard(
    config: Path, run: Path, capsys: pytest.CaptureFixture
) -> None:
    answer = (run / "scorecard.txt").read_text().splitlines()[0]
    for where in (run, config):
        lines = said(capsys, "status", where).splitlines()
        assert lines[0].split() == ["run", str(run)]
        assert lines[1].split() == ["state", "finished"]
        assert lines[2] == answer
        first = next(line for line in lines if line.startswith("evaluation-00"))
        assert "median reduced chi-squared" in first
    assert answer in (run / "report" / "index.html").read_text().replace("<b>", "").replace("</b>", "")


def test_watch_ends_with_the_run(run: Path, capsys: pytest.CaptureFixture) -> None:
    text = said(capsys, "status", run, "--watch", "1s")
    assert "finished" in text
    assert text.count("May I use this posterior?") == 1


def test_watch_of_a_run_that_died_says_so_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A process takes the run and is killed with -9, as by a node that fails."""
    (tmp_path / "run" / "members" / "evaluation-00" / "0001.part-abc").mkdir(parents=True)
    code = (
        "import sys, time; from pathlib import Path; from fatescal.storage.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert lock.holder(tmp_path / "run").runs
    assert "running (host" in said(capsys, "status", tmp_path / "run")
    assert "0 members finished, 0 of them failed, 1 running" in said(capsys, "status", tmp_path / "run")
    holder.kill()
    holder.wait()
    found = lock.holder(tmp_path / "run")
    assert (found.runs, found.died) == (False, True)
    text = said(capsys, "status", tmp_path / "run", "--watch", "1s", code=1)
    assert f"DIED (host {found.who.split()[1]}" in text
    assert "running" not in text.split("DIED")[1]


def test_who_ends_by_an_error_has_not_died(tmp_path: Path) -> None:
    def fail() -> None:
        with lock.locked(tmp_path):
            assert lock.holder(tmp_path).runs
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert (lock.holder(tmp_path).runs, lock.holder(tmp_path).died) == (False, False)


def test_a_process_of_another_node_counts_as_gone_after_its_silence(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("host elsewhere, process 1, job 17")
    assert lock.holder(tmp_path).runs
    old = time.time() - lock.SILENCE - 1
    os.utime(path, (old, old))
    assert lock.holder(tmp_path).died
    assert age(lock.holder(tmp_path).seconds) == "2 min"


def test_phases_stand_for_stages_and_a_dry_run_leaves_all(
    config: Path, run: Path, capsys: pytest.CaptureFixture
) -> None:
    before = sorted(run.rglob("*"))
    for phase, first in {"emulate": "surrogate-00", "prior": "ensemble-00", "score": "scorecard"}.items():
        text = said(capsys, "reset", config, "--from", phase, "--dry-run")
        assert text.startswith(f"would be set aside: {first}")
    assert main(["reset", str(run), "--from", "emulat", "--dry-run"]) == 2
    assert "did you mean 'emulate'?" in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


def test_compare_shows_runs_side_by_side(
    run: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    rows = list(csv.DictReader(said(capsys, "compare", config, copy, "--format", "csv").splitlines()))
    first, second = [column for column in rows[0] if column not in ("group", "of", "unit")]
    assert all(row[first] == row[second] for row in rows)
    by = {(row["group"], row["of"]): row for row in rows}
    with open(run / "scorecard.csv", encoding="utf-8") as file:
        card = {(r["variable"], r["period"], r["ensemble"], r["score"]): r for r in csv.DictReader(file)}
    rmse = card["GPP", "validation", "posterior", "rmse"]
    assert float(by["score", "GPP validation rmse"][first]) == pytest.approx(float(rmse["value"]), rel=5e-3)
    assert by["score", "GPP validation rmse"]["unit"] == rmse["unit"] == "g C m-2 d-1"
    table = said(capsys, "compare", run, copy)
    assert "posterior" in table
    assert main(["compare", str(run), str(run / "members")]) == 2
    assert main(["compare", str(run), str(config)]) == 2
    assert "named twice" in capsys.readouterr().err


def test_an_export_is_whole_and_says_what_is_in_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    target = tmp_path / "doi"
    said(capsys, "export", run, "--to", target, "--members", 2)
    lines = [line.split("  ") for line in (target / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert set(sums) == files
    for name, digest in sums.items():
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest
    assert not (target / "members").exists()
    with open(run / "posterior.csv", encoding="utf-8") as file:
        draws = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    mean = json.loads((target / "parameter_files" / "mean" / "parameters.json").read_text())
    for name, value in mean.items():
        assert value == pytest.approx(np.mean([row[name] for row in draws]))
    moved = tmp_path / "moved"
    target.rename(moved)  # links are relative
    with h5py.File(moved / "run.h5") as file:
        theta = file["posterior-00/theta"][()]
        assert sorted(file) == sorted(path.stem for path in (run / "stages").glob("*.h5"))
    member = json.loads((moved / "parameter_files" / "member-0002" / "parameters.json").read_text())
    np.testing.assert_array_equal(list(member.values()), theta[1])
    assert "May I use this posterior?" in (moved / "README.txt").read_text()
    assert main(["export", str(run), "--to", str(moved)]) == 2
    assert "is not empty" in capsys.readouterr().err
    for n in ("-1", "1000"):
        assert main(["export", str(run), "--to", str(tmp_path / "more"), f"--members={n}"]) == 2
        assert f"--members {n}. Expected 0 to" in capsys.readouterr().err
        assert not (tmp_path / "more").exists()


def test_init_finds_the_fluxes_of_a_table_and_check_reads_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    days = np.datetime64("2001-01-01") + np.arange(4 * 365 + 1)
    season = np.sin(np.arange(len(days)) / 58)
    table = "\n".join(
        f"{day},{s + 2:.3f},{90 * s + 100:.2f},0.9" for day, s in zip(days, season, strict=True)
    )
    Path("tower.csv").write_text(f"date,GPP_NT_VUT_REF,LE_F_MDS,LE_F_MDS_QC\n{table}\n")
    text = said(capsys, "init", "tower.csv")
    assert "1461 rows from 2001-01-01 to 2004-12-31" in text
    written = Path("tower.yaml").read_text()
    content = yaml.safe_load(written)
    calibration = [str(day) for day in content["observations"]["calibration"]]
    assert calibration == ["2001-01-01", "2003-12-31"]
    assert set(content["observations"]["variables"]) == {"GPP", "LE"}
    assert "TODO" in written
    loaded = settings.load(Path("tower.yaml"), {"model.forcing": "synthetic"})
    assert loaded.run.name == "tower"
    assert main(["check", "tower.yaml"]) == 2
    assert "TODO" in capsys.readouterr().err
    assert main(["init", "tower.csv"]) == 2
    assert "is there already" in capsys.readouterr().err
    Path("other.csv").write_text("date,P\n2001-01-01,1\n2001-01-02,2\n")
    assert main(["init", "other.csv"]) == 2
    assert "no column that looks like GPP, ET or LE" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb(shell: str, capsys: pytest.CaptureFixture) -> None:
    script = said(capsys, "completion", shell)
    assert all(verb in script for verb in VERBS)
    assert "dry-run" in script
    if shell == "bash":
        asked = 'COMP_WORDS=(fatescal sta); COMP_CWORD=1; _fatescal; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True)
        assert "status" in done.stdout.split(), done.stderr


def test_a_label_may_change_after_the_run(config: Path, capsys: pytest.CaptureFixture) -> None:
    decisive = said(capsys, "status", config, "--set", "parameters.wave.prior.sd=0.4")
    assert "parameters.wave.prior.sd" in decisive
    assert "parameters.wave" not in said(capsys, "status", config, "--set", "parameters.wave.label=the wave")
