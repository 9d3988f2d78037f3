"""`prunec diff`: layers find their like through splits, fusions and numbering, and times the layer that took them."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any

import command
import numpy as np
import onnx
import pytest
import shared_nets
from conftest import needs_shared
from onnx_nets import demo_pair
from onnxruntime.transformers.float16 import convert_float_to_float16

from prunec.api import PREPARE, Result, compress
from prunec.compare import engine_layers, profiles
from prunec.compare.difference import Difference, read
from prunec.compare.difference import compare as difference
from prunec.compare.matching import align
from prunec.cost.hardware import TARGETS
from prunec.data.images import as_images
from prunec.deploy.onnx.layers import Layer, Network, network_of
from prunec.deploy.ort.runtime import run, session
from prunec.lint.alignment import findings


def net(*layers: str, weight: tuple[int, ...] = (8, 8, 3, 3)) -> Network:
    """Build a chain. `relu_N` and `add_N` have no weight; a name with + is an engine's layer."""
    made: list[Layer] = []
    for name in layers:
        loose = name.startswith(("relu_", "add_"))
        reads = (made[-1].name,) if made else ("input",)
        nodes = tuple(name.split(" + ")) if "+" in name else ()
        op = name.split("_")[0] if loose else "Conv"
        made.append(Layer(name, op, (1, 8), reads, () if loose else weight, macs=0 if loose else 100, nodes=nodes))
    return Network(tuple(made), ("input",))


def groups(before: Network, after: Network) -> list[tuple[list[str], list[str]]]:
    return [([one.name for one in row.before], [one.name for one in row.after]) for row in align(before, after)]


# Aligning


def test_halves_stand_beside_the_layer_that_they_replace() -> None:
    before, after = net("a", "relu_0", "b", "relu_1"), net("a.0", "a.1", "relu_0", "b", "relu_1")
    found = [(["a"], ["a.0", "a.1"]), (["relu_0"], ["relu_0"]), (["b"], ["b"]), (["relu_1"], ["relu_1"])]
    assert groups(before, after) == found
    assert groups(after, before) == [(right, left) for left, right in found]
    assert [row.status for row in difference(before, after).rows] == ["split", "same", "same", "same"]
    assert difference(after, before).rows[0].status == "merged"
    assert difference(after, before).rows[0].group.name == "a"


def test_names_that_end_in_a_number_are_not_halves() -> None:
    both = net("first.0", "blocks.0", "blocks.0.0", "blocks.1")
    assert groups(both, both) == [([one.name], [one.name]) for one in both.layers]
    half = net("a.0", "b")
    assert groups(net("a", "b"), half) == [([], ["a.0"]), (["a"], []), (["b"], ["b"])]


def test_numbers_that_have_shifted_are_read_by_their_place() -> None:
    before = net("a", "relu_0", "b", "relu_1", "c", "relu_2")
    after = net("a", "b.0", "b.1", "relu_0", "c", "relu_1")
    assert groups(before, after) == [
        (["a"], ["a"]),
        (["relu_0"], []),
        (["b"], ["b.0", "b.1"]),
        (["relu_1"], ["relu_0"]),
        (["c"], ["c"]),
        (["relu_2"], ["relu_1"]),
    ]


def test_layers_come_and_go() -> None:
    rows = difference(net("a", "b", "c"), net("a", "x", "c", "y")).rows
    assert [(row.group.name, row.status) for row in rows] == [
        ("a", "same"), ("x", "added"), ("b", "removed"), ("c", "same"), ("y", "added")
    ]  # fmt: skip
    assert difference(net("a"), net("a", weight=(8, 6, 3, 3))).rows[0].status == "changed"


def test_engines_that_fuse_differently_meet_in_their_onnx_nodes() -> None:
    before, after = net("a + relu_0", "b + add_0 + relu_1"), net("a.0", "a.1 + relu_0", "b", "add_0 + relu_1")
    assert groups(before, after) == [
        (["a + relu_0"], ["a.0", "a.1 + relu_0"]),
        (["b + add_0 + relu_1"], ["b", "add_0 + relu_1"]),
    ]


# Real networks


def sound(found: Difference, before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, Any]:
    """Check that every layer is in one row, and each weighted layer is matched."""
    for side, model in (("before", before), ("after", after)):
        listed = [layer.name for row in found.rows for layer in getattr(row.group, side)]
        assert Counter(listed) == Counter(layer.name for layer in network_of(model).layers)
    assert [row.group.name for row in found.rows if row.status in ("added", "removed")] == []
    facts = found.to_json()
    json.dumps(facts, allow_nan=False)
    for side in ("before", "after"):
        for what in ("macs", "parameters", "activation_bytes"):
            assert facts["totals"][side][what] == sum(row[side][what] for row in facts["layers"])
    return facts


