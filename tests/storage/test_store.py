"""Checkpoints: complete or absent, verified, the same whoever wrote them."""

import errno
import fcntl
import functools
import os
import shutil
import socket
import subprocess
from typing import Any

import h5py
import numpy as np
import pytest

from fatescal.base.errors import RunFailed
from fatescal.hpc.communicator import Communicator
from fatescal.storage.lock import locked
from fatescal.storage.records import (
    Evaluation,
    KalmanInfo,
    KalmanState,
    Observations,
    Posterior,
    Record,
    Validation,
)
from fatescal.storage.store import Store, discard
from fatescal.update.survivors import SurvivorState


def example_state(**changes: Any) -> KalmanState:
    given: dict[str, Any] = {"u": np.eye(3, 2), "iteration": 2}
    return KalmanState(**(given | changes))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "stages", Communicator())


def never():
    raise AssertionError("a finished stage was computed again")


def assert_same(one: Record, other: Record):
    for name, value in vars(one).items():
        match = getattr(other, name)
        if isinstance(value, dict):
            assert set(value) == set(match)
            assert all(np.array_equal(value[k], match[k]) and value[k].dtype == match[k].dtype for k in value)
        elif isinstance(value, np.ndarray):
            assert value.dtype == match.dtype
            assert np.array_equal(value, match)
        else:
            np.testing.assert_equal(value, match)  # NaN is NaN
            assert type(value) is type(match)


def test_a_stage_is_computed_once_and_comes_back_the_same(store):
    first = store.once("ensemble-02", KalmanState, example_state)
    again = store.once("ensemble-02", KalmanState, never)
    assert_same(first, again)


def test_numpy_s_scalars_come_back_as_python_s(store):
    def state() -> KalmanState:
        return example_state(iteration=np.int64(2), pseudo_time=np.float32(0.25), finished=np.bool_(True))

    first = store.once("ensemble-02", KalmanState, state)
    assert [type(x) for x in (first.iteration, first.pseudo_time, first.finished)] == [int, float, bool]
    assert_same(first, store.once("ensemble-02", KalmanState, never))
    info = KalmanInfo(np.float64(2.0), np.ones(3), np.ones(2), n_failed=np.sum([True, True]))
    assert_same(store.once("update-01", KalmanInfo, lambda: info), store.once("update-01", KalmanInfo, never))
    verdict = Validation(
        np.ones(1),
        np.ones(1),
        np.ones(1),
        q2=1.0,
        coverage=1.0,
        posterior_sd=0.0,
        verdict=np.str_("passed: °"),
    )
    assert_same(
        store.once("validation-00-rows", Validation, lambda: verdict),
        store.once("validation-00-rows", Validation, never),
    )


def test_times_and_text_come_back_the_same(store):
    day = np.array(["2004-01-01", "2004-01-02"], "datetime64[s]")
    observations = Observations(
        y=np.array([1.0, 2.0]),
        noise=np.array([0.1, 0.2]),
        variable=np.array(["GPP", "ET"]),
        unit=np.array(["g C m-2 d-1", "°"]),
        start=day,
        end=day + 86400,
        period=np.array(["calibration", "validation"]),
    )
    store.once("observations", Observations, lambda: observations)
    assert_same(observations, store.once("observations", Observations, never))


def example_posterior() -> Posterior:
    """One with a mapping: what follows from the draws."""
    u, more = np.eye(3, 2), {"slope": np.arange(3.0)}
    return Posterior(u, u, np.array(["a", "b"]), u, u, more)


@pytest.mark.parametrize("where", ["u", "draws_following/slope"])
def test_a_flipped_bit_is_found_and_the_way_out_is_named(store, where):
    first = store.once("posterior", Posterior, example_posterior)
    assert_same(first, store.once("posterior", Posterior, never))
    with h5py.File(store.path("posterior"), "r+") as file:
        file[where][1] += 1e-12
    with pytest.raises(RunFailed, match=r"damaged: checksum of .* Try: rm .*posterior.h5"):
        store.once("posterior", Posterior, never)


