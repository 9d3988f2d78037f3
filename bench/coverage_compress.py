"""What a user runs, on every architecture: `prunec.compress(model, images, target="macs:0.6")` and `save`.

    python bench/coverage.py --compress             # all of them, hours on two cores
    python bench/coverage.py --compress --quick     # a few small ones, two minutes

Defaults only, noise images, random weights: what comes out is worth nothing, and must come out all the same. A network
passes where the written one holds the budget and ONNX Runtime agrees with it; one of which less than 40% of the MACs
can go is to be refused with a BudgetError.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import architectures
import torch

import prunec
from prunec.errors import BudgetError, CaptureError

TARGET, SHARE = "macs:0.6", 0.6
IMAGES = 16


class Clock(Protocol):
    """The row of a network, told of each stage."""

    row: dict[str, Any]

    def __call__(self, stage: str) -> None:
        """End a stage."""


def compressed(one: architectures.Architecture, clock: Clock, onnx: bool) -> None:
    """Compress one network with the defaults and write it; fills the clock's row as far as it gets."""
    row = clock.row
    model, (example,) = architectures.build(one)
    images = torch.randn(IMAGES, *example.shape[1:], generator=torch.Generator().manual_seed(1))
    clock("build")
    try:
        result = prunec.compress(model, images, target=TARGET)
    except CaptureError as error:
        row["result"] = f"not captured: {error}"
        return
    except BudgetError as error:
        row["result"] = f"infeasible: {error}"
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


def _verdict(row: dict[str, Any]) -> str:
    over = row["share"] > SHARE
    return f"fail at budget: {row['share']:.4f} of the MACs" if over else "pass"
