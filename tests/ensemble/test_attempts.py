"""What is done for a member that fails or takes too long, and what is kept of one that ran."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear import MODEL, PRIOR, evaluated, fatescal, write_problem

from fatescal import config as settings
from fatescal.base.errors import BadInput, Status
from fatescal.ensemble import retention
from fatescal.ensemble.stragglers import Straggled, StragglerRule, Stragglers
from fatescal.models.clm_fates.clm_options import ClmFatesOptions

pytestmark = [pytest.mark.slow]
LIMIT = PRIOR["mean"][0] + 0.5 * PRIOR["mean"][1]  # a third of the prior ensemble is above


def markers(run: Path, stage: str = "*") -> dict[str, dict[str, Any]]:
    """Return the marker of every finished member."""
    found = run.glob(f"members/{stage}/*/member.json")
    return {f"{p.parts[-3]}/{p.parts[-2]}": json.loads(p.read_text()) for p in found if p.parts[-2].isdigit()}


def with_fallback(folder: Path, *options: str, fallback: Mapping[str, object] | None = None) -> Path:
    other = (
        {"command": [sys.executable, "-SE", str(MODEL), "--count"]} if fallback is None else dict(fallback)
    )
    return write_problem(folder, *options, model={"fallback": other})


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Callable[[], int]:
    """Return how many models have run since it was last asked, of those told to count."""
    log = tmp_path / "runs.log"
    monkeypatch.setenv("LINEAR_LOG", str(log))

    def count() -> int:
        n = len(log.read_text().splitlines()) if log.exists() else 0
        log.unlink(missing_ok=True)
        return n

    return count


def test_where_the_model_fails_the_fallback_runs_and_the_member_says_so(tmp_path, runs, caplog):
    (tmp_path / "sound").mkdir()
    sound = evaluated(write_problem(tmp_path / "sound"))
    caplog.set_level("INFO")
    mended = evaluated(with_fallback(tmp_path, "--fail-above", str(LIMIT)))
    found = markers(tmp_path / "run")
    by_fallback = {name for name, m in found.items() if m["by"] == "fallback"}
    assert {found[name]["attempt"] for name in by_fallback} == {3}  # after one more attempt with the model
    assert all((m["parameters"]["mean"] > LIMIT) == (name in by_fallback) for name, m in found.items())
    assert runs() == len(by_fallback) > 1
    # the fallback is the sound model: everything comes out as if nothing had failed
    assert mended.predictions.tobytes() == sound.predictions.tobytes()
    assert mended.ok.all()
    n = len(by_fallback)
    assert f"evaluation-00: the fallback was tried for {n} members and ran for {n}" in caplog.text
    assert all(f"{name}, attempt 3 (fallback): ran" in caplog.text for name in by_fallback)


def test_a_fallback_given_later_is_for_the_members_that_failed(tmp_path, runs):
    options = ("--fail-above", str(LIMIT))
    assert not evaluated(write_problem(tmp_path, *options)).ok.all()
    before = markers(tmp_path / "run")
    failed = {name for name, m in before.items() if m["status"] != Status.OK}
    (tmp_path / "run" / "stages" / "evaluation-00.h5").unlink()
    assert evaluated(with_fallback(tmp_path, *options)).ok.all()
    after = markers(tmp_path / "run")
    assert {name for name, m in after.items() if m["by"] == "fallback"} == failed
    assert all(m == before[name] for name, m in after.items() if name not in failed)
    assert runs() == len(failed)
    (tmp_path / "run" / "stages" / "evaluation-00.h5").unlink()
    assert evaluated(with_fallback(tmp_path, *options)).ok.all()
    assert runs() == 0


@pytest.mark.parametrize(
    ("fallback", "words"),
    [
        ({"comand": ["x"]}, "model.fallback.comand: unknown key; did you mean 'command'?"),
        ({"kind": "canopy"}, "model.fallback.kind: unknown key"),
        ({"command": []}, "model.fallback.command"),
    ],
)
def test_mistakes_in_a_fallback_are_told(tmp_path, fallback, words):
    with pytest.raises(BadInput) as error:
        settings.load(with_fallback(tmp_path, fallback=fallback))
    assert words in str(error.value)


@pytest.mark.mpi
def test_a_fallback_that_cannot_run_is_told_before_any_member(tmp_path):
    done = fatescal(1, "check", with_fallback(tmp_path, fallback={"command": ["no-such-model"]}))
    assert done.returncode == 2
    assert "model.fallback: model.command: there is no executable" in done.stderr
    done = fatescal(1, "check", with_fallback(tmp_path, fallback={"calendar": "noleap"}))
    assert done.returncode == 2
    assert "its calendar differ" in done.stderr


def test_the_fallback_of_a_namelist_adds_to_it():
    given: dict[str, object] = {
        "kind": "clm_fates",
        "case": "case",
        "start": "2004-01-01",
        "end": "2005-12-31",
    }
    given |= {"namelist": {"a": 1, "b": 2}, "fallback": {"namelist": {"b": 3}}}
    other = ClmFatesOptions.model_validate(given).alternative
    assert other is not None
    assert other.namelist == {"a": 1, "b": 3}
    assert other.alternative is None


STRAGGLING = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from linear import evaluated
    from fatescal import config as settings
    rule = {"factor": 5, "share": 0.6, "least": "1.5 s"}
    evaluated(Path(sys.argv[2]), settings.Machine(straggler=rule))
"""


