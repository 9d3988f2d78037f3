"""Format the findings of `prunec lint` for a terminal. The input is the dictionary of `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from .console import amount, plain_table

Facts = Mapping[str, Any]
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def findings_table(facts: Facts, most: int | None) -> Table:
    """Return the first `most` findings, worst first."""
    table = plain_table(f"{facts['model']} on {facts['target']['title']}")
    table.add_column("", no_wrap=True)
    table.add_column("rule", no_wrap=True)
    table.add_column("node", style="cyan", overflow="fold")
    table.add_column("what", overflow="fold")
    for finding in facts["findings"][:most]:
        level = Text(finding["level"], style=STYLES[finding["level"]])
        table.add_row(level, finding["rule"], finding["node"], finding["text"])
    left = len(facts["findings"]) - len(facts["findings"][:most])
    if left:
        table.caption, table.caption_justify = f"and {left} more: --all shows them", "left"
    return table


def findings_lines(facts: Facts) -> Text:
    """Return counts by level, the cost of the channels, and skipped checks."""
    counts, macs = facts["counts"], facts["macs"]
    counted = ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items())
    lines = [counted if any(counts.values()) else "nothing found"]
    full = macs["ratio"] == 1
    paid = "every block is full" if full else f"cost as much as {amount(macs['paid'])} would, {macs['ratio']:.2f}x"
    lines += [f"{amount(macs['needed'])} MACs a run: {paid} (an estimate)"] if macs["needed"] else []
    lines += [f"not checked: {reason}" for reason in facts["skipped"]]
    return Text("\n".join(lines))
