"""Convolutions along the channels, as in ECA: exact for the channels that stay, and no larger than they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunec
import prunec.passes
from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.frontend.capture import capture
from prunec.surgery import slicing
from prunec.surgery.identity import prove, random_plan


class Gate(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.along = nn.Conv1d(1, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.along(x.mean((2, 3), keepdim=True).squeeze(-1).transpose(1, 2)).transpose(1, 2)
        return x * torch.sigmoid(seen).unsqueeze(-1)


class Block(nn.Module):
    def __init__(self, inside: int, channels: int, **options: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(inside, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.gate, self.skip = Gate(**options), nn.Conv2d(inside, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.skip(x) + self.gate(self.b(F.relu(self.a(x)))))


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    body = Block(3, 16, **options), nn.MaxPool2d(2), Block(16, 24, **options)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)).eval()


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1, "bias": False},
        {"kernel_size": 5, "padding": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 4, "padding": "same"},
    ],
)
def test_a_gate_reads_the_neighbours_that_stay_and_zeros_for_the_others(options: dict[str, Any]) -> None:
    program = prepared(capture(network(**options), (torch.randn(2, 3, 8, 8),)))
    channels = program.fact(Channels)
    assert not [one.frozen for one in channels.spaces if one.frozen and "output" not in one.frozen]
    assert max(prove(program, channels, seed) for seed in range(3)) < 1e-12


def test_no_matrix_is_made_of_a_gate() -> None:
    net = network(kernel_size=3, padding=1, bias=False)
    program = prepared(capture(net, (torch.randn(2, 3, 8, 8),)))
    added = sum(one.numel() for one in program.module.parameters()) - sum(one.numel() for one in net.parameters())
    assert added == 2  # a bias for each gate
    narrow = slicing.apply(program.module, random_plan(program.fact(Channels), 0))
    assert dict(narrow.named_parameters())["0.gate.along.weight"].shape == (1, 1, 3)
    assert {str(one.dtype) for name, one in narrow.named_buffers() if name.endswith("_places")} == {"torch.int32"}


@pytest.mark.parametrize("target", ["params:0.6", "size:0.6"])
def test_what_is_written_holds_the_budget(target: str, tmp_path: Path) -> None:
    net = network(kernel_size=3, padding=1, bias=False)
    result = prunec.compress(net, torch.randn(48, 3, 8, 8), target=target)
    dense, stored = (
        sum(one.numel() * one.element_size() for one in (*module.parameters(), *module.buffers()))
        for module in (net, result.module)
    )
    assert 0.5 < stored / dense <= 0.6
    if target == "params:0.6":
        assert result.save(tmp_path / "out")["parity"]["ok"]
