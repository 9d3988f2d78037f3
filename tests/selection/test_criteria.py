"""Criteria: each against its formula written out, and a channel that is plainly useless goes first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from micro import networks
from programs import Stages, share
from torch import Tensor, nn

import prunec
from prunec.api import PREPARE, prepared
from prunec.channels.spaces import Channels
from prunec.data.images import as_images
from prunec.errors import PassError
from prunec.frontend.capture import capture
from prunec.grammar.registry import STRATEGIES
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.target import Target
from prunec.selection.evidence import Evidence
from prunec.selection.gradients import contributions
from prunec.statistics.facts import Norms

CRITERIA = STRATEGIES["criteria"]
NAMES = [*CRITERIA.names(), "fsm{measured=true}", "cpmc{ratio=true}", "thinet{centred=true}", "flap{standardise=false}"]
IMAGES = as_images(torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1)))
STAGES = Stages(Context(Target.parse("macs:0.6"), calibration=IMAGES))
NEED_NORMS = ("bn-scale", "fsm")


def bn_net() -> Any:
    """Build conv, batch norm, ReLU, twice, pooling, classifier; spaces a (12), b (10)."""
    net: Any = networks()["batch_norm_after"]
    with torch.no_grad():
        net.an.weight[::2] *= -1
    return net


def evidences(net: nn.Module, seed: int = 0) -> dict[str, Evidence]:
    program = prepared(capture(net, (torch.randn(2, 3, 12, 12),)))
    context = Context(calibration=IMAGES, seed=seed)
    return evidence_of(Pipeline.parse("calibrate").run(program, context), context)


def evidence_of(program: Program, context: Context) -> dict[str, Evidence]:
    return {space.name: Evidence(program, context, space) for space in program.fact(Channels).prunable}


def score(name: str, evidence: Evidence) -> Tensor:
    found: Tensor = CRITERIA.make(name).scores(evidence)
    return found


@cache
@torch.no_grad()
def useless() -> Evidence:
    """Space a, where nothing goes into channel 3, nothing comes out and nothing reads it."""
    net = bn_net()
    net.a.weight[3], net.an.weight[3], net.an.bias[3], net.b.weight[:, 3] = 0, 0, 0, 0
    return evidences(net)["a"]


@cache
@torch.no_grad()
def unread() -> Evidence:
    """Space a, where nothing reads channel 3."""
    net = bn_net()
    net.b.weight[:, 3] = 0
    return evidences(net)["a"]


@cache
@torch.no_grad()
def silent() -> Evidence:
    """Space a, where nothing comes out of channel 3."""
    net = bn_net()
    net.an.weight[3], net.an.bias[3] = 0, 0
    return evidences(net)["a"]


def hidden(net: Any) -> Tensor:
    """Return the inputs of b on every image, in the order of the gradients."""
    (x,) = IMAGES.take(128, 0).inputs
    return F.relu(net.an(net.a(x)))


@pytest.mark.parametrize("name", NAMES)
def test_every_criterion_compresses(name: str) -> None:
    steps = f"{PREPARE},calibrate,select{{method=top{{by={name}}}}},sensitivity,allocate,compensate,slice"
    program = STAGES.run("batch_norm_after", steps)
    assert share(program) <= 0.6
    with torch.no_grad():
        assert bool(torch.isfinite(program.module(*IMAGES.inputs)).all())


@pytest.mark.parametrize("net", [name for name in networks() if name != "outer_product"])  # all of it is frozen
def test_scores_are_finite_everywhere(net: str) -> None:
    found = evidence_of(STAGES.run(net, f"{PREPARE},calibrate"), STAGES.context)
    for name in [one if one != "dais" else "dais{steps=3}" for one in NAMES]:
        for evidence in found.values():
            if name in NEED_NORMS and any(maker.gamma is None for maker in evidence.makers):
                with pytest.raises(PassError, match=r"needs a batch norm after .*: use "):
                    score(name, evidence)
                continue
            scores = score(name, evidence)
            assert scores.shape == (evidence.space.size,)
            assert scores.dtype == torch.float64
            assert bool(scores.isfinite().all())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("random", "geometric-median")])
def test_a_useless_channel_goes_first(name: str) -> None:
    assert int(score(name, useless()).argmin()) == 3


@pytest.mark.parametrize("name", ["flap", "thinet", "taylor", "fisher", "fsm", "fsm{measured=true}", "dais"])
def test_a_channel_that_nobody_weighs_goes_first(name: str) -> None:
    assert int(score(name, unread()).argmin()) == 3


@pytest.mark.parametrize("name", ["l1", "l2", "bn-scale", "ffr", "thinet", "taylor", "fisher", "fsm"])
def test_a_channel_that_is_always_zero_goes_first(name: str) -> None:
    assert int(score(name, silent()).argmin()) == 3


def test_a_filter_amid_the_others_goes_first_by_geometric_median() -> None:
    net: Any = networks()["plain"]
    with torch.no_grad():
        net.a.weight[3] = net.a.weight.mean(0)
    assert int(score("geometric-median", evidences(net)["a"]).argmin()) == 3


def test_norms_are_those_that_were_folded() -> None:
    net = bn_net()
    norms = evidences(net)["a"].program.fact(Norms).by_weight
    assert set(norms) == {"a.weight", "b.weight"}
    torch.testing.assert_close(norms["a.weight"].gamma, net.an.weight.detach().double().abs())
    torch.testing.assert_close(norms["a.weight"].beta, net.an.bias.detach().double())
    torch.testing.assert_close(score("bn-scale", evidences(net)["a"]), net.an.weight.detach().double().abs())


def test_weights_alone() -> None:
    evidence = evidences(bn_net())["a"]
    module = evidence.program.module
    into, out = module.get_parameter("a.weight").double(), module.get_parameter("b.weight").double()
    distance = [sum(float((into[j] - into[i]).norm()) for i in range(12)) for j in range(12)]
    torch.testing.assert_close(score("geometric-median", evidence), torch.tensor(distance).double())
    torch.testing.assert_close(score("l2", evidence), torch.stack([one.norm() for one in into]))
    energy = torch.stack([into[j].square().sum() + out[:, j].square().sum() for j in range(12)])
    torch.testing.assert_close(score("oicsr", evidence), energy / energy.mean())


def test_cpmc_counts_what_goes_and_normalises_over_the_network() -> None:
    found = evidences(bn_net())
    assert found["a"].macs == 144 * (27 + 90)
    assert found["a"].parameters == 27 + 1 + 90
    assert found["b"].parameters == 108 + 1 + 5
    weight = torch.cat([score("cpmc{macs=0,parameters=0}", one) for one in found.values()])
    assert float(weight.max()) == 1
    whole = torch.cat([score("cpmc", one) for one in found.values()])
    costs = torch.tensor([1.0] * 12 + [144 * 108 + 5] * 10).double() / torch.tensor([1.0] * 12 + [144 * 117] * 10)
    numbers = torch.tensor([1.0] * 12 + [114 / 118] * 10)
    torch.testing.assert_close(whole, weight - costs / 2 - numbers.double() / 2)


def test_random_is_the_same_for_the_same_seed() -> None:
    one, same, other = (evidences(bn_net(), seed)["a"] for seed in (0, 0, 1))
    assert torch.equal(score("random", one), score("random", same))
    assert not torch.equal(score("random", one), score("random", other))


@torch.no_grad()
def test_flap_and_thinet_from_raw_activations() -> None:
    net = bn_net()
    evidence = evidences(net)["a"]
    weight = evidence.program.module.get_parameter("b.weight").double()
    columns = F.unfold(hidden(net), 3, padding=1).transpose(1, 2).flatten(0, 1).double().unflatten(1, (12, 9))
    variance = columns.var(0, correction=0)
    each = (variance * weight.flatten(2).square().sum(0)).sum(1)
    wanted = (each - each.mean()) / each.std(correction=0)
    torch.testing.assert_close(score("flap", evidence), wanted, rtol=1e-4, atol=1e-5)

    parts = torch.einsum("rct,oct->roc", columns, weight.flatten(2))  # contributions to each output
    gone: list[int] = []
    while len(gone) < 12:
        left = [i for i in range(12) if i not in gone]
        gone.append(min(left, key=lambda i: float(parts[:, :, [*gone, i]].sum(2).square().sum())))
    assert score("thinet", evidence).argsort().tolist() == gone


@torch.no_grad()
def test_fsm_expects_what_a_normal_activation_does() -> None:
    net = bn_net()
    evidence = evidences(net)["a"]
    weight = evidence.program.module.get_parameter("b.weight").double()
    normal = torch.randn(200000, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (net.an.bias.double() + net.an.weight.double().abs() * normal).relu().mean(0)
    wanted = (expected * weight.sum((2, 3))).abs().mean(0)
    torch.testing.assert_close(score("fsm", evidence), wanted, rtol=0.02, atol=1e-4)
    means = F.unfold(hidden(net), 3, padding=1).mean((0, 2)).double().unflatten(0, (12, 9))
    wanted = (means * weight.flatten(2)).sum(2).abs().mean(0)
    torch.testing.assert_close(score("fsm{measured=true}", evidence), wanted, rtol=1e-4, atol=1e-6)


def by_hand(net: Any, read: Any) -> list[Tensor]:
    """Activation times gradient by sample, for each tensor that `read(sample)` names beside the outputs."""
    generator = torch.Generator().manual_seed(0)
    rows: list[list[Tensor]] = []
    for x in IMAGES.take(128, 0).inputs[0].split(1):
        tensors, logits = read(net, x)
        label = torch.multinomial(logits.detach().double().softmax(1), 1, generator=generator)[0]
        slopes = torch.autograd.grad(F.cross_entropy(logits, label), tensors)
        rows.append([(a * g).flatten(2).sum((0, 2)) for a, g in zip(tensors, slopes, strict=True)])
    return [torch.stack(each).detach().double() for each in zip(*rows, strict=True)]


def read_bn_net(net: Any, x: Tensor) -> Any:
    y = F.relu(net.an(net.a(x)))
    z = F.relu(net.bn(net.b(y))).mean((2, 3), keepdim=True)
    return (y, z), net.fc(z.flatten(1))


def read_residual(net: Any, x: Tensor) -> Any:
    y = F.relu(net.a(x))
    inside = y.view_as(y)  # the path through b alone
    h = F.relu(net.b(inside))
    z = (y + net.c(h)).mean((2, 3), keepdim=True)
    return (inside, h, z), net.fc(z.flatten(1))


def test_taylor_and_fisher_by_hand() -> None:
    net = bn_net()
    found = evidences(net)
    for name, wanted in zip("ab", by_hand(net, read_bn_net), strict=True):
        evidence = found[name]
        torch.testing.assert_close(evidence.contributions, wanted, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(score("taylor", evidence), wanted.abs().mean(0), rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(score("fisher", evidence), wanted.square().mean(0) / 2, rtol=1e-3, atol=1e-8)


def test_a_shortcut_around_a_reader_stays() -> None:
    net = networks()["residual"]
    found = evidences(net)
    through_b, inner, outer = by_hand(net, read_residual)
    torch.testing.assert_close(found["a"].contributions, through_b + outer, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found["b"].contributions, inner, rtol=1e-3, atol=1e-6)
    one = found["a"]
    assert contributions(one.program, one.context) is contributions(one.program, one.context)


def test_a_network_with_a_fixed_batch_gives_the_same_contributions() -> None:
    wanted, other = (evidences(bn_net())["a"] for _ in range(2))
    pairs = replace(other, program=replace(other.program, dynamic_batch=False))  # two samples at a time
    torch.testing.assert_close(pairs.contributions, wanted.contributions, rtol=1e-3, atol=1e-6)


def test_what_has_no_derivative_says_what_to_use() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor(x.detach().numpy() * 2)

    tail: Any = nn.Sequential(nn.Flatten(), nn.Linear(400, 5))
    net = nn.Sequential(OrderedDict(a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1), odd=Odd(), tail=tail)).eval()
    with pytest.raises(PassError, match=r"cannot be differentiated .* flap"):
        prunec.compress(net, IMAGES, target="macs:0.6", selector="top{by=taylor}", opaque=["odd"])
