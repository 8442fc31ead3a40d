"""From a repository to a scorecard, as a user types it: install, build, check, run; with the stand-ins for
CTSM and CIME.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import standin_cime
import yaml
from clm_problem import NEEDLELEAF, VCMAX
from conftest import mpi_command, mpi_environment
from ctsm_case import COMPSETS, XML
from running import require_scored
from standin_checkout import write_repositories

CONFIG = """
run:   {name: hyy, directory: runs/hyy, seed: 3}
model:
  kind: clm_fates
  source: {url: %(url)s, tag: %(tag)s, path: models/ctsm}
  build:
    case: cases/hyy
    compset: %(compset)s
    xml: %(xml)s
    user_nl_clm: {use_fates_sp: true}
  start: 2005-06-01
  end: 2005-06-30
  spinup: {years: 0}
parameters:
  %(vcmax)s:
    pfts: [%(pft)s]
    prior: {kind: logit-normal, scale: 0.3, bounds: {relative: 0.75}}
observations:
  synthetic: {truth: {%(vcmax)s: {scale: 0.85}}}
  calibration: [2005-06-01, 2005-06-30]
  variables: {GPP: {model: FATES_GPP, unit: g C m-2 d-1, error: {sd: 0.471}}}
calibrate: {scheme: ienks, members: 4, iterations: 1}
emulate:   {force: true}
sample:    {max_steps: 2000, rhat: 1.5, ess: 20}
posterior: {members: 3}
"""


def test_a_repository_becomes_a_scorecard(data, tmp_path):
    version = "B"  # whole calibrations with A are in test_clm_fates, its install and build in tests of theirs
    machines = {"fram": standin_cime.Machine(tmp_path / "scratch")}
    url, tag = write_repositories(tmp_path / "git", version, data, machines)
    values = {"url": url, "tag": tag, "compset": COMPSETS[version], "xml": json.dumps(XML)}
    config = tmp_path / "hyy.yaml"
    config.write_text(CONFIG % {**values, "vcmax": VCMAX, "pft": NEEDLELEAF})
    (tmp_path / "fram.yaml").write_text(yaml.safe_dump({"cime": {"machine": "fram"}}))

    def fatescal(*words: str, ranks: int = 0) -> str:
        program = ["-m", "fatescal", *words]
        command = mpi_command(ranks, *program) if ranks else [sys.executable, *program]
        environment = mpi_environment() | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        require_scored(done)
        return done.stdout + done.stderr

    fatescal("install", "hyy.yaml")
    fatescal("build", "hyy.yaml", "--machine", "fram.yaml")
    assert "posterior" in fatescal("hyy.yaml", ranks=2)
    assert (tmp_path / "runs" / "hyy" / "scorecard.txt").is_file()
    member = tmp_path / "runs" / "hyy" / "members" / "evaluation-00" / "0001"
    assert (member / "fates_paramfile.nc").is_file()
    assert "med_phases_profile" not in (member / "nuopc.runseq").read_text()
