"""Which images each pass reads: what is chosen by an error is chosen on images that no statistic has seen."""

from __future__ import annotations

import pytest
import torch
from image_reads import Reads, rows
from micro import three
from torch import Tensor

import prunec
from prunec.data.images import Images, as_images
from prunec.pipeline.context import Context
from prunec.validation.held_out import keep_back


def numbered(count: int) -> Tensor:
    images = torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = torch.arange(count)
    return images


@pytest.mark.parametrize("allocator", ["knapsack", "portfolio", "evolve{population=2,generations=1}"])
def test_choices_are_made_on_images_that_no_statistic_has_seen(allocator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    prunec.compress(three(12, 16, 16), numbered(64), target="macs:0.6", instruments=(reads,), allocator=allocator)
    fitted, chosen = reads.by_pass["calibrate"], reads.by_pass["sensitivity"] | reads.by_pass.get("allocate", set())
    assert len(fitted) > 4 * len(chosen) > 0
    assert not fitted & chosen
    assert ("allocate" in reads.by_pass) == (allocator != "knapsack")


@pytest.mark.parametrize(
    ("count", "step", "choosing"), [(31, 1, 31), (32, 1, 4), (100, 1, 13), (64, 16, 64), (128, 16, 16)]
)
def test_few_images_serve_for_both_and_steps_stay_whole(count: int, step: int, choosing: int) -> None:
    context = Context(calibration=Images((numbered(count),), None, "numbered", step=step))
    assert len(context.choosing) == choosing
    assert len(context.fitting) == (count if choosing == count else count - choosing)
    assert context.fitting is context.fitting


@pytest.mark.parametrize("batch", [1, 16, 64])
def test_a_plan_is_tried_on_images_that_its_refit_has_not_read(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with the dense network on images behind those of the part of the statistics."""
    reads = Reads(monkeypatch)
    made = prunec.compress(three(12, 16, 16), numbered(160), target="macs:0.6", batch=batch, instruments=(reads,))
    assert made.report["notes"]["allocate"]["allocator"]
    images, kept = keep_back(as_images(numbered(160)), 0)
    context = Context(calibration=images, kept=kept, batch=batch)
    fitting = context.fitting.inputs[0]
    tried = reads.by_pass["allocate"]
    assert len(fitting) == 112
    assert not tried & rows(fitting[:74])  # two thirds are the part, whatever the batch
    assert len(tried & rows(fitting[74:])) == 38
    assert rows(context.choosing.inputs[0]) < tried
