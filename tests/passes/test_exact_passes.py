"""Exact passes on norms after layers of every kind and rank: the same outputs, in float64 to 1e-9."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunec.api import PREPARE
from prunec.frontend.capture import capture
from prunec.ir.drift import drift
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.statistics.facts import Norms

EXACT = tuple(name for name in PREPARE.split(",") if name != "analyse")
aten = torch.ops.aten
NORM = aten.batch_norm.default


class Net(nn.Module):
    """Layers by name, and a forward over them; norms hold random statistics."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, part)
        for norm in [one for one in self.modules() if isinstance(one, nn.modules.batchnorm._NormBase)]:
            for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
                if tensor is not None:
                    tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def after(layer: nn.Module, norm: nn.Module, *shape: int) -> tuple[nn.Module, tuple[int, ...]]:
    return Net(lambda m, x: torch.relu(m.norm(m.layer(x))), layer=layer, norm=norm), shape


def added(m: Any, x: Tensor) -> Any:
    y = m.layer(x)
    return m.norm(y) + y


def twice(m: Any, x: Tensor) -> Any:
    return m.norm(m.layer(m.norm2(m.layer(x))))


def conditional(m: Any, x: Tensor) -> Any:
    """A norm whose scale depends on the input, so it is no constant."""
    y = m.layer(x)
    return F.batch_norm(y, m.norm.running_mean, m.norm.running_var, weight=x.mean((0, 2, 3)).repeat(2), bias=None)


def without_batch(m: Any, x: Tensor) -> Any:
    """The convolution takes the batch for channels: its outputs lie along axis 0."""
    return m.norm(m.layer(x))


def shared(m: Any, x: Tensor) -> Any:
    return m.norm(F.linear(x, m.layer.weight, m.layer.bias)) + F.linear(2 * x, m.layer.weight)


def products(m: Any, x: Tensor) -> Any:
    return torch.addmm(m.one, x, m.weight) * torch.addmm(m.two, x + 1, m.weight) + m.weight_bias


def gates(m: Any, x: Tensor) -> Any:
    """One convolution as the gate of two stages of different widths."""
    y = x * torch.sigmoid(m.gate(x.mean((2, 3))[:, None])[:, 0, :, None, None])
    z = m.layer(y)
    return z * torch.sigmoid(m.gate(z.mean((2, 3))[:, None])[:, 0, :, None, None])


