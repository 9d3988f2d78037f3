"""Format the results of `prunec bench` at one batch and thread count. The input is the dictionary of `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from .console import amount, counted, plain_table

Facts = Mapping[str, Any]
PERCENTILES = {"p50_ms": "p50", "p90_ms": "p90", "p99_ms": "p99"}
STAGES = ("Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency")


def point_table(point: Facts) -> Table:
    """Return a table with a row per model: times, throughput, speed-up over A."""
    first = point["models"][0]
    of = "GPU compute time" if point["compared_by"] == "computeMs" else "time"
    table = plain_table(
        f"batch {point['batch']}, {counted(point['threads'], 'thread')}: {of} of {first['runs']} runs each"
    )
    table.add_column("", style="cyan")
    table.add_column("model", overflow="fold")
    shown = {key: title for key, title in PERCENTILES.items() if key in first}
    stages = [title for title in STAGES if title in first["metrics"]]
    for title in (*shown.values(), "images/s", *stages, "x A", "95% interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for model in point["models"]:
        times = [f"{model[key]:.3g} ms" for key in shown]
        each = [f"{model['metrics'][title]['median']:.3g} ms" if title in model["metrics"] else "" for title in stages]
        rate = amount(float(f"{model['metrics']['Images a second']:.3g}"))
        table.add_row(model["letter"], model["name"], *times, rate, *each, *_against(model))
    return table


def point_lines(point: Facts) -> Text:
    """Return the noise floor, providers of nodes, cautions and verdicts."""
    noise = point["noise"]
    few = [] if "p99_ms" in point["models"][0] else ["no p99 from fewer than 1,000 runs: --iterations 1000\n"]
    verdicts = "\n".join(_verdict(model, noise["floor"]) for model in point["models"][1:])
    return Text.assemble(
        f"A against itself: {noise['ratio']:.3f}, 95% interval {noise['low']:.3f}..{noise['high']:.3f}, so less than"
        f" {noise['floor']:.1%} is noise\n",
        (_where(point), "dim"),
        *((line, "dim") for line in few),
        *_elsewhere(point),
        *((f"caution: {one}\n", "yellow") for one in point["cautions"]),
        (f"{verdicts}\n" if verdicts else "", "bold"),
    )


def _verdict(model: Facts, floor: float) -> str:
    """Return the verdict, with the speed-up of the fastest runs if it differs."""
    quiet, ratio = model["undisturbed"]["ratio"], model["speedup"]["ratio"]
    same = max(quiet / ratio, ratio / quiet) < 1 + floor
    return f"{model['verdict']}{'' if same else f'; {quiet:.2f}x the speed of A while the machine was quickest'}"


def _against(model: Facts) -> tuple[str, str]:
    it = model.get("speedup")
    return (f"{it['ratio']:.3f}", f"{it['low']:.3f}..{it['high']:.3f}") if it else ("", "")


def _where(point: Facts) -> str:
    """Return the processor, the cores and the load, in a line."""
    machine = point["environment"]
    cores = machine.get("affinity")
    on = "" if cores is None else f", cores {','.join(map(str, cores))} of {machine['cores']}"
    load = machine.get("load_average")
    return f"{machine['cpu']}{on}{'' if load is None else f', load {load[0]:.1f}'}\n"


def _elsewhere(point: Facts) -> list[str]:
    """Return a line per model with nodes on another provider than the timed one."""
    lines = []
    for model in point["models"]:
        placed = model["ran_with"].get("nodes_by_provider", {})
        if len(placed) > 1:
            parts = ", ".join(f"{count} on {name.removesuffix('ExecutionProvider')}" for name, count in placed.items())
            lines.append(f"nodes of {model['letter']}: {parts}\n")
    return lines
