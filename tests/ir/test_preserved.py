"""A user's module that is run comes back as it was: modes, values, attributes, also after an exception."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunec.ir.module_state import preserved


class Stateful(nn.Module):
    """Writes wherever a forward can write."""

    calls: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("total", torch.zeros(1))
        self.count = 0
        self.seen: list[Tensor] = []
        self.by_name = {"first": 1}
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.total = self.total + 1
        self.layer.weight.data *= 2
        self.layer.bias.data = torch.ones(5)[:3]
        self.count += 1
        self.seen.append(x)
        self.by_name["second"] = 2
        self.last = x
        self.added = x
        self.norm.train()
        result: Tensor = self.norm(self.layer(x))
        return result


def state_of(module: nn.Module) -> dict[str, Any]:
    tensors = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [one.training for one in module.modules()]
    names = sorted(vars(module))
    return {"tensors": tensors, "modes": modes, "names": names}


@pytest.mark.parametrize("fails", [False, True])
def test_a_module_that_writes_comes_back_as_it_was(fails: bool) -> None:
    module = Stateful().train()
    module.norm.eval()
    before, total = state_of(module), module.total
    try:
        with preserved(module):
            assert not any(one.training for one in module.modules())
            with torch.no_grad():
                module(torch.randn(4, 3))
            if fails:
                raise KeyError("in the block")
    except KeyError:
        assert fails
    after = state_of(module)
    assert after["modes"] == before["modes"]
    assert after["names"] == before["names"]
    torch.testing.assert_close(after["tensors"], before["tensors"], rtol=0, atol=0)
    assert module.total is total
    assert (module.count, module.seen, module.by_name, module.last) == (0, [], {"first": 1}, None)


def test_what_was_not_written_keeps_its_place_in_memory_and_its_version() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = [(id(one), one.data_ptr(), one._version) for one in (*module.parameters(), *module.buffers())]
    with preserved(module):
        module(torch.randn(4, 3))
    assert [(id(one), one.data_ptr(), one._version) for one in (*module.parameters(), *module.buffers())] == before


def test_a_module_made_in_inference_mode_comes_back_and_one_without_values_is_let_be() -> None:
    with torch.inference_mode():
        module = nn.Linear(2, 2)
    weight = module.weight.clone()
    with preserved(module), torch.inference_mode():
        module.weight.mul_(2)
    torch.testing.assert_close(module.weight, weight, rtol=0, atol=0)
    with preserved(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3, device="meta"))) as nothing:
        assert nothing is None


def test_a_replaced_submodule_and_a_tensor_of_another_size_are_put_back() -> None:
    first = nn.Linear(2, 2)
    module, weight = nn.Sequential(first, nn.ReLU()), first.weight.detach().clone()
    with preserved(module):
        first.weight.data = torch.zeros(7)
        module[0] = nn.Identity()
    assert module[0] is first
    torch.testing.assert_close(first.weight, weight, rtol=0, atol=0)