def test_the_demo_before_and_after() -> None:
    before, after = demo_pair()
    facts = sound(difference(network_of(before), network_of(after)), before, after)
    split = {row["name"]: row for row in facts["layers"] if row["status"] == "split"}
    assert len(split) > 5
    for name, row in split.items():
        assert row["before"]["layers"] == [name]
        assert row["after"]["layers"] == [f"{name}.0", f"{name}.1"]
        assert row["after"]["macs"] < row["before"]["macs"]
    assert facts["totals"]["after"]["macs"] <= 0.5 * facts["totals"]["before"]["macs"]
    stored = sum(np.prod(tensor.dims) for tensor in after.graph.initializer if tensor.data_type == 1)
    assert facts["totals"]["after"]["parameters"] == stored
    same = difference(network_of(before), network_of(before))
    assert {row.status for row in same.rows} == {"same"}


@cache
def resnet56() -> Result:
    """At half its MACs, with whatever numbers of channels that takes."""
    images, _ = shared_nets.cifar("train_8192", 16)
    steps = f"{PREPARE},calibrate,select{{method=top{{by=l1}}}},ranks,allocate{{method=uniform}},slice,decompose"
    network = shared_nets.load("cifar_resnet56")
    return compress(network, as_images(images), target="macs:0.5", pipeline=steps, align="none")


@needs_shared
def test_resnet56_before_and_after() -> None:
    result = resnet56()
    before, after = result.dense_onnx(18), result.onnx(18)
    facts = sound(difference(network_of(before), network_of(after)), before, after)
    shortcuts = [row for row in facts["layers"] if row["name"] in ("pad", "pad_1")]  # convolutions in ONNX alone
    for side, told in (("before", "dense"), ("after", "compressed")):
        added = [row[side]["macs"] for row in shortcuts]
        assert min(added) > 0
        assert facts["totals"][side]["macs"] - sum(added) == result.report["macs"][told]
    changed = {row["name"] for row in facts["layers"] if row["status"] != "same" and row["before"]["weights"][0]}
    assert len(changed) >= 54


def test_a_weight_that_is_dequantised_is_the_weight_of_its_layer() -> None:
    text = """g (float[n, 4] x) => (float[n, 2] y) {{ {0} y = MatMul(x, w) }}"""
    plain, quantised = (
        onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text.format(made)}')
        for made in ("", "w = DequantizeLinear(q, s)")
    )
    for model, name, kind in ((plain, "w", np.float32), (quantised, "q", np.int8)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 2), kind), name))
        model.graph.node[-1].name = "product"
    quantised.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.1, np.float32), "s"))
    (row,) = difference(network_of(plain), network_of(quantised)).to_json()["layers"]
    assert row["status"] == "changed"
    assert [row[side]["dtypes"] for side in ("before", "after")] == [["float"], ["int8"]]
    assert [row[side]["parameters"] for side in ("before", "after")] == [8, 8]


def test_peak_memory_by_hand() -> None:
    text = "g (float[n, 4] x) => (float[n, 2] y) { a = Relu(x)  b = Neg(a)  c = Add(a, b)  y = MatMul(c, w) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w"))
    assert network_of(model).peak_bytes == 3 * 16  # a, b and c, at one sample


# Times


def test_every_kernel_of_the_demo_finds_its_layer() -> None:
    models = [model.SerializeToString() for model in demo_pair()]
    networks = [network_of(model) for model in demo_pair()]
    entries = profiles.measure(models[0], models[1], profiles.Conditions(runs=5))
    ran = [profiles.kernels(one, network) for one, network in zip(entries, networks, strict=True)]
    facts = difference(networks[0], networks[1], entries).to_json()
    for side, kernels in zip(("before", "after"), ran, strict=True):
        assert len({kernel.name for kernel in kernels}) == len(kernels) == facts["totals"][side]["kernels"]
        assert all(kernel.ms > 0 for kernel in kernels)
        assert facts["totals"][side]["ms"] == pytest.approx(sum(kernel.ms for kernel in kernels), abs=1e-6)
        added = facts["added_by_the_runtime"][side]["names"]
        assert all("Reorder" in name or "Transpose" in name for name in added), added
        for row in facts["layers"]:
            assert (row[side]["macs"] > 0) <= (
                row[side]["kernels"] == len([one for one in row[side]["weights"] if one])
            )


