"""No file that is given as a network, as weights or as images runs code: every door is tried with a payload."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from prunec.data.images import load_images
from prunec.deploy.onnx import onnx_file
from prunec.errors import CaptureError, PrunecError
from prunec.frontend.load import load_model, load_weights
from prunec.frontend.pt2_file import load_exported

CODE = "__import__('os').system('touch ran')"
UNSAFE = ("weights_only", "allow_pickle", "unsafe", "trust", "pickle.load", "Re-running")
Graph = dict[str, Any]


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def pickled(value: object, legacy: bool = False) -> bytes:
    data = io.BytesIO()
    torch.save(value, data, _use_new_zipfile_serialization=not legacy)
    return data.getvalue()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The parts of a good file, by name."""
    path = tmp_path_factory.mktemp("good") / "good.pt2"
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval()
    torch.export.save(torch.export.export(net, (torch.randn(2, 3),), dynamic_shapes=({0: Dim("n")},)), path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(parts: dict[str, bytes], **changed: bytes) -> Path:
    """Write a file with replaced parts, by the end of their names; add new ones."""
    known = {end: [name for name in parts if name.endswith(end)] for end in changed}
    new = {names[0] if names else f"good/{end}": changed[end] for end, names in known.items()}
    path = Path("other.pt2")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**parts, **new}.items():
            archive.writestr(name, data)
    return path


def require_refused(read: Callable[[], object], *words: str) -> None:
    with pytest.raises(PrunecError) as caught:
        read()
    assert not Path("ran").exists()
    said = str(caught.value)
    assert [word for word in UNSAFE if word in said] == []
    assert [word for word in words if word not in said] == []


def test_a_good_file_is_read_as_torch_reads_it(parts: dict[str, bytes], place: Path) -> None:
    path, given = write(parts), torch.randn(5, 3)
    found, wanted = load_exported(path), torch.export.load(path)
    torch.testing.assert_close(found.module()(given), wanted.module()(given), rtol=0, atol=0)
    torch.testing.assert_close(found.example_inputs, wanted.example_inputs, rtol=0, atol=0)
    assert str(found.range_constraints) == str(wanted.range_constraints)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("part", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"])
def test_a_pickle_in_a_pt2_does_not_run(parts: dict[str, bytes], place: Path, part: str, legacy: bool) -> None:
    value: Any = ((Payload(),), {}) if "sample" in part else {"0.weight": Payload()}
    path = write(parts, **{part: pickled(value, legacy)})
    require_refused(lambda: load_exported(path), "other.pt2 is not read", "would run code")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("weights", "weight_7"), ("constants", "tensor_0"), ("constants", "custom_obj_0"), ("constants", "opaque_obj_0")],
)
def test_a_payload_that_the_list_calls_a_pickle_does_not_run(
    parts: dict[str, bytes], place: Path, kind: str, name: str
) -> None:
    entry = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
    listed = json.dumps({"config": {"0.weight": entry}}).encode()
    for data in (pickled(Payload()), pickle.dumps(Payload())):
        path = write(parts, **{f"data/{kind}/model_{kind}_config.json": listed, f"data/{kind}/{name}": data})
        require_refused(lambda: load_exported(path), "0.weight")  # noqa: B023


def test_a_weight_that_is_pickled_as_a_tensor_is_read(parts: dict[str, bytes], place: Path) -> None:
    listed, weight = "data/weights/model_weights_config.json", nn.Parameter(torch.randn(2, 3))
    config = json.loads(next(data for name, data in parts.items() if name.endswith(listed)))
    config["config"]["0.weight"].update(use_pickle=True, path_name="weight_7")
    path = write(parts, **{listed: json.dumps(config).encode(), "data/weights/weight_7": pickled(weight)})
    torch.testing.assert_close(load_exported(path).state_dict["0.weight"], weight, rtol=0, atol=0)


def symbols(graph: Graph) -> None:
    values = graph["graph_module"]["graph"]["tensor_values"]
    size = next(one for value in values.values() for one in value["sizes"] if "as_expr" in one)
    size["as_expr"]["expr_str"] = CODE


def attribute_of_a_symbol(graph: Graph) -> None:
    symbols(graph)
    text = json.dumps(graph).replace(json.dumps(CODE), '"s0.__class__.__mro__[1].__subclasses__()"')
    graph.update(json.loads(text))


def operator(graph: Graph) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def library(graph: Graph) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.load_library"


def name_of_an_input(graph: Graph) -> None:
    name = json.dumps(graph["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"])
    graph.update(json.loads(json.dumps(graph).replace(name, json.dumps(f"x={CODE}"))))