@pytest.mark.mpi
def test_members_far_slower_than_the_others_are_given_up_on_any_rank(tmp_path, mpirun):
    slow = LIMIT
    path = write_problem(tmp_path, "--slow-above", f"{slow}", model={"timeout": "300 s"})
    # each slow one would take 100 s, mpirun may take 60 s; there are more ranks than slow ones
    done = mpirun(6, STRAGGLING, Path(__file__).parents[1], path)
    assert done.returncode == 0, done.stderr
    found = markers(tmp_path / "run")
    assert {m["status"] for m in found.values() if m["parameters"]["mean"] > slow} == {Status.TIME_OUT}
    assert {m["status"] for m in found.values() if m["parameters"]["mean"] <= slow} == {Status.OK}
    reasons = [m["reason"] for m in found.values() if m["status"] != Status.OK]
    assert 1 < len(reasons) < 5
    assert all(reason.startswith("a straggler: still running after") for reason in reasons)
    assert not list((tmp_path / "run" / "members").rglob("*.failed-*"))


def test_no_member_is_a_straggler_before_most_are_done_or_without_a_rule(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fatescal.ensemble.stragglers.time.monotonic", lambda: now[0])
    done: dict[str, float] = {f"{j:04d}": 10.0 for j in range(7)} | {"0007": float("nan")}
    for rule, n_members, given_up in (
        (None, 9, False),
        (StragglerRule(5, 0.8, 1), 11, False),
        (StragglerRule(5, 0.8, 1), 9, True),
    ):
        stragglers, now[0] = Stragglers(lambda: False, rule), 100.0
        with stragglers.among(n_members, lambda: done):
            stragglers.begin()
            now[0] = 149.0
            assert stragglers() is False
            now[0] = 155.0
            if given_up:
                with pytest.raises(
                    Straggled, match=r"after 55 s, while 8 of the 9 members are done, in 10 s"
                ):
                    stragglers()
            else:
                assert stragglers() is False
        now[0] = 1000.0
        assert stragglers() is False  # no batch is under way


def test_looks_at_the_batch_grow_rare(monkeypatch):
    now, looks = [0.0], []
    monkeypatch.setattr("fatescal.ensemble.stragglers.time.monotonic", lambda: now[0])
    stragglers = Stragglers(lambda: False, StragglerRule(5, 0.8, 1))

    def look() -> dict[str, float]:
        looks.append(now[0])
        return {}

    with stragglers.among(128, look):
        stragglers.begin()
        for tick in range(36_000):
            now[0] = tick / 10
            stragglers()
    assert len(looks) < 300  # an hour


def test_predictions_alone_are_kept_and_a_run_goes_on_from_them(tmp_path, runs):
    (tmp_path / "all").mkdir()
    whole = evaluated(write_problem(tmp_path / "all"))
    config, sparing = write_problem(tmp_path, "--count"), settings.Machine(keep="predictions")
    assert evaluated(config, sparing).predictions.tobytes() == whole.predictions.tobytes()
    folders = list(tmp_path.glob("run/members/*/[0-9]*"))
    assert {tuple(sorted(p.name for p in f.iterdir())) for f in folders} == {
        ("member.json", retention.PREDICTIONS)
    }
    assert runs() == len(folders) == 12
    for machine in (sparing, settings.Machine()):  # also with another word on what to keep
        (tmp_path / "run" / "stages" / "evaluation-00.h5").unlink()
        assert evaluated(config, machine).predictions.tobytes() == whole.predictions.tobytes()
        assert runs() == 0


def test_what_was_kept_whole_is_trimmed_when_it_is_read_again(tmp_path, runs):
    config = write_problem(tmp_path, "--count")
    evaluated(config)
    (tmp_path / "run" / "stages" / "evaluation-00.h5").unlink()
    evaluated(config, settings.Machine(keep="predictions"))
    assert runs() == 12
    assert not list(tmp_path.rglob("output.nc"))


def test_kept_predictions_count_for_the_same_windows_alone(tmp_path):
    predictions = np.arange(3.0)
    retention.save(tmp_path, predictions, "these")
    (tmp_path / "output.nc").touch()
    (tmp_path / "state.r.nc").touch()
    (tmp_path / "logs").mkdir()
    retention.trim(tmp_path, [retention.PREDICTIONS, "*.r.nc"])
    assert {p.name for p in tmp_path.iterdir()} == {retention.PREDICTIONS, "state.r.nc"}
    found = retention.load(tmp_path, "these")
    assert found is not None
    assert found.tolist() == predictions.tolist()
    assert retention.load(tmp_path, "others") is None
    path = tmp_path / retention.PREDICTIONS
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert retention.load(tmp_path, "these") is None
