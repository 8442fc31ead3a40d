"""A stand-in for the commands of Slurm: sbatch, squeue, scontrol, scancel; without accounting, so sacct
refuses.

`install` writes them into a folder for the PATH. Jobs are kept in the folder ``$STANDIN_SLURM``, a JSON file
each, and run in sessions of their own. ``STANDIN_SLURM_WAIT``: seconds a job waits before it starts;
``STANDIN_SLURM_FORGET``: seconds after its end until no command knows it any more (300).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sacct")
UNDER_WAY = ("PENDING", "RUNNING")
FLAGS = ("--parsable", "--requeue", "--hold")  # options without a value


def install(folder: Path) -> dict[str, str]:
    """Write the commands and the folder of the jobs; return the variables of the environment that they
    need.
    """
    for name in COMMANDS:
        path = folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -S {Path(__file__).resolve()} {name} "$@"\n')
        path.chmod(0o755)
    (folder / "jobs").mkdir(exist_ok=True)
    return {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STANDIN_SLURM": str(folder / "jobs")}


def refuse(words: str) -> int:
    sys.stderr.write(f"{words}\n")
    return 1


def jobs() -> Path:
    return Path(os.environ["STANDIN_SLURM"])


def read(number: str) -> dict | None:
    """Return a job, unless Slurm has forgotten it."""
    path = jobs() / f"{number}.json"
    if not path.is_file():
        return None
    job = json.loads(path.read_text())
    forgotten = (
        job.get("end", time.time()) + float(os.environ.get("STANDIN_SLURM_FORGET", "300")) < time.time()
    )
    return None if forgotten else job


def write(number: str, **changes: object) -> None:
    path = jobs() / f"{number}.json"
    job = {**(json.loads(path.read_text()) if path.is_file() else {}), **changes}
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(job))
    part.rename(path)


def sbatch(words: list[str]) -> int:
    """Submit: options, the script, its arguments; as Slurm does, the job sees this folder and environment."""
    options = {}
    while words and words[0].startswith("-"):
        flag, equals, value = words.pop(0).partition("=")
        options[flag] = value if equals or flag in FLAGS else words.pop(0)
    script, *arguments = words
    for line in Path(script).read_text().splitlines():
        if line.startswith("#SBATCH --"):
            flag, _, value = line.removeprefix("#SBATCH ").partition("=")
            options.setdefault(flag, value)
    name = options.get("--job-name", Path(script).name)
    number = str(1000 + len(list(jobs().glob("*.json"))))
    folder = options.get("--chdir", os.getcwd())
    resolved = str(Path(script).resolve())
    write(number, name=name, state="PENDING", script=resolved, arguments=arguments, folder=folder)
    with open(jobs() / f"{number}.out", "w") as out:
        command = [sys.executable, "-S", __file__, "run", number]
        subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    print(f"Submitted batch job {number}")
    return 0


def run(words: list[str]) -> int:
    """Be the node: wait, run the script, say how it ended."""
    (number,) = words
    time.sleep(float(os.environ.get("STANDIN_SLURM_WAIT", "0")))
    job = read(number)
    if job is None or job["state"] != "PENDING":
        return 0
    environment = os.environ | {"SLURM_JOB_ID": number}
    script = subprocess.Popen([job["script"], *job["arguments"]], env=environment, process_group=0)
    write(number, state="RUNNING", group=script.pid)
    code = script.wait()
    if (read(number) or job)["state"] == "RUNNING":
        write(number, state="FAILED" if code else "COMPLETED", code=code, end=time.time())
    return 0


def squeue(words: list[str]) -> int:
    given = dict(word.removeprefix("--").partition("=")[::2] for word in words)
    if "jobs" in given and read(given["jobs"]) is None:
        return refuse("slurm_load_jobs error: Invalid job id specified")
    for path in sorted(jobs().glob("*.json")):
        job = read(path.stem)
        wanted = given.get("jobs", path.stem) == path.stem and given.get("name", job and job["name"]) == (
            job or {}
        ).get("name")
        if job and wanted and job["state"] in UNDER_WAY:
            reason = "Priority" if job["state"] == "PENDING" else "None"
            fields = {
                "%T": job["state"],
                "%r": reason,
                "%i": path.stem,
                "%Z": job["folder"],
                "%o": job["script"],
            }
            line = given["format"]
            for code, value in fields.items():
                line = line.replace(code, value)
            print(line)
    return 0


def scontrol(words: list[str]) -> int:
    number = words[-1]
    job = read(number)
    if words[:2] != ["show", "job"] or job is None:
        return refuse("slurm_load_jobs error: Invalid job id specified")
    code = job.get("code", 0)
    print(
        f"JobId={number} JobName={job['name']}\n"
        f"   JobState={job['state']} Reason={job.get('reason', 'None')} Dependency=(null)\n"
        f"   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={max(code, 0)}:{max(-code, 0)}\n"
        "   RunTime=00:00:01"
    )
    return 0


def end(number: str, state: str) -> None:
    """End a job under way as scancel, or a time limit, does."""
    job = read(number)
    assert job is not None
    write(number, state=state, code=-15, end=time.time())
    if job["state"] == "RUNNING":
        os.killpg(job["group"], signal.SIGTERM)


def scancel(words: list[str]) -> int:
    end(words[-1], "CANCELLED")
    return 0


def sacct(words: list[str]) -> int:
    return refuse("Slurm accounting storage is disabled")


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
