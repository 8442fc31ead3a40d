"""The documentation as a site: every page is in it, links are turned, a dead one fails."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_site", ROOT / "docs" / "make_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages(nav: list) -> set[str]:
    found: set[str] = set()
    for entry in nav:
        for target in entry.values():
            found |= pages(target) if isinstance(target, list) else {target}
    return found


def test_every_page_is_in_the_navigation(site: ModuleType) -> None:
    nav = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text())["nav"]
    written = {path.name for path in (ROOT / "docs").glob("*.md")} | {"index.md", *site.OUTSIDE}
    assert pages(nav) == written


def test_links_between_pages_lead_to_pages(site: ModuleType) -> None:
    written = {path.name for path in (ROOT / "docs").glob("*.*")} | {"index.md", *site.OUTSIDE}
    written |= {f"notebooks/{path.name}" for path in (ROOT / "docs" / "notebooks").iterdir()}
    for path in [ROOT / "README.md", *(ROOT / name for name in site.OUTSIDE), *(ROOT / "docs").glob("*.md")]:
        text = site.page(path.read_text(encoding="utf-8"))
        text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            assert target.startswith("http") or target in written, f"{path.name}: {target}"


def test_links_are_turned(site: ModuleType) -> None:
    assert site.page("[a](docs/results.md#x) [d](LICENSE)") == "[a](results.md#x) d"
    assert site.page("[b](../ARCHITECTURE.md), [c](README.md)") == "[b](ARCHITECTURE.md), [c](index.md)"


def test_the_notebook_page_has_every_public_name(site: ModuleType) -> None:
    text = site.notebook()
    for name in (
        "fatescal.open(",
        "fatescal.calibrate(",
        "run.posterior",
        "run.predictions(",
        "run.emulator",
    ):
        assert f"### {name}" in text


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_a_dead_link_fails(site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="make docs installs it")
    stage = site.stage

    def with_dead_link() -> None:
        stage()
        with open(site.SOURCE / "tour.md", "a", encoding="utf-8") as page:
            page.write("\n[nowhere](nowhere.md)\n")

    monkeypatch.setattr(site, "stage", with_dead_link)
    assert site.main() == 1
