"""`--device`: what it says where there is no GPU, and that it reaches the network where there is one (simulated)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from simulated_device import CUDA, simulated
from test_cli import NETS
from typer.testing import CliRunner

from prunec import device
from prunec.cli import app
from prunec.request.config import CompressRequest
from prunec.request.recipe import merged

NORM = ("--preprocess", "scale=255")
MADE = ("nets.py:make", "--data", "train.npz", *NORM)
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8), random.integers(0, 5, 32)
    np.savez(tmp_path / "train.npz", images=pixels, labels=labels)
    (tmp_path / "nets.py").write_text(NETS.replace("return Net()", "torch.manual_seed(0); return Net()"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU that the command line finds."""
    monkeypatch.setattr(device, "named", lambda text: CUDA if text == "cuda" else None)
    with simulated():
        yield


def prunec(*more: str) -> Any:
    return CliRunner().invoke(app, list(more))


@needs_none
@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("command", ["compress", "sensitivity", "evaluate"])
def test_without_a_gpu_it_is_one_sentence(command: str) -> None:
    more = ("--target", "macs:0.5", "-o", "out") if command == "compress" else ()
    done = prunec(command, *MADE, *more, "--device", "cuda")
    assert done.exit_code == 7
    assert "there is no device cuda" in " ".join(done.output.split())
    assert not Path("out").exists()


@pytest.mark.usefixtures("room")
def test_a_device_that_is_none() -> None:
    done = prunec("sensitivity", *MADE, "--device", "tpu9")
    assert done.exit_code == 2
    assert "'tpu9' is no device that prunec computes on" in " ".join(done.output.split())


@pytest.mark.usefixtures("room")
def test_onnx_runtime_has_providers() -> None:
    done = prunec("evaluate", "model.onnx", "--data", "train.npz", "--device", "cpu")
    assert done.exit_code == 2
    assert "runs in ONNX Runtime: give --provider" in " ".join(done.output.split())


def test_a_recipe_may_name_it(room: Path) -> None:
    text = '[model]\nsource = "a"\n[data]\nsource = "b"\n[compress]\ntarget = "macs:0.5"\ndevice = "cuda:1"\n'
    (room / "recipe.toml").write_text(text)
    assert merged(CompressRequest, {}, room / "recipe.toml").device == "cuda:1"
    assert merged(CompressRequest, {"device": "cpu"}, room / "recipe.toml").device == "cpu"
    assert merged(CompressRequest, {"model": "a", "data": "b", "target": "macs:1"}).device is None


@pytest.mark.usefixtures("room", "gpu")
def test_curves_and_accuracy_are_the_same_there() -> None:
    options = ("--json", "--decomposer", "none", "--selector", "top{by=l1}")
    here, there = (prunec("sensitivity", *MADE, *options, *more) for more in ((), ("--device", "cuda")))
    assert there.exit_code == 0, there.output
    pairs = zip(json.loads(here.stdout)["spaces"], json.loads(there.stdout)["spaces"], strict=True)
    assert all(one["error"] == pytest.approx(other["error"], rel=1e-3) for one, other in pairs)
    measured = [prunec("evaluate", *MADE, "--json", *more) for more in ((), ("--device", "cuda"))]
    assert [done.exit_code for done in measured] == [0, 0]
    assert measured[0].stdout == measured[1].stdout
