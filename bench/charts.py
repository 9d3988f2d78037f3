"""Draw the chart of README.md: top-1 accuracy against MACs and against run time.

    python bench/charts.py    # reads bench/results, writes docs/images; needs no data

Left: `peers_cifar_resnet56.json`, any width. Right: `latency.json`, parts `peers` and `aware`, batch 1, one
thread. Each line joins the dense network with the points of a method that no other of its points beats in both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
THEMES = {
    "light": {"ink": "#1f2328", "grid": "#d1d9e0", "prunec": "#0969da", "Torch-Pruning": "#bc4c00"},
    "dark": {"ink": "#e6edf3", "grid": "#3d444d", "prunec": "#58a6ff", "Torch-Pruning": "#f0883e"},
}
WIDTH, HEIGHT, TOP, BOTTOM = 860, 340, 44, 292
PANEL, LEFTS = 350, (50, 480)  # width of a panel; x of each panel's left edge
X_LOW, X_HIGH, Y_LOW, Y_HIGH = 40, 106, 80, 97  # percent

Point = tuple[float, float, str]  # cost and accuracy in percent, description


class Panel(NamedTuple):
    """One plot: its headings, the dense accuracy and the points of each method."""

    title: str
    axis: str
    dense: float
    methods: dict[str, list[Point]]


def panels(results: Path = ROOT / "bench/results") -> list[Panel]:
    """Read both panels from the recorded measurements."""
    peers = json.loads((results / "peers_cifar_resnet56.json").read_text(encoding="utf-8"))
    times = json.loads((results / "latency.json").read_text(encoding="utf-8"))["parts"]
    by_macs = [(row["method"], row["macs"], row["accuracy"]) for row in peers["rows"]]
    by_time = [(f"{row['method']}, {row['asked']} of the MACs", row["share"], row["top1"]) for row in times["peers"]]
    aware = [row for row in times["aware"] if row["network"] == peers["network"]]
    dense = aware[0]["dense"]
    by_time += [("prunec", row["share"], row["top1"]) for row in aware]
    return [
        Panel("Top-1 accuracy (%) against MACs", "MACs, % of the dense network", peers["dense"], _methods(by_macs)),
        Panel("Top-1 accuracy (%) against run time", "run time, % of the dense network", dense, _methods(by_time)),
    ]


def _methods(rows: Sequence[tuple[str, float, float]]) -> dict[str, list[Point]]:
    """Return the Pareto front of Torch-Pruning and of prunec's defaults, by rising cost."""
    points = [(name, (100 * share, accuracy, name)) for name, share, accuracy in rows]
    return {
        "Torch-Pruning": front([point for name, point in points if name.startswith("Torch-Pruning")]),
        "prunec": front([point for name, point in points if name == "prunec"]),
    }


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in cost and accuracy, by rising cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def drawing(theme: str, shown: Sequence[Panel]) -> str:
    """Return the chart as SVG, in the colours of a theme."""
    colours = THEMES[theme]
    parts = [part for panel, left in zip(shown, LEFTS, strict=True) for part in _panel(panel, left, colours)]
    box = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} fill="{colours["ink"]}">\n' + "\n".join(parts) + "\n</svg>\n"


def _panel(panel: Panel, left: int, colours: dict[str, str]) -> Iterator[str]:
    """Yield the elements of a panel: grid, lines, points, labels."""
    yield f'<text x="{left}" y="20" font-size="15" font-weight="bold">{panel.title}</text>'
    for accuracy in range(Y_LOW, Y_HIGH, 5):
        y = _y(accuracy)
        yield f'<path d="M{left} {y:.1f}h{PANEL}" stroke="{colours["grid"]}"/>'
        yield f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{accuracy}</text>'
    for share in range(X_LOW, 101, 20):
        yield f'<text x="{_x(share, left):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{share}</text>'
    yield f'<text x="{left + PANEL / 2}" y="{BOTTOM + 40}" text-anchor="middle">{panel.axis}</text>'
    dense: Point = (100.0, panel.dense, "dense")
    for name, points in panel.methods.items():
        path = "L".join(f"{_x(share, left):.1f} {_y(accuracy):.1f}" for share, accuracy, _ in [*points, dense])
        yield f'<path d="M{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>'
        yield from (_mark(point, left, colours[name]) for point in points)
        named = points[0] if name == "prunec" else points[len(points) // 2]
        yield _label(f"{name} {named[1]:.2f}", named, left, above=name == "prunec")
    yield _mark(dense, left, colours["ink"])
    yield _label(f"dense {panel.dense:.2f}", dense, left, above=True)


def _mark(point: Point, left: int, colour: str) -> str:
    share, accuracy, name = point
    title = f"{escape(name)}: {accuracy:.2f}% at {share:.1f}%"
    spot = f'cx="{_x(share, left):.1f}" cy="{_y(accuracy):.1f}" r="5"'
    return f'<circle {spot} fill="{colour}"><title>{title}</title></circle>'


def _label(text: str, point: Point, left: int, above: bool) -> str:
    """Return the label of a point: over it, or below and to the right."""
    x, y = _x(point[0], left), _y(point[1])
    if above:
        return f'<text x="{x:.1f}" y="{y - 15:.1f}" text-anchor="middle">{text}</text>'
    return f'<text x="{x + 10:.1f}" y="{y + 14:.1f}">{text}</text>'


def _x(share: float, left: int) -> float:
    return left + PANEL * (share - X_LOW) / (X_HIGH - X_LOW)


def _y(accuracy: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * (accuracy - Y_LOW) / (Y_HIGH - Y_LOW)


def files() -> dict[str, str]:
    """Return the text of each SVG, by file name."""
    shown = panels()
    return {f"accuracy-{theme}.svg": drawing(theme, shown) for theme in THEMES}


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (IMAGES / name).write_text(text, encoding="utf-8")
        print(f"wrote docs/images/{name}")