def test_a_record_that_declares_more_is_stored_by_its_declaration(store):
    def state() -> SurvivorState:
        return SurvivorState(
            u=np.eye(2), u0=np.arange(6.0).reshape(3, 2), alive=np.array([True, False, True])
        )

    first = store.once("ensemble-01", SurvivorState, state)
    assert_same(first, store.once("ensemble-01", SurvivorState, never))
    with h5py.File(store.path("ensemble-01"), "r+") as file:
        assert file["u0"].attrs["dims"] == "J0 P"
        file["u0"][1, 1] += 1e-12
    with pytest.raises(RunFailed, match="damaged: checksum of u0"):
        store.once("ensemble-01", SurvivorState, never)
    with pytest.raises(RunFailed, match=r"holds SurvivorState of schema .*--from ensemble-01"):
        store.once("ensemble-01", KalmanState, never)
    with pytest.raises(ValueError, match=r"SurvivorState\.alive: J0 is 2, elsewhere in the record 3"):
        SurvivorState(u=np.eye(2), u0=np.ones((3, 2)), alive=np.array([True, False]))


def test_a_file_with_more_than_its_record_declares_is_of_another_version(store):
    store.once("ensemble-00", KalmanState, example_state)
    with h5py.File(store.path("ensemble-00"), "r+") as file:
        file["memory/u0"] = np.ones(2)
    with pytest.raises(
        RunFailed, match=r"holds memory, which KalmanState of this version .*--from ensemble-00"
    ):
        store.once("ensemble-00", KalmanState, never)


def test_a_changed_scalar_is_found(store):
    store.once("ensemble-00", KalmanState, example_state)
    with h5py.File(store.path("ensemble-00"), "r+") as file:
        file.attrs["field.iteration"] = 3
    with pytest.raises(RunFailed, match="damaged: checksum"):
        store.once("ensemble-00", KalmanState, never)


def test_a_truncated_file_is_refused(store):
    store.once("ensemble-00", KalmanState, example_state)
    path = store.path("ensemble-00")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(RunFailed, match="damaged"):
        store.once("ensemble-00", KalmanState, never)


def test_without_a_damaged_file_its_stage_comes_back_and_later_ones_stay_good(store):
    store.once("ensemble-00", KalmanState, example_state)
    store.once("ensemble-01", KalmanState, example_state, ["ensemble-00"])
    path = store.path("ensemble-00")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(RunFailed, match=f"rm {path}"):
        store.keys()
    path.unlink()
    store.once("ensemble-00", KalmanState, example_state)
    store.once("ensemble-01", KalmanState, never, ["ensemble-00"])


def test_an_older_schema_is_refused_and_can_be_reset(store):
    for key in ("observations", "ensemble-00"):
        store.once(key, KalmanState, example_state)
    with h5py.File(store.path("ensemble-00"), "r+") as file:
        file.attrs["schema"] = 0
    with pytest.raises(
        RunFailed, match=r"of schema 0, .*; expected KalmanState of schema .*--from ensemble-00"
    ):
        store.once("ensemble-00", KalmanState, never)
    discard(store.folder.parent, "ensemble-00", store.keys())
    assert store.keys() == ["observations"]


def test_a_run_whose_folder_vanishes_ends_and_is_not_begun_anew(store):
    store.once("ensemble-00", KalmanState, example_state)
    shutil.rmtree(store.folder)
    with pytest.raises(RunFailed, match=r"ensemble-00.h5 has vanished\. Try: put it back"):
        store.once("ensemble-01", KalmanState, example_state, ["ensemble-00"])
    store.folder.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        store.once("ensemble-01", KalmanState, example_state)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_stage_for_which_the_disk_is_too_small_does_not_appear(small_disk):
    store = Store(small_disk / "stages", Communicator())
    store.once("ensemble-00", KalmanState, example_state)
    with pytest.raises(OSError, match="No space left on device"):
        store.once("ensemble-01", KalmanState, lambda: example_state(u=np.ones((1000, 200))))
    assert store.keys() == ["ensemble-00"]


def test_a_stage_of_other_inputs_is_refused(store):
    store.once("ensemble-00", KalmanState, example_state)
    store.once("ensemble-01", KalmanState, example_state, ["ensemble-00"])
    store.path("ensemble-00").unlink()
    store.once("ensemble-00", KalmanState, lambda: example_state(iteration=7))
    with pytest.raises(RunFailed, match="computed from another ensemble-00"):
        store.once("ensemble-01", KalmanState, never)


def test_wall_clock_fields_do_not_enter_the_digest(tmp_path):
    def row(i, seconds, u):
        return {
            "u": np.full(2, u + i), "theta": np.zeros(2), "predictions": np.zeros(3),
            "status": np.asarray(0), "seconds": np.asarray(seconds),
        }  # fmt: skip

    digests = []
    for n, (seconds, u) in enumerate([(1.0, 0.0), (2.0, 0.0), (2.0, 0.5)]):
        store = Store(tmp_path / str(n), Communicator())
        rows = {i: row(i, seconds, u) for i in range(4)}
        store.once_rows("evaluation-00", Evaluation, 4, functools.partial(dict, rows))
        digests.append(store.digest("evaluation-00"))
    assert digests[0] == digests[1] != digests[2]


