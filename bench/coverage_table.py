"""Write the page of bench/coverage.py: bars, and every network beside Torch-Pruning."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
from typing import Any

import architectures

Row = dict[str, Any]
CNN_SHARE = 0.9
PARITY = 1e-4  # of the largest output


def write(path: pathlib.Path, text: str) -> None:
    """Write all of the file or none."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def passed(row: Row) -> bool:
    """Return whether a network passed every stage."""
    return str(row["result"]).startswith("pass")


def stopped(row: Row) -> bool:
    """Return whether it crashed or hung."""
    return str(row["result"]).startswith(("crash", "hang"))


def agrees(row: Row) -> bool:
    """Return whether ONNX Runtime agrees with torch. Within the tolerance, or twice torch's own float32 error."""
    return bool(row.get("onnx", 0.0) <= max(PARITY, 2 * row.get("rounding", 0.0)))


def captured(row: Row) -> bool:
    """Return whether torch could capture it."""
    return not str(row["result"]).startswith("not captured")


def bars_met(rows: list[Row]) -> bool:
    """Return whether nothing crashed or hung, and every captured network passed."""
    return all(passed(row) for row in rows if captured(row))


def summary(rows: list[Row]) -> list[str]:
    """Return the bars, as a list."""
    networks = [row for row in rows if row["kind"] != "pattern"]
    patterns = [row for row in rows if row["kind"] == "pattern"]
    known = [row for row in rows if captured(row)]
    wide = [row["prunable_share"] >= CNN_SHARE for row in rows if row["kind"] == "cnn" and "prunable_share" in row]
    ended = sum(map(stopped, rows))
    failed = sum(not passed(row) for row in known)
    seen = [row["moves"] > PARITY for row in known if "moves" in row]
    times = {row["name"]: row["seconds"]["analyse"] for row in rows if "analyse" in row.get("seconds", {})}
    slowest = max(times, key=lambda name: times[name], default="")
    same = [row["macs_kept"] == row["macs_counted"] for row in rows if "macs_counted" in row]
    left = [one.name for one in architectures.listed() if one.name not in {row["name"] for row in rows}]
    missing = f"; of the list not run yet: {len(left)} ({', '.join(left[:4])} …)" if left else ""
    return [
        f"{len(networks)} architectures and {len(patterns)} graph patterns; captured"
        f" {len(known)} of {len(rows)}{missing}",
        f"crashes and hangs: {ended}; other failures: {failed - ended}",
        f"identity within 1e-9 in float64: {sum(r.get('deviation', 1) <= 1e-9 for r in known)} of {len(known)}",
        f"ONNX Runtime equals torch: {sum('onnx' in r and agrees(r) for r in known)} of {len(known)}",
        f"outputs that move with the input by more than that tolerance: {sum(seen)} of {len(seen)}",
        f"MACs of the sliced network as predicted, by torch's counter: {sum(same)} of {len(same)}",
        f"CNNs with at least 90% of their MACs in prunable spaces: {sum(wide)} of {len(wide)}",
        f"analysis: median {statistics.median(times.values() or [0]):.2f} s,"
        f" slowest {times.get(slowest, 0):.1f} s ({slowest})",
    ]


def page(folder: pathlib.Path) -> str:
    """Return everything in the results folder, as Markdown."""
    mine, peer = (_read(folder / name) for name in ("coverage.json", "coverage_torch_pruning.json"))
    rows, theirs = mine.get("rows", []), {row["name"]: row for row in peer.get("rows", [])}
    lines = [
        "# Any network",
        "",
        f"`{mine.get('command', '')}` on {mine.get('machine', {}).get('cpu', 'this machine')}.",
        "",
    ]
    lines += [f"- {line}" for line in summary(rows)]
    both = [row for row in rows if row["name"] in theirs and row["kind"] != "pattern"]
    if both:
        lines += ["", *_comparison(both, theirs)]
    lines += ["", "## Every network", ""]
    heads = "network,result,prunable MACs,MACs,spaces,capture s,analysis s,identity,ONNX,Torch-Pruning".split(",")
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [_line(row, theirs.get(row["name"], {})) for row in rows]
    return "\n".join(lines) + "\n"


def _comparison(rows: list[Row], theirs: dict[str, Row]) -> list[str]:
    """Compare times where both pass: channel analysis alone, and build to narrow network.

    Ours has to capture first; the peer's analysis traces the network itself.
    """
    other = [theirs[row["name"]] for row in rows]
    both = [(mine, peer) for mine, peer in zip(rows, other, strict=True) if passed(mine) and passed(peer)]
    ours = [sum(mine["seconds"][stage] for stage in ("capture", "prepare", "analyse", "slice")) for mine, _ in both]
    spent = [sum(peer["seconds"][stage] for stage in ("analyse", "slice")) for _, peer in both]
    alone = [[side["seconds"]["analyse"] for side in sides] for sides in zip(*both, strict=True)] or [[0.0], [0.0]]
    return [
        "| | prunec | Torch-Pruning 1.6.1 |",
        "|---|---|---|",
        f"| pruned, run, exported, equal in ONNX Runtime | {sum(map(passed, rows))} of {len(rows)} "
        f"| {sum(map(passed, other))} of {len(other)} |",
        "| channel analysis (prunec's after capture, Torch-Pruning's with its tracing): median, slowest, sum"
        f" | {_spread(alone[0])} | {_spread(alone[1])} |",
        f"| capture, analysis and slicing, median seconds on the {len(both)} where both pass "
        f"| {statistics.median(ours or [0]):.2f} "
        f"| {statistics.median(spent or [0]):.2f} |",
        f"| slowest of these | {max(ours, default=0):.1f} | {max(spent, default=0):.1f} |",
        f"| crashed or hung | {sum(map(stopped, rows))} | {sum(map(stopped, other))} |",
    ]


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f}, {max(seconds):.1f}, {sum(seconds):.0f} s"


def _line(row: Row, peer: Row) -> str:
    seconds = row.get("seconds", {})
    share = f"{row['prunable_share']:.1%}" if "prunable_share" in row else ""
    reason = next(iter(row.get("frozen", {})), "") if row.get("prunable_share", 1) < CNN_SHARE else ""
    cells = [
        row["name"], row["result"] + (f" ({reason})" if reason else ""), share, f"{row.get('macs', 0) / 1e6:,.0f} M",
        f"{row.get('prunable', '')}/{row.get('spaces', '')}", f"{seconds.get('capture', 0):.1f}",
        f"{seconds.get('analyse', 0):.2f}", f"{row.get('deviation', float('nan')):.0e}",
        f"{row.get('onnx', float('nan')):.0e}", peer.get("result", ""),
    ]  # fmt: skip
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _read(path: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found
