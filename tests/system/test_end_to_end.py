"""The whole program as a user runs it, on the linear model whose posterior is known."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml
from conftest import mpi_command
from linear import MODEL, PRIOR, QUICK, fatescal, require_exact, run_program, write_problem
from running import children, digests, require_scored, start, wait_for

from fatescal.cli.arguments import DEFAULT_CONFIG
from fatescal.emulate.registry import EMULATORS
from fatescal.storage import stage_graph
from fatescal.update.registry import SCHEMES

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
REPORTED = ("report/index.html", "scorecard.txt", "scorecard.csv", "posterior.csv")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """The folder of an unbroken run on two ranks; its model notes down every run of it."""
    folder = tmp_path_factory.mktemp("reference")
    config = write_problem(folder, "--count")
    done = fatescal(2, config, LINEAR_LOG=str(folder / "runs.log"))
    assert done.returncode == 0, done.stderr
    assert "GPP [g C m-2 d-1], validation" in done.stdout
    return folder


def test_the_posterior_is_the_exact_one(reference):
    require_exact(reference)


def test_every_file_of_the_readme_is_there(reference):
    run = reference / "run"
    names = ("config.yaml", "posterior.csv", "scorecard.csv", "posterior.nc", "run.log", "report/index.html")
    assert [name for name in names if not (run / name).is_file()] == []
    with h5py.File(run / "stages" / "posterior-00.h5") as file:
        assert file["theta"].shape == (11, 3)
        assert [name.decode() for name in file["parameter"]] == list(PRIOR)
        assert file["theta"].attrs["dims"] == "J P"
    member = run / "members" / "evaluation-01" / "0003"
    assert set(json.loads((member / "parameters.json").read_text())) == set(PRIOR)


def test_the_chains_open_in_arviz(reference):
    chains = xr.open_datatree(reference / "run" / "posterior.nc")
    assert set(chains.posterior.data_vars) == set(PRIOR)


def test_member_0_is_the_default_run_in_every_evaluation(reference):
    for path in (reference / "run" / "stages").glob("evaluation-*.h5"):
        with h5py.File(path) as file:
            np.testing.assert_allclose(file["theta"][0], [mean for mean, _ in PRIOR.values()], rtol=1e-14)


def test_a_finished_run_started_again_prints_its_scorecard_and_runs_nothing(reference):
    before = (reference / "runs.log").read_text()
    done = fatescal(2, reference / "linear.yaml", LINEAR_LOG=str(reference / "runs.log"))
    assert done.returncode == 0, done.stderr
    assert "GPP [g C m-2 d-1], validation" in done.stdout
    assert (reference / "runs.log").read_text() == before


@pytest.mark.parametrize("n_ranks", [0, 4])
def test_the_number_of_ranks_changes_no_bit(reference, tmp_path, n_ranks):
    done = fatescal(n_ranks, write_problem(tmp_path))
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "run") == digests(reference / "run")
    assert (tmp_path / "run" / "posterior.csv").read_bytes() == (
        reference / "run" / "posterior.csv"
    ).read_bytes()


MOMENTS: dict[str, int | str] = {  # what is waited for, and who is killed then: a worker, rank 0 or mpirun
    "members/evaluation-00/0004": 1,
    "stages/evaluation-00.h5": 0,
    "members/evaluation-01/0002": "mpirun",
    "stages/ensemble-02.h5": 1,
    "stages/surrogate-00.h5": 0,
    "stages/warm-up-00.h5": "mpirun",
    "stages/chains-00-000.h5": 1,
    "stages/posterior-00.h5": 0,
    "members/evaluation-posterior-00/0003": 1,
    "stages/verdict-00.h5": 0,
}


def test_a_run_killed_again_and_again_ends_with_the_same_bits(reference, tmp_path):
    """kill -9 at ten moments of one run; no finished member runs again, no process stays behind."""
    config, log = write_problem(tmp_path, "--count"), tmp_path / "runs.log"
    for moment, victim in MOMENTS.items():
        program = start(config, LINEAR_LOG=str(log))
        wait_for(tmp_path / "run" / moment, program)
        while (
            len(ranks := children(program.pid)) < 2
        ):  # the moment may have passed already: then at the start
            time.sleep(0.005)
        os.kill(ranks[victim] if isinstance(victim, int) else program.pid, signal.SIGKILL)
        assert program.wait(90) != 0
    done = fatescal(2, config, LINEAR_LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "run") == digests(reference / "run")
    again = len(log.read_text().splitlines()) - len((reference / "runs.log").read_text().splitlines())
    assert 0 <= again <= 2 * len(MOMENTS)  # at most the members that were under way when a rank was killed
    assert not [p for p in Path("/proc").glob("[0-9]*/cwd") if _within(p, tmp_path / "run")]


def _within(link: Path, folder: Path) -> bool:
    try:
        return Path(os.readlink(link)).is_relative_to(folder)
    except OSError:
        return False


def test_sigusr1_ends_with_75_and_the_same_command_continues(tmp_path):
    config = write_problem(tmp_path, "--sleep", "0.3")
    program = start(config)
    wait_for(tmp_path / "run" / "members" / "evaluation-00" / "0001", program)
    program.send_signal(signal.SIGUSR1)
    _, message = program.communicate(timeout=90)
    assert program.returncode == 75, message.decode()
    assert b"start" in message
    done = fatescal(2, "run", "--time-limit", "1s", config)
    assert done.returncode == 75, done.stderr


def test_failing_members_are_told_and_left_out(tmp_path):
    config = write_problem(tmp_path, "--fail-above", "6.5", emulate=QUICK)
    done = fatescal(2, config)
    assert done.returncode == 0, done.stderr
    assert "ERROR: the mean is too large for this model" in done.stderr
    with h5py.File(tmp_path / "run" / "stages" / "evaluation-00.h5") as file:
        status, theta, predictions = file["status"][()], file["theta"][()], file["predictions"][()]
    assert ((status == 1) == (theta[:, 0] > 6.5)).all()
    assert status.any()
    assert (np.isnan(predictions).all(axis=1) == (status == 1)).all()


def test_a_model_that_never_works_ends_the_run_with_its_own_words(tmp_path):
    done = fatescal(2, write_problem(tmp_path, "--fail-above", "-1000"))
    assert done.returncode == 1
    assert "the default run failed, and no other was started: model error" in done.stderr
    assert [p.name for p in (tmp_path / "run" / "members" / "evaluation-00").iterdir()] == ["0000"]
    assert done.stderr.count("Traceback") == 0


def test_chains_that_do_not_converge_end_without_a_posterior_and_go_on_when_allowed(tmp_path):
    failed = fatescal(2, write_problem(tmp_path, emulate=QUICK, sample={"max_steps": 500, "ess": 1e6}))
    assert failed.returncode == 1
    assert failed.stderr.count("the chains have not converged after 500 steps") == 1
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "run" / "posterior.csv").exists()
    before = digests(tmp_path / "run")
    done = fatescal(2, write_problem(tmp_path, emulate=QUICK, sample={"max_steps": 1000}))
    assert done.returncode == 0, done.stderr
    assert before.items() <= digests(tmp_path / "run").items()


def test_a_run_whose_emulator_is_refused_is_scored_and_says_so(tmp_path):
    done = fatescal(
        2, write_problem(tmp_path, calibrate={"members": 6, "iterations": 1}, emulate={"rounds": 0})
    )
    assert done.returncode == 1
    assert done.stderr.count("no posterior was sampled: the emulator of round 0 was refused") == 2  # log, end
    assert done.stdout.startswith("May I use this posterior? No: not sampled\n")
    assert "Traceback" not in done.stderr
    assert "NOT VALIDATED" in done.stdout
    assert ",last,rmse," in (tmp_path / "run" / "scorecard.csv").read_text()
    assert ",posterior,rmse," not in (tmp_path / "run" / "scorecard.csv").read_text()
    assert not (tmp_path / "run" / "posterior.csv").exists()


def test_verbs_on_a_finished_run(reference, tmp_path):
    run = reference / "run"
    status = fatescal(0, "status", run)
    assert "posterior-00 " in status.stdout
    assert "GPP [g C m-2 d-1], calibration" in status.stdout
    page = (run / "report" / "index.html").read_bytes()
    assert not (run / "figures").exists()
    assert fatescal(0, "report", run).returncode == 0
    assert (run / "report" / "index.html").read_bytes() == page
    assert (run / "figures" / "misfit.pdf").is_file()
    wrong = fatescal(0, "reset", "--from", "nonsense", run)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def derived(record: type) -> list[type]:
    """Return a record and all that derive from it."""
    below: list[type] = record.__subclasses__()
    return [record, *(made for own in below for made in derived(own))]


def test_the_graph_names_what_every_stage_is_made_from(reference):
    for path in sorted((reference / "run" / "stages").glob("*.h5")):
        with h5py.File(path) as file:
            record, inputs = file.attrs["record"], json.loads(file.attrs["inputs"])
            read = {name.removeprefix("file.") for name in file.attrs if name.startswith("file.")}
        family = stage_graph.family(path.stem)
        assert family is not None, path.stem
        assert family.record is not None
        assert SCHEMES  # whose states are records of the family
        assert EMULATORS  # and what they learn
        assert record in {made.__name__ for made in derived(family.record)}
        known = {one.key for key in inputs if (one := stage_graph.family(key)) is not None}
        assert known <= set(family.inputs), path.stem
        expected = {"observations": {"observations.file"}, "evaluation": {"model.command"}}
        assert read == expected.get(path.stem.split("-")[0], set()), path.stem


# A model that few runs do not tell: the emulator is forced, its posterior is wrong, the model says so.
BENT: dict[str, dict] = {
    "calibrate": {"members": 12, "iterations": 0},
    "emulate": {"force": True, "rounds": 1},
    "posterior": {"members": 16},
}


@pytest.fixture(scope="module")
def bent(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An unbroken run of several rounds on two ranks, and what it said."""
    folder = tmp_path_factory.mktemp("bent")
    config = write_problem(folder, "--bent", "--count", **BENT)
    return folder, fatescal(2, config, LINEAR_LOG=str(folder / "runs.log"))


