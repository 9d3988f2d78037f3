from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunec.data.images import Images
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort import runtime
from prunec.errors import DataError
from prunec.evaluate import accuracy


class Echo(nn.Module):
    """Logits are the inputs themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


class Pair(Echo):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x * 1.0, -x


def images(labels: list[int] | None = None, right: int = 7) -> Images:
    """Ten samples of five classes, `right` of them labelled with their largest entry."""
    inputs = torch.eye(5).repeat(2, 1)
    truth = [index % 5 if index < right else (index + 1) % 5 for index in range(10)]
    return Images((inputs,), torch.tensor(truth if labels is None else labels), "ten samples")


@pytest.mark.parametrize("batch", [1, 3, 10, 64])
@pytest.mark.parametrize("network", [Echo(), Pair()])
def test_percent_of_the_images_at_any_batch_size(network: nn.Module, batch: int) -> None:
    assert accuracy(network, images(), batch=batch) == pytest.approx(70.0)


def test_the_same_through_onnx_runtime() -> None:
    model = export_onnx(Echo().eval(), (torch.zeros(2, 5),))
    assert accuracy(runtime.session(model), images(right=4), batch=4) == pytest.approx(40.0)


def test_progress_is_shown() -> None:
    seen = []

    def track(steps, what):  # type: ignore[no-untyped-def]
        seen.append((len(steps), what))
        return steps

    accuracy(Echo(), images(), batch=4, track=track)
    assert seen == [(3, "measuring accuracy")]


def test_without_labels() -> None:
    with pytest.raises(DataError, match="ten samples holds no labels"):
        accuracy(Echo(), images().unlabelled())


def test_labels_that_the_network_does_not_have() -> None:
    with pytest.raises(DataError, match="label 9 and the network 5 classes: say with --classes"):
        accuracy(Echo(), images([9] * 10))


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"does not run on inputs \[10, 5\]"):
        accuracy(nn.Linear(7, 5), images())


@pytest.mark.parametrize("network", [nn.Flatten(0), nn.Unflatten(1, (5, 1))])
def test_outputs_that_are_not_logits(network: nn.Module) -> None:
    with pytest.raises(DataError, match=r"accuracy needs logits \[N, classes\]"):
        accuracy(network, images())
