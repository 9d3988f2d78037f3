"""`export`, `cast` and `quantize` on the command line: the network that is shipped, and every bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from prunec import demo
from prunec.cli import app
from prunec.deploy import onnx_file, provenance

DEMO = ("prunec.demo:load_network", "--input-shape", "1x28x28")


def prunec(*args: object) -> tuple[int, str]:
    """The exit code, and all that was printed."""
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


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
