"""Open pages in a headless Chromium; record colours, width, errors and requests."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [
    name for name, there in (("Chromium", CHROMIUM), ("the package playwright", find_spec("playwright"))) if not there
]
needs_browser = pytest.mark.skipif(
    bool(MISSING), reason=f"no {' and no '.join(MISSING)} here: the page was not opened in a browser"
)


@dataclass(frozen=True)
class Seen:
    """Hold what a browser made of a page."""

    shade: float  # mean grey of the screenshot, 0 black to 255 white
    overflow: int  # pixels that the page is wider than its window
    errors: list[str]  # of the console, and uncaught ones
    requests: list[str]  # besides the page itself and what it embeds


def seen(path: Path, width: int, scheme: str) -> Seen:
    """Open a file in a window of `width` pixels; `scheme` is light or dark."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    requests: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 2000}, color_scheme=scheme)  # type: ignore[arg-type, unused-ignore]
        page.on("console", lambda one: errors.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda one: errors.append(str(one)))
        page.on("request", lambda one: requests.append(one.url))
        page.goto(path.as_uri())
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        with Image.open(io.BytesIO(page.screenshot(full_page=True))) as shot:
            shade = float(np.asarray(shot.convert("L")).mean())
        browser.close()
    asked = [one for one in requests if one != path.as_uri() and not one.startswith("data:")]
    return Seen(shade, overflow, errors, asked)
