"""The picture of a network: a whole page, everything on it, nothing overlapping, the same bytes each time."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.cli import app
from prunec.cli.inspect import facts_of
from prunec.demo import load_network
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.report.drawing import colours
from prunec.report.html import page
from prunec.report.layout import arrange, layers
from prunec.report.sketch import sketch

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "wbr", "br"}


class Forked(nn.Module):
    """Two branches joined by a concat, a depthwise layer, and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.odd = nn.Conv2d(12, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        both = self.depthwise(torch.cat([self.left(x), self.right(x)], 1).relu())
        odd = self.odd(both).sigmoid().add(0.5).relu()
        logits: Tensor = self.fc(odd.cumsum(1).mean((2, 3)))
        return logits


class Attention(nn.Module):
    """Tokens that attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.qkv(self.norm(x)).reshape(x.shape[0], 9, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape[0], 9, 16))
        logits: Tensor = self.head(x.mean(1))
        return logits


NETS: dict[str, tuple[type[nn.Module] | Any, tuple[int, ...]]] = {
    "demo": (load_network, (1, 28, 28)),
    "forked": (Forked, (3, 8, 8)),
    "attention": (Attention, (9, 6)),
}


def analysed(name: str) -> Program:
    torch.manual_seed(0)
    make, shape = NETS[name]
    return prepared(capture(make(), (torch.randn(2, *shape),)))


@pytest.fixture(scope="module", params=NETS)
def program(request: pytest.FixtureRequest) -> Program:
    return analysed(request.param)


def facts(program: Program, name: str = "a network") -> dict[str, Any]:
    return facts_of(name, program.fact(Channels))


def tree(text: str) -> ElementTree.Element:
    """The page as XML: it is both."""
    return ElementTree.fromstring(text.partition("\n")[2])


def drawn(text: str, kind: str) -> list[ElementTree.Element]:
    """The groups of a kind in the picture."""
    return [each for each in tree(text).iter(f"{SVG}g") if kind in each.get("class", "").split()]


def hover(group: ElementTree.Element) -> str:
    return group.findtext(f"{SVG}title") or ""


class Balanced(HTMLParser):
    """Reads HTML and notes every tag that is closed where it was not opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_it_is_html_and_needs_nothing_else(program: Program) -> None:
    text = page(program, facts(program))
    parser = Balanced()
    parser.feed(text)
    assert (parser.open, parser.wrong) == ([], [])
    assert tree(text).tag == "html"
    links = re.findall(r"https?://[^\"'\s]+|\b(?:src=|href=|url\()|@import", text)
    assert set(links) == {"http://www.w3.org/2000/svg"}
    assert "$" not in text


def test_every_space_and_every_reason_is_told(program: Program) -> None:
    text = page(program, facts(program))
    said = "\n".join(" ".join("".join(row.itertext()).split()) for row in tree(text).iter("tr"))
    for space in program.fact(Channels).spaces:
        assert space.name in said
        assert (space.frozen or "") in said


def test_a_box_for_each_layer_and_what_it_says(program: Program) -> None:
    boxes = drawn(page(program, facts(program)), "layer")
    contractions = program.fact(Channels).contractions
    assert [hover(box).partition("\n")[0] for box in boxes] == [
        one.weight.removesuffix(".weight") for one in contractions
    ]
    for box, one in zip(boxes, contractions, strict=True):
        assert f"{len(one.inputs)}→{len(one.outputs)}" in (box.findtext(f"{SVG}text[@class='detail']") or "")
        assert "MACs an image" in hover(box)


def test_a_residual_stream_has_one_colour_and_lights_up_whole() -> None:
    program = analysed("demo")
    text = page(program, facts(program))
    stream = next(place for place, one in enumerate(program.fact(Channels).spaces) if one.name == "conv1")
    lanes = [lane for lane in drawn(text, "lane") if str(stream) in lane.get("data-s", "").split()]
    row = next(row for row in tree(text).iter("tr") if row.get("data-s") == str(stream))
    assert {lane.get("class") for lane in lanes} == {f"lane {row.get('class')}"}
    assert len(lanes) == 1 + 3 + 3  # the first layer, the second of each block and its sum
    assert all("space conv1: 16 channels" in hover(lane) for lane in lanes)


def test_a_concat_has_the_colour_of_its_largest_space_and_names_all() -> None:
    text = page(analysed("forked"), facts(analysed("forked")))
    (cat,) = (one for one in drawn(text, "cheap") if hover(one).startswith("cat"))
    (lane,) = (one for one in drawn(text, "lane") if hover(one).startswith("relu") and "left" in hover(one))
    (box,) = (one for one in drawn(text, "layer") if hover(one).startswith("depthwise"))
    left = next(row for row in tree(text).iter("tr") if "".join(row.itertext()).startswith("left"))
    assert lane.get("class") == f"lane {left.get('class')}"
    for one in (cat, lane, box):
        assert "left: 8 channels" in hover(one)
        assert "right: 4 channels" in hover(one)
    assert len([path for path in box.iter(f"{SVG}path") if "edge" in path.get("class", "")]) == 4


def test_what_is_frozen_is_grey_and_says_why() -> None:
    program = analysed("forked")
    text = page(program, facts(program))
    frozen = {space.name: space.frozen for space in program.fact(Channels).spaces if space.frozen}
    assert "fc" in frozen
    for name, reason in frozen.items():
        box = next(one for one in drawn(text, "layer") if hover(one).startswith(name))
        assert box.get("class", "").endswith(" cf")
        assert f"writes frozen {name}: {reason}" in hover(box)
        assert any(f"frozen {name}: {reason}" in hover(lane) for lane in drawn(text, "lane"))


def test_products_of_activations_are_boxes_too() -> None:
    program = analysed("attention")
    found = [hover(one) for one in drawn(page(program, facts(program)), "product")]
    assert [said.partition(":")[0].split(" → ")[0] for said in found] == ["matmul", "matmul"]
    assert all("MACs an image" in said for said in found)


def test_names_and_reasons_are_escaped() -> None:
    program = analysed("forked")
    channels, nasty = program.fact(Channels), "<script>alert('&\"')</script>"
    spaces = tuple(replace(one, frozen=nasty) if one.frozen else replace(one, name=nasty) for one in channels.spaces)
    program = program.knowing(replace(channels, spaces=spaces))
    text = page(program, facts(program, nasty))
    assert text.count("<script>") == 1
    assert tree(text).findtext("body/header/h1") == nasty
    assert any(nasty in hover(lane) for lane in drawn(text, "lane"))


def test_the_same_network_gives_the_same_bytes() -> None:
    one, other = (page(program, facts(program)) for program in (analysed("forked"), analysed("forked")))
    assert one == other


def test_spaces_that_meet_have_different_colours() -> None:
    program = analysed("demo")
    seen = sketch(program)
    palette: Mapping[int, int] = colours(seen, range(len(program.fact(Channels).prunable)))
    for block in seen.blocks:
        if None not in (pair := (block.reads.largest, block.writes.largest)) and pair[0] != pair[1]:
            assert palette[pair[0]] != palette[pair[1]]  # type: ignore[index]


@pytest.mark.parametrize("seed", range(8))
def test_nothing_overlaps_and_every_lane_arrives(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 60)
    sizes = [(draw.uniform(10, 200), draw.uniform(10, 60)) for _ in range(count)]
    edges = sorted({(draw.randrange(node), node) for node in range(1, count) for _ in range(draw.randint(0, 3))})
    layout = arrange(sizes, edges)
    for one, other in itertools.combinations(layout.places, 2):
        beside = abs(one.x - other.x) >= (one.width + other.width) / 2 - 0.2
        assert beside or one.y + one.height <= other.y or other.y + other.height <= one.y
    assert all(one.x - one.width / 2 >= 0 and one.x + one.width / 2 <= layout.width for one in layout.places)
    ends = {(source, piece.x1, piece.y1) for source, pieces in enumerate(layout.lanes) for piece in pieces}
    for source, reader in edges:
        assert (source, layout.places[reader].x, layout.places[reader].y) in ends
        assert layout.places[source].y + layout.places[source].height < layout.places[reader].y
    assert layout == arrange(sizes, reversed(edges))


def test_layers_are_by_the_longest_path_and_a_chain_is_straight() -> None:
    assert layers(4, [[1, 3], [2], [3], []]) == [0, 1, 2, 3]
    layout = arrange([(40, 20)] * 5, [(place, place + 1) for place in range(4)])
    assert len({place.x for place in layout.places}) == 1
    assert arrange([], []).places == ()


def test_a_big_network_is_drawn_in_time() -> None:
    models = pytest.importorskip("torchvision.models")
    model = models.densenet201()
    for module in list(model.modules()):  # no box is drawn for these, and capture takes most of its time for them
        for name, child in module.named_children():
            if isinstance(child, (nn.BatchNorm2d, nn.ReLU)):
                setattr(module, name, nn.Identity())
    program = prepared(capture(model, (torch.randn(2, 3, 32, 32),)))
    known = facts(program)
    started = time.perf_counter()
    text = page(program, known)
    assert time.perf_counter() - started < 20  # about 1.5 s on one quiet core
    assert len(drawn(text, "layer")) == len(program.fact(Channels).contractions) >= 201
    assert len(text) < 3e6


def inspect(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    done = CliRunner().invoke(app, ["inspect", "prunec.demo:load_network", "--input-shape", "1x28x28", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_writes_one_file_and_still_prints(tmp_path: Path) -> None:
    path = tmp_path / "demo.html"
    code, said, _ = inspect("--html", str(path), "--json")
    assert code == 0
    assert path.read_text(encoding="utf-8") == page(analysed("demo"), json.loads(said))
    assert list(tmp_path.iterdir()) == [path]
    code, said, _ = inspect("--html", str(path))
    assert code == 0
    assert "12 of 13 spaces can be pruned" in said


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("no/such.html", "there is no folder"), ("", "is a folder, and a file is to be written there")],
)
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    code, _, complaint = inspect("--html", str(tmp_path / name))
    assert code == 8
    assert sentence in complaint
    assert list(tmp_path.iterdir()) == []
