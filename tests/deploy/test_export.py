"""Export: the same network, the same bytes, names a reader knows, and sentences where it cannot be."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from conftest import needs_shared
from shared_nets import load
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from prunec.deploy.onnx import export
from prunec.deploy.onnx.clean import clean
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort.parity import compare
from prunec.deploy.ort.runtime import run, session
from prunec.errors import BackendError, CaptureError, SpecError

ROOT = Path(__file__).parents[2]


class Net(nn.Module):
    """Conv, batch norm, a residual add, a view over a symbolic batch, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = torch.relu(x + self.blocks(x))
        logits: Tensor = self.head(x.mean((2, 3)).view(x.shape[0], 8))
        return logits


class Several(nn.Module):
    """Two inputs, two outputs, and a module with the name of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.input_0 = nn.Linear(5, 6)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.input_0(x), x + y


class FixedBatch(nn.Module):
    """Folds a batch of two into a constant shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, 12) * 2


class Decomposition(nn.Module):
    """An operator that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.svdvals(x)
        return values


IMAGES = torch.linspace(-1, 1, 4 * 3 * 8 * 8).view(4, 3, 8, 8)


def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def capture(module: nn.Module, dynamic: bool = True) -> ExportedProgram:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (IMAGES[:2],), dynamic_shapes=shapes, strict=False)
        decomposed: ExportedProgram = program.run_decompositions({})
    return decomposed


def graph_of(module: nn.Module) -> fx.GraphModule:
    captured = capture(module).module()
    assert isinstance(captured, fx.GraphModule)
    return captured


def content(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return export_onnx(graph_of(network()), (IMAGES,), provenance={"version": "1", "prunec.recipe": "none"})


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_interface_and_shapes(model: onnx.ModelProto) -> None:
    [given], [result] = model.graph.input, model.graph.output
    assert (given.name, dims(given)) == ("input", ["batch", 3, 8, 8])
    assert (result.name, dims(result)) == ("output", ["batch", 4])
    shapes = [dims(value) for value in model.graph.value_info]
    assert shapes
    assert all(shape[0] == "batch" for shape in shapes)


def test_nodes_are_called_after_their_modules(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    assert [name for name in names if not name[-1].isdigit()] == ["stem", "head"]
    assert {"blocks.0", "blocks.2", "relu_0", "add_0"} < set(names)
    assert len(set(names)) == len(names)


def test_no_path_or_stack_trace_is_shipped(model: onnx.ModelProto) -> None:
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert not any(word in content(model) for word in (b".py", b"stack_trace", str(ROOT).encode()))
    assert model.ir_version <= 10


def test_provenance_is_sorted_and_read_back(model: onnx.ModelProto) -> None:
    assert [entry.key for entry in model.metadata_props] == ["prunec.recipe", "prunec.version"]
    found = session(model).get_modelmeta().custom_metadata_map
    assert found == {"prunec.version": "1", "prunec.recipe": "none"}


@pytest.mark.parametrize("batch", [1, 3])
def test_computes_the_same(model: onnx.ModelProto, batch: int) -> None:
    [result] = run(session(model), (IMAGES[:batch],))
    np.testing.assert_allclose(result, network()(IMAGES[:batch]).detach(), atol=1e-5)


def test_every_form_of_a_network_gives_the_same_bytes() -> None:
    net = network()
    forms: list[nn.Module | ExportedProgram] = [net, graph_of(net), capture(net), graph_of(net)]
    assert len({content(export_onnx(form, (IMAGES,))) for form in forms}) == 1


def test_every_process_gives_the_same_bytes() -> None:
    source = (
        "import sys, hashlib; sys.path[:0] = ['tests', 'tests/deploy']; import test_export as t;"
        "m = t.export_onnx(t.graph_of(t.network()), (t.IMAGES,));"
        "print(hashlib.sha256(t.content(m)).hexdigest())"
    )
    commands = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", source],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    digests = {command.communicate(timeout=120)[0].strip() for command in commands}
    assert digests == {hashlib.sha256(content(export_onnx(graph_of(network()), (IMAGES,)))).hexdigest()}


def test_edited_weights_of_another_shape() -> None:
    graph = graph_of(network())
    first, second = graph.get_submodule("blocks.0"), graph.get_submodule("blocks.2")
    keep = torch.tensor([0, 3, 4])
    for module, name, dim in ((first, "weight", 0), (first, "bias", 0), (second, "weight", 1)):
        sliced = getattr(module, name).detach().index_select(dim, keep)
        setattr(module, name, nn.Parameter(sliced))
    model = export_onnx(graph, (IMAGES,))
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert (shapes["blocks.0.weight"], shapes["blocks.2.weight"]) == ([3, 8, 3, 3], [8, 3, 1, 1])
    np.testing.assert_allclose(run(session(model), (IMAGES,))[0], graph(IMAGES).detach(), atol=1e-5)


def test_several_inputs_and_outputs() -> None:
    x, y = torch.ones(2, 5), torch.ones(2, 5)
    model = export_onnx(Several().eval(), (x, y))
    assert [value.name for value in model.graph.input] == ["input_0", "input_1"]
    assert [value.name for value in model.graph.output] == ["output_0", "output_1"]
    np.testing.assert_array_equal(run(session(model), (x, y))[1], 2 * np.ones((2, 5)))


def test_opset_is_what_was_asked_for() -> None:
    model = export_onnx(network(), (IMAGES,), opset=20)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    with pytest.raises(SpecError, match="opset 17 cannot be exported: torch writes 18 to 25"):
        export_onnx(network(), (IMAGES,), opset=17)


def test_nothing_that_the_exporter_prints_reaches_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keep `--json` readable beside an exporter that prints, as onnxscript did before 0.7."""
    original, called = torch.onnx.export, []

    def talkative(*args: object, **options: object) -> object:
        called.append(True)
        print("Applied 1 of general pattern rewrite rules.")
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.onnx, "export", talkative)
    export_onnx(network(), (IMAGES,))
    assert called
    assert capsys.readouterr().out == ""


