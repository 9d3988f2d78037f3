"""Measure latency targets: whether they are met, their cost, and benchmark trust.

    python bench/latency.py --data ../shared/data                         # every part; an hour on two quiet cores
    python bench/latency.py --data ../shared/data --parts met --only cifar_resnet56
    PYTHONPATH=DIR python bench/latency.py --data ../shared/data --parts peers    # DIR holds torch-pruning 1.6.1

    met       latency:0.6 of the dense time at batch 1 and 8, with one and two threads; measured again afterwards
    aware     the time of a latency target's network, beside that of MACs targets at the same drop of accuracy
    aligned   50% of the MACs with the engine's preferred widths, with and without factoring of layers, and with any
              widths; and with at most 0.55 of the time, for each engine by its own table: speed-up over MACs ratio,
              accuracy
    trust     A against A, 50 times: how often a difference is reported
    peers     Torch-Pruning with round_to=8 and BN re-estimation: speed and accuracy

Dense and compressed networks run in turns, ABBA; compared is the median of paired ratios, over three races of three
sessions each, or more, until the standard error of their mean is 1%. `undisturbed` is that of the fastest quarter of
the pairs: other users share the machine. Latency tables are measured anew. Labels are read for the accuracy of finished
networks only.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
from itertools import product
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import ROWS  # noqa: E402
from latency_network import ENGINES, Bench, raced  # noqa: E402

from prunec.deploy.benchmark.sweep import Sweep  # noqa: E402
from prunec.errors import BudgetError  # noqa: E402
from prunec.evaluate import accuracy  # noqa: E402
from prunec.frontend.capture import capture  # noqa: E402
from prunec.latency.engine import table_of  # noqa: E402
from prunec.latency.summary import summary  # noqa: E402
from prunec.machine import environment  # noqa: E402
from prunec.pipeline.context import Context  # noqa: E402
from prunec.pipeline.pipeline import Pipeline  # noqa: E402

NETWORKS = ("cifar_resnet56", "resnet50_c4", "mobilenet_v1_075")
AWARE = {"cifar_resnet56": "latency:0.6", "resnet50_c4": "latency:0.6", "mobilenet_v1_075": "latency:0.85"}
TIMED = "macs:0.5,latency:0.55"
HALVES = (  # target, widths, whether layers may be factored
    ("macs:0.5", "auto", False),
    ("macs:0.5", "auto", True),
    ("macs:0.5", "none", True),
    (TIMED, "auto", True),
)
SHARES = (0.8, 0.6, 0.5, 0.4, 0.3)
EACH = ("met", "aware")  # parts for every network; the others for the first only
PARTS = (*EACH, "aligned", "trust", "peers")
BY_THREADS = ("met", "aligned")  # parts whose engines --threads selects; other rows are kept
TRIALS = 50


def met(bench: Bench) -> list[dict[str, Any]]:
    """Measure the target at every batch and thread count, and the table's error."""
    rows = []
    for on in bench.engines:
        try:
            found = bench.compressed("latency:0.6", on, "auto", fit=False)
        except BudgetError as error:
            found = {"network": bench.row.network, "batch": on.batch, "threads": on.threads, "error": str(error)}
            rows.append(told("met", found))
            continue
        found["off"] = found["share"] / 0.6 - 1
        found["sum_error"] = summary(bench.known, table_of(on))["error"]
        rows.append(told("met", found))
    return rows


def aware(bench: Bench) -> list[dict[str, Any]]:
    """Compare a latency target with MACs targets at the same drop. With any widths and with aligned ones."""
    own = told("aware", bench.compressed(AWARE[bench.row.network], ENGINES[0], "auto"))
    rows = [own]
    for align in ("none", "auto"):
        found: list[dict[str, Any]] = []
        for share in SHARES:
            found.append(told("aware", bench.compressed(f"macs:{share}", ENGINES[0], align)))
            if found[-1]["drop"] > own["drop"]:
                break
        same = at_drop([(one["drop"], one["share"]) for one in found], own["drop"])
        own[f"faster_by_{align}"] = None if same is None else same / own["share"]
        rows += found
    return rows


def at_drop(points: list[tuple[float, float]], drop: float) -> float | None:
    """Return the least time share at a drop, interpolated; None if unreachable."""
    shares = []
    for (first, slow), (second, fast) in zip([(0.0, 1.0), *points], points, strict=False):
        if first <= drop:
            weight = 1.0 if second <= drop else (drop - first) / (second - first)
            shares.append(slow + weight * (fast - slow))
    return min(shares) if shares else None


