"""The command line on a small ONNX file: inspect, compress, evaluate, sweep, sensitivity, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from command import prunec
from torch import nn

SIDE = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx and images that the network has labelled. Tests write elsewhere."""
    folder = tmp_path_factory.mktemp("onnx")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()
        x = torch.randn(64, 3, SIDE, SIDE)
    with torch.no_grad():
        labels = network(x).argmax(1)
    np.savez(folder / "test.npz", inputs=x.numpy(), labels=labels.numpy())
    torch.onnx.export(
        network,
        (x[:2],),
        folder / "net.onnx",
        dynamo=True,
        input_names=["pictures"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("many")},),
        verbose=False,
        external_data=False,
    )
    return folder


def interface(path: Path) -> list[str]:
    graph = onnx.load(path).graph
    return [onnx.helper.printable_value_info(one) for one in (*graph.input, *graph.output)]


def right(*words: object) -> str:
    """Run a command that has to succeed, and return what it said."""
    code, said = prunec(*words)
    assert code == 0, said
    return said


def test_inspect_needs_no_shape_and_proves(place: Path) -> None:
    said = right("inspect", place / "net.onnx", "--prove")
    assert "2 of 3 spaces can be pruned" in said
    assert "Proved: channels masked and channels sliced away agree" in said


def test_compress_writes_a_file_that_replaces_the_given_one(place: Path, tmp_path: Path) -> None:
    data = place / "test.npz"
    options = ("--target", "macs:0.6", "--align", "none", "--no-bench")
    right("compress", place / "net.onnx", "--data", data, *options, "-o", tmp_path / "out")
    made = tmp_path / "out/model.onnx"
    assert interface(made) == interface(place / "net.onnx")
    assert made.stat().st_size < (place / "net.onnx").stat().st_size
    report = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    assert 0.4 < report["macs"]["compressed"] / report["macs"]["dense"] <= 0.6
    assert report["model"]["source"] == str(place / "net.onnx")
    assert report["parity"]["ok"]
    dense = right("evaluate", place / "net.onnx", "--data", data)
    assert "100.00% of 64 images" in dense
    assert "of 64 images" in right("evaluate", made, "--data", data)


def test_sweep_and_sensitivity_take_the_file(place: Path, tmp_path: Path) -> None:
    data = ("--data", place / "test.npz")
    options = ("--targets", "macs:0.8,0.6", "--align", "none", "--no-bench", "--no-report", "-o", tmp_path / "family")
    right("sweep", place / "net.onnx", *data, *options)
    for folder in ("macs-0.8", "macs-0.6"):
        assert interface(tmp_path / "family" / folder / "model.onnx") == interface(place / "net.onnx")
    assert "one space at a time" in " ".join(right("sensitivity", place / "net.onnx", *data).split())


def test_an_operator_without_a_layer_before_it_is_named(place: Path, tmp_path: Path) -> None:
    model = onnx.load(place / "net.onnx")
    first = onnx.helper.make_node("Special", ["pictures"], ["pictures_ready"], name="own", domain="my.operators")
    for node in model.graph.node:
        node.input[:] = ["pictures_ready" if name == "pictures" else name for name in node.input]
    model.graph.node.insert(0, first)
    model.opset_import.append(onnx.helper.make_opsetid("my.operators", 1))
    onnx.save(model, tmp_path / "own.onnx")
    code, said = prunec("inspect", tmp_path / "own.onnx")
    assert code == 3, said
    assert "my.operators.Special of node 'own'" in " ".join(said.split())


def test_export_says_that_it_is_onnx_already(place: Path, tmp_path: Path) -> None:
    code, said = prunec("export", place / "net.onnx", "-o", tmp_path / "again.onnx")
    assert code == 2, said
    assert "is an ONNX file already" in " ".join(said.split())
    assert not (tmp_path / "again.onnx").exists()