def vector(m: Any, x: Tensor) -> Any:
    return F.linear(x, m.vector)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))))


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...], int]]:
    """A network, the shape of one batch, and how many norms are folded, by name."""
    torch.manual_seed(0)
    small, ramp = nn.BatchNorm1d(5, affine=False), nn.Parameter(torch.arange(5.0))
    found: dict[str, tuple[Any, ...]] = {
        "linear_2d": (*after(nn.Linear(8, 6), nn.BatchNorm1d(6), 2, 8), 1),
        "linear_3d_equal": (*after(nn.Linear(8, 5), nn.BatchNorm1d(5), 2, 5, 8), 0),
        "linear_3d_other": (*after(nn.Linear(8, 6, bias=False), nn.BatchNorm1d(5), 2, 5, 8), 0),
        "linear_4d_equal": (*after(nn.Linear(8, 4), nn.BatchNorm2d(4), 2, 4, 3, 8), 0),
        "matmul_2d": (Net(lambda m, x: m.norm(x @ m.w), w=parameter(8, 5), norm=nn.BatchNorm1d(5)), (2, 8), 1),
        "matmul_3d": (Net(lambda m, x: m.norm(x @ m.w), w=parameter(8, 5), norm=nn.BatchNorm1d(5)), (2, 5, 8), 0),
        "conv1d": (*after(nn.Conv1d(5, 6, 3), nn.BatchNorm1d(6), 2, 5, 9), 1),
        "conv2d_groups": (*after(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), 2, 4, 5, 5), 1),
        "conv3d": (*after(nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4), 2, 2, 3, 3, 3), 1),
        "transposed_groups": (*after(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6), 2, 4, 3, 3), 0),
        "no_affine": (*after(nn.Linear(8, 5), small, 2, 8), 1),
        "no_affine_3d": (*after(nn.Linear(8, 5), small, 2, 5, 8), 0),
        "no_statistics": (*after(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), 2, 3, 5, 5), 0),
        "other_readers": (Net(added, layer=nn.Linear(8, 5), norm=nn.BatchNorm1d(5)), (2, 8), 0),
        "layer_twice": (
            Net(twice, layer=nn.Linear(5, 5), norm=nn.BatchNorm1d(5), norm2=nn.BatchNorm1d(5)), (2, 5), 0,
        ),
        "shared_weight": (Net(shared, layer=nn.Linear(8, 5), norm=nn.BatchNorm1d(5)), (2, 8), 0),
        "computed_scale": (Net(conditional, layer=nn.Conv2d(3, 6, 1), norm=nn.BatchNorm2d(6)), (2, 3, 4, 4), 0),
        "conv_without_batch": (
            Net(without_batch, layer=nn.Conv1d(2, 7, 3, padding=1), norm=nn.BatchNorm1d(7)), (2, 7), 0,
        ),
        "two_biases": (
            Net(products, weight=parameter(8, 5), one=parameter(5), two=ramp, weight_bias=parameter(5)), (2, 8), 0,
        ),
        "gate_of_two_widths": (
            Net(gates, gate=nn.Conv1d(1, 1, 3, padding=1), layer=nn.Conv2d(4, 6, 1)), (2, 4, 3, 3), 0,
        ),
        "vector_weight": (Net(vector, vector=parameter(8)), (2, 8), 0),
    }  # fmt: skip
    return {name: (net.eval(), shape, folded) for name, (net, shape, folded) in found.items()}


NETS = networks()


def outputs(module: Any, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        return [module(*inputs)]


@cache
def captured(name: str) -> tuple[nn.Module, Program, tuple[Tensor, ...]]:
    """The network in float64, its program, and other inputs of the same shape."""
    net, shape, _ = NETS[name]
    net = net.double()
    generator = torch.Generator().manual_seed(1)
    example, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return net, capture(net, (example,)), (other,)


@pytest.mark.parametrize("name", NETS)
def test_all_exact_passes_leave_the_outputs(name: str) -> None:
    net, program, inputs = captured(name)
    after = Pipeline.parse(EXACT).run(program, Context())
    assert drift(outputs(net, inputs), outputs(after.module, inputs)) < 1e-9


@pytest.mark.parametrize("name", [name for name in NETS if "norm" in dict(NETS[name][0].named_children())])
def test_norms_are_folded_where_they_run_over_the_outputs_and_stay_elsewhere(name: str) -> None:
    net, program, inputs = captured(name)
    before = sum(node.target is NORM for node in program.module.graph.nodes)
    after = Pipeline.parse("fold-constants,as-linear,fold-bn").run(program, Context())
    left = sum(node.target is NORM for node in after.module.graph.nodes)
    assert (before - left, len(after.fact(Norms).by_weight)) == (NETS[name][2], NETS[name][2])
    assert drift(outputs(net, inputs), outputs(after.module, inputs)) < 1e-9


@pytest.mark.parametrize("step", EXACT)
def test_each_exact_pass_alone_leaves_the_outputs(step: str) -> None:
    for name in NETS:
        net, program, inputs = captured(name)
        after = Pipeline.parse(step).run(program, Context())
        assert drift(outputs(net, inputs), outputs(after.module, inputs)) < 1e-9, name


def test_a_fold_that_overflows_is_left_alone() -> None:
    norm = nn.BatchNorm1d(6, eps=0.0)
    net, shape = after(nn.Linear(8, 6), norm, 2, 8)
    assert norm.running_var is not None
    norm.running_var.zero_()
    program = Pipeline.parse("fold-bn").run(capture(net.eval(), (torch.randn(shape),)), Context())
    assert any(node.target is NORM for node in program.module.graph.nodes)
