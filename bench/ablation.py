"""Compare selectors x decomposers x allocators x compensators, closed form only.

    python bench/ablation.py --data ../shared/data --network cifar_resnet56 --seeds 0,1,2
    python bench/ablation.py --data ../shared/data --network cifar_resnet20 --full      # every combination of a few

Without --full one factor at a time departs from the default. Combinations share one calibration per seed and selector;
the test images are read for the accuracy only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import ROWS, Row, load_network  # noqa: E402

from prunec.api import PREPARE  # noqa: E402
from prunec.data.images import Images, load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.errors import PrunecError  # noqa: E402
from prunec.evaluate import accuracy  # noqa: E402
from prunec.frontend.capture import capture  # noqa: E402
from prunec.ir.program import Program  # noqa: E402
from prunec.machine import environment  # noqa: E402
from prunec.pipeline.context import Context  # noqa: E402
from prunec.pipeline.pipeline import Pipeline  # noqa: E402
from prunec.request.target import Target  # noqa: E402

KINDS = ("selector", "decomposer", "allocator", "compensator")
DEFAULT = ("obs", "collaborative", "portfolio", "sequential")
TRIED = {
    "selector": ("obs", "cap", "lasso", "pivoted-qr", "kmeans", *(f"top{{by={name}}}" for name in (
        "l1", "l2", "bn-scale", "random", "geometric-median", "taylor", "fisher", "cpmc", "oicsr", "fsm",
        "ffr", "thinet", "flap", "dais"))),
    "decomposer": ("collaborative", "spatial-svd", "whitened-svd", "channel-svd", "tucker2", "tt", "none"),
    "allocator": ("portfolio", "knapsack", "uniform", "threshold", "gcro", "cap-search", "evolve", "dais"),
    "compensator": ("sequential", "lstsq", "gram", "merge", "fold", "variance", "bias", "none"),
}  # fmt: skip
FULL = {
    "selector": ("obs", "cap", "top{by=l1}"),
    "decomposer": ("collaborative",),
    "allocator": ("portfolio", "knapsack", "uniform"),
    "compensator": ("sequential", "lstsq", "bias", "none"),
}
Combination = tuple[str, str, str, str]


def combinations(full: bool) -> list[Combination]:
    """Return the combinations, ordered so that neighbours share most stages."""
    if full:
        return sorted(itertools.product(*FULL.values()))  # type: ignore[arg-type]
    found = {DEFAULT}
    for place, kind in enumerate(KINDS):
        for base in (DEFAULT, (DEFAULT[0], "none", *DEFAULT[2:])):
            found |= {(*base[:place], other, *base[place + 1 :]) for other in TRIED[kind]}  # type: ignore[misc]
    return sorted(found)


class Stages:
    """Pipeline in stages, each run once for all combinations with an equal start."""

    def __init__(self, program: Program, images: Images, seed: int) -> None:
        self.program, self.images, self.seed = program, images, seed
        self.known: dict[tuple[str, ...], Program] = {}

    def run(self, chosen: Combination, target: str) -> Program:
        """Return the compressed program."""
        selector, decomposer, allocator, compensator = chosen
        context = Context(Target.parse(target), calibration=self.images, seed=self.seed)
        steps = [
            f"{PREPARE},calibrate",
            f"select{{method={selector}}}",
            f"ranks{{method={decomposer}}},sensitivity",
            f"allocate{{method={allocator}}}",
            f"compensate{{method={compensator}}},slice,decompose",
        ]
        program = self.program
        for place, step in enumerate(steps):
            key = (*steps[: place + 1], target if place > 2 else "")
            if key not in self.known:
                self.known = {one: kept for one, kept in self.known.items() if one[0:1] == key[0:1] and _near(one, key)}
                self.known[key] = Pipeline.parse(step).run(program, context)
            program = self.known[key]
        return program


def _near(one: tuple[str, ...], key: tuple[str, ...]) -> bool:
    """Return whether a kept stage is a prefix of the new one, or first."""
    steps = one[:-1]
    return len(steps) == 1 or steps == key[: len(steps)]


def rows_of(row: Row, args: argparse.Namespace, known: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a result per combination, except the known ones."""
    done = {(one["seed"], one["left"], *[one[kind] for kind in KINDS]) for one in known}
    preprocess = Preprocess.parse(row.preprocess)
    test = load_images(args.data / row.test, preprocess, args.test_images, 0, row.classes)
    network = load_network(args.data, row.network)
    dense = accuracy(network, test)
    for seed in map(int, args.seeds.split(",")):
        images = load_images(args.data / row.train, preprocess, args.images or row.images, seed).unlabelled()
        stages = Stages(capture(network, tuple(value[:2] for value in images.inputs)), images, seed)
        for chosen, target in itertools.product(combinations(args.full), args.targets.split(",")):
            if (seed, float(target), *chosen) in done:
                continue
            started = time.perf_counter()
            named = dict(zip(KINDS, chosen, strict=True))
            try:
                drop: Any = round(dense - accuracy(stages.run(chosen, f"macs:{target}").module, test), 2)
            except PrunecError as error:
                drop = f"{type(error).__name__}: {error}"
            yield {"seed": seed, "left": float(target), **named, "dense": dense, "drop": drop,
                   "seconds": round(time.perf_counter() - started, 1)}  # fmt: skip


def table_of(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a line per combination: mean drop at each target, spread over seeds."""
    targets = sorted({row["left"] for row in rows}, reverse=True)
    lines = []
    for chosen in dict.fromkeys(tuple(row[kind] for kind in KINDS) for row in rows):
        cells = []
        for target in targets:
            found = [
                row["drop"] for row in rows if tuple(row[kind] for kind in KINDS) == chosen and row["left"] == target
            ]
            numbers = [one for one in found if isinstance(one, float)]
            mean = sum(numbers) / max(len(numbers), 1)
            spread = max((abs(one - mean) for one in numbers), default=0.0)
            cells.append(f"{mean:.2f} ± {spread:.2f}" if numbers else "cannot")
        lines.append((*chosen, *cells))
    return [
        ("selector", "decomposer", "allocator", "compensator", *[f"{target:.0%} left" for target in targets]),
        *lines,
    ]


def markdown(document: dict[str, Any], lines: list[tuple[str, ...]]) -> str:
    """Return the results page."""
    where = document["machine"].get("cpu", "this machine")
    what = f"Points of top-1 that {document['network']} loses: mean, and largest distance from it over the seeds."
    head = ["# Ablation", "", f"`{document['command']}` on {where}.", "", what, ""]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*head, body[0], "|---" * len(lines[0]) + "|", *body[1:]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--network", default="cifar_resnet56")
    parser.add_argument("--targets", default="0.7,0.5,0.3", help="shares of the MACs that remain")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--images", type=int, help="calibration images, instead of the network's own number")
    parser.add_argument("--full", action="store_true", help="every combination of a smaller list")
    parser.add_argument("--test-images", type=int, help="a seeded part of the test images (default: all)")
    parser.add_argument("--resume", action="store_true", help="go on with the rows that are there")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results")
    args = parser.parse_args()
    row = next(one for one in ROWS if one.network == args.network)
    command = f"python bench/ablation.py {' '.join(sys.argv[1:])}".replace(str(args.data), "DATA")
    rows: list[dict[str, Any]] = []
    document = {"command": command.replace(str(args.out), "DIR"), "machine": environment(), "torch": torch.__version__,
                "network": args.network, "images": args.images or row.images, "rows": rows}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    name = f"ablation_{args.network}{'_full' if args.full else ''}"
    if args.resume:
        rows += json.loads((args.out / f"{name}.json").read_text())["rows"]
    for found in rows_of(row, args, [*rows]):
        rows.append(found)
        print(json.dumps(found), flush=True)
        (args.out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
        (args.out / f"{name}.md").write_text(markdown(document, table_of(rows)))
    table = Table(*table_of(rows)[0])
    for line in table_of(rows)[1:]:
        table.add_row(*line)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
