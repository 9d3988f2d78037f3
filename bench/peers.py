"""Compare prunec with Torch-Pruning and published methods, at one budget of MACs.

    pip install --no-deps --target DIR torch-pruning==1.6.1
    PYTHONPATH=DIR python bench/peers.py --data ../shared/data --network cifar_resnet56

Network and images are the same for all. Torch-Pruning prunes every group by the same share and by one global ranking,
both shown; the share is bisected until the budget of MACs is met. Of CIFAR ResNets it may cut only the inner
convolutions: it cannot follow zero-padded shortcuts, and leaves a network that does not run. BN re-estimation runs the
calibration images through the pruned network in train mode, averaged over all batches. Labels for a loss are sampled
from the network itself. Without Torch-Pruning its rows are left out, with the reason.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib import metadata, util
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import ROWS, counted_macs, load_network  # noqa: E402

import prunec  # noqa: E402
from prunec.data.images import Images, load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.evaluate import accuracy  # noqa: E402
from prunec.machine import environment  # noqa: E402

OURS: dict[str, dict[str, str]] = {
    "merge (data-free, uniform, L1)": {"compensator": "merge", "allocator": "uniform", "selector": "top{by=l1}"},
    "fold (k-means, variance repair, uniform)": {"compensator": "fold", "allocator": "uniform", "selector": "kmeans"},
    "gram (GRAIL, uniform, L1)": {"compensator": "gram", "allocator": "uniform", "selector": "top{by=l1}"},
    "lstsq (CaP, uniform)": {"compensator": "lstsq", "allocator": "uniform", "selector": "cap"},
    "prunec, channels only": {},
    "prunec": {"decomposer": "collaborative"},
}


INNER = {"CifarResNet": "layer*.conv1"}  # Torch-Pruning cannot follow zero-padded shortcuts


def ours(network: nn.Module, images: Images, left: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield our rows: methods as published, and the default."""
    for name, chosen in OURS.items():
        started = time.perf_counter()
        options: Any = {"decomposer": "none", "align": "none", **chosen}
        result = prunec.compress(network, images, target=f"macs:{left}", seed=seed, **options)
        yield {"method": name, "module": result.module, "seconds": time.perf_counter() - started}


def criteria() -> dict[str, Callable[[], Any]]:
    """Return Torch-Pruning's criteria, by name."""
    import torch_pruning as tp

    return {
        "L1": lambda: tp.importance.MagnitudeImportance(p=1),
        "L2": lambda: tp.importance.MagnitudeImportance(p=2),
        "FPGM": lambda: tp.importance.FPGMImportance(p=2),
        "LAMP": lambda: tp.importance.LAMPImportance(p=2),
        "Taylor": tp.importance.TaylorImportance,
    }


def pruned_to(network: nn.Module, images: Images, left: float, name: str, round_to: int) -> nn.Module:
    """Prune by one global ranking to a share of MACs, widths multiples of `round_to`."""
    return _bisected(network, images, left, criteria()[name], True, False, 0, round_to)


