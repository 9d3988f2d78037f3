"""Moments kept a fold: the error of a fit on images that it has not seen, and the ridges chosen by it."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from micro import three
from torch import Tensor

import prunec
from prunec.compensation.layer_fit import Named
from prunec.compensation.paired_sweep import Pair
from prunec.compensation.ridges import RIDGES, START, Trials, ridge_fit
from prunec.data.images import Images
from prunec.ir import graph
from prunec.passes.compensators.sequential import Sequential
from prunec.statistics.folds import FOLDS, Dealt, Folds
from prunec.statistics.moments import Moments
from prunec.statistics.parts import Parts

GROUPS, INPUTS, OUTPUTS = 2, 6, 4


def images(count: int, step: int = 1) -> Images:
    return Images((torch.arange(count).float()[:, None],), None, "counted", step=step)


def rows(count: int, seed: int, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """Inputs far from zero, and targets that follow from them up to noise."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, GROUPS, INPUTS, generator=generator) + 5
    weight = torch.randn(GROUPS, OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(99))
    y = torch.einsum("goi,rgi->rgo", weight, z) + noise * torch.randn(count, GROUPS, OUTPUTS, generator=generator)
    return z, y


def summed(*parts: tuple[Tensor, ...]) -> Moments:
    found = Moments()
    for part in parts:
        found.add(*part)
    return found


def test_the_moments_of_all_parts_are_those_of_all_rows() -> None:
    parts = [rows(count, seed) for seed, count in enumerate((40, 25, 35))]
    whole, found = summed(*parts), Parts.of([summed(part) for part in parts]).joined()
    assert found.count == whole.count == 100
    for name in ("mean_z", "mean_y", "variance_y", "zz", "zy"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name))


def test_the_moments_without_each_part_are_those_of_the_other_rows() -> None:
    parts = [rows(count, seed) for seed, count in enumerate((40, 25, 35))]
    rest = Parts.of([summed(part) for part in parts]).without_each(summed(*parts))
    for place in range(3):
        direct = summed(*parts[:place], *parts[place + 1 :])
        assert int(rest.count[place]) == direct.count
        for name in ("mean_z", "mean_y", "variance_y", "zz", "zy"):
            torch.testing.assert_close(getattr(rest, name)[place], getattr(direct, name))


def test_a_column_that_varies_in_one_part_alone_is_constant_without_it() -> None:
    parts = [rows(20, seed) for seed in range(3)]
    for z, _ in parts[:2]:
        z[:, :, 2] = 7.3
    found = Parts.of([summed(part) for part in parts]).without_each(summed(*parts))
    for each in (found.zz[2, :, 2], found.zz[2, :, :, 2], found.zy[2, :, 2]):
        assert not each.any()
    assert found.zz[1, :, 2, 2].all()


def test_constant_columns_of_all_parts_stay_exactly_constant() -> None:
    parts = []
    for seed in range(3):
        z, y = rows(20, seed)
        z[:, :, 2] = 7.3
        parts.append(summed((z, y)))
    found = Parts.of(parts).joined()
    for each in (found.zz[:, 2], found.zz[:, :, 2], found.zy[:, 2]):
        assert not each.any()