def verdict_of(run: Path, key: str) -> tuple[str, int, int]:
    """Return outcome, round and number of pooled members of a verdict."""
    with h5py.File(run / "stages" / f"{key}.h5") as file:
        attributes = file.attrs
        return attributes["field.outcome"], attributes["field.round"], len(file["pooled_weights"])


def test_an_unconfirmed_posterior_is_emulated_again_from_its_own_runs(bent):
    folder, done = bent
    run = folder / "run"
    rounds = sorted(path.stem for path in (run / "stages").glob("verdict-*.h5"))
    told = [verdict_of(run, key) for key in rounds]
    assert len(rounds) > 1
    assert [outcome for outcome, _, _ in told[:-1]].count("confirmed") == 0
    assert [pooled for *_, pooled in told] == [15 * (i + 1) for i in range(len(told))]
    assert verdict_of(run, "verdict") == told[-1]
    with h5py.File(run / "stages/surrogate-01.h5") as file:  # which has learnt from that very ensemble
        assert "evaluation-posterior-00" in json.loads(file.attrs["inputs"])
        assert len(file["u"]) == 12 + 15
    assert done.returncode == (0 if told[-1][0] == "confirmed" else 1), done.stderr
    assert done.stdout.startswith("May I use this posterior? ")
    page = (run / "report" / "index.html").read_text()
    assert page.index('class="verdict"') < page.index("emulator ")


