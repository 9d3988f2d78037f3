"""Pages and their parts: blocks, code in sentences, links, anchors, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
HOW_TO = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/how-to").glob("*.md"))
PAGES = ["README.md", *DOCS, *HOW_TO, "CONTRIBUTING.md", "bench/README.md"]

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
EXAMPLE = re.compile(r"`passes/[a-z/]*?(\w+)\.py`[^`\n]*:\n\n\Z")  # before a block that is a whole file


class Block(NamedTuple):
    """A fenced block: its language, its text, and the name of the file that it is, if it is one."""

    language: str
    text: str
    file: str


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text, found = text_of(page), []
    for match in FENCE.finditer(text):
        file = EXAMPLE.search(text, 0, match.start())
        found.append(Block(match[1], match[2], file[1] if file else ""))
    return found


def prose(page: str) -> str:
    """A page without its blocks."""
    return FENCE.sub("", text_of(page))


def spans(page: str) -> list[str]:
    """The code in a page's sentences and tables, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def links(page: str) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each link that stays in the project."""
    for match in LINK.finditer(prose(page)):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        yield ((ROOT / page).parent / path if path else ROOT / page), anchor


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of the table below a heading line, row by row."""
    found = re.search(rf"^{re.escape(head)}\n\|[-|]+\|\n((?:\|.*\|\n)+)", text_of(page), re.MULTILINE)
    assert found, f"{page} has no table {head}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]
