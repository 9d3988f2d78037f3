"""The learning curve: networks fitted to a half and a quarter of the images, and what twice as many would bring."""

from __future__ import annotations

import json

import pytest
import torch
from micro import networks
from torch import Tensor

import prunec
from prunec.api import Result, prepared
from prunec.data.images import Images
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.statistics.agreement import Agreement, agreements_of
from prunec.statistics.folds import FEWER, KEPT, Dealt, Folds
from prunec.statistics.moments import Moments
from prunec.surgery.plan import Plan
from prunec.validation.held_out import keep_back
from prunec.validation.learning_curve import Learning

IMAGES = torch.randn(160, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def measured(error: float, agreement: float | None) -> Agreement:
    return Agreement(50, "", agreement, None, error, None)


def compressed(images: Tensor = IMAGES) -> Result:
    return prunec.compress(networks()["residual"], images, target="macs:0.5", align="none", keep_branches=True)


def test_an_error_that_falls_as_one_over_n_is_foretold_exactly() -> None:
    curve = {count: measured(0.1 + 20 / count, 0.9 - 10 / count) for count in (100, 200, 400)}
    found = Learning.of(curve)
    assert found is not None
    assert found.images == (100, 200, 400)
    assert found.twice_relative_error == pytest.approx(0.1 + 20 / 800)
    assert found.twice_agreement == pytest.approx(0.9 - 10 / 800)
    assert found.sentence == (
        "twice the images would bring a relative output error of about 0.12 and about +1.2 points of agreement"
    )


def test_one_that_does_not_fall_is_foretold_to_stay() -> None:
    found = Learning.of({count: measured(0.1 + count / 1e5, None) for count in (100, 200, 400)})
    assert found is not None
    assert found.twice_relative_error == found.relative_error[-1]
    assert (found.agreement, found.twice_agreement) == ((), None)
    assert found.sentence == "more images would bring next to nothing"


def test_two_measurements_are_no_curve() -> None:
    assert Learning.of({1: measured(0.1, 0.9), 2: measured(0.1, 0.9)}) is None


@pytest.mark.parametrize("width", [8, 600, 5000])
def test_fewer_images_are_the_same_ones_in_layers_of_any_width(width: int) -> None:
    """A half are the even folds, a quarter every fourth, for any shared parts."""
    folds = Folds()
    for fold in range(16):
        folds.add(fold, torch.full((1, 1, width), float(fold)), torch.zeros(1, 1, 1))
    assert [folds.fewer(fold).count for fold in FEWER] == [8, 4]
    assert [float(folds.fewer(fold).mean_z[0, 0]) for fold in FEWER] == [7, 6]  # of 0, 2 … 14 and of 0, 4, 8, 12


def test_where_the_folds_are_too_few_all_images_are_fitted_to() -> None:
    only = Moments()
    only.add(torch.randn(5, 1, 2), torch.randn(5, 1, 1))
    folds = Folds({(1,): only})
    assert [folds.fewer(fold) for fold in FEWER] == [only, only]


def test_the_images_kept_back_run_beside_each_network() -> None:
    kept = Images((IMAGES[:20],), None, "noise")
    dealt = Dealt.of(Images((IMAGES[20:],), None, "noise"), 64, kept=kept)
    for fold in (KEPT, *FEWER):
        (batch,) = (one for one, its in zip(dealt.batches, dealt.fold, strict=True) if its == fold)
        assert torch.equal(batch[0], IMAGES[:20])
    assert dealt.folds == 16


def test_the_curve_is_measured_with_the_networks_that_were_fitted_to_fewer() -> None:
    result = compressed()
    fitted, kept = keep_back(Images((IMAGES,), None, "noise"), 0)
    assert kept is not None
    found, plan = result.estimate.learning, result.plan
    assert found is not None
    assert found.images == (len(fitted) // 4, len(fitted) // 2, len(fitted)) == (32, 64, 128)
    assert set(plan.judging) == {1, 2, 4}
    for part, error in zip((4, 2, 1), found.relative_error, strict=True):
        bare = prepared(result.dense).knowing(Plan(plan.channels, plan.keep, plan.judging[part]))
        narrow = Pipeline.parse("slice,decompose").run(bare, Context())
        direct = agreements_of(result.dense.module, [narrow.module], [kept.inputs])[0]
        assert error == pytest.approx(direct.relative_error, rel=1e-4)
    assert len(set(found.relative_error)) == 3
    report = result.report["estimate"]["learning"]
    assert report["sentence"] == found.sentence
    json.dumps(report, allow_nan=False)


def test_each_network_has_fits_of_its_own() -> None:
    result = compressed()
    quarter, half = (result.plan.judging[part] for part in (4, 2))
    assert quarter.keys() == half.keys() == result.plan.refit.keys()
    assert any(not torch.equal(quarter[name], half[name]) for name in quarter)
