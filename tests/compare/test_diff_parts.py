"""Layers in any number of parts match the layer that they replace."""

from __future__ import annotations

from functools import cache

import onnx
import pytest
import torch
from torch import Tensor, nn

from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.compare.difference import compare
from prunec.compare.engine_plans import read
from prunec.compare.matching import align
from prunec.data.images import as_images
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.onnx.layers import Layer, Network, network_of
from prunec.frontend.capture import capture
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.surgery.plan import Plan

Groups = list[tuple[list[str], list[str]]]


def net(*layers: str, tokens: bool = False) -> Network:
    """Build a chain. `relu_N` and `l` have no weight, `matmul_N` has; a name with + is an engine's layer."""
    made: list[Layer] = []
    for name in layers:
        op, plain = name.split("_")[0] if "_" in name else "Conv", name.startswith(("relu_", "bias"))
        reads = (made[-1].name,) if made else ("input",)
        nodes = tuple(name.split(" + ")) if "+" in name else ()
        made.append(Layer(name, op, (1, 8), reads, () if plain else (8, 8), macs=0 if plain else 100, nodes=nodes))
    return Network(tuple(made), ("input",))


def groups(before: Network, after: Network) -> Groups:
    return [([one.name for one in row.before], [one.name for one in row.after]) for row in align(before, after)]


