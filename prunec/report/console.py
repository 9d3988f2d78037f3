"""Format the plain dictionaries of `report.json` as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ..errors import first_few

Facts = Mapping[str, Any]
_REACHED = (("macs", "MACs"), ("parameters", "parameters"))


def outcome_table(report: Facts, title: str) -> Table:
    """Compare the dense, pruned and compressed network in a table, with conditions below."""
    table = plain_table(title)
    table.caption, table.caption_justify = "\n".join(condition_lines(report)), "left"
    table.add_column("", no_wrap=True)
    for heading in ("dense", "pruned alone", "compressed", "change"):
        table.add_column(heading, justify="right", style="bold" if heading == "compressed" else "")
    for row in outcome_rows(report):
        table.add_row(*row)
    return table


def outcome_rows(report: Facts) -> list[tuple[str, str, str, str, str]]:
    """Return rows of text: measure, dense, pruned, compressed, change."""
    rows = []
    if accuracy := report.get("accuracy"):
        dense, pruned, compressed = (accuracy[key] for key in ("dense", "pruned", "compressed"))
        change = f"{compressed - dense:+.2f} points"
        rows.append(("top-1 accuracy", f"{dense:.2f}%", f"{pruned:.2f}%", f"{compressed:.2f}%", change))
    if (estimate := report.get("estimate", {})).get("agreement") is not None:
        low, high = (100 * one for one in estimate["interval"])
        share = f"{100 * estimate['agreement']:.1f}%"
        rows.append(("same answer as dense", "", "", share, f"{low:.1f} to {high:.1f}%"))
    sizes = {"MACs an image": report.get("macs"), "parameters": report.get("parameters"), "ONNX bytes": _bytes(report)}
    for name, size in sizes.items():
        if size:
            change = f"{size['compressed'] / size['dense'] - 1:+.1%}" if size.get("dense") else ""
            rows.append((name, amount(size.get("dense")), "", amount(size["compressed"]), change))
    for size in report.get("notes", {}).get("allocate", {}).get("budgets", ()):
        if size["target"].startswith(("size", "memory")):
            change = f"{size['planned'] / size['dense'] - 1:+.1%}"
            rows.append((size["of"], amount(size["dense"]), "", amount(size["planned"]), change))
    if latency := report.get("latency"):
        models = latency["points"][0]["models"]
        dense, compressed = (f"{model['p50_ms']:.3g} ms" for model in models)
        verdict = models[1]["verdict"].removeprefix("B is ")
        rows.append(("latency", dense, "", compressed, "within noise" if verdict.startswith("no ") else verdict))
    return rows


def condition_lines(report: Facts) -> list[str]:
    """List the conditions of the results, one per line, below the table."""
    lines = []
    if accuracy := report.get("accuracy"):
        lines.append(f"accuracy on {accuracy['images']:,} images")
    lines += _estimate(report.get("estimate", {}))
    if latency := report.get("latency"):
        point = latency["points"][0]
        how = f"batch {point['batch']}, {counted(point['threads'], 'thread')}"
        lines.append(f"latency p50 in ONNX Runtime, {how}; less than {point['noise']['floor']:.1%} is noise")
    if speedup := report.get("speedup"):
        lines += _speedup(speedup)
    if latency := report.get("notes", {}).get("allocate", {}).get("latency"):
        lines.append(_target(latency))
    if gone := report.get("notes", {}).get("allocate", {}).get("branches_gone"):
        lines.append(f"removed residual blocks, by their first layer: {', '.join(gone)}")
    if alignment := report.get("notes", {}).get("allocate", {}).get("alignment"):
        lines.append(_aligned(alignment))
    if few := report.get("notes", {}).get("calibrate", {}).get("fewer_rows_than_columns"):
        lines.append(_few(few))
    lines += report.get("notes", {}).get("calibrate", {}).get("cache", ())
    if parity := report.get("parity"):
        worst = max(each["max_abs"] for each in parity["agreements"])
        batches = ", ".join(str(each["batch"]) for each in parity["agreements"])
        same = min(each["top1_agreement"] for each in parity["agreements"])
        lines.append(f"ONNX against torch, batch {batches}: max difference {worst:.1e}, same class {same:.0%}")
    if total := report.get("seconds", {}).get("total"):
        count = report["calibration"]["images"]
        lines.append(f"compressed in {total:.1f} s with {count:,} images, no labels, no retraining")
    return lines


def _estimate(estimate: Facts) -> list[str]:
    """List the error on held-out images, and notes on missing measurements."""
    lines = []
    if estimate.get("relative_error") is not None:
        other, own = (f"{estimate[key]:.2g}" for key in ("relative_error", "calibration_relative_error"))
        interval = "" if estimate["agreement"] is None else ", with the 95% interval of same answers"
        there = f"on {estimate['images']:,} images kept back{interval}: relative output error {other}"
        lines.append(f"{there}, {own} on those calibrated on")
        lines += [estimate["learning"]["sentence"]] if estimate.get("learning") else []
    return [*lines, *estimate.get("notes", ())]


def _few(layers: list[Facts]) -> str:
    """Return a line on the layers with too few images."""
    first = layers[0]
    more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return (
        f"few images: {first['layer']}{more} saw {first['rows']:,} samples of {first['columns']:,} inputs; more images"
        " would keep more accuracy"
    )


def _speedup(speedup: Facts) -> list[str]:
    """Report the predicted and measured speed-up, and the slow layers if it is small."""
    told = [f"speed-up {speedup['measured']:.2f}x; predicted {speedup['predicted']:.2f}x by {speedup['by']},"]
    told[0] += f" {speedup['macs']:.2f}x by MACs alone"
    if slow := speedup.get("slow_layers"):
        names = first_few(
            f"{one['name']} ({one['macs']:.0%} of its MACs, {one['time']:.0%} of its time)" for one in slow
        )
        told.append(f"warning: MACs fell and time did not in {names}; --align auto or --target latency: avoid that")
    return told


def _target(latency: Facts) -> str:
    """Return a line on the latency target and the result."""
    if not latency["rounds"]:
        return f"{latency['target']} by the table of {latency['on']}; not measured here"
    near = f"{latency['off']:+.1%} off, give or take {latency['unsure']:.1%}"
    races = counted(len(latency["rounds"]), "race")
    table = f"the table was {latency['table_error']:+.1%} off before"
    share = f"{latency['target']} on {latency['on']}: {latency['share']:.3f} of the dense time"
    return f"{share}, {near}, by {races}; {table}"


def latency_table(facts: Facts) -> Table:
    """Return the table of `prunec profile`: time per layer shape, and the total."""
    numbers = ("layers", "alone, ms", "in the network, ms")
    table = plain_table(f"{facts['model']} on {facts['on']}", ["layers of this shape"], numbers)
    for row in sorted(facts["shapes"], key=lambda one: -float(one["within_ms"])):
        table.add_row(row["shape"], str(row["layers"]), f"{row['alone_ms']:.3f}", f"{row['within_ms']:.3f}")
    table.add_row("all else", "", "", f"{facts['rest_ms']:.3f}")
    table.caption = (
        f"whole network {facts['whole_ms']:.3f} ms; the layers alone and all else come to {facts['sum_ms']:.3f} ms,"
        f" {facts['error']:+.1%}"
    )
    return table


def _aligned(alignment: Facts) -> str:
    """Report the expected error with and without the engine's preferred widths."""
    gave_way = f"; gave way {alignment['gave_way']}" if "gave_way" in alignment else ""
    if "error" not in alignment:
        return f"widths that {alignment['name']} prefers do not fit the target{gave_way}"
    steps = ", ".join(map(str, alignment["steps"]))
    error, free = (f"{alignment[key]:.2g}" for key in ("error", "error_unaligned"))
    widths = f"widths that {alignment['name']} prefers, in steps of {steps}"
    return f"{widths}: error {error} expected, {free} without{gave_way}"


