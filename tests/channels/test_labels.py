"""Labels that meet what is fixed: tying ends and freezes no more than it must."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunec.api import prepared
from prunec.channels.labels import FIXED, Labels, varying
from prunec.channels.spaces import Channels
from prunec.frontend.capture import capture
from prunec.surgery.identity import prove


@pytest.mark.parametrize("seed", range(20))
def test_rectangular_labels_vary_along_one_dimension_whatever_is_fixed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = Labels()
    grid = labels.fresh(60).reshape(3, 4, 5)
    grid[torch.rand(grid.shape, generator=generator) < 0.3] = FIXED
    met = grid[labels.parent[grid] != FIXED]
    tied = labels.rectangular(grid)
    assert len(varying(tied)) <= 1
    frozen = labels.frozen_roots()
    for before, after in zip(grid.flatten().tolist(), tied.flatten().tolist(), strict=True):
        assert FIXED in (before, after) or after in frozen or labels.find(torch.tensor(before)) == after
    assert all(int(root) in frozen or (tied == root).any() for root in labels.find(met))


def test_a_tie_with_a_fixed_slice_freezes_only_the_places_that_meet_it() -> None:
    labels = Labels()
    grid = labels.fresh(12).reshape(3, 4).clone()
    grid[1, 2] = FIXED
    tied = labels.tie(grid, [0])
    assert varying(tied) == [1]
    assert set(labels.frozen_roots()) == {int(tied[0, 2])}


class Net(nn.Module):
    """Two convolutions with something between them that fixes a slice."""

    def __init__(self, between: object) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3), nn.Linear(6, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.between(F.relu(self.a(x)))  # type: ignore[operator]
        out: Tensor = self.fc(F.relu(self.b(y)).mean((2, 3)))
        return out


def cleared_row(y: Tensor) -> Tensor:
    y[:, :, 0] = 0
    return y


def zeros_above(y: Tensor) -> Tensor:
    return torch.cat([y.new_zeros(y.shape[0], 8, 2, y.shape[3]), y], 2)


def two_channels_fixed(y: Tensor) -> Tensor:
    y[:, 2:4] = y.new_zeros(y.shape[0], 2, *y.shape[2:])
    return y


@pytest.mark.parametrize("between", [cleared_row, zeros_above, two_channels_fixed])
def test_a_fixed_slice_ends_and_holds_the_identity(between: object) -> None:
    program = prepared(capture(Net(between).eval(), (torch.randn(2, 3, 8, 8),)))
    channels = program.fact(Channels)
    assert prove(program, channels) < 1e-12
    assert "b" in {space.name for space in channels.prunable}


def test_equal_infinities_agree_and_a_nan_does_not() -> None:
    barred = prepared(capture(Barred(-float("inf")).eval(), (torch.randn(2, 3, 8, 8),)))
    assert prove(barred, barred.fact(Channels)) < 1e-12
    broken = prepared(capture(Barred(float("nan")).eval(), (torch.randn(2, 3, 8, 8),)))
    assert prove(broken, broken.fact(Channels)) == float("inf")


class Barred(nn.Module):
    """A network one of whose outputs is always the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.a, self.fc, self.value = nn.Conv2d(3, 8, 3), nn.Linear(8, 3), value

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(F.relu(self.a(x)).mean((2, 3)))
        return out.masked_fill(torch.arange(3, device=x.device) == 1, self.value)


def test_a_squeeze_without_a_dimension_is_named_at_the_start() -> None:
    class Squeezed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3), keepdim=True).squeeze()

    (note,) = capture(Squeezed(), (torch.randn(2, 3, 8, 8),)).notes
    assert "squeeze" in note
    assert "flatten(1)" in note
