"""Measure the cost of a precision: parity with FP32, accuracy, layer counts, bytes.

    python bench/precision.py --data ../shared/data                   # every row, compressed; an hour and a half
    python bench/precision.py --data ../shared/data --dense           # the dense networks; half as long
    python bench/precision.py --data ../shared/data --only cifar_resnet56 --test-images 1000

Each network is compressed at its target of bench/accuracy.py (the first that halves it, or its only one), exported in
opset 20, and lowered as `prunec cast` and `prunec quantize` do. Ranges are measured on 64 training images, INT8 is
calibrated on 256, without labels; the test images are read once per row. Low precision is computed as the file is
written (`prunec.deploy.ort.reference`): ONNX Runtime on the CPU would hide the effect of rounding. Bars: FP16 within
0.1 point of FP32, INT8 within 1 point on the ResNets; the exit code is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from typing import Any

import onnx
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import ROWS, Row, load_network  # noqa: E402

import prunec  # noqa: E402
from prunec.data.images import Images, load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.deploy.onnx import provenance  # noqa: E402
from prunec.deploy.onnx.export import export_onnx  # noqa: E402
from prunec.deploy.ort import parity, reference  # noqa: E402
from prunec.deploy.precision.cast import cast  # noqa: E402
from prunec.deploy.precision.quantize import quantize  # noqa: E402
from prunec.evaluate import accuracy  # noqa: E402
from prunec.frontend.capture import capture  # noqa: E402
from prunec.machine import environment  # noqa: E402
from prunec.pipeline.context import Context  # noqa: E402
from prunec.pipeline.pipeline import Pipeline  # noqa: E402

NETWORKS = ("cifar_resnet56", "resnet50_c4", "mobilenet_v1_075")
TARGETS = {"cifar_resnet56": "macs:0.5"}  # of the several that bench/accuracy.py has
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8+fp16", "fp8")
OPSET = 20
RANGE_IMAGES, CALIBRATION_IMAGES = 64, 256
BARS = {"fp16": 0.1, "int8": 1.0, "int8+fp16": 1.0}  # points; those of 8 bits for the ResNets
EXACT = 1e-9


def row_of(network: str) -> Row:
    """Return the row of bench/accuracy.py with the network's images and target."""
    return next(row for row in ROWS if row.network == network and TARGETS.get(network, row.target) == row.target)


def exported(
    network: nn.Module, row: Row, train: Images, args: argparse.Namespace
) -> tuple[nn.Module, onnx.ModelProto]:
    """Return the reference network in torch, and the model in FP32."""
    if not args.dense:
        result = prunec.compress(network, train, target=row.target, seed=args.seed, batch=args.batch, align="none")
        return result.module, result.onnx(OPSET)
    program = capture(network, tuple(one[:2] for one in train.inputs))
    program = Pipeline.parse("fold-constants,fold-bn").run(program, Context())
    return program.module, export_onnx(program.module, program.example_inputs, opset=OPSET)


def lowered(model: onnx.ModelProto, precision: str, train: Images) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the model in `precision`, and its number of lowered layers."""
    if precision in ("fp16", "bf16"):
        done = cast(model, precision, train.take(RANGE_IMAGES, 0))
        return done.model, {"layers": done.layers, "left": dict(done.kept)}
    kind, _, rest = precision.partition("+")
    eight = quantize(model, kind, train.take(CALIBRATION_IMAGES, 0))
    found = {"layers": len(eight.layers), "left": dict(eight.left)}
    return (lowered(eight.model, rest, train)[0] if rest else eight.model), found


def measure(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row per precision of one network."""
    row = row_of(name)
    preprocess = Preprocess.parse(row.preprocess)
    train = load_images(args.data / row.train, preprocess, row.images, args.seed).unlabelled()
    test = load_images(args.data / row.test, preprocess, args.test_images, args.seed, row.classes)
    module, single = exported(load_network(args.data, name), row, train, args)
    few = train.take(64, 1).inputs
    rows: list[dict[str, Any]] = []
    for precision in args.precisions.split(","):
        started = time.perf_counter()
        facts: dict[str, Any] = {"layers": 0, "left": {}}
        model = single
        if precision != "fp32":
            model, facts = lowered(single, precision, train)
        seconds = time.perf_counter() - started
        session = reference.session(model)
        near = parity.compare(module if precision == "fp32" else reference.session(single), session, few)
        worst = near.agreements[-1]
        found = {
            "network": name, "target": "dense" if args.dense else row.target, "precision": precision, **facts,
            "bytes": model.ByteSize(), "top1": accuracy(session, test), "test_images": len(test),
            "max_abs": worst.max_abs, "largest": worst.largest, "cosine": worst.cosine,
            "same_class": worst.top1_agreement, "seconds": seconds, "sha256": provenance.digest(model),
        }  # fmt: skip
        rows.append(found)
        found["drop"] = rows[0]["top1"] - found["top1"]
        found["bar"] = bar_of(name, precision)
        found["met"] = found["bar"] is None or found["drop"] <= found["bar"] + EXACT
        told = ("network", "target", "precision", "layers", "top1", "drop", "cosine", "met")
        print(json.dumps({key: found[key] for key in told}), flush=True)
    return rows


def bar_of(network: str, precision: str) -> float | None:
    """Return the allowed loss in points, or None without a bar."""
    return None if precision.startswith("int8") and "resnet" not in network else BARS.get(precision)


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="precision, top-1 % on the real images")
    names = "network,MACs left,precision,layers,left alone,MB,top-1,drop,bar,max abs,cosine,same class"
    for name in names.split(","):
        table.add_column(name, justify="left" if name in ("network", "precision") else "right")
    for row in rows:
        bar = "-" if row["bar"] is None else f"{row['bar']:.1f} {'met' if row['met'] else 'MISSED'}"
        single = row["precision"] == "fp32"
        layers, left = ("-", "-") if single else (str(row["layers"]), str(len(row["left"])))
        table.add_row(
            row["network"], row["target"].removeprefix("macs:"), row["precision"], layers, left,
            f"{row['bytes'] / 1e6:.2f}", f"{row['top1']:.2f}",
            f"{row['drop']:+.2f}", bar, f"{row['max_abs']:.1e}", f"{row['cosine']:.6f}", f"{row['same_class']:.1%}",
        )  # fmt: skip
    Console(width=140).print(table)


def main() -> int:
    """Measure, print, write; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", choices=NETWORKS, help="one network of the list")
    parser.add_argument("--dense", action="store_true", help="do not compress first")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="fp32 first: it is what others are held to")
    parser.add_argument("--test-images", type=int, help="a seeded part of the test images (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the images that are drawn, and of every choice")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path, help="(default: bench/results/precision.json, or precision_dense)")
    args = parser.parse_args()
    if args.precisions.split(",")[0] != "fp32" or not set(args.precisions.split(",")) <= set(PRECISIONS):
        parser.error(f"--precisions starts with fp32, then any of {', '.join(PRECISIONS[1:])}")

    machine = {**environment(), "threads": torch.get_num_threads()}
    command = f"python bench/precision.py {' '.join(sys.argv[1:])}".replace(str(args.data), "DATA").strip()
    out = args.out or ROOT / "bench" / "results" / f"precision{'_dense' if args.dense else ''}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in (name for name in NETWORKS if args.only in (None, name)):
        rows += measure(name, args)
        document = {"command": command, "machine": machine, "torch": torch.__version__, "rows": rows}
        out.write_text(json.dumps(document, indent=2) + "\n")  # after each network: the whole takes an hour
    show(rows)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
