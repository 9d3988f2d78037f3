"""Gradient scores are independent of the batching of the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from micro import conv, pooled
from torch import Tensor, nn

from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.selection.gradients import contributions, surprise
from prunec.selection.indicators import Annealing, indicators

IMAGES = as_images(torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


class Net(nn.Module):
    """A network with a batch fixed to `fixed` images, or any if None."""

    def __init__(self, fixed: int | None, scores: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc, self.fixed, self.scores = conv(3, 8), conv(8, 12), nn.Linear(12, 5), fixed, scores

    def forward(self, x: Tensor) -> Any:
        y = torch.relu(self.b(torch.relu(self.a(x))))
        if self.fixed is not None:
            y = y.reshape(self.fixed, 12, 8, 8)
        return self.fc(pooled(y)) if self.scores else (y, self.fc(pooled(y)))


def program(fixed: int | None, scores: bool) -> Program:
    found = prepared(capture(Net(fixed, scores).eval(), (torch.randn(fixed or 2, 3, 8, 8),)))
    assert found.only_batch == fixed
    return found


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("fixed", [1, 4])
def test_indicators_and_gradients_of_a_fixed_batch_are_those_of_a_free_one(fixed: int, scores: bool) -> None:
    free, held = program(None, scores), program(fixed, scores)
    one, other = (
        indicators(each, Context(calibration=IMAGES.in_steps(each.only_batch or 1)), 0.5, Annealing(steps=6, batch=16))
        for each in (free, held)
    )
    assert one.keys() == other.keys() == ({"a", "b"} if scores else {"a"})
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=2e-3, rtol=0)
    assert free.fact(Channels).count == held.fact(Channels).count
    found, wanted = (contributions(each, Context(calibration=IMAGES)) for each in (held, free))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(12, 5), (12, 3, 40), (12, 1)])
def test_answers_are_drawn_sample_by_sample(shape: tuple[int, ...]) -> None:
    output = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    generators = [torch.Generator().manual_seed(2) for _ in range(3)]
    whole = surprise([output, output], 12, generators[0])
    for size, generator in zip((1, 4), generators[1:], strict=True):
        parts = [surprise([part, part], size, generator) for part in output.split(size)]
        torch.testing.assert_close(torch.cat(parts), whole)
