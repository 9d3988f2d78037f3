"""Laws of low rank, in float64: splits are exact at full rank, curves are the errors of what is built."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from micro import networks

import prunec
from prunec.api import PREPARE
from prunec.channels.matrix import weight_of
from prunec.channels.spaces import Channels, Factoring, Split
from prunec.data.images import as_images
from prunec.errors import NumericsError
from prunec.frontend.capture import capture
from prunec.grammar.registry import STRATEGIES
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.solvers import lowrank
from prunec.statistics.facts import Curves, Statistics

SPLITS = [
    Split((), ()),
    Split((3,), (True,)),
    Split((3, 3), (True, False)),
    Split((3, 3), (False, True)),
    Split((3, 3), (True, True)),
    Split((3, 3), (False, False)),
    Split((1, 5), (True, False)),
    Split((2, 3, 2), (False, True, False)),
]


TUCKER2 = Split((3, 3), (False, False), Split((3, 3), (True, True)))
TRAIN = Split((3, 3), (False, False), Split((3, 3), (True, False), Split((1, 3), (True, True))))


def errors(weight: torch.Tensor, covariance: torch.Tensor, split: Split, highest: int) -> torch.Tensor:
    return lowrank.Parts.of(lowrank.Layer(weight, covariance), split, highest).errors(highest)


def problem(split: Split, outputs: int = 5, inputs: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [O, I·taps] and a covariance."""
    generator = torch.Generator().manual_seed(0)
    width = inputs * split.taps[0] * split.taps[1]
    rows = torch.randn(200, width, generator=generator, dtype=torch.float64)
    rows = rows @ torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(outputs, width, generator=generator, dtype=torch.float64), torch.cov(rows.T)


@pytest.mark.parametrize("split", SPLITS)
def test_unfold_and_fold_are_inverse(split: Split) -> None:
    weight, _ = problem(split)
    matrix = lowrank.unfold(weight, split)
    assert matrix.shape == (5 * split.taps[1], 4 * split.taps[0])
    assert torch.equal(lowrank.fold(matrix, split), weight)


@pytest.mark.parametrize("split", SPLITS)
def test_the_curve_is_the_error_of_the_weight_that_is_built(split: Split) -> None:
    weight, covariance = problem(split)
    full = min(5 * split.taps[1], 4 * split.taps[0])
    found = errors(weight, covariance, split, full)
    variance = float(((weight @ covariance) * weight).sum())
    for rank in range(full + 1):
        less = weight - (lowrank.truncated(weight, covariance, split, rank) if rank else 0 * weight)
        assert float(found[rank]) == pytest.approx(float(((less @ covariance) * less).sum()) / variance, abs=1e-6)
    assert bool((found.diff() <= 1e-9).all())
    assert float(found[-1]) < 1e-6


@pytest.mark.parametrize("outputs", [3, 40])  # decomposed on the side of the outputs, or on that of the inputs
@pytest.mark.parametrize("split", SPLITS)
def test_one_decomposition_serves_every_rank(split: Split, outputs: int) -> None:
    weight, covariance = problem(split, outputs=outputs)
    parts = lowrank.Parts.of(lowrank.Layer(weight, covariance), split, 3)
    for rank in (1, 2, 3):
        torch.testing.assert_close(parts.truncated(rank), lowrank.truncated(weight, covariance, split, rank))
        torch.testing.assert_close(parts.errors(3)[: rank + 1], errors(weight, covariance, split, rank))
    assert parts.errors(0).tolist() == [1.0]


@pytest.mark.parametrize("split", [*SPLITS, TRAIN])
def test_one_first_layer_serves_several_weights(split: Split) -> None:
    weight, covariance = problem(split)
    parts = lowrank.Parts.of(lowrank.Layer(weight, covariance), split, 2)
    others = [weight, weight + 0.1 * weight.flip(0), -weight]
    for other, found in zip(others, parts.truncations(2, others), strict=True):
        alone = dataclasses.replace(parts, layer=lowrank.Layer(other, covariance))
        torch.testing.assert_close(found, alone.truncated(2))


@pytest.mark.parametrize("split", [TUCKER2, TRAIN])
def test_a_chain_of_layers_is_as_good_as_its_curve_says(split: Split) -> None:
    weight, covariance = problem(split)
    found = errors(weight, covariance, split, 4)
    variance = float(((weight @ covariance) * weight).sum())
    for rank in range(1, 5):
        low = lowrank.truncated(weight, covariance, split, rank)
        less = weight - low
        assert float(found[rank]) == pytest.approx(float(((less @ covariance) * less).sum()) / variance, abs=1e-9)
        matrix = low.reshape(5, 4, 9)
        assert torch.linalg.matrix_rank(matrix.flatten(1), atol=1e-8) <= rank
        assert torch.linalg.matrix_rank(matrix.transpose(0, 1).flatten(1), atol=1e-8) <= rank
    assert bool((found.diff() < 0).all())


def test_tucker_without_a_cut_is_the_weight_itself() -> None:
    weight, covariance = problem(TUCKER2, outputs=4)
    assert torch.allclose(lowrank.truncated(weight, covariance, TUCKER2, 4), weight, atol=1e-3)


@pytest.mark.parametrize("split", [TUCKER2, TRAIN])
def test_a_chain_of_convolutions_gives_what_the_truncated_one_gives(split: Split) -> None:
    weight, covariance = problem(split)
    low = lowrank.truncated(weight, covariance, split, 3).reshape(5, 4, 3, 3)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    found = x
    for part, (tall, wide) in zip(lowrank.split_exactly(low, split, 3), split.layers, strict=True):
        found = F.conv2d(found, part, stride=(1 + tall, 1), padding=(int(tall), int(wide)))
    assert torch.allclose(found, F.conv2d(x, low, stride=(2, 1), padding=1), atol=1e-8)


