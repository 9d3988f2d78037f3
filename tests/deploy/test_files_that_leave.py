"""Every written file is compared with the user's network; a wrong one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from typer.testing import CliRunner

import prunec
from prunec.cli import app
from prunec.deploy import network_files
from prunec.deploy.onnx import export as exporting
from prunec.deploy.ort.runtime import run, session
from prunec.errors import NumericsError
from prunec.ir.program import Program

IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FACTORY = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lift, self.norm, self.head = nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.lift(x))))


def make():
    net = Net()
    net.norm.running_mean.uniform_(), net.norm.running_var.uniform_(0.5, 2)
    return net
"""


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        return self.fc(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


def nudged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with one weight changed."""
    weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(weight).copy()
    values.flat[:] += np.float32(0.1)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model


@pytest.fixture
def wrong_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    right = exporting.export_onnx
    monkeypatch.setattr(exporting, "export_onnx", lambda *args, **more: nudged(right(*args, **more)))


@pytest.fixture
def factory(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(FACTORY)
    return f"{tmp_path / 'nets.py'}:make"


def test_a_norm_over_tokens_is_exported_right(factory: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", factory, "--input-shape", "5x8", "-o", str(tmp_path / "net.onnx")])
    assert done.exit_code == 0, done.output
    scope: dict[str, Any] = {}
    exec(FACTORY, scope)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = scope["make"]().eval()
    x = torch.randn(4, 5, 8)
    np.testing.assert_allclose(run(session(tmp_path / "net.onnx"), (x,))[0], net(x).detach(), atol=1e-5)


def test_a_wrong_export_is_refused(factory: str, tmp_path: Path, wrong_exporter: None) -> None:
    done = CliRunner().invoke(app, ["export", factory, "--input-shape", "5x8", "-o", str(tmp_path / "net.onnx")])
    assert done.exit_code == 6
    assert "differs from the network at batch 1" in " ".join(done.output.split())
    assert not (tmp_path / "net.onnx").exists()


def test_both_onnx_files_of_a_result_are_compared(wrong_exporter: None) -> None:
    result = prunec.compress(Small().eval(), IMAGES, target="macs:0.6")
    for make in (result.onnx, result.dense_onnx):
        with pytest.raises(NumericsError, match="differs from its module at batch 1"):
            make()


def test_a_result_lets_the_users_network_go() -> None:
    result = prunec.compress(Small().eval(), IMAGES, target="macs:0.6")
    assert result.dense.original is None
    assert result.program.original is None
    assert [len(one) for one in result.samples] == [8]


def test_a_wrong_pt2_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, right = prunec.compress(Small().eval(), IMAGES, target="macs:0.6"), network_files.save_program

    def other(program: Program, path: Path) -> None:
        right(result.dense, path)

    monkeypatch.setattr("prunec.outcome.result.save_program", other)
    with pytest.raises(NumericsError, match=r"model\.pt2 differs from the compressed network at batch 1"):
        result.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_that_changes_under_capture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sly(Small):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x) * (1.0 if torch.compiler.is_exporting() else 2.0)

    with pytest.raises(NumericsError, match=r"the graph that torch\.export captured differs .* by 5\.0e-01"):
        prunec.compress(Sly().eval(), IMAGES, target="macs:0.6")