def theirs(network: nn.Module, images: Images, left: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield Torch-Pruning's rows: criteria, share or ranking, with and without BN re-estimation."""
    importance = criteria()
    for name, ranking in itertools.product(importance, (False, True)):
        started = time.perf_counter()
        module = _bisected(network, images, left, importance[name], ranking, name == "Taylor", seed)
        spent = time.perf_counter() - started
        label = f"Torch-Pruning {name}, {'global' if ranking else 'uniform'}"
        yield {"method": label, "module": module, "seconds": spent}
        started = time.perf_counter()
        again = reestimated(module, images)
        yield {"method": f"{label}, BN", "module": again, "seconds": spent + time.perf_counter() - started}


def _bisected(
    network: nn.Module,
    images: Images,
    left: float,
    make: Any,
    ranking: bool,
    gradients: bool,
    seed: int,
    round_to: int | None = None,
) -> nn.Module:
    """Return the widest network within the budget."""
    allowed, low, high, best = left * counted_macs(network, images), 0.0, 0.95, None
    for _ in range(9):
        share = (low + high) / 2
        module = _pruned(network, images, share, make(), ranking, gradients, seed, round_to)
        fits = counted_macs(module, images) <= allowed
        best, low, high = (module, low, share) if fits else (best, share, high)
    if best is None:
        raise RuntimeError(f"no share of channels leaves {left} of the MACs")
    return best


def _pruned(
    network: nn.Module,
    images: Images,
    share: float,
    importance: Any,
    ranking: bool,
    gradients: bool,
    seed: int,
    round_to: int | None,
) -> nn.Module:
    import torch_pruning as tp

    module, inner = copy.deepcopy(network).eval(), INNER.get(type(network).__name__)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    example = tuple(value[:2] for value in images.inputs)
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    kept = [layer for name, layer in layers.items() if not fnmatch(name, inner)] if inner else [*layers.values()][-1:]
    pruner = tp.pruner.BasePruner(
        module, example, importance, global_pruning=ranking, pruning_ratio=share, max_pruning_ratio=0.95,
        ignored_layers=kept, round_to=round_to,
    )  # fmt: skip
    if gradients:
        torch.manual_seed(seed)
        for inputs in images.take(256, seed).batches(64):
            logits = module(*inputs).flatten(1)
            sampled = torch.distributions.Categorical(logits=logits.detach()).sample()
            nn.functional.cross_entropy(logits, sampled).backward()
    pruner.step()
    return module.requires_grad_(False)


@torch.no_grad()
def reestimated(network: nn.Module, images: Images) -> nn.Module:
    """Return a copy with batch norm statistics of the calibration images."""
    module = copy.deepcopy(network)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for inputs in images.batches(64):
        module(*inputs)
    return module.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--network", default="cifar_resnet56")
    parser.add_argument("--left", default="0.5", help="shares of the MACs that remain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-images", type=int, help="a seeded part of the test images (default: all)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results")
    args = parser.parse_args()
    row = next(one for one in ROWS if one.network == args.network)
    preprocess = Preprocess.parse(row.preprocess)
    images = load_images(args.data / row.train, preprocess, row.images, args.seed).unlabelled()
    test = load_images(args.data / row.test, preprocess, args.test_images, args.seed, row.classes)
    network = load_network(args.data, row.network)
    dense, macs = accuracy(network, test), counted_macs(network, images)
    known = util.find_spec("torch_pruning") is not None
    if not known:
        print("no Torch-Pruning here: its rows are left out (see --help)", file=sys.stderr)
    command = f"python bench/peers.py {' '.join(sys.argv[1:])}".replace(str(args.data), "DATA")
    versions = {"torch": torch.__version__, "prunec": prunec.__version__}
    versions |= {"torch-pruning": metadata.version("torch-pruning")} if known else {}
    rows: list[dict[str, Any]] = []
    document = {"command": command.replace(str(args.out), "DIR"), "machine": environment(), "versions": versions,
                "network": row.network, "images": len(images), "dense": dense, "rows": rows}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    for left, side in itertools.product(map(float, args.left.split(",")), (theirs, ours) if known else (ours,)):
        for found in side(network, images, left, args.seed):
            module = found.pop("module")
            share = counted_macs(module, images) / macs
            top1 = accuracy(module, test)
            rows.append({"left": left, **found, "macs": share, "accuracy": top1, "drop": dense - top1})
            print(json.dumps(rows[-1]), flush=True)
            (args.out / f"peers_{row.network}.json").write_text(json.dumps(document, indent=1) + "\n")
    table = Table(title=f"{row.network}, dense {dense:.2f}%")
    for name in ("MACs asked", "method", "MACs", "top-1", "drop", "seconds"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for one in rows:
        table.add_row(f"{one['left']:.0%}", one["method"], f"{one['macs']:.3f}", f"{one['accuracy']:.2f}",
                      f"{one['drop']:.2f}", f"{one['seconds']:.1f}")  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
