"""Write the page of `prunec report`: one HTML file that opens offline, from what `prunec compress` wrote.

It needs no network and no JavaScript. jinja2, which torch brings, escapes all text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ..errors import first_few
from ..grammar.spec import parse_list
from . import curves, latency_plot
from .console import amount, condition_lines, counted, outcome_rows
from .html import breakable
from .samples import Samples

Facts = Mapping[str, Any]
MOST_ROWS = 1000  # of a table, to keep the page small
MOST_CURVES, MOST_TIMES, MOST_NAMES = 12, 40, 8
SECTIONS = {
    "outcome": "Before and after",
    "layers": "What stayed",
    "sensitivity": "Sensitivity",
    "time": "Milliseconds",
    "steps": "After each step",
    "samples": "Samples that differ",
    "again": "How to make it again",
}


@dataclass(frozen=True)
class Folder:
    """Hold what the page reads of a folder: two JSON files, and bytes and sha256 of each file."""

    report: Facts
    plan: Facts
    files: Mapping[str, tuple[int, str]]


def page(folder: Folder, samples: Samples) -> str:
    """Return the HTML of a compression."""
    report = folder.report
    layers, held = report.get("layers") or [], _held(report)
    times = report.get("layer_times") or {}
    return _template().render(
        title=title_of(report),
        sections=SECTIONS.items(),
        outcome=outcome_rows(report),
        conditions=condition_lines(report),
        remaining=list(_remaining(report).items()),
        layers=[_layer(one, max(one["macs"][0] for one in layers)) for one in layers[:MOST_ROWS]],
        layers_left=max(len(layers) - MOST_ROWS, 0),
        frozen=_frozen(folder.plan),
        curves=[_curve(one) for one in held if one["size"] > 1][:MOST_CURVES],
        curves_of=_error_of(report),
        curve_rows=[_curve_row(one) for one in held[:MOST_ROWS]],
        curves_left=max(len(held) - MOST_ROWS, 0),
        latency_svg=_latency(report),
        times=_times(times),
        slow=first_few((one["name"] for one in report.get("speedup", {}).get("slow_layers", ())), MOST_NAMES),
        steps=_steps(report),
        measured="accuracy" in report,
        expected=_expected(report),
        samples=samples,
        command=report.get("command", ""),
        facts=_facts(report),
        files=[(name, *about) for name, about in sorted(folder.files.items())],
        version=report["versions"]["prunec"],
    )


def title_of(report: Facts) -> str:
    """Return the network and the target, such as `nets.py:make to macs:0.5`."""
    source = PurePath(str(report.get("model", {}).get("source", "network"))).name
    return f"{source} to {report['target']}"


def _template() -> Template:
    text = resources.files(__package__).joinpath("compression.html").read_text(encoding="utf-8")
    how: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(autoescape=True, **how)
    environment.filters["breakable"] = lambda name: Markup(breakable(name))
    return environment.from_string(text)


def _latency(report: Facts) -> Markup:
    """Return the drawing of the measured times, empty where there are none."""
    svg = latency_plot.drawing(report["latency"]) if report.get("latency") else ""
    return Markup(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))  # HTML knows svg without it


def _remaining(report: Facts) -> dict[str, float]:
    """Return shares of the dense network, by quantity that was counted or measured."""
    onnx = {"dense": report.get("dense_onnx", {}).get("bytes"), "compressed": report.get("onnx", {}).get("bytes")}
    sizes = {"MACs": report.get("macs"), "parameters": report.get("parameters"), "ONNX bytes": onnx}
    found = {
        name: size["compressed"] / size["dense"]
        for name, size in sizes.items()
        if size and size["dense"] and size["compressed"]
    }
    if latency := report.get("latency"):
        dense, compressed = (model["p50_ms"] for model in latency["points"][0]["models"])
        found["latency"] = compressed / dense
    return found


def _layer(one: Facts, most: float) -> dict[str, Any]:
    """Return the row of a layer; bars are relative to the layer with `most` MACs."""
    (size, kept), (before, after) = one["outputs"], one["macs"]
    notes = [f"frozen: {one['frozen']}"] if one.get("frozen") else []
    if one.get("removed"):
        notes.append("removed with its residual block")
    elif one["inputs"][1] < one["inputs"][0]:
        notes.append(f"reads {one['inputs'][1]:,} of {one['inputs'][0]:,} inputs")
    if one.get("rank"):
        notes.append(f"became several layers, of rank {one['rank'][1]:,} for {one['rank'][0]:,}")
    widths = [round(100 * each / max(most, 1), 1) for each in (before, after)]
    return {
        "name": one["name"],
        "notes": notes,
        "outputs": f"{kept:,} of {size:,}",
        "macs": f"{amount(before)} → {amount(after)}" if after < before else amount(before),
        "before": widths[0],
        "after": widths[1],
    }


def _frozen(plan: Facts) -> list[dict[str, Any]]:
    """Return the frozen spaces of a plan, by reason, those with the most channels first."""
    by_reason: dict[str, list[Facts]] = defaultdict(list)
    for space in plan["spaces"]:
        if space.get("frozen"):
            by_reason[space["frozen"]].append(space)
    rows = [
        {
            "why": why,
            "names": first_few((one["name"] for one in spaces), MOST_NAMES),
            "channels": sum(one["size"] for one in spaces),
        }
        for why, spaces in by_reason.items()
    ]
    return sorted(rows, key=lambda one: -int(one["channels"]))[:MOST_ROWS]


def _held(report: Facts) -> list[Facts]:
    """Return the spaces with a curve, those that hold the most MACs first."""
    return sorted((report.get("sensitivity") or {}).get("spaces", ()), key=lambda one: -max(one["saved"]))


def _error_of(report: Facts) -> str:
    of = (report.get("sensitivity") or {}).get("of")
    return "the layers that read a space" if of == "layer" else "the outputs"


def _curve(one: Facts) -> dict[str, Any]:
    removed = one["size"] - one["kept"]
    what = f"{one['kept']:,} of {one['size']:,} {one['kind']} kept"
    errors = ", ".join(
        f"{error} with {share} removed"
        for error, share in zip(_quarters(one), ("a quarter", "half", "three quarters"), strict=True)
    )
    svg = curves.small(one["error"], removed / one["size"], f"Error {errors}; {what}")
    return {"name": one["name"], "what": what, "svg": Markup(svg)}


def _curve_row(one: Facts) -> dict[str, Any]:
    return {
        "name": one["name"],
        "kind": one["kind"],
        "kept": f"{one['kept']:,} of {one['size']:,}",
        "held": f"{max(one['saved']):.1%}",
        "errors": _quarters(one),
    }


def _quarters(one: Facts) -> list[str]:
    """Return the errors with 1/4, 1/2 and 3/4 of a space removed."""
    error = one["error"]
    found = [error[round((len(error) - 1) * share)] for share in (0.25, 0.5, 0.75)]
    return ["–" if each is None else f"{each:.2g}" for each in found]


def _times(times: Facts) -> list[dict[str, Any]]:
    """Return the rows of layer times, and the sum of the layers left out."""
    order = sorted(times.get("layers", ()), key=lambda one: -max(one["ms"]))
    rows = [(one["name"], one["ms"]) for one in order[:MOST_TIMES]]
    if rest := order[MOST_TIMES:]:
        rows.append((f"{counted(len(rest), 'other layer')}", [sum(one["ms"][side] for one in rest) for side in (0, 1)]))
    if any(times.get("runtime", ())):
        rows.append(("added by ONNX Runtime", times["runtime"]))
    most = max((max(ms) for _, ms in rows), default=0.0) or 1.0
    return [
        {
            "name": name,
            "texts": [f"{each:.3g}" if each else "–" for each in ms],
            "widths": [round(100 * each / most, 1) for each in ms],
        }
        for name, ms in rows
    ]


def _steps(report: Facts) -> list[dict[str, str]]:
    """Return a row for the dense network, each pass in order, and the result."""
    accuracy, seconds, drift = report.get("accuracy", {}), report["seconds"], report.get("drift", {})
    shown = {key: f"{accuracy[key]:.2f}%" for key in ("dense", "pruned", "compressed") if key in accuracy}
    passes = [one.name for one in parse_list(report["pipeline"])]
    names = ["capture", *passes, *(name for name in ("estimate", "total") if name in seconds)]
    rows = [
        {
            "name": name,
            "seconds": f"{seconds[name]:.2f}" if name in seconds else "",
            "drift": f"{drift[name]:.2g}" if name in drift else "",
            "accuracy": shown.get({"capture": "dense"}.get(name, ""), ""),
        }
        for name in names
    ]
    after = [("pruned alone, for comparison", "pruned"), ("compressed", "compressed")]
    return rows + [
        {"name": name, "seconds": "", "drift": "", "accuracy": shown[key]} for name, key in after if key in shown
    ]


def _expected(report: Facts) -> str:
    """Return the error on images kept back, empty where none were."""
    estimate = report.get("estimate", {})
    if estimate.get("relative_error") is None:
        return ""
    return (
        f"At the end, on {estimate['images']:,} images kept back, the relative squared error of the outputs is"
        f" {estimate['relative_error']:.2g}."
    )


def _facts(report: Facts) -> Sequence[tuple[str, str]]:
    """Return names and values of what the result depends on; empty values are left out."""
    model, calibration = report.get("model", {}), report.get("calibration", {})
    found = {
        "network": model.get("source"),
        "weights": model.get("weights"),
        "sha256 of the weights": model.get("digest"),
        "images": f"{calibration['images']:,} of {calibration['source']}" if "source" in calibration else None,
        "sha256 of the images": calibration.get("digest"),
        "preprocessing": calibration.get("preprocess"),
        "target": report["target"],
        "seed": str(report["seed"]),
        "device": report.get("capture", {}).get("device"),
        "passes": report["pipeline"].replace(",", ", "),
        "allocator": report.get("notes", {}).get("allocate", {}).get("allocator"),
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    }
    return [(name, str(value)) for name, value in found.items() if value]
