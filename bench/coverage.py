"""Run every architecture of bench/architectures.py through prunec, or through Torch-Pruning.

    python bench/coverage.py                        # all of them, about an hour on two cores with --jobs 2
    python bench/coverage.py --quick                # a dozen that stand for the rest, each block of a stage once
    python bench/coverage.py --compress             # `compress` and `save` (coverage_compress.py)
    python bench/coverage.py --peer --resume        # the same list with Torch-Pruning, which must be installed

Each network runs in its own process: capture, spaces, removal of half of every space without compensation, the
zero-group identity in float64, MACs against torch's counter, ONNX export, ONNX Runtime against torch. Random weights:
correctness does not depend on them. One thread per network.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import pathlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata, util
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import architectures  # noqa: E402
import coverage_table  # noqa: E402
from coverage_process import Clock, Row, Side, isolated  # noqa: E402

from prunec.api import prepared  # noqa: E402
from prunec.channels.spaces import Channels  # noqa: E402
from prunec.cost import macs as cost  # noqa: E402
from prunec.deploy.onnx.export import export_onnx  # noqa: E402
from prunec.deploy.ort import parity  # noqa: E402
from prunec.errors import CaptureError  # noqa: E402
from prunec.frontend.capture import capture  # noqa: E402
from prunec.ir.drift import in_float64  # noqa: E402
from prunec.machine import environment, versions  # noqa: E402
from prunec.surgery import slicing  # noqa: E402
from prunec.surgery.identity import prove, random_plan  # noqa: E402
from prunec.surgery.trial import analysed  # noqa: E402

LIMIT = 60  # seconds for capture and analysis; what takes longer hangs
PATIENCE = 300  # processor seconds in total
IDENTITY = 1e-9
PEER = "torch-pruning==1.6.1"


def ours(one: architectures.Architecture, clock: Clock, onnx: bool) -> None:
    """Run prunec on one network; fill the clock's row up to a failure."""
    row = clock.row
    model, inputs = architectures.build(one)
    clock("build")
    try:
        program = capture(model, inputs)
    except CaptureError as error:
        row["result"] = f"not captured: {error}"
        return
    clock("capture")
    program = prepared(program)
    clock("prepare")
    channels = analysed(program)
    clock("analyse")
    row.update(_spaces(channels), operators=len(program.module.graph.nodes), dynamic_batch=program.dynamic_batch)
    row["deviation"] = prove(program, channels)
    clock("identity")
    plan = random_plan(channels, 1)
    narrow = slicing.apply(program.module, plan)
    row["macs_kept"] = cost.Macs.of(channels).total(cost.counts_of(channels, plan.keep))
    clock("slice")
    row["macs_counted"] = _counted(narrow, program.example_inputs)
    row["moves"] = moves(narrow, program.example_inputs)
    clock("forward")
    if onnx:
        model_proto = export_onnx(narrow, program.example_inputs, dynamic_batch=program.dynamic_batch)
        clock("export")
        three = tuple(torch.cat([value, value[:1]]) for value in program.example_inputs)
        batches = (2, 3) if program.dynamic_batch else (2,)
        found = parity.compare(narrow, model_proto, three, batches).agreements
        row["onnx"] = max(each.max_relative for each in found)
        if not coverage_table.agrees(row):
            row["rounding"] = rounding(narrow, program.example_inputs)
        clock("parity")
    row["result"] = _verdict(row)


def _spaces(channels: Channels) -> Row:
    """Return the analysis in numbers, and the most frequent frozen reasons."""
    by_node, total = cost.macs_of_node(channels), cost.total_macs(channels)
    frozen: dict[str, float] = {}
    for space in channels.spaces:
        parameters = {site.parameter for site in space.sites}
        macs = sum(by_node.get(each.node, 0.0) for each in channels.contractions if each.weight in parameters)
        if space.frozen:
            frozen[space.frozen] = frozen.get(space.frozen, 0.0) + macs / max(total, 1)
    return {
        "macs": total, "prunable_share": cost.prunable_share(channels), "spaces": len(channels.spaces),
        "prunable": len(channels.prunable), "renormalised": sum(space.renormalised for space in channels.prunable),
        "frozen": dict(sorted(frozen.items(), key=lambda item: -item[1])[:3]),
    }  # fmt: skip


