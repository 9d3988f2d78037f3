"""Fits to what a clamp lets through: the targets, the error on folds that were left out, and where a clamp is seen."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from conftest import needs_shared
from shared_nets import cifar, load
from torch import Tensor, nn

import prunec
from prunec.api import prepared
from prunec.channels.spaces import Channels, Split
from prunec.compensation import clamped_fit, layer_fit
from prunec.compensation.clamped_fit import fitted_through
from prunec.compensation.interface import Fits
from prunec.compensation.paired_sweep import Pair, stops_of
from prunec.data.images import Images
from prunec.frontend.capture import capture
from prunec.passes import compensate
from prunec.passes.compensators.sequential import Sequential
from prunec.statistics.folds import KEPT, Dealt, Folds, Rows
from prunec.statistics.moments import Moments
from prunec.surgery import slicing
from prunec.surgery.plan import Plan

INPUTS, OUTPUTS, FOLDS = 6, 4, 8


def folds_of(low: float, high: float, kept: bool = False, spread: float = 1.0) -> Folds:
    """Return folds of a layer narrowed from eight inputs to six, with a shortcut."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(OUTPUTS, INPUTS + 2, generator=generator)
    found = Folds()
    for fold in [*range(FOLDS), *([KEPT] if kept else [])]:
        x = torch.randn(200, INPUTS + 2, generator=generator)
        shortcut = spread * torch.randn(200, 1, OUTPUTS, generator=generator)
        z, y = x[:, None, :INPUTS], (x @ weight.T)[:, None]
        found.add(fold, z, y)
        found.rows.append(Rows(fold, z, y, shortcut, low, high))
    return found


def linear(folds: Folds) -> Fits:
    zeros = torch.zeros(1, OUTPUTS, INPUTS, dtype=torch.float64), torch.zeros(1, OUTPUTS, dtype=torch.float64)
    return Sequential.fits_by(Sequential(ridge=1e-5).fit, folds, *zeros)


def missed(folds: Folds, fits: Fits, low: float, high: float) -> float:
    """Return the squared error behind the clamp, by fits without the row's fold."""
    found = 0.0
    for left_out, (weight, bias) in fits.held_out:
        for rows in (one for one in folds.rows if one.fold in left_out and one.fold >= 0):
            total = rows.z[:, 0].double() @ weight[0].T + bias[0] + rows.shortcut[:, 0]
            found += float((total.clamp(low, high) - (rows.y + rows.shortcut)[:, 0].clamp(low, high)).square().sum())
    return found


@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (0.0, 1.5), (-1.0, 1.0)])
def test_the_error_behind_the_clamp_falls_on_folds_that_the_fit_has_not_seen(low: float, high: float) -> None:
    folds = folds_of(low, high)
    before, after = linear(folds), fitted_through(folds, linear)
    assert missed(folds, after, low, high) < 0.98 * missed(folds, before, low, high)
    assert missed(folds, after, -math.inf, math.inf) > missed(folds, before, -math.inf, math.inf)


def test_where_nothing_is_clamped_the_fit_is_least_squares() -> None:
    folds = folds_of(-1e6, 1e6)
    torch.testing.assert_close(fitted_through(folds, linear).all, linear(folds).all, rtol=1e-5, atol=1e-6)


def test_a_lower_rank_is_fitted_through_the_clamp_and_stays_one() -> None:
    generator, rank = torch.Generator().manual_seed(0), 8
    weight, bias, folds = torch.randn(60, 32, generator=generator), torch.full((60,), -4.0), Folds()
    for fold in range(FOLDS):
        z = torch.randn(300, 32, generator=generator).relu()
        y = z @ weight.T + bias
        folds.add(fold, z[:, None], y[:, None])
        folds.rows.append(Rows(fold, z[:, None], y[:, None], torch.zeros(300, 1, 60), 0.0, math.inf))

    def linear(each: Folds) -> Fits:
        return Sequential.fits_by(Sequential(ridge=1e-5).fit, each, weight[None].double(), bias[None].double())

    then = partial(layer_fit.truncated, folds.total, Split((), ()), rank)
    before, after = then(linear(folds)), fitted_through(folds, linear, then)
    assert missed(folds, after, 0.0, math.inf) < 0.85 * missed(folds, before, 0.0, math.inf)
    assert all(torch.linalg.matrix_rank(fit[0][0]) == rank for fit in (after.all, *(fit for _, fit in after.held_out)))


def test_without_rows_it_is_least_squares_too() -> None:
    folds = folds_of(0.0, math.inf)
    bare = Folds(folds.parts)
    assert torch.equal(fitted_through(bare, linear).all[0], linear(bare).all[0])


def test_a_target_that_is_clamped_need_only_be_kept_on_its_side() -> None:
    z = torch.tensor([[[1.0]], [[2.0]], [[-3.0]], [[4.0]]])
    y = torch.tensor([[[-5.0]], [[-5.0]], [[1.0]], [[9.0]]])
    shortcut = torch.tensor([[[0.0]], [[-4.0]], [[0.0]], [[0.0]]])
    folds = Folds(rows=[Rows(0, z, y, shortcut, 0.0, 6.0)])
    fit = torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    (found,) = clamped_fit._freed(folds, clamped_fit._sums(folds, Fits(fit, [((0,), fit)])))
    # above low is pulled to it; below it, with the shortcut, is free; between the ends is itself; below high is pulled
    assert found.flatten().tolist() == [0.0, 2.0, 1.0, 6.0]


def test_images_kept_back_change_no_fit_but_that_to_all() -> None:
    with_kept, without = (fitted_through(folds_of(0.0, 6.0, kept), linear) for kept in (True, False))
    by_fold = dict(with_kept.held_out)
    for folds, fit in without.held_out:
        torch.testing.assert_close(by_fold[folds], fit)
    torch.testing.assert_close(by_fold[KEPT,], without.all)
    assert not torch.allclose(with_kept.all[0], without.all[0])