def test_profiles_that_are_read_from_files(tmp_path: Path) -> None:
    before, after = demo_pair()
    args: list[str] = []
    for side, model in (("before", before), ("after", after)):
        onnx.save(model, tmp_path / f"{side}.onnx")
        opened = session(model, profile=tmp_path / side)
        run(opened, (np.zeros((2, 1, 28, 28), np.float32),))
        args += [f"--times-{side}", opened.end_profiling()]
    code, said = prunec("diff", tmp_path / "before.onnx", tmp_path / "after.onnx", *args)
    assert (code, "added by the runtime" in said, "kernels" in said) == (0, True, True), said


# Engines


def tensor(name: str, *sizes: int, kind: str = "Channel major FP16 format where channel % 8 == 0") -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": list(sizes), "Format/Datatype": kind}


def convolution(name: str, makes: int, reads: int, metadata: str = "", size: int = 28) -> dict[str, Any]:
    """A layer as TensorRT's inspector writes it."""
    return {
        "Name": name, "LayerType": "CaskConvolution", "Inputs": [tensor("x", 1, reads, size, size)],
        "Outputs": [tensor(f"{name}:0", 1, makes, size, size)], "ParameterType": "Convolution", "Kernel": [3, 3],
        "Stride": [1, 1], "OutMaps": makes, "Groups": 1, "Weights": {"Type": "Half", "Count": 9 * makes * reads},
        "Bias": {"Type": "Half", "Count": makes}, "TacticName": f"sm80_xmma_fprop_{makes}",
        "TacticValue": "0x01", "Metadata": metadata,
    }  # fmt: skip


def engine(path: Path, *layers: object, wrap: str | None = None) -> Path:
    found: dict[str, Any] = {"Layers": list(layers), "Bindings": ["x", "y"]}
    path.write_text(json.dumps({wrap: found} if wrap else found))
    return path


def test_two_engines(tmp_path: Path) -> None:
    nodes = "[ONNX Layer: a]\x1f[ONNX Layer: relu_0]"
    copy = {"Name": "Reformatting CopyNode for Input Tensor 0 to b", "LayerType": "Reformat", "Inputs": [],
            "Outputs": [tensor("copied", 1, 43, 28, 28)]}  # fmt: skip
    before = engine(tmp_path / "before.json", convolution("a + relu_0", 64, 16, nodes), convolution("b", 16, 64))
    after = engine(
        tmp_path / "after.json",
        convolution("__myl_1", 43, 16, nodes), copy, convolution("b", 16, 43), wrap="inspector",
    )  # fmt: skip
    facts = difference(engine_layers.read(before), engine_layers.read(after)).to_json()
    rows = {row["name"]: row for row in facts["layers"]}
    assert [(name, row["status"]) for name, row in rows.items()] == [
        ("a + relu_0", "changed"), (copy["Name"], "added"), ("b", "changed")
    ]  # fmt: skip
    assert rows["b"]["before"]["macs"] == 28 * 28 * 9 * 16 * 64
    assert rows["b"]["before"]["weights"] == [[16, 64, 3, 3]]
    assert rows["a + relu_0"]["after"]["activation_bytes"] == 2 * 43 * 28 * 28
    assert rows["a + relu_0"]["after"]["engine_kernels"] == ["sm80_xmma_fprop_43"]
    times = [{"count": 10}, {"name": "a + relu_0", "timeMs": 2.0, "averageMs": 0.2, "medianMs": 0.19, "percentage": 50}]
    (tmp_path / "times.json").write_text(json.dumps(times))
    kernels = profiles.kernels(profiles.read(tmp_path / "times.json"), engine_layers.read(before))
    assert [(kernel.layer, kernel.ms) for kernel in kernels] == [("a + relu_0", 0.19)]
    code, said = prunec("diff", before, after)
    assert (code, "sm80" in said, "Reformatting CopyNode" in said) == (0, False, True), said


def test_an_engine_of_names_alone_and_one_of_tensorrt_11(tmp_path: Path) -> None:
    before = engine_layers.read(engine(tmp_path / "before.json", "a + PWN(relu_0)", "b"))
    assert [layer.nodes for layer in before.layers] == [("a", "relu_0"), ("b",)]
    newer = convolution("a", 8, 8)
    newer["Outputs"] = [{"Name": "y", "Dimensions": [1, 8, 28, 28], "Format": "HWC8", "Datatype": "Half"}]
    (layer,) = engine_layers.read(engine(tmp_path / "after.json", newer)).layers
    assert (layer.dtype, layer.activation_bytes) == ("half", 2 * 8 * 28 * 28)


