"""One network of the latency benchmark: images, curves, compressed variants, races."""

from __future__ import annotations

import math
import pathlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import geometric_mean, stdev
from typing import Any

from torch import Tensor, nn

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from accuracy import Row, load_network  # noqa: E402

from prunec.api import PREPARE  # noqa: E402
from prunec.cost.macs import Macs, counts_of  # noqa: E402
from prunec.data.images import Images, load_images  # noqa: E402
from prunec.data.preprocess import Preprocess  # noqa: E402
from prunec.deploy.benchmark.contestant import Entry  # noqa: E402
from prunec.deploy.benchmark.point import Point  # noqa: E402
from prunec.deploy.benchmark.statistics import Z95  # noqa: E402
from prunec.deploy.benchmark.sweep import Sweep, measure  # noqa: E402
from prunec.deploy.onnx.export import export_onnx  # noqa: E402
from prunec.evaluate import accuracy  # noqa: E402
from prunec.frontend.capture import capture  # noqa: E402
from prunec.ir.program import Program  # noqa: E402
from prunec.pipeline.context import Context  # noqa: E402
from prunec.pipeline.pipeline import Pipeline  # noqa: E402
from prunec.request.constraints import Constraints  # noqa: E402
from prunec.request.engine import On  # noqa: E402
from prunec.request.target import Target  # noqa: E402
from prunec.surgery.plan import Plan  # noqa: E402

IMAGES = {"cifar_resnet56": 1024, "resnet50_c4": 256, "mobilenet_v1_075": 256}
KNOWN = PREPARE + ",calibrate,select,ranks,branches,sensitivity"
FIT = "allocate,compensate,slice,decompose"
ENGINES = tuple(On(batch, threads) for batch in (1, 8) for threads in (1, 2))
SECONDS, RACES, MOST = 2.0, 3, 12
SURE = 0.01  # the standard error at which races end


def layers_in(program: Program) -> int:
    """Count convolutions and linear layers, about the kernels of a run."""
    return sum(str(node.target).startswith(("aten.conv", "aten.linear")) for node in program.module.graph.nodes)


def raced(a: Any, b: Any, sweep: Sweep, inputs: tuple[Tensor, ...]) -> Point:
    """Compare two ONNX models at one setting."""
    (found,) = measure([Entry("A", model=a), Entry("B", model=b)], sweep, inputs=inputs)
    return found


def error_of(races: Sequence[Point]) -> float:
    """Return the relative standard error of the races' mean. The larger of their spread and their own errors."""
    differ = stdev(math.log(one.speedups[0].ratio) for one in races) / math.sqrt(len(races))
    own = math.hypot(*(one.speedups[0].error for one in races)) / len(races)
    return max(differ, own)


@dataclass(frozen=True)
class Bench:
    """A network, its images, and the programs that every part starts from."""

    row: Row
    data: pathlib.Path
    threads: tuple[int, ...] = (1, 2)
    seed: int = 0

    @property
    def engines(self) -> list[On]:
        """Engines with the chosen thread counts."""
        return [one for one in ENGINES if one.threads in self.threads]

    @cached_property
    def network(self) -> nn.Module:
        """Network with its weights."""
        return load_network(self.data, self.row.network)

    @cached_property
    def train(self) -> Images:
        """Calibration images."""
        how, count = Preprocess.parse(self.row.preprocess), IMAGES[self.row.network]
        return load_images(self.data / self.row.train, how, count, self.seed).unlabelled()

    @cached_property
    def test(self) -> Images:
        """Labelled images."""
        how = Preprocess.parse(self.row.preprocess)
        return load_images(self.data / self.row.test, how, None, self.seed, self.row.classes)

    @cached_property
    def known(self) -> Program:
        """Network with sensitivity curves, the start of all targets."""
        return self._knowing(KNOWN)

    @cached_property
    def unsplit(self) -> Program:
        """Network with curves but without factorings."""
        return self._knowing(KNOWN.replace("ranks,", ""))

    def _knowing(self, passes: str) -> Program:
        program = capture(self.network, tuple(one[:2] for one in self.train.inputs))
        return Pipeline.parse(passes).run(program, self.context("macs:0.5"))

    @cached_property
    def dense(self) -> Any:
        """Dense network as ONNX."""
        return self.exported(self.known)

    @cached_property
    def dense_accuracy(self) -> float:
        """Top-1 in percent."""
        return accuracy(self.network, self.test)

    def context(self, target: str, on: On | None = None, align: str = "none") -> Context:
        """Build the context of a run of passes."""
        return Context(Target.parse(target), Constraints(align=align), self.train, self.seed, on=on)

    def exported(self, program: Program) -> Any:
        """Export a program as ONNX."""
        return export_onnx(program.module, program.example_inputs, opset=18, dynamic_batch=True)

    def share(self, model: Any, on: On) -> dict[str, float]:
        """Return the share of the dense time, with its 95% interval. Also that of the fastest quarter of the pairs."""
        given = self.train.take(on.batch, 0).inputs
        sweep = Sweep((on.batch,), (on.threads,), SECONDS)
        races: list[Point] = []
        while len(races) < RACES or (error_of(races) > SURE and len(races) < MOST):
            races.append(raced(self.dense, model, sweep, given))
        share, reach = 1 / geometric_mean(one.speedups[0].ratio for one in races), math.exp(Z95 * error_of(races))
        return {
            "share": share,
            "share_low": share / reach,
            "share_high": share * reach,
            "undisturbed": 1 / geometric_mean(one.undisturbed[0].ratio for one in races),
            "races": len(races),
        }

    def compressed(self, target: str, on: On, align: str, fit: bool = True, split: bool = True) -> dict[str, Any]:
        """Compress, measure again, and, if fitted, return the accuracy lost."""
        context, started = self.context(target, on, align), time.perf_counter()
        narrow = Pipeline.parse(FIT if fit else FIT.replace("compensate,", "")).run(
            self.known if split else self.unsplit, context
        )
        plan = narrow.fact(Plan)
        model = Macs.of(plan.channels)
        macs = model.total(counts_of(plan.channels, plan.keep)) / model.total()
        found: dict[str, Any] = {"network": self.row.network, "target": target, "align": align, "macs": macs}
        found |= {"batch": on.batch, "threads": on.threads, "seconds": time.perf_counter() - started}
        found |= {"split": split, "branches_gone": len(plan.branches), "layers": layers_in(narrow)}
        found |= self.share(self.exported(narrow), on)
        if fit:
            found |= {"dense": self.dense_accuracy, "top1": accuracy(narrow.module, self.test)}
            found["drop"] = found["dense"] - found["top1"]
        latency = context.notes["allocate"].get("latency", {})
        return found | {key: latency[key] for key in ("table_error", "rounds") if key in latency}
