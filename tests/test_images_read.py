"""Which images each pass reads: what is chosen by an error is chosen on images that no statistic has seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from micro import three
from torch import Tensor

import prunec
from prunec.data import Images
from prunec.pipeline import Instrument, Pass
from prunec.program import Context, Program
from prunec.spec import name_of


class Reads(Instrument):
    """The images that each pass reads, by the number that stands in their first pixel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_pass: dict[str, set[int]] = {}
        self._now = "before"
        batches = Images.batches

        def spied(images: Images, size: int) -> Iterator[tuple[Tensor, ...]]:
            for batch in batches(images, size):
                self.by_pass.setdefault(self._now, set()).update(batch[0][:, 0, 0, 0].long().tolist())
                yield batch

        monkeypatch.setattr(Images, "batches", spied)

    def before(self, step: Pass, program: Program) -> None:
        self._now = name_of(type(step))

    def after(self, step: Pass, before: Program, after: Program) -> None:
        self._now = "after"


def numbered(count: int) -> Tensor:
    images = torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = torch.arange(count)
    return images


@pytest.mark.parametrize(
    "options", [{}, {"allocator": "evolve{population=2,generations=1}"}], ids=["default", "oracle"]
)
def test_choices_are_made_on_images_that_no_statistic_has_seen(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(monkeypatch)
    prunec.compress(three(12, 16, 16), numbered(64), target="macs:0.6", instruments=(reads,), **options)
    fitted, chosen = reads.by_pass["calibrate"], reads.by_pass["sensitivity"] | reads.by_pass.get("allocate", set())
    assert len(fitted) > 4 * len(chosen) > 0
    assert not fitted & chosen
    assert ("allocate" in reads.by_pass) == bool(options)


@pytest.mark.parametrize(
    ("count", "step", "choosing"), [(31, 1, 31), (32, 1, 4), (100, 1, 13), (64, 16, 64), (128, 16, 16)]
)
def test_few_images_serve_for_both_and_steps_stay_whole(count: int, step: int, choosing: int) -> None:
    context = Context(calibration=Images((numbered(count),), None, "numbered", step=step))
    assert len(context.choosing) == choosing
    assert len(context.fitting) == (count if choosing == count else count - choosing)
    assert context.fitting is context.fitting