def plan(model: onnx.ModelProto, path: Path) -> Path:
    """An engine of TensorRT-RTX, compiled for SM86 on the processor."""
    rtx: Any = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    logger = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(convert_float_to_float16(model).SerializeToString())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    config.num_compute_capabilities = 1
    config.set_compute_capability(rtx.ComputeCapability.SM86, 0)
    shape = list(network.get_input(0).shape)[1:]
    profile.set_shape("input", [1, *shape], [4, *shape], [8, *shape])
    config.add_optimization_profile(profile)
    path.write_bytes(bytes(builder.build_serialized_network(network, config)))
    return path


def test_two_engines_of_tensorrt_rtx_tell_their_kernels_without_a_gpu(tmp_path: Path) -> None:
    before, after = demo_pair()
    paths = plan(before, tmp_path / "before.engine"), plan(after, tmp_path / "after.engine")
    code, said = prunec("diff", *paths, "--json")
    facts = json.loads(said)
    assert (code, facts["totals"]["before"]["kernels"] < facts["totals"]["after"]["kernels"]) == (0, True)
    for row in difference(network_of(before), network_of(after)).to_json()["layers"]:
        if row["before"]["ops"] != ["Conv"]:
            continue
        (same,) = [one for one in facts["layers"] if one["name"] == row["name"]]
        assert same["after"]["engine_kernels"].count("corrltn") == len(row["after"]["layers"])
        assert row["name"] == "conv1" or [same[side]["macs"] for side in ("before", "after")] == [
            row[side]["macs"] for side in ("before", "after")
        ]  # a single colour is padded to two
    assert facts["totals"]["after"]["peak_activation_bytes"] > 0
    (tmp_path / "other.engine").write_bytes(b"ftrt" + bytes(1000))
    code, said = prunec("diff", paths[0], tmp_path / "other.engine")
    assert (code, "only engines of TensorRT-RTX do" in said, len(said.splitlines())) == (7, True, 1), said


@needs_shared
def test_lint_knows_every_copy_that_tensorrt_rtx_adds(tmp_path: Path) -> None:
    """Compare lint findings on a real network with the kernels compiled later."""
    model = resnet56().onnx(18)
    said = [one.node for one in findings(network_of(model), TARGETS["rtx-fp16"]) if one.facts["off_fast_kernel"]]
    engine = read(plan(model, tmp_path / "resnet56.engine"))
    copied = [layer.nodes[0] for layer in engine.layers if layer.kernel_name == "__myl_ReplConc"]
    reads = {node.name: node.input[0] for node in model.graph.node}
    assert said
    assert len(copied) == len({reads[name] for name in said})  # a shortcut shares the copy with its block


# The command


prunec = partial(command.prunec, columns=220)


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    paths = tmp_path / "before.onnx", tmp_path / "after.onnx"
    for path, model in zip(paths, demo_pair(), strict=True):
        onnx.save(model, path)
    code, said = prunec("diff", *paths)
    assert (code, "blocks.0.conv2" in said, "relu_1" in said, "total" in said) == (0, True, False, True), said
    assert "relu_1" in prunec("diff", *paths, "--all")[1]
    code, said = prunec("diff", *paths, "--json", "--profile")
    facts = json.loads(said)
    assert (code, facts["before"], facts["totals"]["before"]["ms"] > 0) == (0, str(paths[0]), True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.onnx", "before.onnx"]


TIMES = ("--times-before", "torn.json", "--times-after", "torn.json")


@pytest.mark.parametrize(
    ("code", "words", "args"),
    [
        (7, "there is no model file 'gone.onnx'", ["gone.onnx", "good.onnx"]),
        (7, "is not a whole ONNX model", ["torn.onnx", "good.onnx"]),
        (7, "is neither ONNX nor the JSON of an engine", ["torn.json", "torn.json"]),
        (7, "has no list of Layers", ["times.json", "times.json"]),
        (
            7,
            "is not a profile",
            ["good.onnx", "good.onnx", *TIMES],
        ),
        (2, "compare two of one kind", ["good.onnx", "torn.json"]),
        (2, "one profile alone", ["good.onnx", "good.onnx", "--times-before", "times.json"]),
        (2, "--profile runs ONNX files", ["times.json", "times.json", "--profile"]),
        (7, 'pip install "prunec[gpu]"', ["good.onnx", "good.onnx", "--profile", "--provider", "cuda"]),
    ],
)
def test_what_cannot_be_compared(
    code: int, words: str, args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = demo_pair()[1].SerializeToString()
    for name, data in (("good.onnx", whole), ("torn.onnx", whole[:-1000]), ("torn.json", b"{"), ("times.json", b"[]")):
        Path(name).write_bytes(data)
    found, said = prunec("diff", *args)
    assert (found, words in said, len(said.strip().splitlines())) == (code, True, 1), said
