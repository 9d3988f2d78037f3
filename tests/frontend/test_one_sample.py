"""A batch of one equals a batch of two, or a note reports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import prunec
import prunec.passes
from prunec.channels.analysis import analyse
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort import parity
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline, Verify
from prunec.surgery import slicing
from prunec.surgery.plan import Plan

Head = Callable[[nn.Module, Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.a, self.fc, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc, self.a(x).relu())


def captured(head: Head) -> tuple[nn.Module, Program]:
    torch.manual_seed(0)
    net = Net(head).eval()
    return net, capture(net, (torch.randn(2, 3, 6, 6),))


def bare(fc: nn.Module, y: Tensor) -> Tensor:
    return fc(y.mean((2, 3), keepdim=True).squeeze())  # type: ignore[no-any-return]


def bare_then_classes(fc: nn.Module, y: Tensor) -> Tensor:
    return fc(y.mean((2, 3), keepdim=True).squeeze()).softmax(1)  # type: ignore[no-any-return]


def of_the_batch(fc: nn.Module, y: Tensor) -> Tensor:
    return fc(y.mean((2, 3))).squeeze(0)  # type: ignore[no-any-return]


def with_an_if(fc: nn.Module, y: Tensor) -> Tensor:
    return fc(y.mean((2, 3)))[0] if y.shape[0] == 1 else fc(y.mean((2, 3)))  # type: ignore[no-any-return]


def of_each_class(fc: nn.Module, y: Tensor) -> Tensor:
    return fc(y.mean((2, 3))).argmax(1, keepdim=True).squeeze()  # type: ignore[no-any-return]


def nothing_to_squeeze(fc: nn.Module, y: Tensor) -> Tensor:
    return fc(y.mean((2, 3)).squeeze(1))  # type: ignore[no-any-return]


def by_sizes(fc: nn.Module, y: Tensor) -> Tensor:
    ones = torch.ones(1, 4).expand(y.shape[0], 4)
    return fc(y.mean((2, 3)).reshape(y.shape[0], -1)) + ones  # type: ignore[no-any-return]


@pytest.mark.parametrize("head", [bare, bare_then_classes, of_the_batch, with_an_if, of_each_class])
def test_a_head_that_takes_the_batch_along_is_noted_and_written_as_for_any_other_batch(head: Head) -> None:
    net, program = captured(head)
    x = torch.randn(3, 3, 6, 6)
    (note,) = program.notes
    assert "for a batch of one Net" in note
    assert "squeeze" in note
    assert torch.allclose(program.module(x).float(), net(x).float(), atol=1e-6)
    torch.testing.assert_close(program.module(x[:1]), program.module(x)[:1])
    assert not any(node.target is torch.ops.aten.squeeze.default for node in program.module.graph.nodes)


def test_its_file_is_compared_with_the_network_at_a_batch_of_one_too() -> None:
    _, program = captured(bare_then_classes)
    model = export_onnx(program.module, program.example_inputs)
    assert program.original is not None
    assert parity.compare(program.original, model, (torch.randn(3, 3, 6, 6),), (1, 2, 3)).ok


@pytest.mark.parametrize("head", [nothing_to_squeeze, by_sizes])
def test_a_head_that_leaves_the_batch_alone_has_no_note(head: Head) -> None:
    net, program = captured(head)
    x = torch.randn(1, 3, 6, 6)
    assert not program.notes
    assert torch.allclose(program.module(x), net(x), atol=1e-6)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (lambda fc, y: fc(y.mean((2, 3))) * (2 if y.shape[0] == 1 else 1), "something else for one sample"),
        (lambda fc, y: fc(y.mean((2, 3)).view(y.shape[0] // 2, 2, 6)).flatten(0, 1), "on two samples and not on one"),
    ],
)
def test_a_graph_that_is_wrong_for_one_sample_has_the_batch_that_it_is_right_for(head: Head, said: str) -> None:
    _, program = captured(head)
    assert program.only_batch == 2
    assert said in program.notes[0]


def test_a_bare_squeeze_leaves_the_one_channel_that_stays() -> None:
    net, program = captured(bare)
    channels = analyse(program)
    space = next(one for one in channels.spaces if one.size == 6)
    narrow = slicing.apply(program.module, Plan(channels, {space.name: (2,)}))
    x = torch.randn(3, 3, 6, 6)
    net.get_parameter("fc.weight").data[:, [0, 1, 3, 4, 5]] = 0
    assert torch.allclose(narrow(x), net(x), atol=1e-6)


def test_a_network_with_a_bare_squeeze_is_compressed_and_saved(tmp_path: Path) -> None:
    net, _ = captured(bare)
    result = prunec.compress(net, torch.randn(12, 3, 6, 6), target="macs:0.7")
    report = result.save(tmp_path / "out")
    assert report["parity"]["ok"]
    assert next(one["batch"] for one in report["parity"]["agreements"]) == 1
    assert "squeeze" in report["capture"]["notes"][0]


def test_passes_are_held_to_the_network_on_a_single_image_too() -> None:
    _, program = captured(bare)
    verify = Verify((torch.randn(1, 3, 6, 6),))
    Pipeline.parse("fold-constants,fold-bn,as-linear").run(program, Context(), (verify,))
    assert max(value or 0.0 for value in verify.reported.values()) < 1e-5
