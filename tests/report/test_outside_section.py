"""A section of the report from another package: one class, one entry point; and packages that are broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from linear import fatescal, write_problem

SECTION = '''
"""How much of the time was run in vain."""

from fatescal.report.markup import paragraph, table
from fatescal.report.section import ReportSection


class Failures(ReportSection):
    kind = "failed-members"
    title = "Failed members"
    needs = "a model run"

    def content(self, results):
        if not results.history:
            return None
        rows = [[results.label(stage), int((~e.ok).sum())] for stage, e in results.history.items()]
        return [paragraph("Members that <failed>."), table(["ensemble", "failed"], rows)]
'''


def package(folder: Path, **entry_points: str) -> str:
    """Write a package with sections as an installer does; return the PYTHONPATH to find it on."""
    about = folder / "others_section-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "others_section.py").write_text(SECTION)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: others-section\nVersion: 1.0\n")
    lines = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in entry_points.items())
    (about / "entry_points.txt").write_text(f"[fatescal.report_sections]\n{lines}")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.mark.mpi
def test_a_section_of_another_package_is_on_the_page_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = write_problem(tmp_path, run={"stop_after": "default"})
    outside = package(
        tmp_path / "site",
        failed_members="others_section:Failures",
        misspelt="others_section:Missing",
        other_name="others_section:Failures",
    )
    done = fatescal(1, path, PYTHONPATH=outside)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    links = page.split("<nav", 1)[1].split("</nav>")[0]
    assert '<a href="#failed-members">Failed members</a><a href="#provenance">Provenance</a>' in links
    assert '<section id="failed-members"><h2>Failed members</h2><p>Members that &lt;failed&gt;.</p>' in page
    assert "the report lacks a section misspelt: others-section brings it by others_section:Missing" in (
        done.stderr
    )
    assert "the report lacks a section other-name" in done.stderr
    without = fatescal(0, "report", tmp_path / "run")
    assert without.returncode == 0, without.stderr
    assert "failed-members" not in (tmp_path / "run" / "report" / "index.html").read_text()


def test_a_section_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    path = write_problem(tmp_path, run={"stop_after": "default"})
    outside = package(tmp_path / "site", failed_members="others_section:Failures")
    source = tmp_path / "site" / "others_section.py"
    source.write_text(SECTION.replace("return [paragraph", "results.nothing\n        return [paragraph"))
    done = fatescal(1, path, PYTHONPATH=outside)
    assert done.returncode == 0, done.stderr
    assert "the report lacks the section failed-members, which failed: AttributeError" in done.stderr
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert 'href="#scorecard"' in page
    assert "failed-members" not in page