def test_a_run_that_ends_unconfirmed_exits_with_1_and_says_what_to_distrust_and_to_do(bent, tmp_path):
    first = verdict_of(bent[0] / "run", "verdict-00")
    config = write_problem(tmp_path, "--bent", **{**BENT, "emulate": {"force": True, "rounds": 0}})
    done = fatescal(2, config)
    assert verdict_of(tmp_path / "run", "verdict") == first
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "emulate.rounds: 2" in done.stderr
    assert "distrust" in done.stderr or "do not rely on" in done.stderr
    assert done.stdout.splitlines()[0] in (
        f"May I use this posterior? No: {end}" for end in ("not confirmed", "cannot tell")
    )
    assert (tmp_path / "run" / "posterior.csv").exists()
    # the same command says the same again; with more rounds, and the verdict reset, the run goes on
    assert fatescal(2, config).returncode == 1
    config = write_problem(tmp_path, "--bent", **BENT)
    refused = fatescal(0, config)
    assert refused.returncode == 2
    assert "--from verdict" in refused.stderr
    assert fatescal(0, "reset", "--from", "verdict", tmp_path / "run").returncode == 0
    assert fatescal(2, config).returncode == bent[1].returncode
    assert digests(tmp_path / "run") == digests(bent[0] / "run")


LOOP_MOMENTS: dict[str, int | str] = {
    "members/evaluation-posterior-00/0003": 1,
    "stages/verdict-00.h5": 0,
    "stages/surrogate-01.h5": "mpirun",
    "members/evaluation-posterior-01/0002": 0,
    "stages/verdict-01.h5": 1,
}


@pytest.mark.parametrize("n_ranks", [0, 4])
def test_rounds_have_the_same_bits_on_any_number_of_ranks_and_after_kills(bent, tmp_path, n_ranks):
    """On four ranks also after kill -9 at five moments of the loop."""
    folder, unbroken = bent
    config = write_problem(tmp_path, "--bent", **BENT)
    for moment, victim in LOOP_MOMENTS.items() if n_ranks else ():
        program = start(config)
        wait_for(tmp_path / "run" / moment, program)
        while len(ranks := children(program.pid)) < 2:
            time.sleep(0.005)
        os.kill(ranks[victim] if isinstance(victim, int) else program.pid, signal.SIGKILL)
        assert program.wait(90) != 0
    assert fatescal(n_ranks, config).returncode == unbroken.returncode
    assert digests(tmp_path / "run") == digests(folder / "run")


