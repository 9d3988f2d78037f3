"""Command line on networks with a fixed batch or opaque sub-modules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from prunec.cli import app

NETS = """
import torch
from torch import nn

class Weird(nn.Module):
    def forward(self, x):
        return torch.from_numpy(abs(x.detach().numpy()))

class Net(nn.Module):
    def __init__(self, batch=-1, weird=False):
        super().__init__()
        self.batch, self.weird = batch, Weird() if weird else nn.Identity()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        x = self.weird(self.b(self.a(x).relu()))
        return self.fc(x.mean((2, 3)).view(self.batch, 8))

def two():
    return Net(2)

def one():
    return Net(1)

def weird():
    return Net(weird=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "nets.py").write_text(NETS)
    pixels = np.random.default_rng(0).standard_normal((17, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "train.npz", inputs=pixels)
    np.savez(folder / "test.npz", inputs=pixels, labels=np.arange(17) % 5)
    return folder


def prunec(*args: object) -> tuple[int, str, str]:
    """The exit code, stdout and stderr."""
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_inspect_warns_of_a_fixed_batch(place: Path) -> None:
    code, said, warned = prunec("inspect", f"{place}/nets.py:two", "--input-shape", "3x8x8", "--json", "--prove")
    assert code == 0
    assert json.loads(said)["totals"]["prunable"] == 2
    assert "warning: Net fixes its batch size" in warned
    assert "the sweeps run 2 samples at a time" in warned


@pytest.mark.parametrize(("name", "batch"), [("two", 2), ("one", 1)])
def test_compress_goes_the_whole_way_with_a_fixed_batch(place: Path, tmp_path: Path, name: str, batch: int) -> None:
    out, test = tmp_path / "out", place / "test.npz"
    given = (f"{place}/nets.py:{name}", "--data", place / "train.npz", "--target", "macs:0.6", "-o", out)
    code, _, warned = prunec("compress", *given, "--evaluate", test)
    assert code == 0, warned
    assert f"captured with a batch of {batch}, the sweeps" in warned
    report = json.loads((out / "report.json").read_text())
    assert (report["capture"]["batch"], report["capture"]["left_out"]) == (batch, 17 % batch)
    assert report["calibration"]["images"] == 17 - 17 % batch
    assert (report["accuracy"]["images"], report["latency"]["points"][0]["batch"]) == (17, batch)
    for file in ("model.onnx", "model.pt2"):
        code, said, warned = prunec("evaluate", out / file, "--data", test, "--json")
        assert code == 0, warned
        assert json.loads(said)["top1"] == pytest.approx(report["accuracy"]["compressed"])
    assert prunec("inspect", out / "model.pt2")[0] == 0


def test_an_opaque_module_is_inspected_and_compressed_but_not_written(place: Path, tmp_path: Path) -> None:
    net, opaque = f"{place}/nets.py:weird", ("--opaque", "weird")
    code, _, said = prunec("inspect", net, "--input-shape", "3x8x8")
    assert (code, "weird (Weird) fails at nets.py:7" in said, "--opaque weird" in said) == (3, True, True)
    code, said, _ = prunec("inspect", net, "--input-shape", "3x8x8", *opaque, "--json", "--prove")
    assert (code, json.loads(said)["totals"]["prunable"]) == (0, 1)
    given = ("compress", net, "--data", place / "train.npz", "--target", "macs:0.8")
    code, _, said = prunec(*given, *opaque, "-o", tmp_path / "out")
    assert (code, "the opaque module weird cannot be written as ONNX" in said) == (7, True)
    assert not (tmp_path / "out").exists()
    code, _, said = prunec(*given, *opaque, "--stop-after", "slice")
    assert (code, "stopped after slice" in said) == (0, True)


def test_a_recipe_may_name_opaque_modules(place: Path, tmp_path: Path) -> None:
    text = f"[model]\nsource = '{place}/nets.py:weird'\nopaque = ['wierd']\n"
    text += f"[data]\nsource = '{place}/train.npz'\n[compress]\ntarget = 'macs:0.8'\n"
    (tmp_path / "recipe.toml").write_text(text)
    code, _, said = prunec("compress", "--recipe", tmp_path / "recipe.toml", "--stop-after", "slice")
    assert (code, "did you mean weird?" in said) == (2, True)
    code, _, said = prunec(
        "compress", "--recipe", tmp_path / "recipe.toml", "--opaque", "weird", "--stop-after", "slice"
    )
    assert code == 0, said


def test_an_exported_network_of_two_inputs_brings_its_own_example(tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(6, 8), torch.nn.Linear(8, 5)

        def forward(self, pair: dict[str, torch.Tensor]) -> torch.Tensor:
            found: torch.Tensor = self.b(self.a(pair["x"]).relu() + self.a(pair["y"]))
            return found

    example = {"x": torch.randn(2, 6), "y": torch.randn(2, 6)}
    torch.export.save(
        torch.export.export(
            Sum(), (example,), dynamic_shapes=({"x": {0: torch.export.Dim.AUTO}, "y": {0: torch.export.Dim.AUTO}},)
        ),
        tmp_path / "net.pt2",
    )
    (tmp_path / "data.py").write_text("import torch\ndef pairs():\n    yield torch.randn(16, 6), torch.randn(16, 6)\n")
    code, said, _ = prunec("inspect", tmp_path / "net.pt2", "--json", "--prove")
    assert (code, json.loads(said)["totals"]["prunable"]) == (0, 1)
    given = ("--data", f"{tmp_path}/data.py:pairs", "--target", "macs:0.6", "-o", tmp_path / "out")
    code, _, said = prunec("compress", tmp_path / "net.pt2", *given)
    assert code == 0, said
