"""`prunec inspect --how-far` says the least of a target out of reach, and the reasons."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import prunec

NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.a, self.b = nn.Conv2d(24, 12, 3, padding=1), nn.Conv2d(12, 24, 3, padding=1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        x = self.conv2(self.conv1(x).relu()).relu()
        x = x + self.b(self.a(x).relu())
        return self.fc(x.mean((2, 3)))
"""
FROZEN = ("--freeze", "conv1", "--freeze", "conv2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "nets.py").write_text(NETS)
    np.savez(folder / "train.npz", inputs=np.random.default_rng(0).standard_normal((96, 3, 8, 8)).astype(np.float32))
    return folder


def far(place: Path, *more: str) -> dict[str, Any]:
    """The facts that `--how-far` prints as JSON."""
    code, said = prunec("inspect", f"{place}/nets.py:Net", "--input-shape", "3x8x8", "--how-far", "--json", *more)
    assert code == 0, said
    found: dict[str, Any] = json.loads(said)["how_far"]
    return found


@pytest.mark.parametrize(
    "limits",
    [
        (),
        ("--keep-branches",),
        FROZEN,
        ("--limit", "conv*=0.5", "--limit", "a=0.25", "--round-to", "4"),
        ("--keep-branches", *FROZEN, "--round-to", "8"),
    ],
    ids=["free", "widths alone", "frozen", "limits", "all"],
)
def test_the_least_is_that_of_a_target_out_of_reach(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = far(place, *limits)
    how = ("--data", place / "train.npz", "-o", "out", "--decomposer", "none", "--align", "none", *limits)
    for target, name in (("macs:0.000001", "macs"), ("params:0.000001", "parameters")):
        code, said = prunec("compress", f"{place}/nets.py:Net", "--target", target, *how, columns=1000)
        assert code == 5, said
        (share,) = re.findall(r"everywhere ([0-9.]+) of the", said)
        assert share == f"{found[name]['share']:.4f}"


def test_the_numbers_of_a_network_counted_by_hand(place: Path) -> None:
    found = far(place, "--keep-branches")
    assert found["macs"]["dense"] == 64 * 9 * (3 * 16 + 16 * 24 + 2 * 24 * 12) + 24 * 5
    assert found["macs"]["least"] == 64 * 9 * (3 + 1 + 1 + 1) + 5
    assert found["parameters"]["least"] == 9 * (3 + 1 + 1 + 1) + 4 + 5 + 5  # and the biases
    assert (found["blocks"], found["held"], found["unreached"]) == ([], [], 0.0)
    assert far(place)["macs"]["least"] == 64 * 9 * (3 + 1) + 5
    assert far(place)["blocks"] == ["a"]


def test_the_reasons_are_named_with_most_macs_first(place: Path) -> None:
    dense = 64 * 9 * (3 * 16 + 16 * 24 + 2 * 24 * 12) + 24 * 5
    found = far(place, *FROZEN)
    assert [one["name"] for one in found["frozen"]] == ["conv2", "conv1", "fc"]
    assert found["frozen"][0]["frozen"] == "you froze it (--freeze conv2)"
    assert found["unreached"] == pytest.approx((64 * 9 * (3 * 16 + 16 * 24) + 24 * 5) / dense)
    assert far(place, "--align", "8")["held"][0] == {"name": "conv1", "of": 16, "keeps": 8}
    code, said = prunec(
        "inspect", f"{place}/nets.py:Net", "--input-shape", "3x8x8", "--how-far", "--limit", "a=0.25", *FROZEN
    )
    assert code == 0, said
    said = " ".join(said.split())

    assert f"{found['unreached']:.1%} of the MACs are in layers that nothing reaches." in said
    assert "a keeps 9 of 12." in said
    assert "Frozen, with most MACs first: conv2 (" in said
    assert "you froze it (--freeze conv2); conv1 (" in said