def test_principal_components_are_the_best_that_a_rank_can_do() -> None:
    split = Split((3, 3), (True, True))
    weight, covariance = problem(split)
    values = torch.linalg.eigvalsh(weight @ covariance @ weight.T)
    for rank in range(1, 5):
        found = float(errors(weight, covariance, split, rank)[-1])
        assert found == pytest.approx(float(values[: 5 - rank].sum() / values.sum()), rel=1e-4)


@pytest.mark.parametrize("split", SPLITS)
def test_a_truncated_weight_splits_exactly(split: Split) -> None:
    weight, covariance = problem(split)
    low = lowrank.truncated(weight, covariance, split, 2)
    first, second = lowrank.split_exactly(low.reshape(5, 4, *split.kernel), split, 2)
    assert first.shape[0] == second.shape[1] == 2
    whole = torch.einsum("or...,ri...->oi...", second, first) if split.kernel else second @ first
    assert torch.allclose(whole.reshape(5, -1), low, atol=1e-8)


def test_two_convolutions_give_what_one_gave() -> None:
    split = Split((3, 3), (True, False))
    weight, _ = problem(split)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    wanted = F.conv2d(x, weight.reshape(5, 4, 3, 3), stride=(2, 1), padding=1)
    first, second = lowrank.split_exactly(weight.reshape(5, 4, 3, 3), split, 12)
    found = F.conv2d(F.conv2d(x, first, stride=(2, 1), padding=(1, 0)), second, padding=(0, 1))
    assert torch.allclose(found, wanted)


KERNELS = [(), (1,), (5,), (1, 1), (3, 3), (1, 5), (2, 1, 3)]
IMAGES = torch.randn(32, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [name for name in STRATEGIES["decomposers"].names() if name != "none"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_decomposer_shares_the_axes_out_in_different_ways(name: str, kernel: tuple[int, ...]) -> None:
    found = STRATEGIES["decomposers"].make(name).splits(kernel)
    assert found
    assert all(split.kernel == kernel and len(split.first) == len(kernel) for split in found)
    assert all(mine for split in found for size, mine in zip(kernel, split.first, strict=True) if size == 1)
    assert len({split.first for split in found}) == len(found)
    for split in found:
        assert all(sum(layer[axis] for layer in split.layers) == 1 for axis in range(len(kernel)))


def ranked(decomposer: str) -> Program:
    steps = f"{PREPARE},calibrate,select,ranks{{method={decomposer}}}"
    network = networks()["residual"]
    return Pipeline.parse(steps).run(capture(network, (IMAGES[:2],)), Context(calibration=as_images(IMAGES)))


def error_at_half(program: Program, found: Factoring) -> float:
    """Return the error at the rank of half the layer's cost, recomputed."""
    one = next(one for one in program.fact(Channels).contractions if one.node == found.node)
    whole = next(one.macs for one in program.fact(Channels).products if one.node == found.node)
    rank = int(whole / 2 / (found.first * len(one.inputs) + found.second * len(one.outputs)))
    covariance = program.fact(Statistics).moments[one.node].zz[0]
    return float(errors(weight_of(program.module, one)[0], covariance, found.split, rank)[-1])


def test_collaborative_takes_for_each_layer_the_split_of_the_least_error_at_half_its_macs() -> None:
    programs = {name: ranked(name) for name in ("collaborative", "spatial-svd", "whitened-svd", "channel-svd")}
    by_node = {
        name: {one.node: error_at_half(program, one) for one in program.fact(Channels).factorings}
        for name, program in programs.items()
    }
    best = by_node.pop("collaborative")
    assert len(best) == 4
    for others in by_node.values():
        assert all(best[node] <= error + 1e-9 for node, error in others.items())
    taken = {one.node: one.split.first for one in programs["collaborative"].fact(Channels).factorings}
    assert len(set(taken.values())) > 1


@pytest.mark.parametrize("decomposer", ["channel-svd", "collaborative"])
def test_the_curve_of_a_rank_space_ends_where_nothing_is_gained(decomposer: str) -> None:
    program = ranked(decomposer)
    for one in program.fact(Channels).factorings:
        curve = program.fact(Curves).by_space[one.space]
        assert float(curve.error[0]) == 0
        assert bool((curve.error[1:].diff() >= -1e-9).all())
    result = prunec.compress(networks()["residual"], IMAGES, target="macs:0.5", decomposer=decomposer)
    assert result.report["macs"]["share"] <= 0.5


def test_a_covariance_that_rounding_has_made_negative_is_made_positive() -> None:
    """Two of four channels copy the others, up to float32 rounding."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 2, 9, generator=draw, dtype=torch.float64)
    true = torch.cov(torch.cat([rows, rows], 1).flatten(1).T)
    rounded = true + torch.diag(torch.tensor([1.1e-7, -0.9e-7, 1e-8], dtype=torch.float64).repeat(12))
    weight = torch.randn(24, 36, generator=draw, dtype=torch.float64)
    parts = lowrank.Parts.of(lowrank.Layer(weight, rounded), Split((3, 3), (True, False)), 12)
    with pytest.raises(NumericsError):
        parts._errors(12)
    errors = parts.errors(12)
    assert (errors.diff() <= 1e-12).all()
    for rank in (1, 4, 12):
        less = weight - parts.truncated(rank)
        found = float(((less @ true) * less).sum() / ((weight @ true) * weight).sum())
        assert found == pytest.approx(float(errors[rank]), abs=1e-5)
