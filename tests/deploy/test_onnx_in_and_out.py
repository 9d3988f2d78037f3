from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import prunec
from prunec.deploy.onnx.drop_in import rename
from prunec.deploy.ort.imported import require_same
from prunec.errors import NumericsError
from prunec.frontend.onnx_import import node as operators
from prunec.frontend.onnx_import.network import read_onnx

SIDE = 12
Call = dict[str, np.ndarray]


class Two(nn.Module):
    """A network of one input and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU())
        self.scores, self.map = nn.Linear(16, 5), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return self.scores(x.mean((2, 3))), torch.sigmoid(self.map(x))


def written(path: Path, *, batch: int | None = None, opset: int = 18, half: bool = False) -> Path:
    """Write a file whose names, metadata and types are a user's own."""
    torch.manual_seed(0)
    shapes = None if batch else ({0: torch.export.Dim("many")},)
    model = torch.onnx.export(
        Two().eval(),
        (torch.randn(batch or 2, 3, SIDE, SIDE),),
        None,
        dynamo=True,
        opset_version=opset,
        input_names=["pictures"],
        output_names=["scores", "mask"],
        dynamic_shapes=shapes,
        verbose=False,
    )
    assert model is not None
    proto = model.model_proto
    if half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        proto = convert_float_to_float16(proto)
    rename(proto, {"scores": "relu", "mask": "val_0"})  # as inner values are called
    proto.metadata_props.add(key="classes", value="cat,dog")
    proto.graph.name = "users_own"
    onnx.save(proto, path)
    return path


def call(model: onnx.ModelProto, feed: Call) -> list[Tensor]:
    """Run a model as a user does, by names."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(one) for one in session.run(["val_0", "relu"], feed)]


def interface(model: onnx.ModelProto) -> list[str]:
    return [onnx.helper.printable_value_info(one) for one in (*model.graph.input, *model.graph.output)]


@pytest.mark.parametrize(
    ("batch", "opset", "half"), [(None, 18, False), (1, 18, False), (None, 20, False), (None, 18, True)]
)
def test_the_result_replaces_the_file(tmp_path: Path, batch: int | None, opset: int, half: bool) -> None:
    given = onnx.load(path := written(tmp_path / "net.onnx", batch=batch, opset=opset, half=half))
    images = torch.randn(96, 3, SIDE, SIDE)
    result = prunec.compress(read_onnx(path), images, target="macs:0.8", align="none")
    made = result.onnx()
    assert interface(made) == interface(given)
    assert made.graph.name == "users_own"
    assert {"classes"} < {one.key for one in made.metadata_props}
    assert [one.version for one in made.opset_import if not one.domain] == [opset]
    feed = {"pictures": images[: batch or 3].numpy().astype(np.float16 if half else np.float32)}
    before, after = call(given, feed), call(made, feed)
    assert [(one.shape, one.dtype) for one in before] == [(one.shape, one.dtype) for one in after]
    assert all(float((a - b).norm() / a.norm()) < 0.5 for a, b in zip(before, after, strict=True))
    report = result.save(tmp_path / "out")
    assert interface(onnx.load(tmp_path / "out/model.onnx")) == interface(given)
    assert report["onnx"]["opset"] == opset


def test_an_import_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_onnx(written(tmp_path / "net.onnx"))
    x = torch.randn(4, 3, SIDE, SIDE)
    found = require_same(network, (x,))
    assert found is not None
    assert found.agreement.max_abs < 1e-5
    assert require_same(Two(), (x,)) is None
    monkeypatch.setitem(operators.OPERATORS, "Sigmoid", lambda node, x: torch.sigmoid(x) + 0.01)
    with pytest.raises(NumericsError, match="begins at the ONNX operator Sigmoid of node"):
        require_same(network, (x,))
    with pytest.raises(NumericsError, match="a fault of the import"):
        prunec.compress(network, torch.randn(64, 3, SIDE, SIDE), target="macs:0.8")


def with_decoder(path: Path, batch: int | None) -> onnx.ModelProto:
    """Put NonMaxSuppression and a second input behind the small network, and return the file."""
    model = onnx.load(written(path, batch=batch))
    text = onnx.parser.parse_graph(
        """g (float[b,5] relu, float[1,8,4] boxes) => (int64[n,3] picked, float[1,1,8] scaled) {
        k = Constant<value_ints=[3]>()
        t = Constant<value_float=0.5>()
        s = Constant<value_ints=[1,1,5]>()
        first = Constant<value_ints=[0]>()
        one = Gather<axis=0>(relu, first)
        scores = Reshape(one, s)
        zero = Constant<value_ints=[0,0,0,0,0,3]>()
        wide = Pad(scores, zero)
        chosen = NonMaxSuppression(boxes, wide, k, t)
        picked = Identity(chosen)
        scaled = Mul(wide, t)
        }"""
    )
    model.graph.node.extend(text.node)
    model.graph.input.extend(one for one in text.input if one.name == "boxes")
    model.graph.output.extend(text.output)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return model


@pytest.mark.parametrize("batch", [1, None])
def test_what_is_not_imported_stays_behind_the_result(tmp_path: Path, batch: int | None) -> None:
    import onnxruntime

    given = with_decoder(tmp_path / "net.onnx", batch)
    images = torch.randn(96, 3, SIDE, SIDE)
    result = prunec.compress(tmp_path / "net.onnx", images, target="macs:0.8", align="none")
    made = result.onnx()
    assert any("from NonMaxSuppression of node" in note for note in result.report["capture"]["notes"])
    assert interface(made) == interface(given)
    corners = torch.rand(1, 8, 2)
    feed = {"pictures": images[:1].numpy(), "boxes": torch.cat([corners, corners + 0.3], 2).numpy()}
    before, after = (onnxruntime.InferenceSession(one.SerializeToString()).run(None, feed) for one in (given, made))
    assert [one.dtype for one in before] == [one.dtype for one in after]
    assert [one.shape for one in before[:2]] == [one.shape for one in after[:2]]
    assert np.abs(before[3] - after[3]).max() < 1
    assert "NonMaxSuppression" in {node.op_type for node in made.graph.node}
    result.save(tmp_path / "out")
    assert interface(onnx.load(tmp_path / "out/model.onnx")) == interface(given)
