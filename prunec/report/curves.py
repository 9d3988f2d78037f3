"""Draw error curves as SVG: of all spaces over MACs saved, or of one over the share removed. Errors are logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 520, 60, 40, 20
LOWEST, HIGHEST = -5, 1  # powers of ten
SMALL = 160, 100, 40, 16  # width, height, left and bottom of a drawing of one space


def drawing(facts: Mapping[str, Any]) -> str:
    """Return an SVG with a polyline per space, its name on hover; ranks are dashed."""
    widest = max((max(space["saved"]) for space in facts["spaces"]), default=1.0) or 1.0
    lines = [_axes(widest)]
    for place, space in enumerate(facts["spaces"]):
        hue = 360 * place / max(len(facts["spaces"]), 1)
        dash = ' stroke-dasharray="5 3"' if space["kind"] == "ranks" else ""
        points = " ".join(
            f"{_x(saved, widest):.1f},{_y(error):.1f}"
            for saved, error in zip(space["saved"], space["error"], strict=True)
        )
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="hsl({hue:.0f} 60% 45%)" stroke-width="1.5"{dash}>'
            f"<title>{escape(space['name'])}: {space['size']} {space['kind']}</title></polyline>"
        )
    name = escape(str(facts["model"]))
    title = f'<text x="{LEFT}" y="{TOP - 6}">{name}: error of the outputs, one space at a time, refitted</text>'
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{title}{"".join(lines)}</svg>\n'


def small(error: Sequence[float | None], chosen: float, text: str) -> str:
    """Return an SVG of one space's errors, with a mark at the share `chosen`.

    `error` is at evenly spaced counts removed, from none to all. The page styles it, and screen readers read `text`.
    """
    width, height, left, bottom = SMALL
    across, down = width - left - 6, height - bottom - 6

    def at(share: float, each: float) -> tuple[float, float]:
        power = min(max(math.log10(max(each, 1e-30)), LOWEST), HIGHEST)
        return left + share * across, 6 + (HIGHEST - power) / (HIGHEST - LOWEST) * down

    known = [(place / max(len(error) - 1, 1), each) for place, each in enumerate(error) if each is not None]
    marks = [f'<path class="grid" d="M{left} {at(0, 10.0**power)[1]:.1f}h{across}"/>' for power in (-4, -2, 0)]
    marks += [
        f'<text x="{left - 4}" y="{at(0, 10.0**power)[1] + 3:.1f}" text-anchor="end">{10.0**power:g}</text>'
        for power in (-4, -2, 0)
    ]
    marks += [
        f'<text x="{left + share * across:.1f}" y="{height - 3}" text-anchor="{anchor}">{share:.0%}</text>'
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    ]
    points = " ".join("{:.1f},{:.1f}".format(*at(*one)) for one in known)
    marks.append(f'<polyline class="curve" points="{points}"/>')
    if known:
        x, y = at(*min(known, key=lambda one: abs(one[0] - chosen)))
        marks.append(f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}">{"".join(marks)}</svg>'


def _x(saved: float, widest: float) -> float:
    return LEFT + max(saved, 0.0) / widest * (WIDTH - LEFT - 10)


def _y(error: float) -> float:
    power = min(max(math.log10(max(error, 1e-30)), LOWEST), HIGHEST)
    return TOP + (HIGHEST - power) / (HIGHEST - LOWEST) * (HEIGHT - TOP - BOTTOM)


def _axes(widest: float) -> str:
    marks = []
    for power in range(LOWEST, HIGHEST + 1):
        y = _y(10.0**power)
        marks.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for step in range(6):
        share = widest * step / 5
        marks.append(
            f'<text x="{_x(share, widest):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{share:.1%}</text>'
        )
    marks.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">MACs of the network saved</text>')
    return "".join(marks)
