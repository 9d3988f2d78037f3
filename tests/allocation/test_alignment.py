"""Widths that engines like: which steps a space gets, that targets are met all the same, and what is reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from micro import networks, three

import prunec
from prunec.allocation.alignment import Alignment
from prunec.channels.spaces import Channels
from prunec.cost.hardware import TARGETS
from prunec.errors import BudgetError, SpecError
from prunec.request.constraints import Constraints

NETS = networks()
EXAMPLE = (torch.randn(2, 3, 12, 12),)
IMAGES = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))
AVX512 = Alignment.of(TARGETS["ort-avx512"])


@pytest.mark.parametrize(
    ("name", "channels", "step"),
    [
        ("ort-avx512", 256, 16), ("ort-avx512", 32, 16), ("ort-avx2", 32, 8), ("ort-avx2", 16, 8), ("ort-avx2", 3, 8),
        ("trt-fp16", 64, 8), ("trt-int8", 512, 32), ("trt-int8", 64, 16), ("arm", 64, 8), ("arm", 16, 4),
    ],
)  # fmt: skip
def test_steps_by_width(name: str, channels: int, step: int) -> None:
    assert Alignment.of(TARGETS[name]).step(channels) == step


def test_a_number_is_meant_as_it_is() -> None:
    eight = Alignment.parse("8")
    assert eight is not None
    assert [eight.step(channels) for channels in (256, 16, 15)] == [8, 8, 8]
    assert Alignment.parse("none") is Alignment.parse("1") is None
    found = Alignment.parse("auto")
    assert found is not None
    assert found.name in TARGETS  # by the instructions of this machine
    for wrong in ("0", "-8", "ort-avx1024", ""):
        with pytest.raises(SpecError, match="give auto, none, a number such as 8, or one of"):
            Alignment.parse(wrong)


def spaces(name: str, alignment: Alignment, constraints: Constraints = Constraints()) -> dict[str, Any]:  # noqa: B008
    channels: Channels = alignment.apply(prunec.inspect(NETS[name], EXAMPLE, constraints))
    return {space.name: space for space in channels.prunable}


def test_heads_are_whole_and_what_the_user_demands_stays() -> None:
    assert spaces("fused_attention", Alignment("8", 8, 8))["qkv"].step == 2  # heads of 4 channels each
    assert spaces("dense_block", Alignment("4", 4, 4), Constraints(round_to=6))["a"].step == 12
    frozen = AVX512.apply(prunec.inspect(NETS["dense_block"], EXAMPLE, Constraints(freeze=("a", "b")))).prunable
    assert {space.name for space in frozen}.isdisjoint({"a", "b"})


def test_so_many_channels_stay_as_fill_the_fast_kernel_but_for_ranks() -> None:
    avx2 = Alignment.of(TARGETS["ort-avx2"])
    found = spaces("plain", avx2)
    assert {space.fewest for space in found.values()} == {min(16, space.size) for space in found.values()}
    assert spaces("fused_attention", avx2)["qkv"].fewest == 2  # heads of 4 channels in q, k and v
    ranks = replace(next(iter(found.values())), sites=(), size=24, least=1)
    assert avx2.apply(replace(prunec.inspect(NETS["plain"], EXAMPLE), spaces=(ranks,))).spaces[0].fewest == 8
    assert [(one.most, one.fewest) for one in avx2.finer()] == [(8, 16), (8, 1), (4, 1), (2, 1)]


def test_fewer_channels_stay_before_a_target_is_out_of_reach() -> None:
    result = prunec.compress(three(32, 32, 16), IMAGES, target="macs:0.1", decomposer="none", align="ort-avx2")
    assert result.report["macs"]["share"] <= 0.1
    told = result.report["notes"]["allocate"]["alignment"]
    assert (told["steps"], told["gave_way"]) == ([8], "to fewer than 16 channels a layer")


def test_channels_and_ranks_are_aligned_and_it_is_said() -> None:
    result = prunec.compress(three(32, 32, 16), IMAGES, target="macs:0.5", align="ort-avx512")
    kept = {space.name: (len(result.plan.keep[space.name]), space) for space in result.plan.channels.prunable}
    assert all(count == space.size or count % AVX512.step(space.size) == 0 for count, space in kept.values())
    assert any(not space.sites for _, space in kept.values())
    told = result.report["notes"]["allocate"]["alignment"]
    assert told["name"] == "ort-avx512"
    assert "gave_way" not in told
    assert told["error_unaligned"] <= told["error"] * (1 + 1e-9)
    assert result.report["macs"]["share"] <= 0.5


def test_alignment_gives_way_before_a_target_is_out_of_reach() -> None:
    options: Any = {"target": "macs:0.05", "decomposer": "none"}
    result = prunec.compress(three(32, 32, 16), IMAGES, align="16", **options)
    assert result.report["macs"]["share"] <= 0.05
    assert result.report["notes"]["allocate"]["alignment"]["gave_way"].startswith("from multiples of 16 to")
    with pytest.raises(BudgetError, match="relax --limit or --round-to"):
        prunec.compress(three(32, 32, 16), IMAGES, round_to=16, **options)


@pytest.mark.parametrize("allocator", [None, "knapsack"])
def test_the_default_gives_way_before_much_of_a_small_network_is_left_unused(
    allocator: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Alignment, "parse", lambda text: Alignment.of(TARGETS["ort-avx2"]))  # whatever runs the tests
    options: Any = {"target": "macs:0.7", "decomposer": "none", "allocator": allocator}
    coarse, default = (prunec.compress(three(16, 16, 16), IMAGES, align=one, **options) for one in ("ort-avx2", None))
    assert coarse.report["macs"]["share"] < 0.6  # as it was asked for
    assert 0.65 < default.report["macs"]["share"] <= 0.7
    before, after = (one.report["notes"]["allocate"]["alignment"] for one in (coarse, default))
    assert after["gave_way"] in ("from multiples of 8 to 4", "from multiples of 8 to 2")
    if allocator == "knapsack":  # which chooses by this error; the default by that of the outputs
        assert after["error"] < 0.7 * before["error"]


def test_what_is_asked_for_wins() -> None:
    for options in ({"align": "none"}, {"round_to": 2}):
        notes = prunec.compress(NETS["plain"], IMAGES, target="macs:0.5", **options).report["notes"]
        assert "alignment" not in notes["allocate"]
