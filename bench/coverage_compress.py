"""Run `prunec.compress(model, images, target="macs:0.6")` and `save` on every architecture.

    python bench/coverage.py --compress             # all of them, hours on two cores
    python bench/coverage.py --compress --narrow    # all of them, an eighth as wide, half an hour
    python bench/coverage.py --compress --quick     # a few small ones, two minutes

A narrow network has an eighth of each space: the same graph for a hundredth of the work, given as a `torch.fx` module.
Defaults only, noise images, random weights: accuracy is meaningless, completion is the test. A network passes if the
written one holds the budget and ONNX Runtime agrees with it; one that can lose less than 40% of the MACs passes if
refused with a BudgetError.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import architectures
import torch

import prunec
from prunec.api import prepared
from prunec.cost import macs
from prunec.errors import BudgetError, CaptureError
from prunec.frontend.capture import capture
from prunec.surgery import slicing
from prunec.surgery.identity import random_plan
from prunec.surgery.trial import analysed

TARGET, SHARE = "macs:0.6", 0.6
IMAGES = 16
NARROW = 1 / 8


class Clock(Protocol):
    """Row of a network, updated at each stage."""

    row: dict[str, Any]

    def __call__(self, stage: str) -> None:
        """End a stage."""


def compressed(one: architectures.Architecture, clock: Clock, onnx: bool) -> None:
    """Compress one network with defaults and write it; fill the clock's row."""
    _compressed(*architectures.build(one), clock, onnx)


def narrowed(one: architectures.Architecture, clock: Clock, onnx: bool) -> None:
    """Compress one network with an eighth of its channels."""
    model, inputs = architectures.build(one)
    try:
        program = prepared(capture(model, inputs))
    except CaptureError as error:
        clock.row["result"] = f"not captured: {error}"
        return
    clock("capture")
    narrow = slicing.apply(program.module, random_plan(analysed(program), 1, NARROW))
    clock("slice")
    inputs = inputs if program.dynamic_batch else program.example_inputs
    _compressed(narrow, inputs, clock, onnx)


def _compressed(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], clock: Clock, onnx: bool) -> None:
    row, (example,) = clock.row, inputs
    images = torch.randn(IMAGES, *example.shape[1:], generator=torch.Generator().manual_seed(1))
    clock("build")
    try:
        result = prunec.compress(model, images, target=TARGET)
    except CaptureError as error:
        row["result"] = f"not captured: {error}"
        return
    except BudgetError as error:
        least = _least(model, inputs)
        row["result"] = (
            f"{'pass: refused' if least > SHARE else 'fail at budget: refused'}, {least:.2f} must stay: {error}"
        )
        return
    clock("compress")
    row["passes"] = result.report["seconds"]
    row["share"] = result.report["macs"]["share"]
    if not onnx:
        row["result"] = _verdict(row)
        return
    with tempfile.TemporaryDirectory() as folder:
        report = result.save(Path(folder) / "out")
    clock("save")
    row["parity"] = max(each["max_relative"] for each in report["parity"]["agreements"])
    row["result"] = _verdict(row)


def _least(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the share of MACs with one channel of every space."""
    channels = analysed(prepared(capture(model, inputs)))
    keep = random_plan(channels, 1, 0.0).keep
    return macs.Macs.of(channels).total(macs.counts_of(channels, keep)) / macs.total_macs(channels)


def _verdict(row: dict[str, Any]) -> str:
    over = row["share"] > SHARE
    return f"fail at budget: {row['share']:.4f} of the MACs" if over else "pass"