def test_reset_sets_later_stages_and_their_members_aside(tmp_path):
    store = Store(tmp_path / "stages", Communicator())
    for key in ("ensemble-00", "evaluation-00", "ensemble-01"):
        store.once(key, KalmanState, example_state)
    (tmp_path / "members" / "evaluation-00" / "0001").mkdir(parents=True)
    aside = discard(tmp_path, "evaluation-00", store.keys())
    assert store.keys() == ["ensemble-00"]
    assert sorted(p.name for p in (aside / "stages").iterdir()) == ["ensemble-01.h5", "evaluation-00.h5"]
    assert (aside / "members" / "evaluation-00" / "0001").is_dir()


def test_a_second_job_on_a_run_is_refused_and_told_who_has_it(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(RunFailed, match=r"another fatescal works on .*host .*process"),
        locked(tmp_path, patience=0.3),
    ):
        pass
    with locked(tmp_path, patience=0.0):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_a_file_holds_the_run(tmp_path, monkeypatch, number):
    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with locked(tmp_path):
        said = (tmp_path / "lock.held").read_text()
        assert said.startswith(f"host {socket.gethostname()}, process {os.getpid()}, job 4711, since 2")
        with (
            pytest.raises(RunFailed, match="another fatescal works on") as refused,
            locked(tmp_path, patience=0.3),
        ):
            pass
        assert said in str(refused.value)
        assert "wait for it, or cancel it" in str(refused.value)
    assert not (tmp_path / "lock.held").exists()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "lock.held").write_text(
        f"host {socket.gethostname()}, process {gone.pid}, job none, since 2026"
    )
    with (
        pytest.raises(RunFailed, match=f"not there any more. Try: rm {tmp_path}/lock.held"),
        locked(tmp_path, 0.0),
    ):
        pass
    (tmp_path / "lock.held").write_text("host c1-2, process 5, job 17, since 2026-01-01 00:00:00")
    with (
        pytest.raises(RunFailed, match=r"c1-2.*where neither the process nor its job is there: rm"),
        locked(tmp_path, 0.0),
    ):
        pass
    (tmp_path / "lock.held").unlink()
    with locked(tmp_path, 0.0):
        pass


def test_other_errors_of_a_lock_are_told(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path, 0.0):
        pass


ROWS = """
    import sys
    from pathlib import Path
    import h5py, numpy as np
    from fatescal.storage.records import Evaluation
    from fatescal.storage.store import PARALLEL, Store
    from fatescal.hpc.communicator import Communicator

    comm = Communicator()
    store = Store(Path(sys.argv[1]), comm)

    def row(i):
        if sys.argv[2] == "fail" and i == 5:
            raise ValueError("boom")
        return {"u": np.full(2, i), "theta": np.full(2, i), "predictions": np.arange(1000.0) * i,
                "status": np.asarray(0), "seconds": np.asarray(0.1)}

    result = store.once_rows("evaluation-00", Evaluation, 7, lambda: comm.parallel_for(row, 7))
    if comm.is_root:
        assert (result.predictions == np.arange(1000.0) * np.arange(7)[:, None]).all()
        print("digest", store.digest("evaluation-00"), PARALLEL)
"""


@pytest.mark.mpi
def test_rows_are_the_same_for_any_number_of_ranks_even_ones_without_a_row(mpirun, tmp_path):
    said = [mpirun(n, ROWS, tmp_path / str(n), "ok") for n in (1, 2, 9)]
    assert all(done.returncode == 0 for done in said), said[-1].stderr
    assert len({done.stdout for done in said}) == 1


@pytest.mark.mpi
def test_without_parallel_hdf5_root_writes_the_same(mpirun, tmp_path):
    serial = ROWS.replace(
        "comm = Communicator()",
        "import fatescal.storage.store\n    fatescal.storage.store.PARALLEL = False\n"
        "    comm = Communicator()",
    )
    said = [mpirun(3, source, tmp_path / str(n), "ok") for n, source in enumerate((ROWS, serial))]
    assert said[1].returncode == 0, said[1].stderr
    assert said[0].stdout.split()[1] == said[1].stdout.split()[1]


@pytest.mark.mpi
def test_a_stage_with_a_failing_row_never_appears(mpirun, tmp_path):
    done = mpirun(3, ROWS, tmp_path / "stages", "fail")
    assert done.returncode != 0
    assert not (tmp_path / "stages" / "evaluation-00.h5").exists()
