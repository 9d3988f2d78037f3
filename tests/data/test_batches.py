"""Batches of every shape, matched to a signature: inputs are told from labels, or one sentence says why not."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from prunec.data.images import Images, as_images
from prunec.errors import CaptureError, DataError
from prunec.ir.calling import arguments
from prunec.ir.signature import Signature, signature_of

X, Y = torch.randn(6, 3, 4, 4), torch.arange(6)
MASKS = torch.zeros(6, 1, 4, 4)
Pair = namedtuple("Pair", ["image", "label"])


@dataclass
class Record:
    image: Tensor
    label: Tensor


def one(x: Tensor) -> Tensor:
    return x


def graded(x: Tensor, target: Tensor | None = None) -> Tensor:
    return x if target is None else x - target


def veiled(x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
    return x * scale if mask is None else x * mask


def two(left: Tensor, right: Tensor) -> Tensor:
    return left + right


def trained(x: Tensor, target: Tensor) -> Tensor:
    return x - target


def named(*, image: Tensor) -> Tensor:
    return image


def worded(
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    labels: Tensor | None = None,
    return_dict: bool | None = None,
) -> Tensor | None:
    return input_ids


def anything(*inputs: Any) -> Any:
    return inputs


def taking(function: Callable[..., Any]) -> Signature:
    """The signature of a network whose `forward` is the function."""
    model = nn.Linear(2, 2)
    model.forward = function  # type: ignore[method-assign]
    return signature_of(model)


def found(data: Any, function: Callable[..., Any]) -> Images:
    return as_images(data, takes=taking(function))


TARGETS = {
    "classes": Y,
    "integer masks": torch.zeros(6, 4, 4, dtype=torch.long),
    "float masks": MASKS,
    "regression": torch.rand(6),
    "one hot": torch.eye(6),
    "not a number": torch.full((6,), float("nan")),
    "text": ["cat"] * 6,
    "boxes": [{"boxes": torch.zeros(2, 4)}] * 6,
    "arrays": np.arange(6),
    "nothing": None,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("function", [one, graded, veiled], ids=lambda each: each.__name__)
def test_what_follows_the_only_input_is_a_label(function: Callable[..., Any], target: str) -> None:
    images = found([(X, TARGETS[target])], function)
    assert len(images.inputs) == 1
    assert torch.equal(images.inputs[0], X)
    assert (images.labels, images.keywords) == (None, ())


def test_a_note_tells_of_an_input_that_was_left_out() -> None:
    (note,) = found([(X, MASKS)], veiled).notes
    assert "could take mask too" in note
    assert found([(X, MASKS)], graded).notes == ()
    assert found([X], veiled).notes == ()
    assert found([{"x": X, "label": Y}], veiled).notes == ()
    assert "could take attention_mask too" in found([(Y[:, None], Y)], worded).notes[0]


def test_loaders_of_two_and_three_values() -> None:
    loader = DataLoader(TensorDataset(X, MASKS, Y), 4)
    assert [len(found(loader, each).inputs) for each in (one, two, trained)] == [1, 2, 2]
    assert len(as_images(loader, takes=taking(anything)).inputs) == 3
    assert len(found([((X, X), Y)], two).inputs) == 2
    assert len(found([[X, X]], two).inputs) == 2


@pytest.mark.parametrize(
    ("batch", "function", "keywords"),
    [
        ({"image": X, "label": 1}, one, ()),
        ({"image": X, "label": Y, "index": Y}, one, ()),
        ({"picture": X, "target": MASKS, "path": ["a"] * 6}, one, ()),
        ({"x": X, "target": MASKS}, graded, ()),
        ({"inputs": X, "labels": Y}, one, ()),
        ({"inputs": (X, X), "labels": Y}, two, ()),
        ({"right": X, "left": X, "up": X}, two, ()),
        ({"mask": X, "x": X}, veiled, ("x", "mask")),
        ({"target": MASKS, "x": X}, trained, ()),
        ({"image": X, "label": Y}, named, ("image",)),
        ({"input_ids": Y[:, None], "attention_mask": Y[:, None], "labels": Y}, worded, ()),
        ({"input_ids": Y[:, None], "token_type_ids": Y[:, None]}, worded, ("input_ids", "token_type_ids")),
        ({"image": X, "label": Y}, anything, ()),
        (({"image": X}, Y), one, ()),
        (Pair(X, Y), one, ()),
        (Record(X, Y), one, ()),
    ],
)
def test_batches_with_names(batch: Any, function: Callable[..., Any], keywords: tuple[str, ...]) -> None:
    images = found([batch, batch], function)
    assert images.keywords == keywords
    assert len(images) == 12
    takes = taking(function)
    wanted = {"two": 2, "trained": 2, "veiled": 2, "worded": 2}.get(function.__name__, 1)
    assert len(images.inputs) == wanted
    if function in (two, veiled, worded):
        args, kwargs = arguments(images.example())
        function(*args, **kwargs)
    assert takes.needed <= max(wanted, 1)


def test_a_name_in_a_batch_beats_its_place() -> None:
    images = found([{"right": X + 1, "left": X}], two)
    assert torch.equal(images.inputs[0], X)
    images = found([{"mask": X + 1, "x": X}], veiled)
    assert torch.equal(dict(zip(images.keywords, images.inputs, strict=True))["mask"], X + 1)


@pytest.mark.parametrize(
    ("data", "function", "message"),
    [
        ([{"image": X, "depth": X[:, :1], "x2": X}], two, r"the keys image, depth, x2, and .*takes left, right"),
        ([{"image": X, "img": X}], one, r"the keys image, img, and Linear.forward takes x: name the inputs so"),
        ([{"label": Y}], one, "the keys label, and"),
        ([X], two, r"batches of 1 inputs, and Linear.forward takes left, right: give \(left, right\)"),
        ([([X[0], X[1]], Y)], one, r"batches of 2 tensors, .*: stack them to one \[N, ...\]"),
        ([([X[0], X[1, :, :2]], Y)], one, "resize to one size and stack"),
        ([(X[0], 3)], one, "single samples, not batches: wrap the dataset"),
        ([(X[0], Y[0])], one, "single samples, not batches"),
        (TensorDataset(X, Y), one, r"a TensorDataset gives single samples, .*DataLoader"),
        ([()], one, "an empty batch"),
        ((X, Y), one, r"different shapes.*a tuple \(images, labels\) is itself read as two batches"),
        (iter([]), one, "used up"),
        ([["cat.jpg"]], one, "holds a str"),
        ([(X, X[:2])], two, r"differ in length, \[6, 3, 4, 4\], \[2, 3, 4, 4\]"),
        ([{"x": X}, {"x": X, "mask": X}], veiled, "different shapes"),
        (Images((X, MASKS), None, "here"), graded, "here holds 2 inputs, and the last would be the target of"),
        (Images((X, X, X), None, "here"), two, "here holds 3 inputs, and Linear.forward takes left, right"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(data: Any, function: Callable[..., Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        found(data, function)
    assert "\n" not in str(refused.value)


def test_signatures() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2).double()

        def forward(self, x: Tensor, flag: bool = True, mask: Tensor | None = None) -> Tensor:
            out: Tensor = self.layer(x)
            return out if mask is None else out * mask

    takes = signature_of(Net())
    assert (takes.where, takes.required, takes.optional) == ("Net.forward", ("x",), ("mask",))
    assert takes.floating is torch.float64
    wrapped = signature_of(nn.DataParallel(Net()))
    assert (wrapped.where, wrapped.required) == (takes.where, takes.required)
    exported = signature_of(torch.export.export(Net(), (torch.ones(2, 4, dtype=torch.float64),)))
    assert (exported.required, exported.types) == (("x",), (torch.float64,))
    given = signature_of(Net(), {"x": X.double(), "mask": torch.ones(6, 2, dtype=torch.bool)})
    assert (given.required, given.types) == (("x", "mask"), (torch.float64, torch.bool))
    assert signature_of(Net(), ([X, X], 3)).needed == 2
    assert signature_of(nn.Sequential(nn.Flatten())).required == ("input",)


def test_half_precision_is_refused_by_name() -> None:
    from prunec.api import compress

    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(CaptureError, match=r"computes in b?float16 \(0.weight is .*net.float\(\)"):
            compress(nn.Sequential(nn.Linear(4, 4)).to(dtype), torch.randn(8, 4), target="macs:0.5")


def test_inputs_of_a_wrong_type_are_called_so() -> None:
    from prunec.frontend.capture import capture

    with pytest.raises(CaptureError, match=r"the inputs are uint8 and the weights float32: .*inputs.to\(torch.float32"):
        capture(nn.Conv2d(3, 4, 1), (torch.zeros(2, 3, 4, 4, dtype=torch.uint8),))
