"""What the command line makes of its arguments, and of a reader that goes away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import mpi_command, mpi_environment

from fatescal.__main__ import console, main
from fatescal.cli.arguments import VERBS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek", "my.yaml"], "no verb and no file 'chek'. Expected one of run, demo, init, check, "),
        (["chek", "my.yaml"], "did you mean 'check'?"),
        (["stauts"], "did you mean 'status'?"),
        (["Report", "runs/a"], "did you mean 'report'?"),
        (["calibration"], "or a YAML file"),
        (["my.yml"], "my.yml"),  # a path: the file is missed, not the verb
    ],
)
def test_a_misspelt_verb_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


def test_a_config_without_a_suffix_is_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chek").write_text("run: {name: a}")
    assert main(["chek"]) == 2
    assert "chek has mistakes" in capsys.readouterr().err


def test_the_program_alone_prints_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["fatescal"])
    with pytest.raises(SystemExit) as end:
        console()
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in VERBS)


@pytest.mark.mpi
def test_ranks_print_help_and_errors_once(tmp_path: Path) -> None:
    for arguments, code, words in ((["--help"], 0, "exit codes:"), (["chek"], 2, "did you mean 'check'?")):
        done = subprocess.run(
            mpi_command(2, "-m", "fatescal", *arguments),
            env=mpi_environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code
        assert (done.stdout + done.stderr).count(words) == 1


@pytest.mark.parametrize("verb", [["schema"], ["priors"], ["--help"]])
def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path, verb: list[str]) -> None:
    """The reading end of stdout is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "fatescal", *verb],
        env=mpi_environment(),
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