SPLITS: dict[str, tuple[Network, Network, Groups]] = {
    "three": (net("a", "b"), net("a.0", "a.1", "a.2", "b"), [(["a"], ["a.0", "a.1", "a.2"]), (["b"], ["b"])]),
    "twelve": (net("a"), net(*(f"a.{k}" for k in range(12))), [(["a"], [f"a.{k}" for k in range(12)])]),
    "parts of parts": (
        net("a", "b"), net("a.0.0", "a.0.1", "a.0.2", "a.1", "b"),
        [(["a"], ["a.0.0", "a.0.1", "a.0.2", "a.1"]), (["b"], ["b"])],
    ),
    "a part in parts": (
        net("a.0", "a.1"), net("a.0.0", "a.0.1", "a.1"), [(["a.0"], ["a.0.0", "a.0.1"]), (["a.1"], ["a.1"])]
    ),
    "a renamed middle": (net("a", "b"), net("a.0", "x", "a.2", "b"), [(["a"], ["a.0", "x", "a.2"]), (["b"], ["b"])]),
    "two renamed": (net("a"), net("a.0", "x", "y", "a.3"), [(["a"], ["a.0", "x", "y", "a.3"])]),
    "a renamed first": (net("b", "a"), net("b", "x", "a.1", "a.2"), [(["b"], ["b"]), (["a"], ["x", "a.1", "a.2"])]),
    "two and three": (
        net("a.0", "a.1", "b"), net("a.0", "a.1", "a.2", "b"),
        [(["a.0", "a.1"], ["a.0", "a.1", "a.2"]), (["b"], ["b"])],
    ),
    "fused in an engine": (
        net("a + relu_0", "b"), net("a.0", "a.1", "a.2 + relu_0", "b"),
        [(["a + relu_0"], ["a.0", "a.1", "a.2 + relu_0"]), (["b"], ["b"])],
    ),
    "products of tokens": (
        net("matmul_0", "bias", "relu_0", "matmul_1", "bias2"),
        net("matmul_0", "matmul_1", "bias", "relu_0", "matmul_2", "matmul_3", "matmul_4", "bias2"),
        [
            (["matmul_0"], ["matmul_0", "matmul_1"]), (["bias"], ["bias"]), (["relu_0"], ["relu_0"]),
            (["matmul_1"], ["matmul_2", "matmul_3", "matmul_4"]), (["bias2"], ["bias2"]),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPLITS)
def test_all_parts_of_a_layer_are_one_group(name: str) -> None:
    before, after, found = SPLITS[name]
    assert groups(before, after) == found
    assert sorted(groups(after, before)) == sorted((right, left) for left, right in found)
    statuses = {row.status for row in compare(before, after).rows}
    assert statuses <= {"split", "same"}
    assert "split" in statuses


OTHERS: dict[str, tuple[Network, Network, list[str]]] = {
    "a part is missing": (net("a", "b"), net("a.0", "relu_0", "a.2", "b"), ["a"]),
    "a part has an older name": (net("a", "b"), net("a.0", "b", "a.2"), ["a"]),
    "a deeper module": (net("m.0", "relu_0", "m.2"), net("m.0", "relu_0", "m.2", "relu_1", "m.4"), []),
    "one part alone": (net("a", "b"), net("a.0", "b"), ["a"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_numbers_behind_a_name_are_not_always_parts(name: str) -> None:
    before, after, removed = OTHERS[name]
    rows = compare(before, after).rows
    assert [row.group.name for row in rows if row.status == "removed"] == removed
    assert {row.status for row in rows} <= {"same", "added", "removed"}


# Real networks


class Mixed(nn.Module):
    """Convolutions, and linear layers over tokens, whose nodes have no names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.up, self.down, self.head = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(torch.relu(self.stem(x))))
        tokens = torch.relu(x.flatten(2).transpose(1, 2))
        tokens = tokens + torch.relu(self.down(torch.relu(self.up(tokens))))
        found: Tensor = self.head(tokens.mean(1))
        return found


@cache
def split(method: str) -> tuple[onnx.ModelProto, onnx.ModelProto, int]:
    """Return the network, its copy with every possible layer split, and the part counts."""
    torch.manual_seed(0)
    program = prepared(capture(Mixed().eval(), (torch.randn(2, 3, 6, 6),)))
    context = Context(calibration=as_images(torch.randn(32, 3, 6, 6)))
    ranked = Pipeline.parse(f"calibrate,select,ranks{{method={method}}}").run(program, context)
    channels = ranked.fact(Channels)
    plan = Plan(channels, {one.space: (0, 1) for one in channels.factorings})
    narrow = Pipeline.parse("slice,decompose").run(ranked.knowing(plan), Context())
    before, after = (export_onnx(one.module, one.example_inputs) for one in (program, narrow))
    return before, after, len(channels.factorings)


@pytest.mark.parametrize("method", ["tucker2", "tt", "spatial-svd", "collaborative"])
def test_every_way_to_split_is_seen_as_one(method: str) -> None:
    before, after, count = split(method)
    found = compare(network_of(before), network_of(after))
    assert [row.group.name for row in found.rows if row.status in ("added", "removed")] == []
    parts = [len(row.group.after) for row in found.rows if row.status == "split"]
    assert len(parts) == count >= 4
    assert max(parts) == {"tucker2": 3, "tt": 4}.get(method, 2)
    for row in found.rows:
        if row.status == "split":
            assert sum(one.macs for one in row.group.after) > 0
            assert len(row.group.before) == 1


def test_another_way_to_split_is_another_split() -> None:
    found = compare(network_of(split("spatial-svd")[1]), network_of(split("tt")[1]))
    assert {row.status for row in found.rows} <= {"same", "changed", "split"}
    assert [(len(row.group.before), len(row.group.after)) for row in found.rows if row.status == "split"] == [
        (2, 4)
    ] * 2


def test_a_plan_names_its_parts_too(tmp_path: object) -> None:
    from pathlib import Path

    def plan(*names: str) -> Network:
        kernels = "".join(
            f'\n tensor={{ dims={{ 1 8 4 4 }} name="v{place}" type=half }}'
            f'\n corrltn={{ name="{name}_U{place}" input={{"v"}} output={{"v{place}"}} layers="[ONNX Layer: {name}]" }}'
            for place, name in enumerate(names)
        )
        path = Path(str(tmp_path)) / "some.engine"
        path.write_bytes(f"header {{\n{kernels}\nshape_main {{".encode())
        return read(path)

    found = groups(plan("a", "b"), plan("a.0", "a.1", "a.2", "b"))
    assert found == [(["a"], ["a.0", "a.1", "a.2"]), (["b"], ["b"])]
