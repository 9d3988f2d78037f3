"""The front end: fixed batches, nested inputs and outputs, opaque sub-modules, and what is said where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interfaces import (
    Weird,
    Writer,
    answers,
    body,
    calls,
    fixed_at_four,
    fixed_by_question,
    fixed_by_range,
    fixed_by_view,
    heads,
    with_choosy,
    with_weird,
)
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_structure

import prunec
from prunec.api import Result, prepared
from prunec.channels.spaces import Channels
from prunec.data.images import Images
from prunec.deploy.ort import runtime
from prunec.errors import BackendError, CaptureError, DataError, SpecError
from prunec.evaluate import accuracy
from prunec.frontend.capture import capture, only_batch
from prunec.frontend.opaque import is_opaque, paths_in
from prunec.ir.calling import arguments, tensors_of
from prunec.surgery.identity import prove

GENERATOR = torch.Generator().manual_seed(1)
IMAGES, OTHERS = (torch.randn(33, 3, 12, 12, generator=GENERATOR) for _ in range(2))
ANSWERS = answers()
CALLS = calls(IMAGES[:2], OTHERS[:2])
FIXED = {"view": (fixed_by_view, 2), "question": (fixed_by_question, 2), "range": (fixed_by_range, 2)}


def compressed(model: nn.Module, *images: Tensor, **options: Any) -> Result:
    return prunec.compress(
        model, Images(images or (IMAGES,), None, "noise"), target="macs:0.6", **{"batch": 16, **options}
    )


def require_proof(model: Any, inputs: Any, opaque: tuple[str, ...] = ()) -> None:
    program = prepared(capture(model, inputs, opaque))
    assert prove(program, program.fact(Channels)) < 1e-12


def require_close(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    """Check for equal nesting, constants and tensors."""
    assert tree_structure(found) == tree_structure(wanted)
    assert type(found) is type(wanted)
    for one, other in zip(tree_leaves(found), tree_leaves(wanted), strict=True):
        if isinstance(other, Tensor):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
        else:
            assert one == other


# A fixed batch


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_batch_is_found_and_said(name: str) -> None:
    forward, size = FIXED[name]
    program = capture(body(forward), (IMAGES[:5],))
    assert program.only_batch == size
    assert not program.dynamic_batch
    (note,) = program.notes
    assert f"Network fixes its batch size ({'' if name == 'view' else 'interfaces.py:'}" in note
    assert "captured with a batch of 2, the sweeps run 2 samples at a time" in note
    require_proof(body(forward), (IMAGES[:5],))


def test_a_free_batch_has_no_notes() -> None:
    program = capture(body(heads), (IMAGES[:1],))
    assert (program.only_batch, program.notes) == (None, ())
    assert program.module(IMAGES[:7])[0].shape == (7, 5)


@pytest.mark.parametrize(("forward", "size"), [(fixed_by_view, 2), (fixed_at_four, 4)])
def test_a_fixed_batch_goes_the_whole_way(forward: Any, size: int, tmp_path: Path) -> None:
    result = compressed(body(forward), example_inputs=(IMAGES[:size],), batch=None)
    assert result.report["capture"]["batch"] == size
    assert result.report["capture"]["left_out"] == 33 % size
    assert result.report["calibration"]["images"] == 33 - 33 % size
    assert len(result.report["capture"]["notes"]) == 1
    report = result.save(tmp_path / "out")
    assert [each["batch"] for each in report["parity"]["agreements"]] == [size]
    labelled = Images((IMAGES,), torch.arange(33) % 5, "noise")
    found = accuracy(result.module, labelled, batch=size, fixed=True)
    assert accuracy(runtime.session(tmp_path / "out" / "model.onnx"), labelled) == pytest.approx(found)
    again = torch.export.load(tmp_path / "out" / "model.pt2")
    assert only_batch(again) == size
    assert capture(again, (IMAGES[:1],)).only_batch == size
    assert prunec.compress(again, IMAGES, target="macs:0.8").report["capture"]["batch"] == size


def test_too_few_images_for_a_fixed_batch() -> None:
    with pytest.raises(DataError, match="holds 3 samples, and the network takes 4 at a time"):
        compressed(body(fixed_at_four), IMAGES[:3], example_inputs=(IMAGES[:4],), batch=None)


def test_images_in_steps_stay_whole() -> None:
    images = Images((IMAGES,), torch.arange(33), "noise").in_steps(4)
    assert (len(images), images.labels is not None and len(images.labels)) == (32, 32)
    assert [len(one) for (one,) in images.take(9, 0).batches(4)] == [4, 4, 4]
    assert len(images.take(100, 0)) == 32


# What is given, what is taken


@pytest.mark.parametrize("name", ANSWERS)
def test_any_answer_survives(name: str, tmp_path: Path) -> None:
    model = ANSWERS[name]
    with torch.no_grad():
        require_close(capture(model, (IMAGES[:1],)).module(IMAGES), model(IMAGES))
    require_proof(model, (IMAGES[:2],))
    result = compressed(model)
    assert result.report["macs"]["share"] <= 0.6
    with torch.no_grad():
        found, wanted = result.module(IMAGES), model(IMAGES)
    assert type(found) is type(wanted)
    assert tree_structure(found) == tree_structure(wanted)
    assert result.save(tmp_path / "out")["parity"]["ok"]
    again = torch.export.load(tmp_path / "out" / "model.pt2").module()
    with torch.no_grad():
        for one, other in zip(tensors_of(again(IMAGES)), tensors_of(found), strict=True):
            torch.testing.assert_close(one, other)
    labelled = Images((IMAGES,), torch.arange(33) % 3, "noise")
    if name not in ("input_too", "classes_alone"):  # whose first tensor is no logits
        accuracy(result.module, labelled)


@pytest.mark.parametrize("name", CALLS)
def test_any_call_survives(name: str, tmp_path: Path) -> None:
    model, example = CALLS[name]
    args, kwargs = arguments(example)
    program = capture(model, example)
    with torch.no_grad():
        require_close(program.as_called()(*args, **kwargs), model(*args, **kwargs))
        assert program.module(IMAGES, OTHERS).shape == (33, 5)  # flat inside
    require_proof(model, example)
    result = compressed(model, IMAGES, OTHERS, example_inputs=example)
    with torch.no_grad():
        found = result.module(*args, **kwargs)
        torch.testing.assert_close(found, result.program.module(IMAGES[:2], OTHERS[:2]))
        assert result.pruned_only()(*args, **kwargs).shape == (2, 5)
    assert result.save(tmp_path / "out")["parity"]["ok"]
    exported = torch.export.load(tmp_path / "out" / "model.pt2")
    again = prunec.compress(exported, Images((IMAGES, OTHERS), None, "noise"), target="macs:0.8")
    assert again.report["capture"]["batch"] == "any"
    if name != "dataclass":  # which is a dict there
        with torch.no_grad():
            torch.testing.assert_close(exported.module()(*args, **kwargs), found)


def test_an_exported_program_wants_its_number_of_inputs() -> None:
    exported = torch.export.export(CALLS["two"][0], CALLS["two"][1])
    with pytest.raises(CaptureError, match="takes 2 tensors, and the example has 1"):
        capture(exported, (IMAGES[:2],))


@pytest.mark.parametrize(
    ("inputs", "said"), [((), "no tensor"), ((3,), "no tensor"), ((torch.tensor(1.0),), "no batch")]
)
def test_inputs_without_a_batch(inputs: Any, said: str) -> None:
    with pytest.raises(CaptureError, match=said):
        capture(body(heads), inputs)


# Opaque sub-modules


@pytest.mark.parametrize(("make", "name"), [(with_weird, "neck.1"), (with_weird, "neck.*"), (with_choosy, "choosy")])
def test_an_opaque_module_is_a_wall(make: Any, name: str) -> None:
    model = make()
    before = [*model.named_modules()]
    program = capture(model, (IMAGES[:1],), opaque=(name,))
    assert program.dynamic_batch
    assert [*model.named_modules()] == before
    with torch.no_grad():
        torch.testing.assert_close(program.module(IMAGES), model(IMAGES))
    require_proof(model, (IMAGES[:1],), (name,))
    result = compressed(model, opaque=(name,))
    frozen = {space.name: space.frozen for space in result.plan.channels.spaces}
    assert frozen["a"] is None
    assert frozen["b"] is not None
    assert result.report["capture"]["opaque"] == list(paths_in(program.module))
    assert result.module(IMAGES[:3]).shape == (3, 5)
    assert result.report["macs"]["share"] <= 0.6


def test_writing_into_what_an_opaque_module_gives_is_right() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.weird(m.b(torch.relu(m.a(x))))
        y += 1
        found: Tensor = m.fc(m.again(y).mul_(2).mean((2, 3)))
        return found

    weird = Weird()
    model = body(forward, weird=weird, again=weird)
    for name in ("weird", "again"):
        with torch.no_grad():
            torch.testing.assert_close(capture(model, (IMAGES[:1],), (name,)).module(IMAGES), model(IMAGES))


def test_the_path_of_an_opaque_node_is_known() -> None:
    module = capture(with_weird(), (IMAGES[:1],), opaque=("neck.1",)).module
    assert [is_opaque(node) for node in module.graph.nodes if is_opaque(node)] == ["neck.1", "neck.1"]
    assert paths_in(module) == ("neck.1",)


def test_an_opaque_module_cannot_be_written(tmp_path: Path) -> None:
    result = compressed(with_weird(), opaque=("neck.1",))
    with pytest.raises(BackendError, match=r"the opaque module neck\.1 cannot be written as ONNX"):
        result.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nek.1", r"--opaque nek\.1: Network has no such sub-module; did you mean neck\.1"),
        ("xyzzy", "its first are a, b, fc"),
        ("aux", "names nothing that the network runs"),
    ],
)
def test_a_name_that_is_not_there(name: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        capture(with_weird(), (IMAGES[:2],), opaque=(name,))


def test_what_cannot_be_opaque() -> None:
    writer = body(lambda m, x: m.fc(m.features(m.w(1 * x))), w=Writer())
    with pytest.raises(CaptureError, match="w writes into its inputs"):
        capture(writer, (IMAGES[:2],), opaque=("w",))
    with pytest.raises(SpecError, match="an exported program has no sub-modules left"):
        capture(torch.export.export(body(heads), (IMAGES[:2],)), (IMAGES[:2],), opaque=("a",))


def test_rows_that_follow_no_input_cannot_be_opaque() -> None:
    class Found(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x) ** 2, 5)

    with pytest.raises(CaptureError, match="gives 4 rows for one batch and 9 for a larger one"):
        capture(body(lambda m, x: m.found(m.fc(m.features(x))), found=Found()), (IMAGES[:2],), opaque=("found",))


# Failures teach


def test_a_failure_names_the_module_and_the_line() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(with_weird(), (IMAGES[:2],))
    said = str(caught.value)
    assert "neck.1 (Weird) fails at interfaces.py:" in said
    assert "--opaque neck.1 (opaque=('neck.1',) in Python)" in said


def test_a_network_that_fails_itself_is_not_told_to_be_opaque() -> None:
    with pytest.raises(CaptureError, match=r"Weird: it fails at interfaces\.py.*give the \.pt2 file") as caught:
        capture(Weird(), (IMAGES[:2],))
    assert "--opaque" not in str(caught.value)


def test_an_answer_of_an_unknown_class() -> None:
    class Box:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    with pytest.raises(CaptureError, match="give and take tensors, tuples, lists, dicts or plain dataclasses"):
        capture(body(lambda m, x: Box(heads(m, x)[0])), (IMAGES[:2],))


def test_capture_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError):
        capture(body(lambda m, x: heads(m, x)[0] if x.sum() > 0 else x), (IMAGES[:2],))
    assert capfd.readouterr() == ("", "")
    assert np.isfinite(IMAGES.numpy()).all()
