"""The page of a compression: whole and escaped, offline, small, for light and dark, keyboards and screen readers."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import needs_browser, seen
from command import prunec
from PIL import Image

from prunec.data.preprocess import Preprocess
from prunec.files.artefacts import verify_manifest
from prunec.files.manifest import read
from prunec.report.compression_page import MOST_ROWS, Folder, page
from prunec.report.samples import NOT_COMPARED, Shown, differing

VOID = {"meta", "br", "img"}
LARGEST = 3_000_000  # bytes
NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))

def make():
    return Net()

def other():
    torch.manual_seed(1)
    return Net()
"""


class Outline(HTMLParser):
    """Parser that checks nesting, and collects elements, headings and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def each(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, images, and what `prunec compress` made of them in `out`."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "nets.py").write_text(NETS)
    rng = np.random.default_rng(0)
    np.savez(folder / "train.npz", images=rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8))
    data = ("--data", folder / "train.npz", "--preprocess", "mean=0.5,std=0.25")
    code, said = prunec(
        "compress",
        f"{folder / 'nets.py'}:make",
        *data,
        "--target",
        "macs:0.3",
        "--freeze",
        "conv2",
        "-o",
        folder / "out",
    )
    assert code == 0, said
    return folder


def folder_of(place: Path) -> Folder:
    report, plan = (json.loads((place / "out" / name).read_text()) for name in ("report.json", "plan.json"))
    return Folder(report, plan, read(place / "out"))


def marked(value: Any) -> Any:
    """Return a copy of JSON with a script in every text."""
    if isinstance(value, dict):
        return {
            key: each if key in ("pipeline", "answers", "compared_by") else marked(each) for key, each in value.items()
        }
    if isinstance(value, list):
        return [marked(each) for each in value]
    return f"{value}</table><script>alert('&')</script>" if isinstance(value, str) and len(value) > 1 else value


def pages(place: Path) -> Iterator[str]:
    """Yield three pages: as written, with hostile names, of the least report."""
    folder = folder_of(place)
    yield (place / "out" / "report.html").read_text(encoding="utf-8")
    yield page(Folder(marked(folder.report), marked(folder.plan), folder.files), NOT_COMPARED)
    always = ("target", "seed", "pipeline", "seconds", "versions", "macs", "calibration")
    least = {key: folder.report[key] for key in always}
    yield page(Folder(least, {"spaces": []}, {}), NOT_COMPARED)


def test_the_page_is_whole_and_nothing_in_it_is_run_or_fetched(place: Path) -> None:
    for text in pages(place):
        found = Outline(text)
        assert found.each("script", "link", "iframe", "object") == []
        assert not re.search(r"https?:|@import|url\(", text)
        targets = [one.get("src") or one.get("href") or "" for one in found.each("img", "a")]
        ids = [one["id"] for _, one in found.elements if "id" in one]
        assert len(set(ids)) == len(ids)
        assert all(one.startswith("data:image/png") or one.removeprefix("#") in ids for one in targets)
        assert all(one["aria-labelledby"] in ids for _, one in found.elements if "aria-labelledby" in one)
        assert "default-src 'none'" in text
        assert "prefers-color-scheme: dark" in text
        assert "color-scheme: light dark" in text


def test_names_are_escaped(place: Path) -> None:
    hostile = list(pages(place))[1]
    assert hostile.count("&lt;script&gt;alert") > 50
    assert "<script" not in hostile


def test_headings_and_tables_have_an_order_that_can_be_heard(place: Path) -> None:
    found = Outline((place / "out" / "report.html").read_text(encoding="utf-8"))
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all(one.get("scope") in ("row", "col") for one in found.each("th"))
    assert len(found.each("caption")) == len(found.each("table")) > 4
    assert len(found.each("figcaption")) == len(found.each("figure")) > 2
    assert all(one.get("aria-label") for one in found.each("svg") if one.get("role") == "img")
    assert all(one.get("alt") for one in found.each("img"))
    assert [one.get("lang") for one in found.each("html")] == ["en"]


def test_the_page_says_what_stayed_and_why_the_rest_is_frozen(place: Path) -> None:
    report, text = folder_of(place).report, (place / "out" / "report.html").read_text(encoding="utf-8")
    assert sum(one["macs"][1] for one in report["layers"]) == pytest.approx(report["macs"]["compressed"], abs=2)
    assert sum(one["macs"][0] for one in report["layers"]) == report["macs"]["dense"]
    by_name = {one["name"]: one for one in report["layers"]}
    assert "network's output" in by_name["fc"]["frozen"]
    assert "conv2" in by_name["conv2"]["frozen"]
    assert by_name["conv1"]["outputs"] == [16, len(next(iter(folder_of(place).plan["spaces"]))["keep"])]
    for what in ("is noise", "same answer as dense", "No samples were compared", "--freeze conv2", "--target macs:0.3"):
        assert what in text, what
    assert all(digest in text for name, (_, digest) in folder_of(place).files.items() if name != "report.html")


def test_curves_are_thin_and_times_are_of_both_networks(place: Path) -> None:
    report = folder_of(place).report
    for one in report["sensitivity"]["spaces"]:
        assert len(one["saved"]) == len(one["error"]) <= 33
        assert one["error"][0] == 0
        assert 0 <= one["kept"] <= one["size"]
    assert {"conv1", "conv2"} <= {one["name"] for one in report["layer_times"]["layers"]}


def test_a_network_of_thousands_of_layers_fits(place: Path) -> None:
    folder = folder_of(place)
    layer = {
        **folder.report["layers"][0],
        "name": "model.encoder.layers.12.attention.projection",
        "frozen": "why " * 20,
    }
    space = folder.report["sensitivity"]["spaces"][0]
    report = {**folder.report, "layers": [layer] * 5000, "sensitivity": {"of": "outputs", "spaces": [space] * 5000}}
    frozen = {**folder.plan["spaces"][0], "frozen": "why"}
    text = page(Folder(report, {"spaces": [frozen] * 5000}, folder.files), NOT_COMPARED)
    assert len(text.encode()) < LARGEST
    assert f"And {5000 - MOST_ROWS} layers more" in text


def test_compress_writes_the_page_and_report_writes_it_again(place: Path) -> None:
    out = place / "out"
    before = (out / "report.html").read_bytes()
    assert verify_manifest(out) == []
    (out / "report.html").unlink()
    code, said = prunec("report", out)
    assert code == 0, said
    assert (out / "report.html").read_bytes() == before
    assert verify_manifest(out) == []


def test_report_runs_both_networks_on_samples(place: Path) -> None:
    shutil.copytree(place / "out", place / "again")
    data = ("--data", place / "train.npz", "--images", 40)
    code, said = prunec("report", place / "again", *data)
    assert code == 0, said
    text = (place / "again" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"The networks differ on \d+ of 40 samples", text)
    code, said = prunec("report", place / "again", *data, "--model", f"{place / 'nets.py'}:other")
    assert code == 8, said
    assert "other weights" in said


def test_what_cannot_be_reported_on_is_refused(place: Path, tmp_path: Path) -> None:
    for code, words, args in (
        (8, "give a folder that prunec compress made", [tmp_path]),
        (2, "nothing says what to report on", []),
        (2, "--weights has no effect without --data", [place / "out", "--weights", "net.pt"]),
    ):
        found, said = prunec("report", *args)
        assert (found, words in said) == (code, True), said
    shutil.copytree(place / "out", tmp_path / "torn")
    (tmp_path / "torn" / "plan.json").write_text("{}")
    assert prunec("report", tmp_path / "torn")[0] == 8


def test_samples_that_differ_are_shown_the_surest_first() -> None:
    images = torch.rand(4, 3, 300, 200, generator=torch.Generator().manual_seed(0))
    dense = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 5], [1, 0, 0]])
    compressed = torch.tensor([[2.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    found = differing(images, dense, compressed, Shown(("cat", "dog")))
    assert found.sentence == "The networks differ on 2 of 4 samples."
    assert [(one.number, one.dense.split(" (")[0], one.compressed.split(" (")[0]) for one in found.pictures] == [
        (2, "class 2", "cat"),
        (1, "dog", "cat"),
    ]
    assert all(len(one.source) < 120_000 for one in found.pictures)
    assert differing(images, dense, dense).pictures == ()
    assert "no pictures" in differing(torch.zeros(4, 6), dense, compressed).sentence
    assert "by class" in differing(images, dense[:, :1], dense[:, :1]).sentence


def test_pictures_have_the_colours_of_the_files() -> None:
    how = Preprocess.parse("order=bgr,scale=1,mean=103.939/116.779/123.68,std=2")
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0], red[..., 1] = 200, 30
    answers = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])
    (picture,) = differing(how.array(red), *answers, Shown(preprocess=how)).pictures
    with Image.open(io.BytesIO(base64.b64decode(picture.source.partition(",")[2]))) as shown:
        assert np.abs(np.asarray(shown).astype(int) - red[0]).max() <= 1


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_every_page_without_an_error_or_a_request(
    place: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    nets = f"{place / 'nets.py'}:make"
    code, said = prunec("inspect", nets, "--input-shape", "3x8x8", "--html", tmp_path / "net.html")
    assert code == 0, said
    for number, text in enumerate(pages(place)):
        (tmp_path / f"{number}.html").write_text(text, encoding="utf-8")
    for path in sorted(tmp_path.glob("*.html")):
        found = seen(path, width, scheme)
        assert (path.name, found.errors, found.requests, found.overflow <= 0) == (path.name, [], [], True)
        assert found.shade < 90 if scheme == "dark" else found.shade > 200, path.name


@needs_browser
def test_an_error_and_a_request_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<body style="width: 500px"><img src="b.png"><script>nothing()</script>')
    found = seen(tmp_path / "a.html", 390, "light")
    assert found.overflow > 0
    assert [one for one in found.errors if "nothing is not defined" in one] != []
    assert found.requests == [(tmp_path / "b.png").as_uri()]