def aligned(bench: Bench) -> list[dict[str, Any]]:
    """Measure half of the MACs in the ways of `HALVES`."""
    rows = []
    for (target, align, split), on in product(HALVES, bench.engines):
        found = bench.compressed(target, on, align, fit=on == ENGINES[0] or target == TIMED, split=split)
        found["realised"] = found["macs"] / found["share"]  # speed-up / MACs ratio
        found["realised_undisturbed"] = found["macs"] / found["undisturbed"]
        rows.append(told("aligned", found))
    return rows


def trust(bench: Bench) -> list[dict[str, Any]]:
    """Race one network against itself."""
    given, claimed, ratios = bench.train.take(1, 0).inputs, 0, []
    for _ in range(TRIALS):
        found = raced(bench.dense, bench.dense, Sweep(), given)
        claimed += found.verdict() != "no difference above the noise floor"
        ratios.append(found.speedups[0].ratio)
    far = max(abs(np.log(ratios)))
    return [told("trust", {"network": bench.row.network, "trials": TRIALS, "claimed": claimed, "furthest": far})]


def peers(bench: Bench) -> list[dict[str, Any]]:
    """Measure Torch-Pruning's best of the peers' table, with `round_to=8`."""
    from peers import pruned_to, reestimated

    rows = []
    for name in ("L2", "FPGM"):
        for share in SHARES:
            try:
                pruned = pruned_to(bench.network, bench.train, share, name, round_to=8)
            except RuntimeError as error:  # no share of channels leaves so few MACs
                told("peers", {"method": name, "asked": share, "error": str(error)})
                break
            module = reestimated(pruned, bench.train)
            program = capture(module, tuple(one[:2] for one in bench.train.inputs))
            folded = Pipeline.parse("fold-constants,fold-bn").run(program, Context())
            found: dict[str, Any] = {"network": bench.row.network, "method": f"Torch-Pruning {name}", "asked": share}
            found |= bench.share(bench.exported(folded), ENGINES[0]) | {"top1": accuracy(module, bench.test)}
            rows.append(told("peers", found | {"drop": bench.dense_accuracy - found["top1"]}))
    return rows


def joined(known: list[dict[str, Any]], done: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """Return the rows, with repeated measurements in place of old ones."""

    def key(row: dict[str, Any]) -> tuple[str, int | None]:
        return row["network"], row["threads"] if part in BY_THREADS else None

    again = set(map(key, done))
    return [row for row in known if key(row) not in again] + done


def told(part: str, found: dict[str, Any]) -> dict[str, Any]:
    """Print and return a row."""
    print(json.dumps({"part": part, **{key: one for key, one in found.items() if key != "rounds"}}), flush=True)
    return found


def show(parts: dict[str, list[dict[str, Any]]]) -> None:
    for part, rows in parts.items():
        table = Table(title=part)
        names = list(dict.fromkeys(key for row in rows for key, one in row.items() if not isinstance(one, list)))
        for name in names:
            table.add_column(name, justify="right")
        for row in rows:
            cells = (row.get(name, "") for name in names)
            table.add_row(*(f"{one:.3f}" if isinstance(one, float) else str(one) for one in cells))
        Console(width=180).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--threads", default="1,2", help="of the engines of parts met and aligned")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "latency.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    asked: Any = {"met": met, "aware": aware, "aligned": aligned, "trust": trust, "peers": peers}
    document = json.loads(args.out.read_text()) if args.out.exists() else {"parts": {}}
    command = f"python bench/latency.py {' '.join(sys.argv[1:])}".replace(str(args.data), "DATA")
    command = command.replace(str(args.out), "OUT").strip()
    document["commands"] = [*dict.fromkeys([*document.get("commands", []), command])]
    document |= {"machine": environment(), "torch": torch.__version__}
    names = [name for name in NETWORKS if args.only in (None, name)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PRUNEC_CACHE"] = folder
        for name in names:
            row = next(row for row in ROWS if row.network == name)
            bench = Bench(row, args.data, tuple(map(int, args.threads.split(","))))
            for part in (one for one in args.parts.split(",") if name == NETWORKS[0] or one in EACH):
                known = document["parts"].get(part, [])
                document["parts"][part] = joined(known, asked[part](bench), part)
                args.out.write_text(json.dumps(document, indent=2) + "\n")
    show(document["parts"])


if __name__ == "__main__":
    main()
