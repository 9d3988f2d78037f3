"""Build TensorRT-RTX engines of compressed networks for every GPU, without a GPU.

    python bench/engines.py --data ../shared/data                # a quarter of an hour
    python bench/engines.py --data ../shared/data --only cifar_resnet56

Each network is compressed and lowered as bench/precision.py does, and an engine is built twice per GPU: its size, or
why there is none, and whether both builds have the same bytes. Loading and speed need the GPU (bench/gpu.py).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from typing import Any

import onnx
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import load_network  # noqa: E402
from precision import NETWORKS, PRECISIONS, exported, lowered, row_of  # noqa: E402

from prunec.data.images import load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.deploy.tensorrt import config  # noqa: E402
from prunec.deploy.tensorrt.build import build  # noqa: E402
from prunec.deploy.tensorrt.package import package  # noqa: E402
from prunec.deploy.tensorrt.settings import Profile, Settings, targets_of  # noqa: E402
from prunec.errors import BackendError  # noqa: E402
from prunec.machine import environment  # noqa: E402

BACKEND, PROFILE = "tensorrt-rtx", "1/8/32"


def measure(name: str, args: argparse.Namespace, targets: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a row per precision and GPU."""
    row = row_of(name)
    train = load_images(args.data / row.train, Preprocess.parse(row.preprocess), row.images, args.seed).unlabelled()
    _, single = exported(load_network(args.data, name), row, train, args)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in args.precisions.split(","):
            model = single if precision == "fp32" else lowered(single, precision, train)[0]
            path = pathlib.Path(folder) / f"{precision.replace('+', '_')}.onnx"
            onnx.save(model, path)
            for target in targets:
                found = {"network": name, "precision": precision, "sm": target, **twice(path, target)}
                rows.append(found)
                print(json.dumps(found), flush=True)
    return rows


def twice(path: pathlib.Path, target: str) -> dict[str, Any]:
    """Return an engine's size and reproducibility, or why there is none."""
    settings = Settings(BACKEND, targets_of(target), Profile.parse(PROFILE))
    started = time.perf_counter()
    try:
        first = build(path, settings)
    except BackendError as error:
        return {"bytes": None, "reason": str(error)}
    seconds = time.perf_counter() - started
    return {"bytes": len(first.plan), "same_again": build(path, settings).plan == first.plan, "seconds": seconds}


def show(rows: list[dict[str, Any]], targets: tuple[str, ...]) -> None:
    """Print the matrix: MB, a star where a second build differs, or no."""
    table = Table(title="engines in MB, each built twice (*: not the same bytes)")
    for name in ("network", "precision", *(f"SM{target}" for target in targets)):
        table.add_column(name, justify="left" if name in ("network", "precision") else "right")
    for key in dict.fromkeys((row["network"], row["precision"]) for row in rows):
        mine = {row["sm"]: row for row in rows if (row["network"], row["precision"]) == key}
        cells = (mine[target] for target in targets)
        table.add_row(
            *key,
            *("no" if one["bytes"] is None else f"{one['bytes'] / 1e6:.2f}{'' if one['same_again'] else '*'}"
              for one in cells),
        )  # fmt: skip
    console = Console(width=140)
    console.print(table)
    for reason in dict.fromkeys(
        f"{row['precision']}, SM{row['sm']}: {row['reason']}" for row in rows if "reason" in row
    ):
        console.print(reason, style="dim")


def main() -> int:
    """Build, print, write; return 1 if two builds differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", choices=NETWORKS, help="one network of the list")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--seed", type=int, default=0, help="of the images that are drawn, and of every choice")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "engines.json")
    args = parser.parse_args()
    args.dense = False
    trt = package(BACKEND).load()
    targets = config.targets(trt)
    rows: list[dict[str, Any]] = []
    for name in (name for name in NETWORKS if args.only in (None, name)):
        rows += measure(name, args, targets)
        command = f"python bench/engines.py {' '.join(sys.argv[1:])}".replace(str(args.data), "DATA").strip()
        document = {"command": command, "package": f"{BACKEND} {trt.__version__}", "machine": environment()}
        args.out.write_text(json.dumps({**document, "rows": rows}, indent=2) + "\n")
    show(rows, targets)
    return 0 if all(row.get("same_again", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
