"""The simulated GPU refuses what a GPU refuses, and allows what it allows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from simulated_device import CPU, CUDA, Simulated, simulated
from torch import Tensor, nn
from torch.nn import functional

HERE = torch.arange(6.0).reshape(2, 3)


def there() -> Tensor:
    return HERE.to("cuda")


REFUSED: dict[str, Callable[[], Any]] = {
    "a sum": lambda: there() + HERE,
    "a product": lambda: HERE @ there().mT,
    "a list": lambda: torch.cat([HERE, there()]),
    "a loss": lambda: functional.cross_entropy(there(), torch.tensor([0, 1])),
    "an operator of a graph": lambda: torch.ops.aten.add.Tensor(there(), HERE),
    "a convolution": lambda: functional.conv1d(there()[None], torch.ones(2, 2, 1)),
    "an index from there": lambda: HERE[torch.tensor([0, 1]).to("cuda")],
    "index_select": lambda: there().index_select(1, torch.tensor([0])),
    "index_add": lambda: torch.zeros(2, 3).index_add_(0, torch.tensor([0, 1]), there()),
    "values that are put": lambda: there().__setitem__(torch.tensor([0]), torch.ones(1, 3)),
    "in place": lambda: torch.zeros(2, 3).add_(there()),
    "numpy": lambda: there().numpy(),
    "an array": lambda: np.asarray(there()),
    "a generator": lambda: torch.multinomial(there() + 1, 1, generator=torch.Generator()),
    "random numbers": lambda: torch.randn(2, device="cuda", generator=torch.Generator()),
    "a layer": lambda: nn.Linear(3, 2).to("cuda")(HERE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with simulated(), pytest.raises((RuntimeError, TypeError), match="device"):
        REFUSED[name]()


ALLOWED: dict[str, tuple[Callable[[], Tensor], Tensor]] = {
    "a number": (lambda: there() * torch.tensor(2.0), HERE * 2),
    "an index from here": (lambda: there()[:, torch.tensor([2, 0])], HERE[:, [2, 0]]),
    "a view": (lambda: there().mT.reshape(3, 2), HERE.mT),
    "made there": (lambda: there() + torch.ones(2, 3, device="cuda"), HERE + 1),
    "made like it": (lambda: there() + torch.ones_like(there()).new_zeros(3), HERE),
    "a graph's": (lambda: torch.ops.aten.full.default([2], 3.0, device=CUDA), torch.full((2,), 3.0)),
    "of several": (lambda: there().split(2, 1)[1], HERE[:, 2:]),
    "to another": (lambda: HERE.double().to(there()), HERE),
    "a layer": (lambda: nn.Identity().to("cuda")(there()), HERE),
    "a copy of all": (lambda: copy.deepcopy(there()), HERE),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    make, wanted = ALLOWED[name]
    with simulated():
        found = make()
        assert type(found) is Simulated
        assert found.device == CUDA
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(found.cpu(), wanted)


def test_what_goes_across_is_a_copy() -> None:
    with simulated():
        far = HERE.to("cuda")
        near = far.cpu()
        far += 1
        assert torch.equal(near, HERE)
        assert float(far[0, 1]) == 2.0
        assert far.tolist() == (HERE + 1).tolist()


def test_slopes_go_across() -> None:
    gate = torch.ones(3, requires_grad=True)
    with simulated():
        x = there().detach().requires_grad_()
        loss = (x * gate.to(x)).square().sum()
        of_gate, of_x = torch.autograd.grad(loss, [gate, x])
    assert (type(of_gate), type(of_x)) == (Tensor, Simulated)
    torch.testing.assert_close(of_gate, 2 * HERE.square().sum(0))


def test_a_parameter_stays_one() -> None:
    with simulated():
        layer = nn.Linear(3, 2).to("cuda")
        copied = copy.deepcopy(layer).double()
    assert isinstance(copied.weight, nn.Parameter)
    assert (copied.weight.device, copied.weight.dtype) == (CUDA, torch.float64)
    assert layer.weight.dtype == torch.float32


def test_without_it_nothing_changes() -> None:
    with simulated():
        assert type(torch.ones(2)) is Tensor
        assert torch.ones(2, device="cpu").device == CPU
