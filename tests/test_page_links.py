"""Pages: links, anchors, sizes, tables, and the chart of the README."""

from __future__ import annotations

import json
import runpy
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from pages import DOCS, HOW_TO, PAGES, ROOT, anchors, blocks, links, rows, text_of

MOST_LINES, MOST_WORDS = 180, 900  # of README
LANGUAGES = {"sh", "python", "toml", "text", "yaml"}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    found = [(path, anchor) for path, anchor in links(page)]
    assert [path for path, _ in found if not path.exists()] == []
    assert [(path, anchor) for path, anchor in found if anchor and anchor not in anchors(path)] == []


def test_a_link_that_leads_nowhere_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.ROOT", tmp_path)
    (tmp_path / "a.md").write_text('# Title\n\n[b](b.md) [c](#no-heading) [d](#title) <img src="e.svg">\n')
    found = [(path.name, anchor) for path, anchor in links("a.md")]
    assert found == [("b.md", ""), ("a.md", "no-heading"), ("a.md", "title"), ("e.svg", "")]
    assert anchors(tmp_path / "a.md") == {"title"}


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= MOST_LINES
    assert len(text.split()) <= MOST_WORDS
    assert (ROOT / "docs/index.md").resolve() in {path.resolve() for path, _ in links("README.md")}
    listed = {path.resolve() for path, _ in links("docs/index.md")}
    pages = sorted((ROOT / "docs").rglob("*.md"))
    assert [page.name for page in pages if page.resolve() not in listed and page.name != "index.md"] == []


@pytest.mark.parametrize("page", [*DOCS, *HOW_TO])
def test_a_page_opens_with_its_purpose(page: str) -> None:
    title, _, paragraph = text_of(page).partition("\n\n")
    assert title.startswith("# ")
    assert "his page " in paragraph.partition("\n\n")[0]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_names_a_language_that_is_checked(page: str) -> None:
    assert [block for block in blocks(page) if block.language not in LANGUAGES] == []
    assert text_of(page).count("\n```") == 2 * len(blocks(page))


@pytest.fixture(scope="module")
def charts() -> dict[str, Any]:
    """The names of `bench/charts.py`."""
    return runpy.run_path(str(ROOT / "bench/charts.py"))


def test_the_chart_is_drawn_from_the_results(charts: dict[str, Any]) -> None:
    drawn = charts["files"]()
    assert sorted(drawn) == sorted(path.name for path in (ROOT / "docs/images").glob("*.svg"))
    for name, text in drawn.items():
        assert (ROOT / "docs/images" / name).read_text(encoding="utf-8") == text, "run python bench/charts.py"
        assert f"docs/images/{name}" in text_of("README.md")


def test_the_chart_shows_every_point_within_its_axes(charts: dict[str, Any]) -> None:
    for panel in charts["panels"]():
        assert set(panel.methods) == {"prunec", "Torch-Pruning"}
        points = [(100.0, panel.dense, "dense"), *(point for each in panel.methods.values() for point in each)]
        assert min(map(len, panel.methods.values())) > 0
        assert all(charts["X_LOW"] <= share <= charts["X_HIGH"] for share, _, _ in points)
        assert all(charts["Y_LOW"] <= accuracy <= charts["Y_HIGH"] for _, accuracy, _ in points)


def test_a_front_leaves_out_what_another_point_beats(charts: dict[str, Any]) -> None:
    given = [(50.0, 80.0, "a"), (60.0, 79.0, "beaten"), (40.0, 70.0, "b"), (50.0, 75.0, "beaten")]
    assert [name for _, _, name in charts["front"](given)] == ["b", "a"]


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_table_of_accuracies_is_that_of_the_results(page: str) -> None:
    head = "| network | images | MACs removed | dense | pruned alone | compensated | drop |"
    found = rows(page, head)
    assert 1 < len(found) <= 6
    known = measured()
    assert [row for row in found if row not in known] == []


def measured() -> list[list[str]]:
    """The rows of `accuracy.json`: the mean of the seeds, and the largest distance from it."""
    seeds: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in json.loads((ROOT / "bench/results/accuracy.json").read_text(encoding="utf-8"))["rows"]:
        seeds[row["network"], row["target"]].append(row)
    return [_row(name, float(target.partition(":")[2]), each) for (name, target), each in seeds.items()]


def _row(name: str, left: float, seeds: list[dict[str, Any]]) -> list[str]:
    drop = mean(row["drop"] for row in seeds)
    far = max(abs(row["drop"] - drop) for row in seeds)
    alone, top = seeds[0]["pruned_alone"], mean(row["compensated"] for row in seeds)
    numbers = [f"{seeds[0]['images']:,}", f"{1 - left:.0%}", f"{seeds[0]['dense']:.2f}", f"{alone:.2f}"]
    return [f"`{name}`", *numbers, f"**{top:.2f}**", f"{drop:.2f} ± {far:.2f}"]
