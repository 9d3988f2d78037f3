"""Images without variance, outputs that are infinite: said at the start, and never a number that no report can hold."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import conv, pooled
from torch import Tensor, nn

import prunec
from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.data.noise import why_nothing_varies
from prunec.frontend.capture import capture
from prunec.selection import indicators
from prunec.surgery.identity import masked, prove, random_plan
from prunec.surgery.slicing import apply


class Barred(nn.Module):
    """A classifier one of whose classes may not be chosen, by `barred`."""

    def __init__(self, barred: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = conv(3, 8), conv(8, 12), nn.Linear(12, 5)
        self.register_buffer("barred", (torch.arange(5) == 3) & barred)

    def forward(self, x: Tensor) -> Any:
        y = self.fc(pooled(torch.relu(self.b(torch.relu(self.a(x))))))
        return y.masked_fill(self.barred, -math.inf)


IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SETS = {"one": IMAGES[:1], "black": torch.zeros(24, 3, 8, 8), "the same": IMAGES[:1].repeat(24, 1, 1, 1)}


@pytest.mark.parametrize("name", SETS)
def test_images_without_variance_are_named_and_files_are_written(name: str, tmp_path: Path) -> None:
    result = prunec.compress(Barred(False).eval(), SETS[name], target="macs:0.6")
    result.save(tmp_path / "out")
    [note] = json.loads((tmp_path / "out" / "report.json").read_text())["capture"]["notes"]
    assert "nothing varies over images" in note
    assert ("a single calibration image" if name == "one" else "24 calibration images are all alike") in note


def test_different_images_need_no_note() -> None:
    assert why_nothing_varies((IMAGES,)) is None
    assert why_nothing_varies((SETS["black"], IMAGES)) is None
    last = SETS["black"].clone()
    last[7, 0, 0, 0] = 1
    assert why_nothing_varies((last,)) is None


def test_outputs_of_minus_infinity_go_the_whole_way(tmp_path: Path) -> None:
    result = prunec.compress(Barred().eval(), IMAGES, target="macs:0.6")
    report = result.save(tmp_path / "out")
    assert report["parity"]["ok"]
    assert bool((result.module(IMAGES)[:, 3] == -math.inf).all())


def test_the_identity_holds_with_infinite_outputs_and_fails_without_them() -> None:
    program = prepared(capture(Barred().eval(), (IMAGES[:2],)))
    channels = program.fact(Channels)
    assert prove(program, channels) < 1e-12
    plan = random_plan(channels, 0)
    [wanted] = masked(program, apply(program.module, plan), plan, [IMAGES[:2]])
    assert bool(wanted[:, 3].isinf().all())
    assert bool(wanted[:, :3].isfinite().all())


def test_indicators_leave_out_what_is_infinite() -> None:
    found, wanted = IMAGES[:4, 0, 0, :5].clone(), IMAGES[:4, 1, 0, :5].clone()
    found[:, 3] = wanted[:, 3] = -math.inf
    rest = [0, 1, 2, 4]
    alone = indicators._divergence(found[:, rest], wanted[:, rest])
    torch.testing.assert_close(indicators._divergence(found, wanted), alone)
    scores = indicators._divergence(found[:, :, None], wanted[:, :, None])
    torch.testing.assert_close(scores, indicators._divergence(found[:, rest, None], wanted[:, rest, None]))
    constant = indicators._divergence(torch.full((4, 3, 2), 1.5), torch.ones(4, 3, 2))
    assert float(constant) == pytest.approx(0.25)
