"""A whole network beside its layers: whose kernel is whose, and that the calibrated layers add up to it exactly."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from latency_tables import EVERYWHERE, by_macs
from micro import networks
from torch import Tensor, nn

from prunec.api import prepared
from prunec.channels.spaces import Split
from prunec.compare.profiles import Kernel, kernels
from prunec.deploy.onnx.layers import Layer, Network, network_of
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.latency import layer_shapes, profiler, search
from prunec.latency.correction import Correction
from prunec.latency.cost import latency_of
from prunec.latency.kernel_owners import owned, pieces
from prunec.latency.layer_shapes import LayerShape
from prunec.latency.table import Grid, Table, Whole, Within
from prunec.latency.whole_network import as_run

NETS = networks()
CONV = LayerShape("conv", (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))


@cache
def of(name: str) -> Program:
    return prepared(capture(NETS[name], (torch.randn(2, 3, 12, 12),)))


def as_measured(program: Program, seed: int = 0, lost: int = 0) -> Whole:
    """Simulate a run with random kernel times, where `lost` kernels have no layer's name."""
    generator = np.random.default_rng(seed)
    listed = pieces(layer_shapes.layers_of(program), {})
    owners = {str(place): one for place, one in enumerate(listed[lost:])}
    ran = [Kernel(str(place), str(place), "", float(generator.uniform(1, 9))) for place in range(len(listed) + 3)]
    wall = sum(one.ms for one in ran) + 2.0
    return as_run(wall, ran, owners, 0.0)


def test_a_factor_is_the_ratio_of_two_sums() -> None:
    """8 channels take 1 ms alone and 3 within, 16 take 9 and 12: 1.5 times as long, not √(3 · 4/3) = 2 times."""
    grid = Grid((8, 16), (8, 16), ((1.0, 5.0), (5.0, 9.0)))
    other = Grid((8,), (8,), ((2.0,),))
    small = LayerShape("conv", (4, 4), (3, 3), (1, 1), (1, 1), (1, 1))
    table = Table(EVERYWHERE, 1, 1, {CONV: grid, small: other})
    within = {CONV: Within(15.0, ((8, 8), (16, 16))), small: Within(1.0, ((8, 8),))}
    found = Correction.of(table, Whole(20.0, 4, 1.0, within))
    assert found.factor(CONV) == pytest.approx(1.5)
    assert found.factor(small) == pytest.approx(0.5)
    assert found.factor(LayerShape("linear", ())) == pytest.approx(16 / 12)
    again = table.with_grids({CONV: Grid((8, 16), (8, 16), ((2.0, 5.0), (5.0, 8.0)))})
    assert Correction.of(again, Whole(20.0, 4, 1.0, within)).factor(CONV) == pytest.approx(1.5)  # 15 / (2 + 8)
    assert Correction.of(table, None).factor(CONV) == 1


@pytest.mark.parametrize("target", ["arm", "ort-avx512"])
@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "grouped", "dense_block", "flat"])
def test_the_calibrated_dense_network_takes_exactly_what_was_measured(name: str, target: str) -> None:
    program = of(name)
    layers = layer_shapes.layers_of(program)
    table = by_macs(program, Table({**EVERYWHERE, "target": target}, 1, 1))
    for seed in range(3):
        known = as_measured(program, seed)
        cost = latency_of(program, layers, table, known)
        assert cost.total() == round(known.ms * 1e6)
        assert cost.fixed == pytest.approx(2e6, rel=1e-6)
        assert cost.rest.total() == pytest.approx(known.rest_ms * 1e6, rel=1e-6)


def test_a_layer_whose_kernel_nobody_recognises_is_not_counted_twice() -> None:
    program = of("residual")
    table = by_macs(program, Table(EVERYWHERE, 1, 1))
    known = as_measured(program, lost=1)
    cost = latency_of(program, layer_shapes.layers_of(program), table, known)
    assert cost.total() == round(known.ms * 1e6)
    assert 0 <= cost.rest.total() < known.rest_ms * 1e6


# Whose kernel


class Tokens(nn.Module):
    """Linear layers over tokens: ONNX has products without names, and the names on the additions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.first = nn.Linear(16, 32)
        self.twice = nn.Linear(32, 32)
        self.last = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(torch.relu(self.conv(x[:, :3]))[:, :3])
        tokens = self.first(x.flatten(2).transpose(1, 2)).relu()
        tokens = self.twice(self.twice(tokens).relu())
        found: Tensor = self.last(tokens.mean(1))
        return found


def test_every_layer_of_a_network_of_tokens_finds_its_kernel() -> None:
    program = prepared(capture(Tokens().eval(), (torch.randn(2, 3, 8, 8),)))
    layers, model = layer_shapes.layers_of(program), search._exported(program)
    network = network_of(model)
    owners = owned(network, pieces(layers, {}))
    assert sorted(one.name for one in owners.values()) == ["conv", "conv", "first", "last", "twice", "twice"]
    ops = {layer.name: layer.op for layer in network.layers}
    assert {ops[name] for name in owners} == {"Conv", "MatMul", "Gemm"}
    with profiler.profiled([model], 1, 1, (torch.randn(1, 3, 8, 8),)) as opened:
        for _ in range(3):
            opened.sessions[0].tell()
        ran = kernels(opened.sessions[0].entries(), network)
    assert set(owners) <= {kernel.layer for kernel in ran}  # fused with a transpose, too


def test_parts_find_their_kernels_with_names_and_without() -> None:
    program = prepared(capture(Tokens().eval(), (torch.randn(2, 3, 8, 8),)))
    (layer,) = (one for one in layer_shapes.layers_of(program) if one.one.weight == "first.weight")
    parts = layer_shapes.parts_of(layer.shape, Split((), ()))
    split = layer_shapes.Layer(layer.one, layer.product, layer.shape, parts, 16, 0)
    listed = pieces([split], {"first.weight": 5})
    assert [(one.name, one.widths, one.work) for one in listed] == [
        ("first.0", (16, 5), (80, ())), ("first.1", (5, 32), (160, ()))
    ]  # fmt: skip

    def network(*named: tuple[str, tuple[int, ...]]) -> Network:
        return Network(tuple(Layer(name, "MatMul", (), weight=weight, macs=1) for name, weight in named))

    called = owned(network(("first.1", (5, 32)), ("first.0", (16, 5))), listed)
    assert {name: one.name for name, one in called.items()} == {"first.1": "first.1", "first.0": "first.0"}
    unnamed = owned(network(("matmul_0", (16, 5)), ("matmul_1", (5, 32)), ("matmul_2", (7, 7))), listed)
    assert {name: one.name for name, one in unnamed.items()} == {"matmul_0": "first.0", "matmul_1": "first.1"}


def test_the_rows_of_a_linear_layer_are_those_of_a_sample_wherever_its_batch_is() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.behind, self.inside = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:  # [N, 12, 8]
            x = self.front(x)
            x = self.behind(x.transpose(0, 1).relu()).transpose(0, 1)
            found: Tensor = self.inside(x.reshape(-1, 4, 8).relu())
            return found.reshape(-1, 12, 8)

    program = prepared(capture(Windows().eval(), (torch.randn(2, 12, 8),)))
    assert [layer.shape.size for layer in layer_shapes.layers_of(program)] == [(12,), (12,), (12,)]
