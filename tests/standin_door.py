"""A door to the stand-ins: their programs start in a hundredth of a second, in a server that has loaded numba
and netCDF once.

`open_door` starts the server of a test session and names its socket in ``$STANDIN_DOOR``. The scripts of the
stand-ins call ``standin_door.py PROGRAM ARGUMENTS``, which has the server fork a process with its own folder,
environment, input and outputs, and ends as that process ends, also by a signal; the process ends when the one
at the door does. Without a door the program starts by itself, as it does for whoever starts it by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DOOR = "STANDIN_DOOR"


def script(program: str, *arguments: object) -> str:
    """Return a shell script that starts a program of the stand-ins, with its own arguments behind these."""
    import shlex

    words = [sys.executable, "-S", os.path.join(HERE, "standin_door.py"), program, *map(str, arguments)]
    return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'


def open_door() -> None:
    """Start the server, once; it ends with this process."""
    if DOOR in os.environ:
        return
    import atexit
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="standin-")
    path = os.path.join(folder, "door")
    door = socket.socket(socket.AF_UNIX)
    door.bind(path)
    door.listen(128)
    alone = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    command = [sys.executable, os.path.abspath(__file__), "serve", str(door.fileno())]
    server = subprocess.Popen(
        command,
        pass_fds=[door.fileno()],
        stdin=subprocess.PIPE,
        env=os.environ | alone,
        start_new_session=True,
    )
    door.close()
    os.environ[DOOR] = path

    def shut() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(shut)


# ---- at the door


def knock(program: str, arguments: list[str]) -> None:
    """Have the server run a program; end as it ends."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(os.environ[DOOR])
    except (KeyError, OSError):
        os.execv(sys.executable, [sys.executable, os.path.join(HERE, f"{program}.py"), *arguments])
    signal.signal(signal.SIGTERM, lambda *_: line.send(b"T"))
    asked = json.dumps([program, arguments, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(line, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    line.sendall(asked)
    told = line.recv(4)
    if not told:
        sys.exit("the server of the stand-ins is gone")
    status = int.from_bytes(told, "big")
    if os.WIFSIGNALED(status):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


# ---- behind it


def serve(door: socket.socket) -> None:
    """Fork for everyone who knocks, until standard input ends."""
    from datetime import date

    import standin_cesm
    import standin_cime

    model = standin_cesm.Canopy("synthetic", date(2004, 1, 1), date(2004, 12, 31), spinup_years=0)
    model.simulate(standin_cesm.np.array(list(model.defaults.values())))  # loads the compiled kernel
    programs = {"standin_cesm": standin_cesm.program, "standin_cime": standin_cime.program}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin.fileno() not in (ready := select.select([door, sys.stdin.fileno()], [], [])[0]):
        if door in ready:
            line, _ = door.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                attend(line, programs)
            line.close()


def attend(line: socket.socket, programs: dict) -> None:
    """Run what is asked for, in a process that dies with the one at the door; tell how it ended."""
    head, outputs, _, _ = socket.recv_fds(line, 8, 3)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += line.recv(1 << 16)
    worker = os.fork()
    if worker == 0:
        line.close()
        become(outputs, programs, *json.loads(asked))
    done = os.pidfd_open(worker)
    while done not in select.select([line.fileno(), done], [], [])[0]:
        os.kill(worker, signal.SIGTERM if line.recv(1) else signal.SIGKILL)
    with contextlib.suppress(BrokenPipeError):  # nobody is at the door any more
        line.send(os.waitpid(worker, 0)[1].to_bytes(4, "big"))
    os._exit(0)


def become(
    outputs: list[int], programs: dict, program: str, arguments: list[str], folder: str, env: dict
) -> None:
    """Run a program as if it had been started by whoever knocked."""
    for fd, given in enumerate(outputs):
        os.dup2(given, fd)
        os.close(given)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    code: object = 1
    try:
        code = programs[program](arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(socket.socket(fileno=int(sys.argv[2])))
    else:
        knock(sys.argv[1], sys.argv[2:])
