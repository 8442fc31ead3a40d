"""Dead and hanging ranks, and errors of one rank: the whole job ends, and says why once."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from conftest import mpi_command, mpi_environment

from fatescal.hpc import watchdog
from fatescal.hpc.watchdog import Watchdog

pytestmark = pytest.mark.mpi

RANKS = """
    import os, signal, sys, time
    import fatescal.hpc.communicator
    from fatescal.hpc.communicator import Communicator
    fatescal.hpc.communicator.ERROR_WAIT = 1.0
    comm = Communicator()
    comm.watch(2.0)
    victim = int(sys.argv[1])

    def gone_by(number):
        if comm.rank == victim:
            time.sleep(0.5)
            os.kill(os.getpid(), number)
        comm.barrier()
"""


@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.parametrize(("number", "word"), [("SIGKILL", "is dead"), ("SIGSTOP", "hangs: no sign of life")])
def test_a_dead_or_stopped_rank_ends_the_job_and_is_named_once(mpirun, victim, number, word):
    done = mpirun(4, RANKS + f"\n    gone_by(signal.{number})", victim)
    assert done.returncode != 0
    assert done.stderr.count("fatescal:") == done.stderr.count(word) == 1, done.stderr
    assert f"fatescal: rank {victim} (process " in done.stderr


def test_an_error_that_all_ranks_meet_is_told_once(mpirun):
    done = mpirun(4, RANKS + "\n    comm.abort('the disk is full')", 0)
    assert done.returncode != 0
    assert done.stderr.count("the disk is full") == 1, done.stderr


def test_an_error_does_not_wait_for_the_members_of_other_ranks(mpirun, tmp_path):
    done = mpirun(
        3,
        RANKS
        + """
    def task(i):
        if i == victim:
            raise OSError(28, os.strerror(28), "run/members/0001")
        time.sleep(60)
        open(f"ended-{i}", "w").close()

    comm.parallel_for(task, 3)
    """,
        1,
    )
    assert done.returncode != 0
    assert done.stderr.count("fatescal: rank 1: No space left on device (run/members/0001)") == 1, done.stderr
    assert not list(tmp_path.glob("ended-*"))


def test_a_collective_call_that_does_not_return_ends_the_job(mpirun):
    done = mpirun(
        2,
        RANKS
        + """
    with comm.all_or_abort("writing stage x"):
        if comm.rank == victim:
            comm.mpi.Barrier()  # the other never comes
        else:
            time.sleep(30)
    """,
        1,
    )
    assert done.returncode != 0
    assert done.stderr.count("writing stage x is not done after 2 s") == 1, done.stderr


def test_ranks_that_end_at_different_times_are_not_taken_for_dead(mpirun):
    source = "\n    time.sleep(0.3 * comm.rank)\n    comm.close()\n    print('end', flush=True)"
    done = mpirun(4, RANKS + source, 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("end") == 4


@pytest.mark.parametrize("victim", [0, 2])
def test_a_rank_that_ends_while_others_wait_for_it_ends_the_job(mpirun, victim):
    source = """
    if comm.rank == victim:
        comm.close()
        print("left alone", flush=True)
    comm.barrier()
    """
    done = mpirun(4, RANKS + source, victim)
    assert "left alone" not in done.stdout
    assert done.returncode != 0
    assert done.stderr.count("fatescal:") == done.stderr.count("has ended, and rank") == 1, done.stderr
    assert f"fatescal: rank {victim} (process " in done.stderr


def test_a_job_suspended_for_longer_than_the_limit_goes_on(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(
        "import time\nfrom fatescal.hpc.communicator import Communicator\n"
        "comm = Communicator()\ncomm.watch(2.0)\n"
        "print('ready', flush=True)\nfor i in range(30):\n    time.sleep(0.1)\n"
        "comm.barrier()\ncomm.close()\n"
    )
    job = subprocess.Popen(
        mpi_command(3, str(script)), env=mpi_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert job.stdout is not None
    for _ in range(3):
        job.stdout.readline()
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(job.pid)], capture_output=True, text=True)
    ranks = [int(pid) for pid in children.stdout.split()]
    assert len(ranks) == 3
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    for pid in ranks:  # not all at one moment
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.3)
    _, said = job.communicate(timeout=30)
    assert job.returncode == 0, said.decode()


def test_a_stranger_at_the_door_is_not_let_in():
    ended = []
    root = Watchdog(0, lambda: ended.append(1))
    address = root.open()
    stranger = (
        "import socket, sys\n"
        "with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as s:\n"
        '    s.sendall(b\'["guess", 1, "here", 2]\\n"end all"\\n\')\n'
        "    s.settimeout(10)\n"
        "    try:\n        print('answer', s.recv(10))\n"
        "    except ConnectionResetError:\n        print(\"answer b''\")\n"
    )
    done = subprocess.run([sys.executable, "-c", stranger, str(address.port)], capture_output=True, text=True)
    assert done.stdout == "answer b''\n", done.stderr
    root.close()
    assert ended == []


def until(condition: Callable[[], object], limit: float = 20.0) -> bool:
    end = time.monotonic() + limit
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1", b"\x16\x03\x01"])
def test_silent_strangers_keep_nobody_waiting(monkeypatch, said):
    """However long they stay: ranks are let in and heard meanwhile."""
    monkeypatch.setattr(watchdog, "TOKEN_WITHIN", 1000.0)
    ended: list[int] = []
    root, other = Watchdog(0, lambda: ended.append(1)), Watchdog(1, lambda: None)
    address = root.open()
    strangers = [socket.create_connection(("127.0.0.1", address.port)) for _ in range(20)]
    for stranger in strangers:
        stranger.sendall(said)
    assert until(lambda: len(root._unidentified) == 20)
    assert other.join(address) is None
    assert until(lambda: len(root._peers) == 1)
    assert [other.take(7, 2, 1) for _ in range(3)] == [2, 3, 4]
    for stranger in strangers:
        stranger.close()
    assert until(lambda: not root._unidentified)
    assert not ended
    other.close()
    root.close()


def test_a_silent_stranger_is_sent_away(monkeypatch):
    monkeypatch.setattr(watchdog, "TOKEN_WITHIN", 0.3)
    monkeypatch.setattr(watchdog, "BEAT", 0.1)
    root = Watchdog(0, lambda: None)
    with socket.create_connection(("127.0.0.1", root.open().port)) as stranger:
        stranger.settimeout(20.0)
        assert stranger.recv(1) == b""
    assert not root._unidentified
    root.close()


def test_a_first_line_without_end_is_no_line(monkeypatch):
    monkeypatch.setattr(watchdog, "TOKEN_WITHIN", 1000.0)
    root = Watchdog(0, lambda: None)
    with socket.create_connection(("127.0.0.1", root.open().port)) as stranger:
        stranger.sendall(b"x" * 5000)
        stranger.settimeout(20.0)
        with contextlib.suppress(
            ConnectionResetError
        ):  # what was sent beyond the first 1000 bytes was not read
            assert stranger.recv(1) == b""
    root.close()


def test_a_first_line_in_pieces_lets_a_rank_in():
    root = Watchdog(0, lambda: None)
    address = root.open()
    with socket.create_connection(("127.0.0.1", address.port)) as rank:
        line = f'["{address.token}", 1, "here", 2]\n'.encode()
        for piece in (line[:10], line[10:30], line[30:] + b"null\n"):
            rank.sendall(piece)
            time.sleep(0.05)
        assert until(lambda: len(root._peers) == 1)
        assert root._peers[0].rank == 1
        root.close()
