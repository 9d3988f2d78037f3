"""Channel analysis: the zero-group identity on every pattern, what is frozen and why, and the counters."""

from __future__ import annotations

import pytest
import torch
from conftest import SHARED, needs_shared
from measures import macs_by_torch
from micro import FROZEN, networks
from programs import ready
from shared_nets import load, shape_of
from torch import Tensor, nn

from prunec.api import prepared
from prunec.channels.analysis import analyse
from prunec.channels.labels import Labels, along, compress, varying
from prunec.channels.spaces import Channels
from prunec.cost import macs
from prunec.errors import CaptureError, PassError
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.surgery import slicing
from prunec.surgery.identity import prove, random_plan
from prunec.surgery.plan import Plan

NETS = networks()
REAL = ("cifar_resnet20", "cifar_resnet56", "mobilenet_v1_075", "squeezenet11", "resnet50_c4")


def analysed(model: nn.Module, *shape: int) -> tuple[Program, Channels]:
    program = prepared(capture(model, (torch.randn(2, *shape),)))
    return program, analyse(program)


def micro(name: str) -> tuple[Program, Channels]:
    program = ready(name)
    return program, analyse(program)


@pytest.mark.parametrize("name", NETS)
def test_zero_group_identity_and_macs(name: str) -> None:
    program, channels = micro(name)
    for seed in range(3):
        assert prove(program, channels, seed) < 1e-12
        plan = random_plan(channels, seed)
        narrow = slicing.apply(program.module, plan)
        x = torch.randn(3, 3, 12, 12)
        assert narrow(x).shape == (3, 5)
        predicted = macs.Macs.of(channels).total(macs.counts_of(channels, dict(plan.keep)))
        assert predicted == macs_by_torch(narrow, x)


@pytest.mark.parametrize("name", [name for name in NETS if name not in FROZEN])
def test_every_hidden_space_is_prunable(name: str) -> None:
    _, channels = micro(name)
    frozen = {space.name: space.frozen for space in channels.spaces if space.frozen}
    single = {name for name, reason in frozen.items() if reason == "it is the only channel of a tensor"}
    assert set(frozen) - single == {"fc"}
    assert frozen["fc"] == "it reaches the network's output"


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_spaces_say_why(name: str) -> None:
    space_name, word = FROZEN[name]
    _, channels = micro(name)
    (space,) = (one for one in channels.spaces if one.name == space_name)
    assert space.frozen is not None
    assert word in space.frozen


@pytest.mark.parametrize("name", NETS)
def test_folding_and_biases_are_exact(name: str) -> None:
    program = capture(NETS[name].double(), (torch.randn(2, 3, 12, 12, dtype=torch.float64),))
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(prepared(program).module(x), NETS[name](x), rtol=1e-12, atol=1e-12)
    NETS[name].float()


@pytest.mark.parametrize("name", NETS)
def test_keeping_everything_changes_nothing(name: str) -> None:
    program, channels = micro(name)
    whole = {space.name: tuple(range(space.size)) for space in channels.prunable}
    x = torch.randn(3, 3, 12, 12)
    same = slicing.apply(program.module, Plan(channels, whole))
    assert torch.equal(same(x), program.module(x))


def test_an_unknown_operator_freezes_what_reaches_it() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(torch.fft.fft(self.a(x).mean((2, 3))).real)
            return out

    _, channels = analysed(Odd().eval(), 3, 12, 12)
    (space,) = (one for one in channels.spaces if one.name == "a")
    assert space.frozen == "operator aten.fft_fft has no channel rule"
    assert macs.prunable_share(channels) == 0.0


def test_an_empty_space_is_refused() -> None:
    program, channels = micro("plain")
    with pytest.raises(PassError, match="nothing would be left of a"):
        slicing.apply(program.module, Plan(channels, {"a": ()}))


def test_inputs_that_do_not_fit_are_a_capture_error() -> None:
    with pytest.raises(CaptureError, match="fails on inputs of shape"):
        capture(NETS["plain"], (torch.randn(2, 4, 12, 12),))
    with pytest.raises(CaptureError, match="no batch"):
        capture(NETS["plain"], (torch.tensor(1.0),))


def test_union_find_joins_and_freezes() -> None:
    labels = Labels()
    a, b, c = labels.fresh(4), labels.fresh(4), labels.fresh(4)
    labels.join(a, b, "")
    labels.join(b, c.flip(0), "")
    assert torch.equal(labels.find(c), labels.find(a.flip(0)))
    labels.join(c, torch.tensor([0, 0, 0, int(a[3])]), "met a fixed one")
    roots = labels.frozen_roots()
    assert set(roots.values()) == {"met a fixed one"}
    assert int(labels.find(a[3:])) in roots  # c[0], and c[3] = a[0], are joined to it


def test_labels_stay_rectangular_and_compressed() -> None:
    labels = Labels()
    grid = labels.fresh(12).reshape(1, 3, 4, 1).expand(2, 3, 4, 5)
    tied = labels.rectangular(grid)
    assert varying(tied) == [2]
    assert torch.equal(compress(along(torch.tensor([1, 1, 1]), 1, (2, 3))), torch.ones(2, 3, dtype=torch.int64))
    assert varying(compress(along(torch.tensor([1, 1, 1]), 1, (2, 3)))) == []


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_real_networks(name: str) -> None:
    model, shape = load(name), shape_of(name)
    program, channels = analysed(model, *shape)
    assert SHARED.exists()
    assert prove(program, channels) < 1e-12
    assert macs.prunable_share(channels) == pytest.approx(1.0)
    assert len([space for space in channels.spaces if space.frozen]) == 1  # the classes
    x = torch.randn(2, *shape)
    plan = random_plan(channels, 1)
    narrow = slicing.apply(program.module, plan)
    assert macs.Macs.of(channels).total(macs.counts_of(channels, dict(plan.keep))) == macs_by_torch(narrow, x)
    assert macs.total_macs(channels) == macs_by_torch(program.module, x)