def name_of_a_weight(graph: Graph) -> None:
    graph.update(json.loads(json.dumps(graph).replace("0.weight", f'0.a\\")+{CODE}#'.replace("'", ""))))


def tree(graph: Graph, context: object, kind: str) -> None:
    spec = {"type": kind, "context": context, "children_spec": []}
    graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, spec])


def factory(graph: Graph) -> None:
    context = {"default_factory_module": "os", "default_factory_name": "getcwd", "dict_context": []}
    tree(graph, context, "collections.defaultdict")


def enum(graph: Graph) -> None:
    tree(graph, json.dumps([{"__enum__": True, "fqn": "antigravity:x", "name": "x"}]), "builtins.dict")


def keyword(graph: Graph) -> None:
    tree(graph, json.dumps([f"x={CODE}"]), "builtins.dict")


@pytest.mark.parametrize(
    "change",
    [symbols, attribute_of_a_symbol, operator, library, name_of_an_input, name_of_a_weight, factory, enum, keyword],
    ids=lambda change: str(change.__name__),
)
def test_text_of_the_graph_does_not_run(parts: dict[str, bytes], place: Path, change: Callable[[Graph], None]) -> None:
    graph = json.loads(next(data for name, data in parts.items() if name.endswith("models/model.json")))
    change(graph)
    path = write(parts, **{"models/model.json": json.dumps(graph).encode()})
    require_refused(lambda: load_exported(path), "other.pt2 is not read", "reading it could run code")


def test_guards_which_are_source_are_left_out(parts: dict[str, bytes], place: Path) -> None:
    graph = json.loads(next(data for name, data in parts.items() if name.endswith("models/model.json")))
    assert "guards_code" in graph  # else torch writes them elsewhere now
    graph["guards_code"] = [CODE]
    exported = load_exported(write(parts, **{"models/model.json": json.dumps(graph).encode()}))
    exported.module()(torch.randn(2, 3))
    assert not Path("ran").exists()


def test_a_compiled_library_and_parts_of_one_name_are_refused(parts: dict[str, bytes], place: Path) -> None:
    path = write(parts, **{"data/aotinductor/model/a.so": b"\x7fELF"})
    require_refused(lambda: load_exported(path), "compiled library")
    path = write(parts, **{"Models/Model.json": b"{}"})
    require_refused(lambda: load_exported(path), "two parts of one name")


def test_the_older_format_of_a_pt2_does_not_run(place: Path) -> None:
    with zipfile.ZipFile("other.pt2", "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled({"x": Payload()}))
    require_refused(lambda: load_exported(Path("other.pt2")), "would run code")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_of_weights_does_not_run(place: Path, legacy: bool) -> None:
    Path("weights.pt").write_bytes(pickled({"weight": Payload()}, legacy))
    require_refused(lambda: load_weights(nn.Linear(3, 2), Path("weights.pt")), "weights.pt")
    require_refused(lambda: load_model("weights.pt"), "weights.pt")


def test_a_pickle_of_images_does_not_run(place: Path) -> None:
    values = np.array([Payload()], dtype=object)
    np.save("images.npy", values, allow_pickle=True)
    np.savez("images.npz", images=values)
    Path("raw.npy").write_bytes(pickled(Payload(), legacy=True))
    for name in ("images.npy", "images.npz", "raw.npy"):
        require_refused(lambda name=name: load_images(name), name)  # type: ignore[misc]


@pytest.mark.parametrize("where", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_weights_of_an_onnx_file_stay_in_its_folder(place: Path, where: str) -> None:
    (place / "secret.bin").write_bytes(bytes(64))
    (place / "inner").mkdir()
    (place / "inner" / "link.bin").symlink_to("../secret.bin")
    weight = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=where)
    given = onnx.helper.make_tensor_value_info("x", 1, [4])
    nodes = [onnx.helper.make_node("Add", ["x", "w"], ["y"])]
    result = onnx.helper.make_tensor_value_info("y", 1, [4])
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [given], [result], [weight]))
    (place / "inner" / "net.onnx").write_bytes(model.SerializeToString())
    require_refused(lambda: onnx_file.load(place / "inner" / "net.onnx"), "net.onnx")


def test_the_refusal_of_a_missing_class_names_it(parts: dict[str, bytes], place: Path) -> None:
    with pytest.raises(CaptureError, match="sample inputs in it is pickled Python"):
        load_exported(write(parts, **{"data/sample_inputs/model.pt": pickled(((Payload(),), {}))}))
