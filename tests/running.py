"""Programs under test: started, waited for, looked at; configs changed; stages compared."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import yaml
from conftest import mpi_command, mpi_environment

PATIENCE = 3600.0  # s that a test of jobs may take, and wait for one: the machine may be shared


def digests(run: Path) -> dict[str, str]:
    """Return the digest of every stage: equal means bitwise the same results, wall-clock times aside."""
    found = {}
    for path in sorted((run / "stages").glob("*.h5")):
        with h5py.File(path) as file:
            found[path.stem] = file.attrs["digest"]
    return found


def require_scored(done: subprocess.CompletedProcess[str]) -> None:
    """Require that a run came to its end, whether or not its few posterior members can confirm anything."""
    unconfirmed = ("members cannot tell", "does NOT confirm")
    ended = done.returncode == 1 and any(words in done.stderr for words in unconfirmed)
    assert done.returncode == 0 or ended, done.stdout + done.stderr


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return sorted(found)


def start(config: Path, n_ranks: int = 2, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        mpi_command(n_ranks, "-m", "fatescal", str(config)),
        env={**mpi_environment(), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def job(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command whose errors are read; kill it at the end of a test that fails."""
    program = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield program
    except BaseException:
        program.kill()
        raise
    finally:
        program.wait()
        if program.stderr is not None:
            program.stderr.close()


def wait_for(path: Path, program: subprocess.Popen, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert program.poll() is None, f"ended before {path.name} was there: exit code {program.returncode}"
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie, dead but not yet reaped by init, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


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


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds, which it must before long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


class Client:
    """A user of a scheduler, who calls its commands from `folder`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def __call__(self, *command: object, check: bool = True) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout
