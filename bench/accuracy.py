"""Measure accuracy without retraining: dense, pruned and compensated; parity, MACs and time.

    python bench/accuracy.py --data ../shared/data --seeds 0,1,2      # every row, an hour on two cores
    python bench/accuracy.py --data ../shared/data --only cifar_resnet56 --target macs:0.5 --images 1024

Calibration images come from the training files, without labels; the test images are read once per row. Time is the wall
time of `prunec.compress`, capture included, over a plain dense forward pass on the same images, at the same batch size
in the same process (the best of one before and one after); likewise for the passes after `calibrate`. MACs are checked
against torch's FLOP counter on the compressed network.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import operator
import pathlib
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import prunec  # noqa: E402
from prunec.data.images import Images, load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.deploy.ort import parity  # noqa: E402
from prunec.errors import CaptureError  # noqa: E402
from prunec.evaluate import accuracy  # noqa: E402
from prunec.machine import environment  # noqa: E402
from prunec.user_code import imported  # noqa: E402

IMAGENETTE = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
CIFAR = "scale=255,mean=.485/.456/.406,std=.229/.224/.225"


@dataclass(frozen=True)
class Row:
    """A network, its target and its images."""

    network: str
    target: str
    images: int
    train: str
    test: str
    preprocess: str
    classes: tuple[int, ...] | None = None


ROWS = (
    *(
        Row("cifar_resnet56", f"macs:{left}", 1024, "cifar10/train_8192.npz", "cifar10/test.npz", CIFAR)
        for left in (0.7, 0.5, 0.3)
    ),
    Row("cifar_resnet20", "macs:0.73", 1024, "cifar10/train_8192.npz", "cifar10/test.npz", CIFAR),
    Row("mobilenet_v1_075", "macs:0.85", 256, "imagenette/train", "imagenette/val", "scale=127.5,mean=1,std=1",
        IMAGENETTE),
    Row("squeezenet11", "macs:0.7", 256, "imagenette/train", "imagenette/val", CIFAR, IMAGENETTE),
    Row("resnet50_c4", "macs:0.5", 512, "imagenette/train", "imagenette/val",
        "size=160,order=bgr,scale=1,mean=103.939/116.779/123.68,std=1"),
)  # fmt: skip


def load_network(data: pathlib.Path, name: str) -> torch.nn.Module:
    """Load the network with its weights, by the data folder's definitions."""
    with imported(f"{data / 'nets.py'}:load", CaptureError) as load:
        assert callable(load)
        network: torch.nn.Module = load(name)
        return network


def forward_seconds(network: torch.nn.Module, images: Images, batch: int) -> float:
    """Time a plain dense forward pass over the calibration images."""
    started = time.perf_counter()
    with torch.no_grad():
        for inputs in images.batches(batch):
            network(*inputs)
    return time.perf_counter() - started


def seconds_after(seconds: dict[str, float], name: str) -> float:
    """Return the seconds of all passes after `name`, or of all."""
    passes = [one for one in seconds if one != "total"]
    return sum(seconds[one] for one in passes[passes.index(name) + 1 if name in passes else 0 :])


def counted_macs(module: torch.nn.Module, images: Images) -> int:
    """Return MACs per sample by torch's FLOP counter."""
    inputs = tuple(one[:2] for one in images.inputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops()) // 4


def measure(row: Row, data: pathlib.Path, args: argparse.Namespace, seed: int, first: dict[str, Any]) -> dict[str, Any]:
    """Measure one row with one seed, for drawn images and every choice.

    The dense accuracy is that of the `first` seed if there was one; pruned alone is measured for the first seed.
    """
    network = load_network(data, row.network)
    preprocess = Preprocess.parse(row.preprocess)
    train = load_images(data / row.train, preprocess, row.images, seed).unlabelled()
    test = load_images(data / row.test, preprocess, args.test_images, seed, row.classes)
    forward_seconds(network, train.take(args.batch, 0), args.batch)
    before = forward_seconds(network, train, args.batch)
    options = {"target": row.target, "seed": seed, "batch": args.batch, "pipeline": args.pipeline, "align": "none"}
    result = prunec.compress(network, train, **options)
    plain = min(before, forward_seconds(network, train, args.batch))
    model = result.onnx()
    agreement = parity.compare(result.module, model, train.take(64, 0).inputs, (1, 2, 64))
    found: dict[str, Any] = {
        "network": row.network, "target": row.target, "seed": seed, "images": len(train), "test_images": len(test),
        "dense": first["dense"] if first else accuracy(network, test),
        "compensated": accuracy(result.module, test), "macs": result.report["macs"],
        "macs_by_torch": counted_macs(result.module, train), "parameters": result.report["parameters"],
        "onnx_max_abs": agreement.max_abs, "onnx_ok": agreement.ok,
        "seconds": result.report["seconds"], "forward_seconds": plain,
        "time_ratio": result.report["seconds"]["total"] / plain,
        "time_ratio_after": seconds_after(result.report["seconds"], "calibrate") / plain,
        "pipeline": result.report["pipeline"],
    }  # fmt: skip
    if not first:
        found["pruned_alone"] = accuracy(result.pruned_only(), test)
    found["drop"] = found["dense"] - found["compensated"]
    found["macs_equal"] = found["macs"]["compressed"] == found["macs_by_torch"]
    if args.twice:
        again = prunec.compress(load_network(data, row.network), train, **options)
        pair = [
            (json.dumps(one.plan.to_json()), one.onnx().SerializeToString(deterministic=True))
            for one in (result, again)
        ]
        found["identical"] = pair[0] == pair[1]
        found["onnx_sha256"] = hashlib.sha256(pair[0][1]).hexdigest()
    return found


def grouped(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group the runs by network and target, one per seed."""
    keys = dict.fromkeys((row["network"], row["target"]) for row in rows)
    return [[row for row in rows if (row["network"], row["target"]) == key] for key in keys]


def mean_of(runs: list[dict[str, Any]], name: str) -> str:
    """Return the mean over the seeds and the largest deviation."""
    values = [run[name] for run in runs if name in run]
    mean = sum(values) / len(values)
    return f"{mean:.2f}" + (f" ± {max(abs(value - mean) for value in values):.2f}" if len(values) > 1 else "")


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="accuracy without retraining, top-1 %")
    names = "network,MACs left,dense,pruned alone,compensated,drop,time / forward,after calibrate,ONNX,MACs equal,twice"
    for name in names.split(","):
        table.add_column(name, justify="left" if name == "network" else "right")
    for runs in grouped(rows):
        same = {run.get("identical") for run in runs}
        table.add_row(
            runs[0]["network"], f"{runs[0]['macs']['share']:.4f}", f"{runs[0]['dense']:.2f}",
            mean_of(runs, "pruned_alone"), mean_of(runs, "compensated"), mean_of(runs, "drop"),
            mean_of(runs, "time_ratio"), mean_of(runs, "time_ratio_after"),
            f"{max(run['onnx_max_abs'] for run in runs):.1e}",
            "yes" if all(run["macs_equal"] for run in runs) else "NO",
            "-" if same == {None} else "NO" if False in same else "yes",
        )  # fmt: skip
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", help="one network of the list")
    parser.add_argument("--target", help="instead of the row's own")
    parser.add_argument("--images", type=int, help="calibration images, instead of the row's own number")
    parser.add_argument("--test-images", type=int, help="a seeded part of the test images (default: all)")
    parser.add_argument("--pipeline", help="instead of the default passes")
    parser.add_argument("--seeds", default="0", metavar="0,1,2", help="one run each")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--twice", action="store_true", help="compress again and compare plan.json and model.onnx")
    parser.add_argument("--merge", action="store_true", help="keep the other rows of the file")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "accuracy.json")
    args = parser.parse_args()

    chosen = [row for row in ROWS if args.only in (None, row.network)]
    chosen = chosen[:1] if args.target else chosen
    document = json.loads(args.out.read_text()) if args.merge else {"rows": []}
    key = operator.itemgetter("network", "target", "images", "seed")
    rows: list[dict[str, Any]] = []
    for row, seed in itertools.product(chosen, map(int, args.seeds.split(","))):
        asked = Row(**{**vars(row), "target": args.target or row.target, "images": args.images or row.images})
        same = (one for one in rows if one["network"] == row.network and one["target"] == asked.target)
        rows.append(measure(asked, args.data, args, seed, next(same, {})))
        told = ("network", "target", "seed", "dense", "compensated", "drop", "time_ratio", "time_ratio_after")
        print(json.dumps({key: rows[-1][key] for key in told}), flush=True)
    show(rows)
    machine = {**environment(), "threads": torch.get_num_threads()}
    command = f"python bench/accuracy.py {' '.join(sys.argv[1:])}".replace(str(args.data), "DATA")
    kept = [row for row in document["rows"] if key(row) not in set(map(key, rows))]
    run = {"command": command, "machine": machine, "torch": torch.__version__, "rows": rows}
    document = {**run, "rows": kept + rows, "command": f"{document['command']}; {command}"} if kept else run
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
