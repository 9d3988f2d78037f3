"""Write the page of `prunec inspect --html`: a network, its channel spaces, frozen reasons.

The page is self-contained: no network, no fonts, and JavaScript only to highlight a space and to zoom.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from ..channels.spaces import CARRIES, CONSUMES, PRODUCES, Channels, Space
from ..ir.program import Program
from .captions import Captions
from .console import amount
from .drawing import colours, svg
from .sketch import sketch


def page(program: Program, facts: Mapping[str, Any]) -> str:
    """Return the page of an analysed program; `facts` is the object of `prunec inspect --json`."""
    channels, totals = program.fact(Channels), facts["totals"]
    drawn = sketch(program)
    palette = colours(drawn, (place for place, space in enumerate(channels.spaces) if space.frozen is None))
    captions = Captions.of(program, drawn, totals["macs"])
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        model=escape(str(facts["model"])),
        macs=amount(totals["macs"]),
        prunable_share=f"{totals['prunable_share']:.1%}",
        prunable=totals["prunable"],
        spaces=totals["spaces"],
        layers=len(channels.contractions),
        rows=_rows(channels, facts["spaces"], palette),
        graph=svg(drawn, captions, palette),
    )


def _rows(channels: Channels, listed: list[Mapping[str, Any]], palette: Mapping[int, int]) -> str:
    """Return the table rows of spaces: prunable ones first, each kind by MACs."""
    order = sorted(range(len(listed)), key=lambda place: (bool(listed[place]["frozen"]), -listed[place]["macs"], place))
    most = max((each["share"] for each in listed), default=0.0)
    return "\n".join(
        _row(place, listed[place], _touching(channels, channels.spaces[place]), palette.get(place), most)
        for place in order
    )


def _row(place: int, facts: Mapping[str, Any], layers: str, colour: int | None, most: float) -> str:
    frozen = f'<small class="why">frozen: {escape(facts["frozen"])}</small>' if facts["frozen"] else ""
    bar = 100 * facts["share"] / most if most else 0
    return (
        f'<tr class="{"cf" if colour is None else f"c{colour}"}" data-s="{place}" tabindex="0">'
        f'<td class="swatch"><i></i></td><td class="space">{breakable(facts["name"])}{frozen}</td>'
        f'<td>{facts["size"]}</td><td class="part" title="{amount(round(facts["macs"]))} MACs an image">'
        f'<b style="width:{bar:.0f}%"></b><span>{facts["share"]:.1%}</span></td><td>{layers}</td></tr>'
    )


def _touching(channels: Channels, space: Space) -> str:
    """Return counts of writing and reading layers, such as `2 → 3`; depthwise is both."""
    writes, reads = (
        {site.parameter for site in space.sites if site.role in (role, CARRIES)} for role in (PRODUCES, CONSUMES)
    )
    counts = [sum(one.weight in touched for one in channels.contractions) for touched in (writes, reads)]
    return f"{counts[0]} → {counts[1]}"


def breakable(name: str) -> str:
    """Return a dotted name with line-break hints after dots."""
    return escape(name).replace(".", ".<wbr/>")