def test_the_error_of_any_fit_on_any_rows_is_known_without_them() -> None:
    z, y = rows(200, 5)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(GROUPS, OUTPUTS, INPUTS, generator=generator, dtype=torch.float64)
    bias = torch.randn(GROUPS, OUTPUTS, generator=generator, dtype=torch.float64)
    direct = (y - torch.einsum("goi,rgi->rgo", weight, z.double()) - bias).square().mean(0)
    torch.testing.assert_close(Parts.of([summed((z, y))]).error(weight, bias)[0], direct, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "step", "folds"), [(20, 1, 5), (3, 1, 3), (12, 4, 3), (4, 4, 1), (64, 1, 16), (70, 1, 16)]
)
def test_each_image_is_in_one_fold_and_steps_stay_whole(count: int, step: int, folds: int) -> None:
    dealt = Dealt.of(images(count, step), max(4, step))
    assert dealt.folds == folds
    seen = torch.cat([batch[0][:, 0] for batch in dealt.batches])
    assert sorted(seen.tolist()) == list(range(count))
    for (batch,), fold in zip(dealt.batches, dealt.fold, strict=True):
        assert len(batch) <= max(4, step)
        assert len(batch) % step == 0
        assert {int(one) // step % max(4, folds) for one in batch[:, 0]} == {fold}


def folded(noise: float, count: int = 12) -> Folds:
    found = Folds()
    for fold in range(4):
        found.add(fold, *rows(count, fold, noise))
    return found


def test_of_a_wide_layer_folds_are_left_out_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunec.statistics.folds.WIDE", 1)
    found = Folds()
    for fold in range(8):
        found.add(fold, *rows(5, fold))
    assert list(found.parts) == [tuple(range(start, FOLDS, 4)) for start in range(4)]
    assert found.own.count.tolist() == [10, 10, 10, 10]
    assert found.rest.count.tolist() == [30, 30, 30, 30]
    fits = Sequential().fits(
        found, torch.zeros(GROUPS, OUTPUTS, INPUTS, dtype=torch.float64), torch.zeros(GROUPS, OUTPUTS)
    )
    assert [left_out for left_out, _ in fits.held_out] == list(found.parts)


def test_a_fold_is_left_out_of_what_is_fitted_to_the_others() -> None:
    folds = folded(0.5)
    weight, bias = torch.zeros(GROUPS, OUTPUTS, INPUTS, dtype=torch.float64), torch.zeros(GROUPS, OUTPUTS)
    before = Sequential().fits(folds, weight, bias.double())
    changed = folded(0.5)
    changed.parts[2,] = summed((rows(12, 2)[0], -rows(12, 2)[1]))
    after = Sequential(ridge=1e-3).fits(changed, weight, bias.double())
    assert [left_out for left_out, _ in before.held_out] == [(0,), (1,), (2,), (3,)]
    same = Sequential(ridge=1e-3).fits(folds, weight, bias.double())
    torch.testing.assert_close(same.held_out[2][1][0], after.held_out[2][1][0], rtol=1e-9, atol=1e-9)
    assert float((same.held_out[1][1][0] - after.held_out[1][1][0]).abs().max()) > 1e-3


def test_noise_asks_for_a_larger_ridge_and_targets_that_follow_exactly_for_none() -> None:
    weight = torch.zeros(GROUPS, OUTPUTS, INPUTS, dtype=torch.float64)
    chosen = [Trials(folded(noise, 3), weight).best() for noise in (0.0, 30.0)]
    assert chosen[0] <= START < chosen[1]


def test_the_chosen_ridge_has_less_error_on_new_rows_than_the_usual_one() -> None:
    better = 0
    for seed in range(8):
        folds = Folds()
        for fold in range(4):
            folds.add(fold, *rows(3, 100 * seed + fold, 5.0))
        weight = torch.zeros(GROUPS, OUTPUTS, INPUTS, dtype=torch.float64)
        others = summed(rows(2000, 7 + 100 * seed, 5.0))
        places = START, Trials(folds, weight).best()
        usual, chosen = (
            Parts.of([others]).error(*ridge_fit(folds.total, weight, RIDGES[place])).sum() for place in places
        )
        better += bool(chosen < usual)
    assert better >= 7


def test_a_layer_that_no_fit_makes_better_on_other_images_is_left() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(GROUPS, OUTPUTS, INPUTS, generator=generator, dtype=torch.float64)
    bias, folds = torch.randn(GROUPS, OUTPUTS, generator=generator, dtype=torch.float64), Folds()
    for fold in range(4):
        z = torch.randn(2, GROUPS, INPUTS, generator=generator)
        y = torch.einsum("goi,rgi->rgo", weight.float(), z) + bias.float()
        folds.add(fold, z, y + 1e-3 * torch.randn(y.shape, generator=generator))
    fits = Sequential().fits(folds, weight, bias)
    assert torch.equal(fits.all[0], weight)
    assert torch.equal(fits.all[1], bias)


def test_images_of_a_fold_run_through_the_network_that_was_fitted_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[Pair] = []
    weights: dict[int, dict[str, Tensor]] = {fold: {} for fold in range(FOLDS)}
    assign = Pair.assign

    def spied(self: Pair, found: Named, held_out: Mapping[int, Named]) -> None:
        pairs.append(self)
        for fold, each in held_out.items():
            weights[fold].update(each)
        assign(self, found, held_out)

    monkeypatch.setattr(Pair, "assign", spied)
    given = torch.randn(40, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    prunec.compress(three(12, 16, 16), given, target="macs:0.6", decomposer="none", keep_branches=True)
    pair, dealt = pairs[-1], 40 // 4
    for batch, fold in enumerate(pair.fold):
        mine = copy.deepcopy(pair.narrow.module)
        for name, value in weights[fold].items():
            graph.assign(mine, name, value)
        last = pair.narrow.nodes[-1]
        pair.narrow.run(batch, pair.reached[1], len(pair.narrow.nodes))
        torch.testing.assert_close(pair.narrow.values[batch][last], mine(given[fold::dealt]))
        assert float((pair.narrow.values[batch][last] - pair.narrow.module(given[fold::dealt])).abs().max()) > 0
