"""Draw a network as SVG: boxes for layers, pills for operators, lanes for values.

A box is shaded by its share of the MACs; its top edge has the colour of the space it reads, its bottom edge that of the
space it writes. Lane width grows with the channel count. Classes `c0`, `c1` … are the colours, `cf` is grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from torch import fx

from .captions import Captions
from .layout import Layout, Piece, Place, arrange
from .sketch import CHEAP, END, Block, Flow, Sketch, name_of

COLOURS = 7
BOX, PILL = 44.0, 18.0  # heights
LETTER, SMALL = 7.3, 6.3  # widths of a letter of a title and of a detail
LONGEST, SHOWN = 30, 4  # letters of a title; operators named in a pill
COPIES = ("clone", "alias", "detach", "contiguous", "dropout", "")
NARROWEST = 2.0  # part of a box's edge that is still drawn
Colours = Mapping[int, int]


def colours(sketch: Sketch, spaces: Iterable[int]) -> dict[int, int]:
    """Return a colour index per space, distinct for spaces that meet or lie close."""
    seen: dict[int, list[int]] = {space: [] for space in spaces}
    for place, block in enumerate(sketch.blocks):
        for space in {block.reads.largest, block.writes.largest, sketch.flows[block.last].largest} - {None}:
            seen[space].append(place)  # type: ignore[index]
    found: dict[int, int] = {}
    last = -1
    for space in sorted(seen, key=lambda space: (not seen[space], seen[space][:1], space)):
        cost = [0] * COLOURS
        for other, colour in found.items():
            cost[colour] += _clash(seen[space], seen[other])
        found[space] = last = min(range(COLOURS), key=lambda colour: (cost[colour], (colour - last - 1) % COLOURS))
    return found


def _clash(one: list[int], other: list[int]) -> int:
    """Return the penalty of one colour for two spaces shown in these blocks."""
    if not one or not other:
        return 0
    if not set(one).isdisjoint(other):
        return 1000
    return 4 if one[0] <= other[-1] and other[0] <= one[-1] else int(one[0] - other[-1] < COLOURS)


def svg(sketch: Sketch, captions: Captions, palette: Colours) -> str:
    """Return the whole picture."""
    layout = arrange([_size(block, captions) for block in sketch.blocks], sketch.edges)
    most = max((block.macs for block in sketch.blocks), default=0.0)
    pen = _Pen(sketch, captions, palette, max(most, 1.0))
    lanes = "\n".join(
        pen.lane(block, pieces) for block, pieces in zip(sketch.blocks, layout.lanes, strict=True) if pieces
    )
    blocks = "\n".join(pen.block(block, place) for block, place in zip(sketch.blocks, layout.places, strict=True))
    return f'{_opening(layout)}\n<g class="lanes">\n{lanes}\n</g>\n<g class="blocks">\n{blocks}\n</g>\n</svg>'


def _opening(layout: Layout) -> str:
    width, height = math.ceil(layout.width), math.ceil(layout.height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="graph" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" aria-label="the network">'
    )


def _size(block: Block, captions: Captions) -> tuple[float, float]:
    """Return width and height of a block."""
    if block.kind in (CHEAP, END):
        return _pill_width(_label(block.nodes)), PILL
    words = len(_shortened(captions.title(block))) * LETTER, (len(captions.detail(block)) + 7) * SMALL
    tail = _tail(block)
    width = max(96.0, *words, _pill_width(tail)) + 20
    return width, BOX + (PILL if tail else 0.0)


def _pill_width(label: str) -> float:
    return len(label) * SMALL + 18


def _label(nodes: Sequence[fx.Node]) -> str:
    """Return a label such as `add · relu`, without copies; a long chain is cut."""
    names = [
        name for place, name in enumerate(map(name_of, nodes)) if not (name in COPIES or (place and name[0] == "["))
    ]
    names = names or [name_of(node) for node in nodes[:1]]
    return " · ".join(names if len(names) <= SHOWN else [*names[: SHOWN - 1], f"+{len(names) - SHOWN + 1}"])


def _tail(block: Block) -> str:
    """Return the label of the chain below a layer, empty for copies only."""
    label = _label(block.nodes[1:])
    return "" if label in COPIES else label


def _shortened(title: str) -> str:
    """Return the last parts of a long name."""
    parts = title.split(".")
    while len(parts) > 1 and len(".".join(parts)) > LONGEST:  # ends: each round one part fewer
        parts = parts[1:]
    short = ".".join(parts)[-LONGEST:]
    return short if short == title else f"…{short}"


class _Pen:
    """Writer of SVG elements for one picture."""

    def __init__(self, sketch: Sketch, captions: Captions, palette: Colours, most: float) -> None:
        self.sketch, self.captions, self.palette, self.most = sketch, captions, palette, most

    def lane(self, block: Block, pieces: Sequence[Piece]) -> str:
        """Draw the lane of a value to its readers."""
        flow = self.sketch.flows[block.last]
        path = "".join(map(_curve, pieces))
        return (
            f'<g class="lane {self.colour(flow)}"{_spaces(flow.spaces)}>{_title(self.captions.of_value(block.last))}'
            f'<path d="{path}" stroke-width="{_thickness(flow):.1f}"/></g>'
        )

    def block(self, block: Block, place: Place) -> str:
        """Draw a box or a pill."""
        flow = self.sketch.flows[block.last]
        kind = f"block {block.kind} {self.colour(flow if block.kind in (CHEAP, END) else block.writes)}"
        drawn = self._pill(_label(block.nodes), place) if block.kind in (CHEAP, END) else self._box(block, place)
        return f'<g class="{kind}"{_spaces(block.spaces)}>{_title(self.captions.of_block(block))}{drawn}</g>'

    def colour(self, flow: Flow) -> str:
        """Return the class of the largest space; grey if fixed."""
        return "cf" if flow.largest is None else f"c{self.palette[flow.largest]}"

    def _box(self, block: Block, place: Place) -> str:
        left, right, top, bottom = _edges(place, BOX)
        bar = place.width * block.macs / self.most
        tail = _tail(block)
        return "".join(
            [
                self._pill(tail, Place(place.x, bottom, _pill_width(tail), PILL), "tail") if tail else "",
                f'<rect class="card" x="{left}" y="{top}" width="{place.width:.1f}" height="{BOX:g}" rx="5"/>',
                f'<rect class="bar" x="{left}" y="{top}" width="{bar:.1f}" height="{BOX:g}" rx="5"/>',
                self._edge(block.reads, left, right, top),
                self._edge(block.writes, left, right, bottom),
                _text("name", left + 9, top + 19, _shortened(self.captions.title(block))),
                _text("detail", left + 9, top + 35, self.captions.detail(block)),
                _text("share", right - 8, top + 35, self.captions.share(block)),
            ]
        )

    def _edge(self, flow: Flow, left: float, right: float, y: float) -> str:
        """Draw an edge in the colours of all spaces, by share of channels."""
        order = sorted(flow.channels, key=lambda space: (-flow.channels[space], space))
        parts = [(f"c{self.palette[space]}", flow.channels[space]) for space in order]
        parts += [("cf", flow.fixed)] if flow.fixed else []
        scale = (right - left) / (sum(count for _, count in parts) or 1)
        drawn, x = [], left
        for colour, count in parts or [("cf", 1)]:
            end = x + count * scale if parts else right
            drawn.append(f'<path class="edge {colour}" d="M{x:.1f} {y}H{end:.1f}"/>' if end - x >= NARROWEST else "")
            x = end
        return "".join(drawn)

    def _pill(self, label: str, place: Place, kind: str = "pill") -> str:
        left, _, top, _ = _edges(place, PILL)
        return (
            f'<rect class="{kind}" x="{left}" y="{top}" width="{place.width:.1f}" height="{PILL:g}" rx="9"/>'
            f"{_text('op', place.x, top + 13, label)}"
        )


def _edges(place: Place, height: float) -> tuple[float, float, float, float]:
    """Return left, right, top and bottom."""
    half = place.width / 2
    return round(place.x - half, 1), round(place.x + half, 1), round(place.y, 1), round(place.y + height, 1)


def _curve(piece: Piece) -> str:
    """Return the path: down, a smooth bend across, down."""
    if abs(piece.x0 - piece.x1) < 0.5:
        return f"M{piece.x0:g} {piece.y0:g}V{piece.y1:g}"
    middle = (piece.bend + piece.unbend) / 2
    bend = f"C{piece.x0:g} {middle:g} {piece.x1:g} {middle:g} {piece.x1:g} {piece.unbend:g}"
    return f"M{piece.x0:g} {piece.y0:g}V{piece.bend:g}{bend}V{piece.y1:g}"


def _thickness(flow: Flow) -> float:
    """Return the lane width: 2 for one channel to 6 for thousands."""
    return min(6.0, 2 + 0.35 * math.log2(1 + sum(flow.channels.values()) + flow.fixed))


def _spaces(spaces: Iterable[int]) -> str:
    listed = " ".join(map(str, sorted(spaces)))
    return f' data-s="{listed}"' if listed else ""


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"
