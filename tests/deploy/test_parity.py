"""Parity: equal networks pass, each way of differing is caught and named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from conftest import needs_shared
from shared_nets import cifar, load
from torch import Tensor, nn

from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort.parity import Agreement, Parity, agreement, arrays, compare, tolerance_of
from prunec.errors import DataError, NumericsError

IMAGES = torch.linspace(-1, 1, 15).view(5, 3)


class Scale(nn.Module):
    """`factor` times the input."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def affine(scale: float, shift: float = 0.0, batch: str = "batch") -> onnx.ModelProto:
    """`scale * x + shift`."""
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[{batch}, 3] input) => (float[{batch}, 3] output)
        <float scale = {{{scale}}}, float shift = {{{shift}}}> {{ a = Mul(input, scale)  output = Add(a, shift) }}
    """)


def test_equal_networks_agree_at_every_batch() -> None:
    parity = compare(Scale(2.0), affine(2.0), (IMAGES,))
    assert [agreement.batch for agreement in parity.agreements] == [1, 2, 5]
    assert parity.require() is parity
    assert parity.max_abs == 0
    assert all(a.cosine == pytest.approx(1) and a.top1_agreement == 1 for a in parity.agreements)
    assert json.loads(json.dumps(parity.to_json(), allow_nan=False))["ok"] is True


def test_a_small_shift_is_measured_and_refused() -> None:
    parity = compare(Scale(1.0), affine(1.0, 1e-3), (IMAGES,), (5,))
    [agreement] = parity.agreements
    assert agreement.max_abs == pytest.approx(1e-3, rel=1e-3)
    assert agreement.mean_abs == pytest.approx(1e-3, rel=1e-3)
    assert not parity.ok
    with pytest.raises(NumericsError, match=r"at batch 5: max 1\.0e-03 of 1, .*allowed is 0\.0001"):
        parity.require()
    assert replace(parity, tolerance=1e-2).ok


def test_large_outputs_are_judged_relatively() -> None:
    assert compare(Scale(1000.0), affine(1000.0, 1e-2), (IMAGES,)).ok
    assert not compare(Scale(1.0), affine(1.0, 1e-2), (IMAGES,)).ok


def test_a_swapped_class_is_caught_though_near() -> None:
    swapped = Agreement(batch=2, max_abs=1e-5, mean_abs=1e-6, cosine=1.0, top1_agreement=0.5, largest=3.0)
    assert not Parity((swapped,)).ok
    assert Parity((swapped,), top1=0.5).ok
    opposite = compare(Scale(1.0), affine(-1.0), (IMAGES,), (2,)).agreements[0]
    assert opposite.top1_agreement == 0
    assert opposite.cosine == pytest.approx(-1)


def test_outputs_that_are_not_finite_or_of_another_shape() -> None:
    with pytest.raises(NumericsError, match="at batch 1 is not finite in one"):
        compare(Scale(float("inf")), affine(1.0), (IMAGES,))
    with pytest.raises(NumericsError, match=r"the module gives \[\(1, 3\), \(1, 3\)\], the model \[\(1, 3\)\]"):
        compare(Both(), affine(1.0), (IMAGES,))


def scores(*rows: list[float]) -> list[np.ndarray[Any, Any]]:
    return [np.array(rows, dtype=np.float32)]


def test_a_tie_has_no_first_class() -> None:
    near = agreement(2, scores([1.0, 1.0 + 1e-6, 0], [0, 1, 2]), scores([1.0 + 1e-6, 1.0, 0], [0, 1, 2]))
    assert near.top1_agreement == 1
    apart = agreement(2, scores([1.0, 1.01, 0], [0, 1, 2]), scores([1.01, 1.0, 0], [0, 1, 2]))
    assert apart.top1_agreement == 0.5
    assert "same class 50.00%" in str(apart)
    large = agreement(1, scores([1e4, 1e4 + 0.5]), scores([1e4 + 0.5, 1e4]))  # relative there, as elsewhere
    assert Parity((large,)).ok
    assert agreement(1, scores([1e4, 1e4 + 0.5]), scores([1e4 + 0.5, 1e4]), 1e-5).top1_agreement == 0


def test_a_share_that_is_not_whole_never_reads_as_all() -> None:
    one = Agreement(batch=8, max_abs=1e-6, mean_abs=0, cosine=1, top1_agreement=1 - 1e-7, largest=1)
    assert "same class 99.99%" in str(one)


def test_one_pixel_of_many_is_no_fault_and_many_are() -> None:
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 21, (2, 300, 300))
    few, many = maps.copy(), maps.copy()
    few[0, 0, 0] += 1
    many[:, :4] += 1
    assert Parity((agreement(2, [maps], [few]),)).ok
    assert agreement(2, [maps], [few]).max_abs == 0
    found = Parity((agreement(2, [maps], [many]),))
    with pytest.raises(NumericsError, match=r"whole numbers that differ 0\.013"):
        found.require()
    assert not Parity((agreement(1, [maps > 3], [maps > 4]),)).ok


def test_equal_infinities_agree_and_others_do_not() -> None:
    inf = float("inf")
    [barred] = scores([1, -inf, 3], [-inf, 2, inf])
    found = agreement(2, [barred], [barred + np.float32(1e-6)])
    assert Parity((found,)).require().ok
    assert json.loads(json.dumps(Parity((found,)).to_json(), allow_nan=False))["ok"]
    assert agreement(1, scores([-inf, -inf]), scores([-inf, -inf])).cosine == 1
    for other in (np.abs(barred), np.nan_to_num(barred)):
        with pytest.raises(NumericsError, match="not finite in one and is in the other, or of another sign"):
            agreement(2, [barred], [other])


def test_it_is_said_whose_nan_it_is() -> None:
    nan = float("nan")
    with pytest.raises(
        NumericsError, match=r"the network itself gives NaN at batch 1, in 1 of 2 numbers.*--data IMAGES"
    ):
        agreement(1, scores([1, nan]), scores([1, nan]))
    with pytest.raises(NumericsError, match=r"the exported model gives NaN at batch 1, in 2 of 2"):
        agreement(1, scores([1, 2]), scores([nan, nan]))


def test_half_precision_has_its_own_tolerance() -> None:
    assert tolerance_of(nn.Linear(2, 2)) == tolerance_of(nn.Linear(2, 2).double()) == 1e-4
    assert tolerance_of(nn.Linear(2, 2).half()) == 1e-2
    assert arrays([torch.ones(2, dtype=torch.bfloat16)])[0].dtype == np.float32


class Both(nn.Module):
    """Two outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_batches_that_cannot_be() -> None:
    with pytest.raises(DataError, match=r"batches \[6\] needs that many images in each input, and 5 were given"):
        compare(Scale(1.0), affine(1.0), (IMAGES,), (6,))
    with pytest.raises(DataError, match=r"takes input float\[2, 3\]"):
        compare(Scale(1.0), affine(1.0, batch="2"), (IMAGES,))
    with pytest.raises(DataError):
        compare(Scale(1.0), affine(1.0), (), ())
    assert compare(Scale(1.0), affine(1.0), (IMAGES[:1],)).agreements[0].batch == 1


@needs_shared
def test_a_real_network_on_real_images() -> None:
    net = load("cifar_resnet20")
    images, _ = cifar("train_8192", 64)
    parity = compare(net, export_onnx(net, (images,)), (images,)).require()
    assert [agreement.batch for agreement in parity.agreements] == [1, 2, 64]
