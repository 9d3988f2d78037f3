"""Count the layers whose refit is worse on unseen images than the sliced weight.

    python bench/refits.py --data ../shared/data          # ten networks, about half an hour on two cores

For each layer that `compensate` refits, two errors are computed on the images held out from every fit and choice: of
the fit to all others, and of the sliced weight, at the same rank. Both are relative to the variance of the dense
output, after the ReLU if one follows. Three networks have random weights.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import CIFAR, ROWS  # noqa: E402
from architectures import shim_torchvision  # noqa: E402
from other_images import CASES, Case, network_of  # noqa: E402

import prunec  # noqa: E402
from prunec.channels.matrix import Blocks, as_matrix, groups_after  # noqa: E402
from prunec.compensation import layer_fit  # noqa: E402
from prunec.compensation.interface import Fit, Fits  # noqa: E402
from prunec.data.images import load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.ir import graph  # noqa: E402
from prunec.machine import environment  # noqa: E402
from prunec.passes import compensate  # noqa: E402
from prunec.statistics.folds import KEPT, Folds  # noqa: E402
from prunec.statistics.parts import Parts  # noqa: E402

TRAIN = "imagenet1000/train"
RANDOM = ("mobilenet_v2", "resnet18", "shufflenet_v2_x0_5")  # of torchvision
EVEN = 1e-9  # of the variance: what differs by less is as good


@dataclass(frozen=True)
class Judged:
    """One layer's relative squared errors on held-out images, refitted and sliced."""

    network: str
    layer: str
    refitted: float
    left: float

    @property
    def worse(self) -> bool:
        """Return whether the sliced weight was better."""
        return self.refitted > self.left + EVEN


def errors(folds: Folds, fits: list[Fit]) -> list[float]:
    """Return the relative squared error of each fit on the held-out images."""
    assert folds.kept is not None
    rows = [one for one in folds.rows if one.fold == KEPT]
    if not rows:
        part = Parts.of([folds.kept])
        spread = float(folds.kept.variance_y.sum())
        return [float(part.error(weight[None], bias[None]).sum()) / spread for weight, bias in fits]

    def behind(values: list[Tensor]) -> Tensor:
        return torch.cat([one.clamp(row.low, row.high) for one, row in zip(values, rows, strict=True)])

    wanted = behind([row.y + row.shortcut for row in rows])
    spread = float((wanted - wanted.mean(0)).square().sum())
    found = []
    for weight, bias in fits:
        sums = [torch.einsum("rgd,god->rgo", row.z, weight.to(row.z)) + bias.to(row.z) + row.shortcut for row in rows]
        found.append(float((behind(sums) - wanted).square().sum()) / max(spread, 1e-30))
    return found


def judging(network: str, found: list[Judged]) -> Callable[..., Any]:
    """Return `refitted` that also records its errors."""

    def refitted(method: Any, dense: Any, pruned: Any, stop: Any, folds: Folds, plan: Any) -> Any:
        one = stop.one
        groups = groups_after(one, plan.mask)
        matrix = as_matrix(graph.numbers(pruned, one.weight), one, groups)
        start = matrix, graph.numbers(pruned, str(one.bias)).reshape(matrix.shape[:2])
        every, held_out = layer_fit.refitted(method, dense, pruned, stop, folds, plan)
        if KEPT in held_out and not Blocks.of(one).folded:
            if one.node in plan.ranks:
                split, rank = plan.ranks[one.node]
                start = layer_fit.truncated(folds.total, split, rank, Fits(start)).all
            weight = as_matrix(held_out[KEPT][one.weight].double(), one, groups)
            fit = weight, held_out[KEPT][str(one.bias)].double().reshape(weight.shape[:2])
            found.append(Judged(network, one.weight, *errors(folds, [fit, start])))
        return every, held_out

    return refitted


def cases() -> list[Case]:
    """Return each network once, with the options of its last row elsewhere."""
    rows = [Case(**{**asdict(row), "classes": row.classes}) for row in ROWS]
    named = {one.network: one for one in (*rows, *CASES)}
    return [*named.values(), *(Case(name, "macs:0.6", 200, TRAIN, "", CIFAR) for name in RANDOM)]


def made(case: Case, data: pathlib.Path) -> nn.Module:
    """Return the network: of torchvision with random weights, or a trained one."""
    if case.network not in RANDOM:
        return network_of(case, data)
    torch.manual_seed(0)
    shim = shim_torchvision()  # which has to live while torchvision is imported
    network: nn.Module = getattr(importlib.import_module("torchvision.models"), case.network)(weights=None)
    del shim
    return network.eval()


def judge(case: Case, network: nn.Module, data: pathlib.Path) -> list[Judged]:
    """Return the errors of all layers that a compression refits."""
    found: list[Judged] = []
    compensate.refitted = judging(case.network, found)  # type: ignore[attr-defined]
    try:
        images = load_images(data / case.train, Preprocess.parse(case.preprocess), case.images, 0).unlabelled()
        prunec.compress(network, images, target=case.target, **case.options)
    finally:
        compensate.refitted = layer_fit.refitted  # type: ignore[attr-defined]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", help="one network")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "refits.json")
    args = parser.parse_args()
    table = Table(title="refits against sliced weights, on held-out images")
    for name in ("network", "layers", "worse", "worst ratio", "refitted, mean", "left, mean"):
        table.add_column(name, justify="left" if name == "network" else "right")
    every: list[Judged] = []
    for case in cases():
        if args.only in (None, case.network):
            found = judge(case, made(case, args.data), args.data)
            every += found
            ratio = max(one.refitted / max(one.left, 1e-30) for one in found)
            means = [sum(getattr(one, name) for one in found) / len(found) for name in ("refitted", "left")]
            worse = sum(one.worse for one in found)
            table.add_row(case.network, str(len(found)), str(worse), f"{ratio:.4f}", *(f"{one:.4g}" for one in means))
            print(case.network, len(found), worse, [one for one in found if one.worse], flush=True)
    Console().print(table)
    facts = {"torch": torch.__version__, "machine": environment(), "layers": [asdict(one) for one in every]}
    args.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
