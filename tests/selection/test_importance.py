"""Positions that matter to the answers are drawn more often than the rest."""

from __future__ import annotations

import torch
from micro import three
from torch import Tensor, nn

from prunec.channels.spaces import Channels
from prunec.data.images import as_images
from prunec.frontend.capture import capture
from prunec.ir import graph
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.selection.importance import by_position
from prunec.statistics.patches import SHARED, Draws


class Token(nn.Module):
    """Patches and a class token that mix once; only the token reaches the classes."""

    def __init__(self, rounds: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.patch = nn.Linear(6, 12)
        self.up, self.down, self.head = nn.Linear(12, 24), nn.Linear(24, 12), nn.Linear(12, 5)
        self.rounds = rounds

    def forward(self, x: Tensor) -> Tensor:
        """[N, 8, 6] to [N, 5]."""
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.patch(x)], 1)
        x = x + torch.relu(x).mean(1, keepdim=True)
        x = x + self.down(torch.relu(self.up(x)))
        found: Tensor = self.head(x[:, 0])
        return found.round() if self.rounds else found


def shares(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Without `hoist-slices`, behind which there is one position alone."""
    program = Pipeline.parse("explicit-bias,analyse").run(capture(model, (images[:2],)), Context())
    found = by_position(program, Context(calibration=as_images(images)))
    layers = {one.node: graph.layer_of(one.weight) for one in program.fact(Channels).contractions}
    return {layers[name]: share for name, share in found.items()}


def test_after_the_last_mix_only_the_class_token_matters() -> None:
    found = shares(Token(), torch.randn(40, 8, 6, generator=torch.Generator().manual_seed(1)))
    for name in ("up", "down"):
        torch.testing.assert_close(found[name], torch.eye(9, dtype=torch.float64)[0])
    assert "patch" not in found  # every patch reaches the token


def test_positions_of_a_network_that_averages_them_are_drawn_evenly() -> None:
    assert shares(three(8, 8, 8), torch.randn(40, 3, 12, 12, generator=torch.Generator().manual_seed(1))) == {}


def test_without_a_slope_all_positions_are_alike() -> None:
    assert shares(Token(rounds=True), torch.randn(40, 8, 6)) == {}


def test_half_of_the_draws_follow_the_shares_however_images_are_cut_into_batches() -> None:
    share = torch.zeros(100, dtype=torch.float64)
    share[7] = 1.0
    drawn = Draws(200, 10, "layer", 0, share)
    whole = drawn.of(torch.Size([200, 10, 10]), slice(0, 200))
    flat = whole.place[0] * 10 + whole.place[1]
    assert abs(float((flat == 7).double().mean()) - SHARED) < 0.05
    assert len(flat.unique()) > 90
    parts = [
        Draws(200, 10, "layer", 0, share).of(torch.Size([50, 10, 10]), slice(k, k + 50)) for k in (0, 50, 100, 150)
    ]
    assert torch.equal(torch.cat([part.place[0] for part in parts]), whole.place[0])
    even = Draws(200, 10, "layer", 0).of(torch.Size([200, 10, 10]), slice(0, 200))
    assert float((even.place[0] * 10 + even.place[1] == 7).double().mean()) < 0.05
