"""Relative errors of outputs are the same however the images are cut into batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunec.api import prepared
from prunec.data.images import as_images
from prunec.errors import NumericsError
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.statistics.facts import Curves, Statistics
from prunec.statistics.relative import CONSTANT, Spread, relative_error

IMAGES = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
WANTED = torch.randn(10, 4, 5, generator=torch.Generator().manual_seed(1)) + 3
FOUND = WANTED + 0.1 * torch.randn(10, 4, 5, generator=torch.Generator().manual_seed(2))
TRUE = float((FOUND - WANTED).double().square().sum() / (WANTED - WANTED.mean(0)).double().square().sum())
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch first": lambda x: x,
    "batch second": lambda x: x.transpose(0, 1),
    "windows": lambda x: x.flatten(0, 1),
    "no batch of its own where it is one": lambda x: x[0] if len(x) == 1 else x,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_the_variance_is_over_all_images(layout: str, size: int) -> None:
    found, wanted = ([[LAYOUTS[layout](part)] for part in whole.split(size)] for whole in (FOUND, WANTED))
    sizes = [len(part) for part in WANTED.split(size)]
    assert relative_error(found, wanted, sizes) == pytest.approx(TRUE, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e8, 1e20])
def test_at_any_scale(scale: float) -> None:
    assert relative_error([[FOUND * scale]], [[WANTED * scale]], [10]) == pytest.approx(TRUE, rel=1e-5)


def test_outputs_that_do_not_vary_have_an_error_relative_to_their_squares() -> None:
    alike = WANTED[:1].expand(10, -1, -1)
    for wanted in (alike, alike[:1]):
        assert relative_error([[wanted * 1.1]], [[wanted]], [len(wanted)]) == pytest.approx(0.01, rel=1e-4)
    assert relative_error([[torch.ones(2, 1)]], [[torch.zeros(2, 1)]], [2]) == 2.0
    assert CONSTANT < 1e-10  # a deviation of 1e-5 of the mean still counts


def test_infinities_have_no_error_and_nan_is_refused() -> None:
    masked = WANTED.index_fill(2, torch.tensor([1]), -torch.inf)
    few = FOUND.index_fill(2, torch.tensor([1]), -torch.inf)
    apart = [0, 2, 3, 4]
    wanted = relative_error([[FOUND[:, :, apart]]], [[WANTED[:, :, apart]]], [10])
    assert relative_error([[few]], [[masked]], [10]) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(NumericsError, match="the network gives NaN for calibration images"):
        Spread().add([WANTED / 0 * 0], 10)
    with pytest.raises(NumericsError, match="a smaller network gives NaN or infinity"):
        relative_error([[few]], [[WANTED]], [10])


class Net(nn.Module):
    """Three convolutions and a block; `batch` images at a time where it is given."""

    def __init__(self, batch: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
        self.fc, self.batch = nn.Linear(8, 5), batch

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = F.relu(self.c(x + self.b(x))).mean((2, 3))
        out: Tensor = self.fc(x if self.batch is None else x.view(self.batch, 8))
        return out


def learned(batch: int | None, size: int) -> Program:
    program = capture(Net(batch).eval(), (IMAGES[: batch or 2],))
    assert program.only_batch == batch
    context = Context(calibration=as_images(IMAGES).in_steps(batch or 1), batch=size)
    return Pipeline.parse("calibrate{rows=64},select,sensitivity{images=12},branches{images=12,rows=64}").run(
        prepared(program), context
    )


def test_any_batch_and_any_fixed_batch_give_the_same_statistics_and_curves() -> None:
    """Rows are sampled: 6 of the 36 positions of an image, the same whatever comes with it."""
    wanted = learned(None, 12)
    for found in (learned(None, 5), learned(1, 1), learned(4, 4)):
        for name, moments in wanted.fact(Statistics).moments.items():
            again = found.fact(Statistics).moments[name]
            assert again.count == moments.count
            torch.testing.assert_close(again.zz, moments.zz, rtol=1e-4, atol=1e-5)
        curves = found.fact(Curves).by_space
        for name, curve in wanted.fact(Curves).by_space.items():
            assert torch.equal(curves[name].order, curve.order)
            dealt = found.only_batch == 4 and name.endswith(":branch")  # to folds in whole batches, so to others
            torch.testing.assert_close(curves[name].error, curve.error, rtol=0.1 if dealt else 1e-3, atol=1e-6)