def _bytes(report: Facts) -> Facts | None:
    if "onnx" not in report:
        return None
    return {"dense": report.get("dense_onnx", {}).get("bytes"), "compressed": report["onnx"]["bytes"]}


def seconds_table(seconds: Mapping[str, float]) -> Table:
    """Return the wall time of each pass."""
    table = plain_table("where the time went", ["pass"], ["seconds"])
    for name, taken in seconds.items():
        table.add_row(name, f"{taken:.2f}", style="bold" if name == "total" else "")
    return table


def spaces_table(facts: Facts) -> Table:
    """Return the channel spaces of a network: size, sites, MACs, reason if frozen."""
    table = plain_table(f"channel spaces of {facts['model']}", ["space"], ["channels", "sites", "MACs", "share"])
    table.add_column("prunable", overflow="fold")
    for space in facts["spaces"]:
        frozen = space["frozen"]
        table.add_row(
            space["name"],
            str(space["size"]),
            _roles(space["sites"]),
            amount(space["macs"]),
            f"{space['share']:.1%}",
            Text(f"no: {frozen}", style="yellow") if frozen else Text("yes", style="green"),
        )
    return table


def reach_lines(reach: Facts) -> list[str]:
    """List the least that can remain of a network, and what keeps it from less."""
    shares = " and ".join(f"{reach[name]['share']:.4f} of the {said}" for name, said in _REACHED)
    blocks, held, frozen = reach["blocks"], reach["held"], reach["frozen"]
    without = f", without {counted(len(blocks), 'residual block')}" if blocks else ""
    lines = [f"How far: with the fewest channels left everywhere{without}, {shares} remain. Ranks may save more."]
    lines += [f"{reach['unreached']:.1%} of the MACs are in layers that nothing reaches."]
    if held:
        names = first_few(f"{one['name']} keeps {one['keeps']} of {one['of']}" for one in held)
        lines.append(f"Held by --limit, --round-to or --align: {names}.")
    if frozen:
        names = "; ".join(f"{one['name']} ({one['share']:.1%} of the MACs): {one['frozen']}" for one in frozen[:3])
        lines.append(f"Frozen, with most MACs first: {names}{_more(frozen)}.")
    return lines


