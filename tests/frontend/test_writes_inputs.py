"""Networks that write into their inputs, that multiply nothing, that compute in float64: right, or a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunec
from prunec.errors import BackendError, BudgetError, CaptureError
from prunec.frontend.capture import capture

IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Writes(nn.Module):
    """A network that changes what it is given."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.relu = how, nn.ReLU(inplace=True)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, input: Tensor) -> Any:
        if self.how == "relu":
            input = self.relu(input)
        elif self.how == "mul_":
            input.mul_(2)
        else:
            input[:, 0] = 1
        return self.body(input)


@pytest.mark.parametrize("how", ["relu", "mul_", "setitem"])
def test_a_network_that_writes_into_its_inputs_is_captured_and_they_stay(how: str) -> None:
    model, given = Writes(how).eval(), IMAGES.clone()
    program = capture(model, (given[:2],))
    torch.testing.assert_close(program.module(given)[0], model(given.clone())[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(given, IMAGES)
    assert not model._forward_pre_hooks


def test_an_exported_program_that_writes_into_its_inputs_is_refused_in_words() -> None:
    exported = torch.export.export(Writes("relu").eval(), (IMAGES[:2],), strict=False)
    with pytest.raises(CaptureError, match="writes into its inputs"):
        capture(exported, (IMAGES[:2],))


def test_a_network_that_multiplies_nothing_is_a_sentence() -> None:
    with pytest.raises(BudgetError, match="no layer that multiplies"):
        prunec.compress(nn.Sequential(nn.ReLU(), nn.Flatten()), IMAGES, target="macs:0.5")


def test_convolutions_in_float64_are_named_before_they_are_written(tmp_path: Path) -> None:
    result = prunec.compress(Writes("none").body.double().eval(), IMAGES.double(), target="macs:0.6")
    with pytest.raises(BackendError, match=r"computes in float64 .* give net\.float\(\)"):
        result.save(tmp_path / "out")
    assert not list(tmp_path.iterdir())