def copied_alone(run: Path, to: Path) -> Path:
    """Copy what a report needs of a run's folder to a place where there is neither model nor data."""
    kept = ("stages", "config.yaml", "model.json", "inputs.json", "no-effect.json")
    to.mkdir(parents=True)
    for name in kept:
        if (run / name).is_dir():
            shutil.copytree(run / name, to / name)
        elif (run / name).exists():
            shutil.copy(run / name, to / name)
    return to


def test_a_run_s_folder_alone_gives_the_same_report_and_files(tmp_path):
    """Elsewhere: the model's script, the observations and the config are gone, and so are the members."""
    there = tmp_path / "there"
    there.mkdir()
    config = write_problem(there, calibrate={"iterations": 1}, emulate=QUICK)
    shutil.copy(MODEL, there / "model.py")
    config.write_text(config.read_text().replace(str(MODEL), "model.py"))
    assert fatescal(2, config).returncode == 0
    made = {name: (there / "run" / name).read_bytes() for name in REPORTED}
    alone = copied_alone(there / "run", tmp_path / "laptop" / "run")
    shutil.rmtree(there)
    done = fatescal(0, "report", alone)
    assert done.returncode == 0, done.stderr
    assert {name: (alone / name).read_bytes() for name in REPORTED} == made
    assert (alone / "posterior.nc").is_file()


def test_the_demo_is_reported_elsewhere_too(tmp_path):
    content = yaml.safe_load(DEFAULT_CONFIG.read_text())
    content["run"]["directory"] = str(tmp_path / "there")
    content["model"] |= {"end": "2004-12-31"}
    content["observations"] |= {"calibration": ["2004-01-01", "2004-12-31"], "window": "10D"}
    del content["observations"]["validation"]
    content["calibrate"] |= {"members": 20, "iterations": 0}
    content["emulate"] |= {"force": True, "rounds": 0}
    content["sample"] |= {"max_steps": 2000, "rhat": 1.5, "ess": 20}
    content["posterior"]["members"] = 4
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    done = fatescal(2, path, timeout=900)
    require_scored(done)
    page = (tmp_path / "there" / "report" / "index.html").read_bytes()
    assert b"umol CO2 m-2 s-1" in page
    alone = copied_alone(tmp_path / "there", tmp_path / "laptop")
    shutil.rmtree(tmp_path / "there")
    assert fatescal(0, "report", alone).returncode == 0
    assert (alone / "report" / "index.html").read_bytes() == page


def test_a_changed_config_is_refused_until_its_stages_are_reset(reference, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reference / "run", run)
    config = write_problem(tmp_path, "--count", sample={"walkers": 5})
    log = tmp_path / "runs.log"
    refused = fatescal(0, config, LINEAR_LOG=str(log))
    assert refused.returncode == 2
    assert "sample.walkers has changed" in refused.stderr
    assert "--from warm-up-00" in refused.stderr
    assert fatescal(0, "reset", "--from", "warm-up-00", run).returncode == 0
    assert fatescal(2, config, LINEAR_LOG=str(log)).returncode == 0
    assert digests(run)["surrogate-00"] == digests(reference / "run")["surrogate-00"]
    assert digests(run)["posterior-00"] != digests(reference / "run")["posterior-00"]


def test_a_second_job_on_a_run_is_refused(tmp_path):
    config = write_problem(tmp_path, "--sleep", "3")
    first = start(config)
    wait_for(tmp_path / "run" / "members" / "evaluation-00", first)
    second = fatescal(2, config)
    first.kill()
    first.wait()
    assert second.returncode == 1
    assert second.stderr.count("another fatescal works on") == 1


def test_128_ranks(tmp_path):
    """A whole run, with the bits of a run without MPI: far more ranks than members, rows and chains.

    At the lowest priority: the test beside it would hardly get a core.
    """
    folders = [tmp_path / "serial", tmp_path / "wide"]
    for folder in folders:
        folder.mkdir()
    serial, wide = (
        write_problem(
            folder,
            calibrate={"iterations": 1, "members": 10},
            emulate={"force": True, "rounds": 0, **QUICK},
            sample={"ess": 100, "rhat": 1.05, "levels": 2, "walkers": 1},
            posterior={"members": 3},
        )
        for folder in folders
    )
    unbroken = fatescal(0, serial)
    require_scored(unbroken)
    command = mpi_command(128, "-m", "fatescal", str(wide))
    done = run_program(["nice", "-n", "19", *command], tmp_path, timeout=1500)
    assert done.returncode == unbroken.returncode, done.stderr
    assert "on 128 ranks" in done.stderr
    assert digests(folders[1] / "run") == digests(folders[0] / "run")
