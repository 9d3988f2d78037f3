"""Blocks, branches, state, lazy layers, wrappers, random numbers: followed as the network means them, or refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

import prunec
from prunec.api import prepared
from prunec.channels.spaces import Channels
from prunec.errors import CaptureError
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.surgery.identity import prove

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Forward = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Two convolutions and a head around a middle that is given."""

    middle: ClassVar[Forward]

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.neck = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = type(self).middle(self, self.a(x).relu())
        found: Tensor = self.fc(self.b(y).relu().mean((2, 3)))
        return found


def network(middle: Forward) -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = type("Net", (Net,), {"middle": middle})()
    return net.eval()


def require_same(net: nn.Module, program: Program) -> None:
    with torch.no_grad():
        torch.testing.assert_close(program.module(IMAGES), net(IMAGES), rtol=1e-5, atol=1e-5)
    analysed = prepared(program)
    assert prove(analysed, analysed.fact(Channels)) < 1e-9
    assert any(space.frozen is None for space in analysed.fact(Channels).spaces)


def autocast_off(self: Any, y: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return self.neck(self.b(y.float()))  # type: ignore[no-any-return]


def autocast_elsewhere(self: Any, y: Tensor) -> Tensor:
    with torch.autocast("cuda", dtype=torch.float16):
        return self.b(y)  # type: ignore[no-any-return]


def gradients_on(self: Any, y: Tensor) -> Tensor:
    with torch.enable_grad():
        z = self.b(y).clone()
        z.add_(1)
    with torch.no_grad():
        z = z * 2
    return z  # type: ignore[no-any-return]


def nested(self: Any, y: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False), torch.enable_grad():
        y = self.b(y)
        with torch.no_grad():
            y = self.b(y) + 1
    return y


def side_by_buffer(self: Any, y: Tensor) -> Tensor:
    return torch.cond(self.calls.sum() > 0, lambda z: z + 1, lambda z: self.b(z) * 2, (y,))  # type: ignore[no-any-return]


def dropout_off(self: Any, y: Tensor) -> Tensor:
    return F.dropout(F.dropout(y, 0.3, training=False), 0.0, training=True)


def unused_noise(self: Any, y: Tensor) -> Tensor:
    torch.randn_like(y)
    return y


def counted(self: Any, y: Tensor) -> Tensor:
    self.calls += 1
    return y


def into_the_input(self: Any, y: Tensor) -> Tensor:
    return y.mul_(2)


FOLLOWED = [
    autocast_off, autocast_elsewhere, gradients_on, nested, side_by_buffer, dropout_off, unused_noise,
    counted, into_the_input,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # a pred that is constant; no CUDA for autocast
@pytest.mark.parametrize("middle", FOLLOWED, ids=lambda middle: str(middle.__name__))
def test_what_changes_nothing_in_inference_is_followed(middle: Forward) -> None:
    net = network(middle)
    program = capture(net, (IMAGES[:2],))
    assert program.notes == ()
    assert int(net.calls) == 0  # type: ignore[arg-type]
    require_same(net, program)
    assert not [node for node in program.module.graph.nodes if "higher_order" in str(node.target)]


def autocast_on(self: Any, y: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = self.b(y)
    return y.float()


def branch(self: Any, y: Tensor) -> Tensor:
    return torch.cond(y.sum() > 0, lambda z: z + 1, lambda z: z - 1, (y,))  # type: ignore[no-any-return]


def dropout_on(self: Any, y: Tensor) -> Tensor:
    return F.dropout(y, 0.3, training=True)


def noise(self: Any, y: Tensor) -> Tensor:
    return y + torch.randn_like(y)


def rows_drawn(self: Any, y: Tensor) -> Tensor:
    return y * torch.bernoulli(torch.full((y.shape[0], 1, 1, 1), 0.5))


def python_random(self: Any, y: Tensor) -> Tensor:
    return y * random.random()


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (autocast_on, "computes in torch.bfloat16 inside torch.autocast"),
        (branch, "branches or loops on values, with torch.cond"),
        (dropout_on, "draws random numbers (dropout) in eval mode too"),
        (noise, "draws random numbers (randn_like) in eval mode too"),
        (rows_drawn, "draws random numbers (bernoulli) in eval mode too"),
        (python_random, "gives another answer each time it is run on the same inputs"),
    ],
    ids=lambda value: str(getattr(value, "__name__", "")),
)
def test_what_would_be_another_network_each_time_is_refused(middle: Forward, words: str) -> None:
    random.seed(0)  # now and then two numbers are as good as equal
    with pytest.raises(CaptureError) as caught:
        capture(network(middle), (IMAGES[:2],))
    assert words in str(caught.value)
    if middle in (dropout_on, noise):
        assert "(test_capturable.py:" in str(caught.value)


def test_a_module_that_draws_is_named() -> None:
    net = network(lambda self, y: self.neck(y))
    net.neck = type("Drop", (nn.Module,), {"forward": lambda self, y: F.dropout(y, 0.5, True)})()
    with pytest.raises(CaptureError, match=r"^neck \(test_capturable\.py:\d+\) draws random numbers"):
        capture(net, (IMAGES[:2],))


def test_state_that_the_output_depends_on_is_said() -> None:
    def scaled(self: Any, y: Tensor) -> Tensor:
        self.calls += 1
        return y * self.calls  # type: ignore[no-any-return]

    net = network(scaled).train()
    program = capture(net, (IMAGES[:2],))
    assert net.training
    assert int(net.calls) == 0  # type: ignore[arg-type]
    (note,) = program.notes
    assert "forward reads and writes calls: captured with the values of now" in note
    assert program.dynamic_batch
    first, again = program.module(IMAGES), program.module(IMAGES)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    torch.testing.assert_close(first, net.eval()(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("value", "count"), [(float("nan"), 9), (float("inf"), 9)])
def test_weights_that_are_not_finite_are_named(value: float, count: int) -> None:
    net = network(lambda self, y: y)
    net.a.weight.data[0, 0] = value  # type: ignore[union-attr,operator]
    with pytest.raises(CaptureError, match=rf"NaN or infinity, in a\.weight \({count} of 162 values\)"):
        capture(net, (IMAGES[:2],))


def test_a_mask_may_be_infinite_and_what_is_not_read_may_be_anything() -> None:
    net = network(lambda self, y: torch.maximum(y, self.calls))
    net.calls.fill_(-torch.inf)  # type: ignore[operator]
    net.unused = nn.Parameter(torch.full((2,), torch.nan))
    require_same(net, capture(net, (IMAGES[:2],)))
    net.calls.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(CaptureError, match="in calls"):
        capture(net, (IMAGES[:2],))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


def test_lazy_layers_get_the_same_weights_each_time_and_keep_their_mode() -> None:
    nets = [lazy().train() for _ in range(2)]
    before = torch.get_rng_state()
    programs = [capture(net, (IMAGES[:2],)) for net in nets]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(one.training for net in nets for one in net.modules())
    torch.testing.assert_close(programs[0].module(IMAGES), programs[1].module(IMAGES), rtol=0, atol=0)
    require_same(nets[0].eval(), programs[0])
    with pytest.raises(CaptureError, match="has lazy layers, and fails on the example inputs"):
        capture(lazy(), (torch.randn(2, 3, 2, 2),))


def test_wrappers_of_compilation_and_parallelism_are_looked_into() -> None:
    net = network(lambda self, y: y)
    compiled: Any = torch.compile(net)
    wrapped = nn.DataParallel[nn.Module](compiled)
    require_same(net, capture(wrapped, (IMAGES[:2],)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Net, "the network is the class Net, not a torch.nn.Module"),
        (nn.Linear(3, 2).state_dict(), "the network is of type OrderedDict"),
        (nn.Linear(3, 2, device="meta"), "weight, bias lie on the device meta, without values"),
    ],
    ids=["class", "state", "meta"],
)
def test_what_is_no_network_is_refused(given: Any, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        prunec.inspect(given, (IMAGES[:2],))


def test_torchscript_is_refused() -> None:
    traced: Any = torch.jit.trace(network(lambda self, y: y), IMAGES)
    with pytest.raises(CaptureError, match="is TorchScript"):
        prunec.inspect(traced, (IMAGES[:2],))


def test_sizes_that_an_exported_program_leaves_free_are_said() -> None:
    net, free = network(lambda self, y: y), ({0: Dim("n"), 2: Dim("h", min=4, max=64), 3: Dim("w", min=4, max=64)},)
    program = capture(torch.export.export(net, (IMAGES,), dynamic_shapes=free), (IMAGES[:2],))
    (note,) = program.notes
    assert "input 0 of the exported program may vary in dimension 2 and 3" in note
    assert "takes 3x8x8, the size of the example, and any batch" in note
    assert program.dynamic_batch


def test_nothing_that_becomes_of_the_network_later_changes_the_program() -> None:
    net = network(lambda self, y: y)
    program = capture(net, (IMAGES[:2],))
    before = program.module(IMAGES)
    with torch.no_grad():
        for value in (*net.parameters(), *net.buffers()):
            value.add_(1)
    torch.testing.assert_close(program.module(IMAGES), before, rtol=0, atol=0)
