"""Stage the pages of the documentation site, and write its configuration: `make docs`.

    python docs/generate.py build                              # build/pages, build/zensical.toml
    zensical build --strict --config-file build/zensical.toml  # build/docs
    python docs/check_links.py build/docs                      # every link and anchor

The folder of pages mirrors the checkout: pages, and the files that they link to, stand where they do here, so a link
that works here works in the site. A link to a missing file is an error; Zensical checks links to pages and headings.
Pages on methods (`method_pages.py`) and references (`reference_pages.py`) are generated from the code, not committed.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import method_pages
import reference_pages

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/index.md"  # its headings and links are the navigation
GENERATED = {"Methods": "docs/methods", "Reference": "docs/reference"}  # folders that the code adds to a section
EXTENSIONS = ("tables", "pymdownx.superfences", "pymdownx.highlight")  # no others: pages read the same elsewhere
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
FENCE = re.compile(r"^( *)(```+)[^\n]*\n.*?^\1\2 *$", re.DOTALL | re.MULTILINE)


def pages() -> dict[str, str]:
    """Return all pages of the site by path in the checkout, written and generated ones."""
    listed = [path for section in sections().values() for path in section.values()]
    inside = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))
    written = dict.fromkeys(["README.md", *listed, *inside])
    return {path: (ROOT / path).read_text(encoding="utf-8") for path in written} | generated()


def sections() -> dict[str, dict[str, str]]:
    """Return the sections of the index page: their pages by title."""
    found: dict[str, dict[str, str]] = {}
    for line in (ROOT / INDEX).read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## (.+)", line):
            found[heading[1]] = {}
        elif item := re.match(r"- \[(.+?)\]\((.+?)\)", line):
            place = (ROOT / INDEX).parent.joinpath(item[2]).resolve()
            found[next(reversed(found))][item[1]] = place.relative_to(ROOT).as_posix()
    return found


def generated() -> dict[str, str]:
    """Return the pages that the code writes, by path."""
    return {**method_pages.pages(), **reference_pages.pages()}


def linked(path: str, text: str) -> Iterable[tuple[str, Path]]:
    """Yield each link of a page to a file or folder of the checkout, and where it leads."""
    for link in map("".join, LINK.findall(FENCE.sub("", text))):
        place = link.partition("#")[0]
        if place and "://" not in link and not link.startswith("mailto:"):
            yield link, (ROOT / path).parent.joinpath(place).resolve()


def files_of(found: dict[str, str]) -> set[Path]:
    """Return the files that pages link to; add linked pages and folders to `found`. Raises SystemExit."""
    files: set[Path] = set()
    waiting = list(found)
    while waiting:
        page = waiting.pop()
        for link, target in linked(page, found[page]):
            path = target.relative_to(ROOT).as_posix()
            if path in found or f"{path}/index.md" in found:
                continue
            if target.is_dir():
                found[f"{path}/index.md"] = listing(target)
                waiting.append(f"{path}/index.md")
            elif not target.is_file():
                raise SystemExit(f"{page} links to {link}, which is not there: correct the link")
            elif target.suffix == ".md":
                found[path] = target.read_text(encoding="utf-8")
                waiting.append(path)
            else:
                files.add(target)
    return files


def listing(folder: Path) -> str:
    """Return a page that links to each file of a folder."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return f"# {folder.relative_to(ROOT).as_posix()}\n\n" + "".join(f"- [{name}]({name})\n" for name in names)


def title(text: str) -> str:
    """Return the first heading of a page."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    assert found, f"a page without a heading: {text[:40]}"
    return found[1].replace("`", "")


def navigation(found: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the sections of the site: those of the index page, and generated pages by folder and title."""
    entry = {path: {title(text): path} for path, text in found.items()}
    parts: list[dict[str, Any]] = [{"Home": "README.md"}, {"All pages": INDEX}]
    for name, listed in sections().items():
        items: list[dict[str, Any]] = [{title: path} for title, path in listed.items()]
        parts.append({name: items + (_section(GENERATED[name], entry) if name in GENERATED else [])})
    return parts


def _section(folder: str, entry: Mapping[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Return the pages of a folder, its index first, and its folders as sections."""
    here = sorted((path for path in entry if path.startswith(f"{folder}/")), key=lambda path: "/index.md" not in path)
    found: list[dict[str, Any]] = [entry[path] for path in here if "/" not in path[len(folder) + 1 :]]
    for inner in sorted({path[len(folder) + 1 :].partition("/")[0] for path in here} - _names(here, folder)):
        found.append({inner.capitalize(): _section(f"{folder}/{inner}", entry)})
    return found


def _names(paths: Iterable[str], folder: str) -> set[str]:
    return {path[len(folder) + 1 :] for path in paths if "/" not in path[len(folder) + 1 :]}


def toml(value: object) -> str:
    """Return a value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def configuration(found: Mapping[str, str]) -> str:
    """Return the configuration of Zensical; nothing is fetched when a page is read."""
    values = {
        "site_name": "prunec",
        "site_description": "Make trained PyTorch networks smaller without retraining.",
        "docs_dir": "pages",
        "site_dir": "docs",
        "use_directory_urls": False,
        "nav": navigation(found),
        "markdown_extensions": {name: {} for name in EXTENSIONS} | {"toc": {"permalink": True}},
        "theme": {"font": False, "features": ["navigation.indexes", "content.code.copy"]},
    }
    return "[project]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in values.items())


def main(place: Path) -> None:
    """Write pages, linked files and configuration into a folder."""
    shutil.rmtree(place / "pages", ignore_errors=True)
    found = pages()
    files = files_of(found)
    for path, text in found.items():
        target = place / "pages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for file in files:
        target = place / "pages" / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    (place / "zensical.toml").write_text(configuration(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
