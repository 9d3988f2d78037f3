r"""Compare allocators on one network's curves: error, budget used, agreement.

    python bench/allocators.py --data ../shared/data --only cifar_resnet20 --targets macs:0.3,macs:0.5
    python bench/allocators.py --only vit_tiny_patch16_224 --train imagenet1000/train --images 128 --batch 32 \
        --preprocess scale=127.5,mean=1,std=1 --targets macs:0.8,macs:0.6

`error` is the sum of the curves, the allocators' objective; `used` the share of the budget. With `--others N` each plan
is compensated, and compared with the dense network on N further training images: top-1 agreement and relative squared
error of the outputs. No test image is read.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import CIFAR, load_network  # noqa: E402

from prunec.allocation.multi_budget import spend  # noqa: E402
from prunec.allocation.problem import Allocation  # noqa: E402
from prunec.api import PREPARE  # noqa: E402
from prunec.channels.spaces import Channels  # noqa: E402
from prunec.data.images import Images, load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.frontend.capture import capture  # noqa: E402
from prunec.grammar.registry import STRATEGIES  # noqa: E402
from prunec.ir.graph import floats  # noqa: E402
from prunec.ir.program import Program  # noqa: E402
from prunec.pipeline.context import Context  # noqa: E402
from prunec.pipeline.pipeline import Pipeline  # noqa: E402
from prunec.request.target import Target  # noqa: E402
from prunec.statistics.facts import Curves  # noqa: E402
from prunec.statistics.relative import relative_error  # noqa: E402
from prunec.surgery.plan import Plan  # noqa: E402

CURVES = PREPARE + ",calibrate,select,ranks,branches,sensitivity"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", default="cifar_resnet20", help="the network")
    parser.add_argument("--train", default="cifar10/train_8192.npz")
    parser.add_argument("--preprocess", default=CIFAR)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--others", type=int, default=0, help="images for the agreement; 0: none")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", default="macs:0.3,macs:0.5,macs:0.7", help="one plan each")
    parser.add_argument("--methods", default="uniform/threshold/gcro/knapsack", help="with / between them")
    return parser.parse_args()


def measured(problem: Allocation, method: str, others: Images | None) -> list[str]:
    """Return one row of the table."""
    started = time.perf_counter()
    counts = spend(problem, STRATEGIES["allocators"].make(method))
    seconds = time.perf_counter() - started
    used = float(problem.used(counts).max())
    row = [str(problem.target), method, f"{problem.expected(counts):.4f}", f"{used:.4f}", f"{seconds:.1f}"]
    return row if others is None else row + compared(problem, counts, others)


@torch.no_grad()
def compared(problem: Allocation, counts: Any, others: Images) -> list[str]:
    """Return agreement and relative error of the compensated network on unseen images."""
    program, context = problem.program, problem.context
    assert program is not None
    assert context is not None
    planned = program.knowing(Plan(problem.channels, problem.keep(counts)))
    narrow = Pipeline.parse("compensate,slice,decompose").run(planned, context)
    found, wanted = (_outputs(one, others, context.batch) for one in (narrow, program))
    agree = (found[0].argmax(1) == wanted[0].argmax(1)).double().mean()
    return [f"{100 * float(agree):.2f}", f"{relative_error([found], [wanted], [len(others)]):.4f}"]


def _outputs(program: Program, images: Images, batch: int) -> list[torch.Tensor]:
    return [torch.cat([floats(program.module(*one))[0] for one in images.batches(batch)])]


def divided(images: Images, train: int, seed: int) -> tuple[Images, Images | None]:
    """Draw `train` calibration images, and return the others, or None."""
    mixed = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))  # folders come by class
    drawn, left = mixed[:train], mixed[train:]
    return images.at(drawn), images.at(left) if len(left) else None


def main() -> None:
    args = options()
    preprocess = Preprocess.parse(args.preprocess)
    images = load_images(args.data / args.train, preprocess, args.images + args.others, args.seed).unlabelled()
    train, others = divided(images, args.images, args.seed)
    dense = capture(load_network(args.data, args.only), tuple(one[:2] for one in train.inputs))
    context = Context(Target("macs", 0.5), calibration=train, seed=args.seed, batch=args.batch)
    program = Pipeline.parse(CURVES).run(dense, context)
    heads = ["target", "allocator", "error", "used", "seconds", *(["agree %", "relative error"] if others else [])]
    table = Table(*heads, title=f"{args.only}, {len(train)} images, seed {args.seed}")
    for target in args.targets.split(","):
        facts = program.fact(Channels), program.fact(Curves)
        problem = Allocation(*facts, Target.parse(target), program, context)
        for method in args.methods.split("/"):
            table.add_row(*measured(problem, method, others))
    Console().print(table)


if __name__ == "__main__":
    main()
