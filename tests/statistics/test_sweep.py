"""The walks over batches: how values lie in memory changes nothing but the time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunec.frontend.capture import capture
from prunec.ir.graph import outputs
from prunec.statistics.sweep import Frontier, channels_last

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Viewed(nn.Module):
    """A view of what a convolution gives: it fails where channels lie innermost, a reshape does not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.conv(x).view(x.shape[0], -1))
        return out


class Strided(nn.Module):
    """A network that looks at how its input lies in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_strided(x, (4, 3, 8, 4), (192, 64, 8, 2))


def test_channels_lie_innermost_and_the_outputs_are_the_same() -> None:
    model = Viewed().eval()
    program = capture(model, (IMAGES[:2],))
    (laid_out,) = channels_last(program.module, (IMAGES,))
    assert laid_out.is_contiguous(memory_format=torch.channels_last)
    frontier = Frontier(program.module, [(IMAGES,)])
    frontier.run(0, 0, len(frontier.nodes))
    with torch.no_grad():
        torch.testing.assert_close(outputs(program.module, frontier.values[0])[0], model(IMAGES))


def test_what_looks_at_strides_gets_its_images_as_they_are() -> None:
    program = capture(Strided(), (IMAGES,))
    (laid_out,) = channels_last(program.module, (IMAGES,))
    assert laid_out.stride() == IMAGES.stride()
    with torch.no_grad():
        torch.testing.assert_close(program.module(laid_out), Strided()(IMAGES))
