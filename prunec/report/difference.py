"""Format the results of `prunec diff` for a terminal. The input is the dictionary of `--json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from .console import amount, plain_table

Facts = Mapping[str, Any]
COLUMNS = {
    "macs": "MACs",
    "parameters": "parameters",
    "activation_bytes": "activations",
    "kernels": "kernels",
    "ms": "ms",
}
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
STYLES = {"same": "dim", "changed": "", "split": "green", "merged": "green", "added": "yellow", "removed": "yellow"}


def difference_table(facts: Facts, everything: bool) -> Table:
    """Return a table of changed layers with weights, or all layers, and the totals."""
    keys = [key for key in COLUMNS if key in facts["totals"]["before"]]
    names = ("layer", "", "weights or output")
    table = plain_table(f"{facts['before']} → {facts['after']}", names, [COLUMNS[key] for key in keys])
    shown = [row for row in facts["layers"] if everything or _is_news(row)]
    for row in shown:
        table.add_row(row["name"], row["status"], _shapes(row), *_numbers(row, keys), style=STYLES[row["status"]])
    rest = len(facts["layers"]) - len(shown)
    if rest:
        table.caption, table.caption_justify = (
            f"{rest} layers are the same, or only pass other shapes on: --all",
            "left",
        )
    if added := facts.get("added_by_the_runtime"):
        table.add_row("(added by the runtime)", "", "", *_numbers(added, keys), style="dim")
    table.add_row("total", "", "", *_numbers(facts["totals"], keys), style="bold")
    return table


def difference_lines(facts: Facts) -> str:
    """Return a line on peak activation memory, of the graph or of the engine."""
    before, after = (facts["totals"][side]["peak_activation_bytes"] for side in ("before", "after"))
    if not before or not after:
        return ""
    change = f"{after / before - 1:+.0%}"
    return f"activation memory at its peak: {amount(before)}B → {amount(after)}B ({change})"


def _is_news(row: Facts) -> bool:
    """Return whether a row is shown without `--all`.

    Hidden are unchanged layers, changed ones without weights, and added or removed ones of Q and DQ only.
    """
    sides = [row[side] for side in ("before", "after") if row[side]]
    weighted = any(weight for side in sides for weight in side["weights"])
    if row["status"] in ("added", "removed"):
        return not all(op in QUANTISERS for side in sides for op in side["ops"])
    return row["status"] in ("split", "merged") or (row["status"] == "changed" and weighted)


def _numbers(row: Facts, keys: Sequence[str]) -> list[str]:
    """Return the cells of one row."""
    before, after = (row[side] or {} for side in ("before", "after"))
    return [_pair(before.get(key), after.get(key), key) for key in keys]


def _pair(before: float | None, after: float | None, key: str) -> str:
    """Return before → after, once if equal, empty if both are 0."""
    if not before and not after:
        return ""
    texts = [_text(value, key) for value in (before, after)]
    return texts[1] if texts[0] == texts[1] else f"{texts[0] or '–'} → {texts[1] or '–'}"


def _text(value: float | None, key: str) -> str:
    if value is None:
        return ""
    if key == "ms":
        return f"{value:.3g}"
    return amount(value) + ("B" if key == "activation_bytes" else "")


def _shapes(row: Facts) -> str:
    """Return weight shapes, or else output shapes, such as `16x16x3x3 → 12x16x3x1 + 16x12x1x3`."""
    before, after = row["before"], row["after"]
    if before is None or after is None:
        return _side(before or after, typed=False)
    typed = set(before["dtypes"]) != set(after["dtypes"])
    texts = [_side(side, typed) for side in (before, after)]
    return texts[1] if texts[0] == texts[1] else f"{texts[0]} → {texts[1]}"


def _side(side: Facts, typed: bool) -> str:
    weights = [_x(weight) for weight in side["weights"] if weight] or [_x(output) for output in side["outputs"][-1:]]
    return " + ".join(weights) + (f" {side['dtypes'][-1]}" if typed else "")


def _x(sizes: Sequence[int | str]) -> str:
    """Return a shape as `16x28x28`, without a dynamic batch."""
    return "x".join(map(str, sizes[1:] if sizes and isinstance(sizes[0], str) else sizes))