def _more(frozen: Sequence[Facts]) -> str:
    return f"; and {len(frozen) - 3} more" if len(frozen) > 3 else ""


def sensitivity_table(facts: Facts) -> Table:
    """Return output errors with 1/4, 1/2 and 3/4 of each space removed. Most MACs first."""
    title = f"{facts['model']}: relative squared error of the outputs, one space at a time, refitted"
    table = plain_table(title, ["space"], ["kind", "size", "MACs", "25% gone", "50% gone", "75% gone"])
    for space in sorted(facts["spaces"], key=lambda one: -max(one["saved"])):
        errors = [space["error"][round(space["size"] * share)] for share in (0.25, 0.5, 0.75)]
        held = f"{max(space['saved']):.1%}"
        table.add_row(space["name"], space["kind"], str(space["size"]), held, *[f"{one:.2g}" for one in errors])
    return table


def _roles(sites: Sequence[Facts]) -> str:
    """Return counts by role, such as `2 produce, 2 carry, 3 consume`."""
    roles = [site["role"] for site in sites]
    return ", ".join(f"{roles.count(role)} {role.removesuffix('s')}" for role in dict.fromkeys(roles))


def amount(number: float | None) -> str:
    """Format a number with three digits and a prefix: `41.3 M`, `272 k`; empty for None."""
    if number is None:
        return ""
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{_three(number / limit)} {prefix}"
    return f"{number:g}"


def _three(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:.0f}"


def counted(number: int, what: str) -> str:
    """Format a count: `1 thread`, `2 threads`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def plain_table(title: str, texts: Sequence[str] = (), numbers: Sequence[str] = ()) -> Table:
    """Return a table without lines and rows; the first column of text has a colour."""
    look: Any = {"title_justify": "left", "title_style": "bold", "box": None, "padding": (0, 2, 0, 0)}
    table = Table(title=title, pad_edge=False, **look)
    for heading in texts:
        table.add_column(heading, overflow="fold", style="cyan" if heading == texts[0] else "")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
