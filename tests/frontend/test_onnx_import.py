from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx_graphs import BODIES, difference, graph, sample
from torch import nn

import prunec
from prunec.errors import CaptureError
from prunec.frontend.capture import capture
from prunec.frontend.load import load_model
from prunec.frontend.onnx_import.network import OnnxNetwork, read_onnx
from prunec.frontend.onnx_import.node import OPERATORS


@pytest.mark.parametrize("name", BODIES)
def test_each_operator_computes_as_onnx_runtime(name: str) -> None:
    model = graph(BODIES[name], 22 if name in ("HardSwish", "Mish") else 18)
    network = OnnxNetwork(model)
    assert difference(model, network) < 1e-5
    program = capture(network, (sample(model),))
    assert program.dynamic_batch


def test_most_operators_are_tried() -> None:
    text = " ".join(body for _, _, body in BODIES.values())
    tried = [kind for kind in OPERATORS if f"{kind}(" in text or f"{kind}<" in text]
    assert len(tried) > 80


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    ).eval()


def exported(path: Path, opset: int = 18, dynamic: bool = True) -> Path:
    """Write the small network by PyTorch's exporter."""
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    x = torch.randn(2 if dynamic else 1, 3, 12, 12)
    torch.onnx.export(
        small(), (x,), path, dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False, external_data=False
    )
    return path


def test_a_file_from_pytorch_has_the_same_spaces(tmp_path: Path) -> None:
    network = read_onnx(exported(tmp_path / "net.onnx"))
    x = torch.randn(4, 3, 12, 12)
    torch.testing.assert_close(network(x), small()(x), atol=1e-5, rtol=1e-5)
    spaces = [prunec.inspect(one, (x,)) for one in (network, small())]
    sizes = [sorted((one.size, one.frozen is None) for one in each.spaces) for each in spaces]
    assert sizes[0] == sizes[1]


def test_weights_keep_their_names_and_a_digest(tmp_path: Path) -> None:
    path = exported(tmp_path / "net.onnx")
    loaded = load_model(str(path))
    assert loaded.input_size_hint == (3, 12, 12)
    assert loaded.digest == load_model(str(path)).digest
    assert "7.weight" in dict(loaded.model.named_parameters())


def test_a_file_is_compressed(tmp_path: Path) -> None:
    result = prunec.compress(exported(tmp_path / "net.onnx"), torch.randn(128, 3, 12, 12), target="macs:0.7")
    assert result.report["macs"]["share"] <= 0.7


def test_a_fixed_batch_is_freed_where_samples_are_apart(tmp_path: Path) -> None:
    network = read_onnx(exported(tmp_path / "net.onnx", dynamic=False))
    assert network.batch == 1
    assert network.free_batch
    assert capture(network, (torch.randn(2, 3, 12, 12),)).dynamic_batch


def test_a_batch_that_samples_share_stays_fixed(tmp_path: Path) -> None:
    body = "1,4,6", "", "a = Constant<value_ints=[0,1]>() m = ReduceMean(x, a) y = Sub(x, m)"
    onnx.save(graph(body), tmp_path / "net.onnx")
    network = read_onnx(tmp_path / "net.onnx")
    assert not network.free_batch
    with pytest.raises(CaptureError, match="batch 1 alone"):
        network(torch.randn(2, 4, 6))


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_older_operator_sets_are_converted(opset: int) -> None:
    body = "N,4,9,9", "w[6,4,3,3] b[6]", "t = Conv(x, w, b) r = Relu(t) y = Softmax<axis=1>(r)"
    if opset < 13:
        body = "N,4,9,9", "w[6,4,3,3] b[6]", "t = Conv(x, w, b) r = Clip<min=0.0,max=6.0>(t) y = Flatten(r)"
    if opset in (11, 13, 17):
        body = "N,4,9,9", "w[6,4,3,3]", "t = Conv(x, w) y = Relu(t)"
    assert difference(graph(body, opset)) < 1e-5


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(exported(tmp_path / "net.onnx"))), tmp_path / "half.onnx")
    network = read_onnx(tmp_path / "half.onnx")
    x = torch.randn(4, 3, 12, 12)
    assert {one.dtype for one in network.parameters()} == {torch.float32}
    torch.testing.assert_close(network(x), small()(x), atol=1e-2, rtol=1e-2)


def test_external_weights_are_read(tmp_path: Path) -> None:
    model = onnx.load(exported(tmp_path / "net.onnx"))
    onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    assert (tmp_path / "big.data").is_file()
    x = torch.randn(4, 3, 12, 12)
    torch.testing.assert_close(read_onnx(tmp_path / "big.onnx")(x), small()(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("y = Det(x)", "the ONNX operator Det of node 'here'"),
        ("i = MaxUnpool(x, x) y = Relu(i)", "the ONNX operator MaxUnpool of node 'here'"),
        ("y = LRN<size=2>(x)", "LRN of node 'here', cannot be imported: its size is even"),
    ],
)
def test_what_cannot_be_imported_is_named(body: str, said: str) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[N,4,4,4] x) => (float[N,4,4,4] y) {{ {body} }}'
    )
    model.graph.node[0].name = "here"
    with pytest.raises(CaptureError, match=said):
        OnnxNetwork(model)(torch.randn(2, 4, 4, 4))


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(np.arange(100, dtype=np.uint8).tobytes())
    with pytest.raises(CaptureError, match="not a whole ONNX model"):
        load_model(str(tmp_path / "net.onnx"))
    with pytest.raises(CaptureError, match="there is no file"):
        load_model(str(tmp_path / "none.onnx"))