def _counted(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Return MACs per sample by torch's counter, with the cost of fused CPU attention.

    Another attention backend would give other strides than the captured `view`s were made for.
    """
    fused = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=fused) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops()) // (2 * len(inputs[0]))


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


@torch.no_grad()
def moves(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the change of outputs for another input, relative to the largest.

    NaN if one is not finite. A deep network halved without compensation may not depend on its input: below the
    tolerance, agreeing outputs show nothing about the early layers.
    """
    others = tuple(torch.randn(value.shape, generator=torch.Generator().manual_seed(2)) for value in inputs)
    here, there = ([leaf for leaf in tree_leaves(module(*each)) if isinstance(leaf, torch.Tensor)]
                   for each in (inputs, others))  # fmt: skip
    if not all(bool(leaf.isfinite().all()) for leaf in (*here, *there)):
        return float("nan")
    scale = max(float(leaf.abs().max()) for leaf in here) or 1.0
    return max(float((a - b).abs().max()) for a, b in zip(here, there, strict=True)) / scale


@torch.no_grad()
def rounding(module: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the deviation of torch's float32 from float64, relative to the largest output."""
    double = in_float64(module)(*(value.double() if value.is_floating_point() else value for value in inputs))
    pairs = list(zip(tree_leaves(module(*inputs)), tree_leaves(double), strict=True))
    scale = max(float(wanted.abs().max()) for _, wanted in pairs) or 1.0
    return max(float((found - wanted).abs().max()) for found, wanted in pairs) / scale


def _verdict(row: Row) -> str:
    if not row["deviation"] <= IDENTITY:
        return f"fail at identity: {row['deviation']:.1e}"
    if row["moves"] != row["moves"]:
        return "fail at forward: an output is not finite"
    if not coverage_table.agrees(row):
        return f"fail at parity: {row['onnx']:.1e}"
    spent = sum(row["seconds"][stage] for stage in ("capture", "prepare"))
    if spent > LIMIT:
        return f"hang: {spent:.0f} s"
    return "pass" if row["dynamic_batch"] else "pass with a fixed batch"


def swept(
    side: Side, chosen: list[architectures.Architecture], args: argparse.Namespace, patience: int
) -> Iterator[Row]:
    """Yield every row as it is finished."""
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(isolated, side, one, not args.no_onnx, patience) for one in chosen]
        for place, future in enumerate(as_completed(waiting), 1):
            row = future.result()
            print(f"{place}/{len(chosen)} {row['name']}: {row['result']} ({row['total']:.0f} s)", file=sys.stderr)
            yield row


def main() -> int:
    """Measure, write, judge; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a dozen networks")
    parser.add_argument("--only", metavar="PATTERN", help="the networks whose names match")
    parser.add_argument("--no-onnx", action="store_true", help="without export and ONNX Runtime")
    parser.add_argument("--compress", action="store_true", help="prunec.compress with its defaults, and save")
    parser.add_argument("--narrow", action="store_true", help="with --compress: networks an eighth as wide")
    parser.add_argument("--peer", action="store_true", help="Torch-Pruning in the place of prunec")
    parser.add_argument("--resume", action="store_true", help="skip what the results hold already")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="networks at a time")
    parser.add_argument(
        "--patience", type=int, default=PATIENCE, metavar="SECONDS", help="processor time a network has"
    )
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results")
    args = parser.parse_args()
    library = architectures.shim_torchvision()
    import timm  # noqa: F401
    import torchvision  # noqa: F401

    chosen = architectures.quick(args.compress) if args.quick else architectures.listed()
    chosen = [one for one in chosen if fnmatch.fnmatchcase(one.name, args.only or "*")]
    side: Side = ours
    if args.peer and util.find_spec("torch_pruning") is None:
        parser.error(f"pip install --no-deps --target DIR {PEER}, and run this with PYTHONPATH=DIR")
    if args.peer:
        import coverage_torch_pruning

        side = coverage_torch_pruning.theirs
    if args.compress:
        import coverage_compress

        side = coverage_compress.narrowed if args.narrow else coverage_compress.compressed
    compressing = "coverage_compress_narrow" if args.narrow else "coverage_compress"
    name = "coverage_torch_pruning" if args.peer else compressing if args.compress else "coverage"
    path = args.out / f"{name}.json"
    known = json.loads(path.read_text())["rows"] if args.resume and path.is_file() else []
    done = {row["name"] for row in known}
    rows, order = [*known], {one.name: place for place, one in enumerate(architectures.listed())}
    command = f"python bench/coverage.py {' '.join(sys.argv[1:])}".strip().replace(str(args.out), "DIR")
    used = ("torchvision", "timm", *(("torch-pruning",) if args.peer else ()))
    packages = versions() | {name: metadata.version(name) for name in used}
    document = {"command": command, "machine": environment(), "versions": packages,
                "seed": 0, "threads": 1, "jobs": args.jobs, "rows": rows}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    for row in swept(side, [one for one in chosen if one.name not in done], args, args.patience):
        rows.append(row)
        rows.sort(key=lambda each: order.get(each["name"], len(order)))
        coverage_table.write(path, json.dumps(document, indent=1) + "\n")
    coverage_table.write(path, json.dumps(document, indent=1) + "\n")
    text = coverage_table.page(args.out)
    coverage_table.write(args.out / "coverage.md", text)
    print(text.split("\n## ")[0])
    assert library is None or args.jobs
    return 0 if args.peer or coverage_table.bars_met(rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
