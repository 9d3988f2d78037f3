"""Draw the error curves of `prunec sensitivity` as SVG: log error over MACs saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 520, 60, 40, 20
LOWEST, HIGHEST = -5, 1  # powers of ten


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
