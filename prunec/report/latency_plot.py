"""Draw `prunec bench` as SVG: run times on the left, speed-ups over A on the right.

Left, a bar from the fastest run to the 90th percentile with a tick at the median, on one scale per drawing. Right, the
95% interval of each speed-up, over a grey band for noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Facts = Mapping[str, Any]

WIDTH, ROW, TOP, BOTTOM, NAMES = 960, 26, 44, 30, 300
LEFT, MIDDLE, RIGHT = NAMES + 10, 640, 940  # times from LEFT to MIDDLE - 40, speed-ups from MIDDLE to RIGHT


def drawing(facts: Facts) -> str:
    """Return an SVG with a row per model and point, in order of points."""
    points = facts["points"]
    rows = [(point, model) for point in points for model in point["models"]]
    longest = max(model["p90_ms"] for _, model in rows)
    reach = _reach(points)
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [_headings(longest, reach, height)]
    for place, (point, model) in enumerate(rows):
        y = TOP + ROW * place
        parts += [_name(point, model, y), _times(point, model, y, longest), _ratio(point, model, y, reach)]
    box = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="currentColor"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join(parts)}</svg>\n'


def _reach(points: Sequence[Facts]) -> float:
    """Return the power of two at which the speed-up scale ends, both ways."""
    ends = [1.25]
    for point in points:
        ends.append(1 + point["noise"]["floor"])
        for model in point["models"][1:]:
            ends += [model["speedup"]["high"], 1 / model["speedup"]["low"]]
    return math.log2(max(ends)) * 1.05


def _headings(longest: float, reach: float, height: int) -> str:
    bottom, middle = height - BOTTOM, _over(1.0, reach)
    texts = [
        f'<text x="{LEFT}" y="{TOP - 24}" font-weight="bold">ms a run</text>',
        f'<text x="{MIDDLE}" y="{TOP - 24}" font-weight="bold">times faster than A</text>',
        f'<path d="M{middle:.1f} {TOP - 4}V{bottom}" stroke="#888" stroke-width="1"/>',
    ]
    for share in (0, 0.5, 1):
        x = LEFT + share * (MIDDLE - 40 - LEFT)
        texts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{longest * share:.3g}</text>')
    for power in (-0.8, 0, 0.8):
        ratio = 2 ** (power * reach)
        texts.append(f'<text x="{_over(ratio, reach):.1f}" y="{bottom + 16}" text-anchor="middle">{ratio:.2f}</text>')
    return "".join(texts)


def _name(point: Facts, model: Facts, y: int) -> str:
    where = f"batch {point['batch']}, threads {point['threads']}" if model["letter"] == "A" else ""
    text = f"{model['letter']}  {_short(model['name'])}"
    line = f'<path d="M0 {y}H{RIGHT}" stroke="#ccc"/>' if where else ""
    return (
        f'{line}<text x="4" y="{y + 17}">{escape(text)}<title>{escape(model["name"])}</title></text>'
        f'<text x="{NAMES - 4}" y="{y + 17}" text-anchor="end" opacity="0.7">{where}</text>'
    )


def _times(point: Facts, model: Facts, y: int, longest: float) -> str:
    marks = min(model["samples"][point["compared_by"]]), model["p50_ms"], model["p90_ms"]
    low, middle, high = (LEFT + min(each / longest, 1.0) * (MIDDLE - 40 - LEFT) for each in marks)
    told = f"{model['runs']} runs, p50 {model['p50_ms']:.4g} ms, p90 {model['p90_ms']:.4g} ms"
    return (
        f'<g><title>{told}</title><rect x="{low:.1f}" y="{y + 6}" width="{max(high - low, 1):.1f}" height="14" rx="3"'
        f' fill="{_colour(model)}" opacity="0.45"/>'
        f'<path d="M{middle:.1f} {y + 4}v18" stroke="{_colour(model)}" stroke-width="3"/></g>'
    )


def _ratio(point: Facts, model: Facts, y: int, reach: float) -> str:
    floor = 1 + point["noise"]["floor"]
    left, right = _over(1 / floor, reach), _over(floor, reach)
    band = f'<rect x="{left:.1f}" y="{y + 1}" width="{right - left:.1f}" height="{ROW - 2}" fill="#999" opacity="0.3"/>'
    it = model.get("speedup")
    if it is None:
        return band
    low, middle, high = (_over(it[key], reach) for key in ("low", "ratio", "high"))
    return (
        f"{band}<g><title>{escape(model['verdict'])}</title>"
        f'<path d="M{low:.1f} {y + 13}H{max(high, low + 1):.1f}" stroke="{_colour(model)}" stroke-width="4"/>'
        f'<circle cx="{middle:.1f}" cy="{y + 13}" r="5" fill="{_colour(model)}"/></g>'
    )


def _over(ratio: float, reach: float) -> float:
    """Return the x of a speed-up on a logarithmic scale, in SVG units."""
    return (MIDDLE + RIGHT) / 2 + math.log2(ratio) / reach * (RIGHT - MIDDLE) / 2


def _colour(model: Facts) -> str:
    return "#888" if model["letter"] == "A" else f"hsl({(ord(model['letter']) - 66) * 67 % 360 + 200} 60% 45%)"


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"…{name[-25:]}"