def test_a_fixed_batch_is_named() -> None:
    images = torch.ones(2, 3, 4)
    with pytest.raises(CaptureError, match=r"fixes its batch size; export it with dynamic_batch=False"):
        export_onnx(FixedBatch(), (images,))
    model = export_onnx(FixedBatch(), (images,), dynamic_batch=False)
    assert dims(model.graph.input[0]) == [2, 3, 4]


def test_a_static_program_is_not_made_dynamic_in_silence() -> None:
    with pytest.raises(CaptureError, match="fixes its batch size"):
        export_onnx(capture(network(), dynamic=False), (IMAGES,))


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match=r"'bn' is in training mode .* call \.eval\(\) first"):
        export_onnx(Net(), (IMAGES,))
    with pytest.raises(BackendError, match=r"cannot write this network as ONNX: .*svd"):
        export_onnx(Decomposition(), (torch.ones(2, 4, 4),))
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    with pytest.raises(BackendError, match="one ONNX file holds at most"):
        export_onnx(network(), (IMAGES,))


def test_the_exporter_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    graph = graph_of(network())
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_onnx(graph, (IMAGES,))
    assert capfd.readouterr() == ("", "")
    assert not caught


def test_identities_go_and_the_interface_stays() -> None:
    before = onnx.parser.parse_model("""
        <ir_version: 12, opset_import: ["" : 18]>
        g (float[batch, 3] x) => (float[batch, 3] same, float[batch, 3] twice, float[batch, 3] more)
        {
            a = Identity(x)
            b = Add(a, x)
            c = Identity(b)
            twice = Identity(c)
            more = Add(b, c)
            same = Identity(x)
            dead = Relu(b)
        }
    """)
    after = clean(before)
    assert [node.op_type for node in after.graph.node] == ["Add", "Identity", "Add"]
    assert [value.name for value in after.graph.output] == ["same", "twice", "more"]
    assert (before.ir_version, after.ir_version) == (12, 10)
    x = np.ones((2, 3), np.float32)
    same, twice, more = run(session(after), (x,))
    assert (same.max(), twice.max(), more.max()) == (1, 2, 4)


@needs_shared
def test_a_real_network_in_reasonable_time() -> None:
    net, images = load("cifar_resnet20"), torch.ones(2, 3, 32, 32)
    started = time.perf_counter()
    model = export_onnx(net, (images,))
    assert time.perf_counter() - started < 60
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization", "Identity"})
    np.testing.assert_allclose(run(session(model), (images,))[0], net(images).detach(), atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 6, 4), (3, 2, 5, 6, 4)])
def test_attention_of_any_rank_can_be_written(shape: tuple[int, ...]) -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, 2 * x, x + 1)

    x = torch.randn(shape)
    module = torch.export.export(Attention(), (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    assert compare(module, export_onnx(module, (x,)), (x,)).require().ok