def test_moments_with_other_targets_are_those_of_the_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(300, 2, 5, generator=generator) + 3, torch.randn(300, 2, 4, generator=generator) - 2
    z[:, :, 1] = 2.5
    direct, found = Moments(), Moments()
    direct.add(z, y)
    found.add(z[:100], torch.zeros(100, 2, 4))
    found.add(z[100:], torch.ones(200, 2, 4))
    aimed = found.aimed([(z[:100], y[:100]), (z[100:], y[100:])])
    for name in ("mean_z", "mean_y", "variance_y", "zz", "zy"):
        torch.testing.assert_close(getattr(aimed, name), getattr(direct, name), rtol=1e-5, atol=1e-6)
    assert not aimed.zy[:, 1].any()


def test_moments_with_other_targets_share_what_is_known_of_the_inputs() -> None:
    folds = folds_of(0.0, math.inf, kept=True)
    targets = [-2 * rows.y + rows.z.mean(2, keepdim=True) for rows in folds.rows]
    aimed, direct = folds.aimed(targets), Folds()
    for rows, target in zip(folds.rows, targets, strict=True):
        direct.add(rows.fold, rows.z, target)
    assert aimed.total.zz is folds.total.zz
    assert aimed.rest.inputs is folds.rest.inputs
    pairs = [(aimed.total, direct.total), (aimed.every, direct.every), (aimed.fewer(-2), direct.fewer(-2))]
    parts = [(aimed.own, direct.own), (aimed.rest, direct.rest), *zip(aimed.judges, direct.judges, strict=True)]
    for one, other in [*pairs, *parts]:
        for name in ("mean_z", "mean_y", "variance_y", "zz", "zy"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6)
    right = torch.ones_like(aimed.total.zy)
    torch.testing.assert_close(folds.total.solved(0.1, right), direct.total.solved(0.1, right), rtol=1e-5, atol=1e-6)
    assert aimed.total.factors is folds.total.factors
    assert list(aimed.total.factors) == [0.1]


class Net(nn.Module):
    """A narrowed layer and its reader, before `after`; optionally with a residual add."""

    def __init__(self, after: Any, shortcut: bool = False) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 3, 1, 1), nn.Conv2d(8, 4, 3, 1, 1)
        self.head = nn.Conv2d(4, 2, 1)
        self.after, self.shortcut = after, shortcut

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.second(torch.tanh(self.first(x)))
        return self.head(self.after(x + y if self.shortcut else y))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("after", "shortcut", "clamp"),
    [(torch.relu, False, (0, math.inf)), (nn.ReLU6(), False, (0, 6)), (nn.Hardtanh(-2, 3), False, (-2, 3)),
     (lambda x: x.clamp(-1, 2), False, (-1, 2)), (lambda x: x.clamp(max=2), False, (-math.inf, 2)),
     (torch.relu, True, (0, math.inf)), (torch.sigmoid, False, None), (lambda x: torch.relu(x) + x, False, None),
     (lambda x: torch.relu(x + 1), False, None), (nn.MaxPool2d(2), False, None)],
)  # fmt: skip
def test_a_clamp_is_seen_behind_a_layer_or_its_sum_alone(after: Any, shortcut: bool, clamp: Any) -> None:
    torch.manual_seed(0)
    program = prepared(capture(Net(after, shortcut).eval(), (torch.randn(2, 4, 8, 8),)))
    channels = program.fact(Channels)
    space = next(one for one in channels.prunable if one.size == 8)
    stops = stops_of(program.module, Plan(channels, {space.name: (0, 1, 2)}))
    assert [stop.clamp for stop in stops if stop.one.weight == "second.weight"] == [clamp]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.97, 1.1])
def test_the_rows_of_all_batches_are_kept_or_of_none(share: float) -> None:
    """Batches are of different sizes: 40 images make 10 folds, and 41 one that has another image."""
    torch.manual_seed(0)
    program = prepared(capture(Net(torch.relu).eval(), (torch.randn(2, 4, 8, 8),)))
    channels = program.fact(Channels)
    space = next(one for one in channels.prunable if one.size == 8)
    plan = Plan(channels, {space.name: (0, 1, 2)})
    images = Images((torch.randn(41, 4, 8, 8),), None, "noise")
    pair = Pair.of(program.module, slicing.apply(program.module, plan), Dealt.of(images, 64))
    (stop,) = (one for one in stops_of(program.module, plan) if one.one.weight == "second.weight")
    found: list[Folds] = []
    hold = int(share * 10 * 5 * 64 * 3 * 9 * 4)  # bytes, of ten batches as large as the largest
    pair.sweep([stop], lambda _, folds: found.append(folds), rows=41 * 64, seed=0, hold=hold)
    assert len(found[0].rows) in (0, 10)
    assert len(found[0].rows) == (10 if share > 1 else 0)


@needs_shared
def test_a_real_network_errs_less_on_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-20 at 0.4 of its MACs, on test images."""
    net, options = load("cifar_resnet20"), {"target": "macs:0.4", "align": "none", "decomposer": "none"}
    images, other = cifar("train_8192", 256)[0], cifar("test", 512)[0]
    errors = []
    for hold in (compensate.HOLD, 0):
        monkeypatch.setattr(compensate, "HOLD", hold)
        result = prunec.compress(net, images, keep_branches=True, **options)  # type: ignore[call-overload]
        with torch.no_grad():
            dense, found = net(other), result.module(other)
        errors.append(float((found - dense).square().sum() / (dense - dense.mean(0)).square().sum()))
    assert errors[0] < 0.97 * errors[1]
