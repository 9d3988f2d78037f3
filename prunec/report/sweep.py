"""Show the networks of a sweep side by side: size, time, accuracy or agreement, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from .console import plain_table

Row = dict[str, Any]


def row_of(target: str, report: Mapping[str, Any]) -> Row:
    """Return the numbers to compare from a report, None where not measured."""
    sizes = {f"{name}_share": report[name]["compressed"] / report[name]["dense"] for name in ("macs", "parameters")}
    estimate, accuracy = report.get("estimate") or {}, report.get("accuracy")
    found: Row = {"target": target, **sizes, "onnx_bytes": report.get("onnx", {}).get("bytes")}
    found["milliseconds"] = _milliseconds(report)
    found["top1"] = accuracy and accuracy["compressed"]
    found["top1_dense"] = accuracy and accuracy["dense"]
    return found | {name: estimate.get(name) for name in ("agreement", "interval", "relative_error")}


def on_front(rows: Sequence[Row]) -> list[bool]:
    """Return whether no other network is as small, fast and good, and better in one."""
    points = [(one["macs_share"], one["milliseconds"] or 0.0, -_quality(one)) for one in rows]
    return [
        not any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in points)
        for mine in points
    ]


def front_table(rows: Sequence[Row]) -> Table:
    """Compare the networks in a table; a star marks the Pareto front."""
    headings = ["MACs", "params", "ms", "top-1", "same as dense", "error", ""]
    table = plain_table("networks of one calibration; * on the Pareto front", [], ["target", *headings])
    for row, best in zip(rows, on_front(rows), strict=True):
        top1 = "" if row["top1"] is None else f"{row['top1']:.2f}%"
        error = "" if row["relative_error"] is None else f"{row['relative_error']:.2g}"
        time = "" if row["milliseconds"] is None else f"{row['milliseconds']:.3g}"
        shares = f"{row['macs_share']:.1%}", f"{row['parameters_share']:.1%}"
        table.add_row(row["target"], *shares, time, top1, _same(row), error, "*" if best else "")
    return table


def _same(row: Row) -> str:
    """Format the agreement with its 95% interval: `94% (84-98)`."""
    if row["agreement"] is None:
        return ""
    low, high = (100 * one for one in row["interval"])
    return f"{row['agreement']:.0%} ({low:.0f}-{high:.0f})"


def _quality(row: Row) -> float:
    """Return top-1, else the agreement, else the negative error."""
    if row["top1"] is not None:
        return float(row["top1"])
    return float(row["agreement"] if row["agreement"] is not None else -(row["relative_error"] or 0.0))


def _milliseconds(report: Mapping[str, Any]) -> float | None:
    if not report.get("latency"):
        return None
    return float(report["latency"]["points"][0]["models"][1]["p50_ms"])
