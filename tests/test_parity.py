"""Parity: equal networks pass, each way of differing is caught and named."""

from __future__ import annotations

import json

import onnx
import onnx.parser
import pytest
import torch
from conftest import needs_shared
from shared_nets import cifar, load
from torch import Tensor, nn

from prunec.deploy.export import export_onnx
from prunec.deploy.parity import Agreement, Parity, compare
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
    assert compare(Scale(1.0), affine(1.0, 1e-3), (IMAGES,), (5,), tolerance=1e-2).ok


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
    with pytest.raises(NumericsError, match="batch 1 is not finite"):
        compare(Scale(float("inf")), affine(1.0), (IMAGES,))
    with pytest.raises(NumericsError, match=r"the module gives \[\(1, 3\), \(1, 3\)\], the model \[\(1, 3\)\]"):
        compare(Both(), affine(1.0), (IMAGES,))


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
