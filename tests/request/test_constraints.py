"""The user's say: what is frozen, what alone may go, and by how much."""

from __future__ import annotations

import pytest
import torch
from micro import networks

import prunec
from prunec.errors import SpecError
from prunec.request.constraints import Constraints
from prunec.request.values import limits_of, patterns_of

NETS = networks()
EXAMPLE = (torch.randn(2, 3, 12, 12),)
IMAGES = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def reasons(name: str, constraints: Constraints) -> dict[str, str | None]:
    return {space.name: space.frozen for space in prunec.inspect(NETS[name], EXAMPLE, constraints).spaces}


def test_freeze_keeps_what_a_layer_produces() -> None:
    found = reasons("dense_block", Constraints(freeze=("b",)))
    assert found["b"] == "you froze it (--freeze b)"
    assert found["a"] is None
    assert found["c"] is None


def test_freezing_one_producer_freezes_the_stream() -> None:
    assert reasons("residual", Constraints(freeze=("c",)))["a"] == "you froze it (--freeze c)"


def test_only_leaves_the_rest_alone() -> None:
    found = reasons("dense_block", Constraints(only=("[bc]",)))
    assert found["a"] == "it is not among what you chose (--only [bc])"
    assert found["b"] is None
    assert found["c"] is None


def test_a_pattern_without_a_layer_is_a_mistake() -> None:
    with pytest.raises(SpecError, match="no layer of the network is called 'hiden'; did you mean hidden"):
        reasons("flat", Constraints(freeze=("hiden",)))
    with pytest.raises(SpecError, match="from 0 to 1"):
        Constraints(limits={"a": 30.0})
    with pytest.raises(SpecError, match="round_to 0"):
        Constraints(round_to=0)


def test_multiples_are_of_channels_not_of_coordinates() -> None:
    (space,) = (one for one in prunec.inspect(NETS["fused_attention"], EXAMPLE, Constraints(round_to=8)).prunable
                if one.name == "qkv")  # fmt: skip
    assert space.size == 4  # heads, each of 4 channels in each of q, k and v
    assert space.step == 2


def test_compress_obeys() -> None:
    result = prunec.compress(
        NETS["dense_block"], IMAGES, target="macs:0.7", freeze=["b"], limits={"a": 0.5}, round_to=2
    )
    keep = result.plan.keep
    assert "b" not in keep
    assert len(keep["a"]) >= 4
    sizes = {space.name: space.size for space in result.plan.channels.prunable}
    assert all(len(kept) % 2 == 0 or len(kept) == sizes[name] for name, kept in keep.items())
    assert all(sizes[name] % 2 == 0 for name in keep if not name.endswith(":rank"))
    assert result.report["constraints"] == {
        "freeze": ["b"],
        "only": [],
        "limits": {"a": 0.5},
        "round_to": 2,
        "align": "auto",
    }


def test_a_recipe_and_the_command_line_say_the_same() -> None:
    assert patterns_of("--freeze", "a.*") == patterns_of("freeze", ["a.*"]) == ("a.*",)
    assert (
        limits_of("--limit", ["a.*=0.3", "b=1"]) == limits_of("limit", {"a.*": 0.3, "b": 1}) == {"a.*": 0.3, "b": 1.0}
    )
    for wrong in ("a", "a=2", "=0.3", {"a": "much"}, 3):
        with pytest.raises(SpecError, match="--limit"):
            limits_of("--limit", wrong)
    with pytest.raises(SpecError, match="pattern of layer names"):
        patterns_of("--only", [3])
