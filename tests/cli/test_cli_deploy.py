"""`export`, `cast` and `quantize` on the command line: the network that is shipped, and every bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from command import prunec

from prunec import demo
from prunec.deploy.onnx import onnx_file, provenance

DEMO = ("prunec.demo:load_network", "--input-shape", "1x28x28")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo network as ONNX and some of its images, ready. Tests write elsewhere."""
    folder = tmp_path_factory.mktemp("place")
    images, test = demo.calibration_images().take(96, 0), demo.test_images().take(500, 0)
    np.savez(folder / "train.npz", inputs=images.inputs[0].numpy())
    assert test.labels is not None
    np.savez(folder / "test.npz", inputs=test.inputs[0].numpy(), labels=test.labels.numpy())
    code, said = prunec("export", *DEMO, "--data", folder / "train.npz", "-o", folder / "demo.onnx")
    assert code == 0, said
    assert said.count("same class 100.00%") == 3
    assert "opset 20" in said
    return folder


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to write in, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(room: Path, code: int, said: str, *args: object) -> None:
    before = sorted(room.rglob("*"))
    found, output = prunec(*args)
    assert (found, said in output) == (code, True), output
    assert "Traceback" not in output
    assert "should not have" not in output
    assert sorted(room.rglob("*")) == before


def test_export_stamps_and_names(place: Path, room: Path) -> None:
    found = provenance.read(onnx_file.load(place / "demo.onnx"))
    assert set(found) == {"version", "source", "pipeline"}
    code, said = prunec("export", *DEMO, "--opset", "bf16", "--name", "input=images", "-o", "named.onnx")
    assert code == 0, said
    model = onnx.load(room / "named.onnx")
    assert (model.graph.input[0].name, model.opset_import[0].version) == ("images", 22)


@pytest.mark.parametrize(
    ("code", "said", "more"),
    [
        (2, "opset 'newest' cannot be exported: give widest (18), normal (20), bf16 (22)", ["--opset", "newest"]),
        (2, "write OLD=NEW", ["--name", "input"]),
        (2, "no input or output 'x' to rename", ["--name", "x=y"]),
        (8, "there are no images at none", ["--data", "none"]),
        (8, "make it first", ["-o", "none/net.onnx"]),
    ],
)
def test_export_refuses(room: Path, code: int, said: str, more: list[str]) -> None:
    refused(room, code, said, "export", *DEMO, "-o", "net.onnx", *more)


@pytest.mark.parametrize(
    ("flag", "kind"), [("--fp16", onnx.TensorProto.FLOAT16), ("--bf16", onnx.TensorProto.BFLOAT16)]
)
def test_cast(place: Path, room: Path, flag: str, kind: int) -> None:
    how = ("--data", place / "train.npz", "--evaluate", place / "test.npz", "--keep", "fc")
    code, said = prunec("cast", place / "demo.onnx", flag, *how, "-o", "half.onnx")
    assert code == 0, said
    for word in (
        f"21 layers in {flag[2:]}, 1 nodes kept in fp32",
        "kept fc: asked for",
        "top-1 accuracy 9",
        "batch 32",
    ):
        assert word in said
    assert kind in {tensor.data_type for tensor in onnx.load(room / "half.onnx").graph.initializer}


@pytest.fixture(scope="module")
def broken(place: Path) -> Path:
    """A folder with what is not an ONNX model, or not one to be cast."""
    whole = (place / "demo.onnx").read_bytes()
    (place / "torn.onnx").write_bytes(whole[: len(whole) // 2])
    custom = onnx.load(place / "demo.onnx")
    custom.graph.node[1].domain = "mine"
    custom.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    (place / "custom.onnx").write_bytes(custom.SerializeToString())
    np.savez(place / "gray.npz", inputs=np.zeros((4, 1, 8, 8), np.float32))
    np.savez(place / "endless.npz", inputs=np.full((4, 1, 28, 28), 3e38, np.float32))
    return place


@pytest.mark.parametrize("command", [("cast", "--fp16"), ("quantize", "--int8")])
@pytest.mark.parametrize(
    ("code", "said", "model", "more"),
    [
        (7, "is not a whole ONNX model", "torn.onnx", []),
        (7, "has the operator mine.Relu", "custom.onnx", []),
        (7, "there is no model file", "none.onnx", []),
        (8, "there are no images at none", "demo.onnx", ["--data", "none"]),
        (
            8,
            "the model takes input float[batch, 1, 28, 28], given float32[4, 1, 8, 8]",
            "demo.onnx",
            ["--data", "gray.npz"],
        ),
        (6, "not finite in FP32 already", "demo.onnx", ["--data", "endless.npz"]),
        (2, "--images: expected a whole number of at least 1, not 0", "demo.onnx", ["--images", "0"]),
        (2, "no node is called 'layer9.*'", "demo.onnx", ["--keep", "layer9.*"]),
        (8, "make it first", "demo.onnx", ["-o", "none/half.onnx"]),
        (2, "give one of", "demo.onnx", ["--bf16", "--fp8"]),
    ],
)
def test_bad_input(
    broken: Path, room: Path, command: tuple[str, str], code: int, said: str, model: str, more: list[str]
) -> None:
    other = {"cast": "--fp8", "quantize": "--bf16"}[command[0]]
    more = [str(broken / one) if one.endswith(".npz") else one for one in more if one != other]
    args = (*command, broken / model, "--data", broken / "train.npz", "-o", "half.onnx", *more)
    refused(room, code, said, *args)


def test_quantize(place: Path, room: Path) -> None:
    how = ("--data", place / "train.npz", "--evaluate", place / "test.npz", "--method", "average")
    code, said = prunec("quantize", place / "demo.onnx", "--int8", *how, "-o", "low.onnx")
    assert code == 0, said
    words = "20 layers in int8, 2 left alone; calibrated on 96 images", "left fc: 10 channels", "top-1 accuracy 9"
    for word in words:
        assert word in said
    measured = said.partition("% before, ")[2].partition("%")[0]
    code, said = prunec("evaluate", "low.onnx", "--data", place / "test.npz", "--as-written")
    assert f"{measured}% of 500 images" in said
    code, said = prunec("cast", "low.onnx", "--fp16", "--data", place / "train.npz", "-o", "low16.onnx")
    assert code == 0, said
    found = provenance.read(onnx_file.load(room / "low16.onnx"))
    assert (found["quantisation"], found["precision"]) == ("int8", "fp16")
    refused(room, 8, "exists: choose another name, or replace it with --force", "quantize", place / "demo.onnx",
            "--int8", "--data", place / "train.npz", "-o", "low.onnx")  # fmt: skip
