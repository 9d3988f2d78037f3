"""Indicators: they meet the share, close what does nothing, and are the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from programs import ready
from torch import Tensor

from prunec.channels.spaces import Channels
from prunec.cost.macs import Macs
from prunec.data.images import as_images
from prunec.errors import PassError
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.selection.indicators import Annealing, indicators

IMAGES = as_images(torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1)))


def program(name: str) -> Program:
    return ready(name)


def share(channels: Channels, alpha: dict[str, Tensor]) -> float:
    model = Macs.of(channels)
    counts = model.sizes.copy()
    for place, space in enumerate(channels.prunable):
        counts[place] = int((alpha[space.name] > 0).sum())
    return model.total(counts) / model.total()


@pytest.mark.parametrize("name", ["dense_block", "residual", "mixer", "plain"])
@pytest.mark.parametrize("wanted", [0.3, 0.6])
def test_what_is_open_leaves_about_the_share_that_was_asked_for(name: str, wanted: float) -> None:
    given = program(name)
    alpha = indicators(given, Context(calibration=IMAGES), wanted, Annealing(steps=40))
    channels = given.fact(Channels)
    assert {space.name: space.size for space in channels.prunable} == {key: len(one) for key, one in alpha.items()}
    assert share(channels, alpha) == pytest.approx(wanted, abs=0.15)  # one of twelve channels is worth as much


def test_a_channel_that_nothing_reads_matters_least() -> None:
    given = program("plain")
    weight = graph.attribute(given.module, "b.weight").clone()
    weight[:, [2, 7]] = 0
    deaf = replace(given, module=graph.rebuild(given.module, {"b.weight": weight}))
    alpha = indicators(deaf, Context(calibration=IMAGES), 0.6, Annealing(steps=60))["a"]
    assert sorted(alpha.argsort()[:2].tolist()) == [2, 7]
    assert bool((alpha[[2, 7]] < 0).all())


def test_a_constant_channel_costs_nothing_for_its_mean_stands_in() -> None:
    given = program("plain")
    weight, bias = graph.attribute(given.module, "a.weight").clone(), graph.attribute(given.module, "a.bias").clone()
    weight[4], bias[4] = 0, 50.0
    constant = replace(given, module=graph.rebuild(given.module, {"a.weight": weight, "a.bias": bias}))
    alpha = indicators(constant, Context(calibration=IMAGES), 0.6, Annealing(steps=60))["a"]
    assert float(alpha[4]) < 0


def test_the_same_seed_gives_the_same() -> None:
    given = program("residual")
    one, other = (indicators(given, Context(calibration=IMAGES, seed=3), 0.5, Annealing(steps=10)) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_network_without_channels_to_choose_from_has_none() -> None:
    assert indicators(program("outer_product"), Context(calibration=IMAGES), 0.5) == {}


def test_a_network_without_a_gradient_says_so() -> None:
    given = program("plain")
    module = graph.rebuild(given.module, {})
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    (logits,) = output.all_input_nodes
    with module.graph.inserting_after(logits):
        cut = module.graph.call_function(torch.ops.aten.detach.default, (logits,))
    output.replace_input_with(logits, cut)
    module.recompile()
    with pytest.raises(PassError, match="choose a method without indicators"):
        indicators(replace(given, module=module), Context(calibration=IMAGES), 0.5, Annealing(steps=2))
