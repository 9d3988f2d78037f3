"""Check every link and anchor of the built site: `python docs/check_links.py build/docs`.

Zensical checks links from page to page; this also checks links to files, links of the navigation, and pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and anchors of one HTML page."""

    def __init__(self, path: Path) -> None:
        """Read the page at `path`."""
        super().__init__()
        self.path = path
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what an element links to, and its name."""
        for key, value in attrs:
            if key in ("href", "src", "srcset") and value:
                self.links.add(value)
            elif key in ("id", "name") and value:
                self.anchors.add(value)


class Site:
    """All pages of a folder, by path."""

    def __init__(self, folder: Path) -> None:
        """Hold a built site."""
        self.folder = folder.resolve()

    @cached_property
    def pages(self) -> dict[Path, Page]:
        """Pages by path, without the one that a server shows for missing pages: its links are the server's."""
        return {path: Page(path) for path in sorted(self.folder.rglob("*.html")) if path.name != "404.html"}

    def broken(self) -> Iterator[str]:
        """Yield a sentence for each link that leads to no file or no anchor of the site."""
        for path, page in self.pages.items():
            for link in sorted(page.links):
                if wrong := self.fault(path, link):
                    yield f"{path.relative_to(self.folder)} links to {link}: {wrong}"

    def fault(self, path: Path, link: str) -> str:
        """Return why a link of a page is broken, empty if it is not; links to other sites are not followed."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return ""
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            return "no such file"
        anchor, page = unquote(parts.fragment), self.pages.get(target)
        missing = anchor and page is not None and anchor not in page.anchors
        return "no such anchor" if missing else ""


def main(folder: Path) -> None:
    """Check a built site. Raises SystemExit with one line for each broken link."""
    site = Site(folder)
    if not site.pages:
        raise SystemExit(f"{folder} has no pages: run make docs")
    if broken := list(site.broken()):
        raise SystemExit("\n".join(broken))
    print(f"{len(site.pages)} pages, {sum(len(page.links) for page in site.pages.values())} links: none is broken")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
