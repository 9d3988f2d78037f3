"""Command line on networks with tokens, raw pixels, several inputs, or other floats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import prunec

from prunec.deploy.benchmark.inputs import Takes
from prunec.deploy.onnx import model_inputs
from prunec.deploy.ort.runtime import session
from prunec.errors import SpecError
from prunec.request.values import shape_of, type_of

NETS = """
import torch
from torch import nn

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.a, self.fc = nn.Embedding(50, 8), nn.Conv1d(8, 16, 3), nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.a(self.table(x).transpose(1, 2)).relu().amax(2))

class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.a(x.permute(0, 3, 1, 2).float() / 255).relu().mean((2, 3)))

class Threes(Pixels):
    def forward(self, x):
        return self.fc(self.a(x).relu().mean((2, 3)).reshape(-1).view(3, 16))

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.a, self.fc = nn.Embedding(50, 8), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, input_ids=None, position_ids=None, attention_mask=None, labels=None):
        found = self.a(self.table(input_ids)).relu() * attention_mask[:, :, None].float()
        found = self.fc(found.sum(1))
        return found if labels is None else nn.functional.cross_entropy(found, labels)

def words():
    for start in range(0, 32, 16):
        ids = torch.arange(start, start + 16 * 5).view(16, 5) % 50
        yield {"input_ids": ids, "labels": ids[:, 0] % 4, "attention_mask": torch.ones_like(ids)}

def double():
    return Pixels().double()

def half():
    return Tokens().half()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "nets.py").write_text(NETS)
    random = np.random.default_rng(0)
    np.savez(folder / "tokens.npz", inputs=random.integers(0, 50, (32, 9)), labels=np.arange(32) % 4)
    np.savez(folder / "floats.npz", inputs=random.standard_normal((32, 3, 6, 6), dtype=np.float32))
    np.savez(folder / "pixels.npz", inputs=random.integers(0, 256, (32, 6, 6, 3), dtype=np.uint8))
    return folder


CHEAP = ("--target", "macs:0.6", "--allocator", "uniform", "--decomposer", "none", "--no-bench")


@pytest.mark.parametrize(("name", "shape"), [("Tokens", "9:int64"), ("Pixels", "6x6x3:uint8")])
def test_integers_go_the_whole_way(place: Path, tmp_path: Path, name: str, shape: str) -> None:
    model, data = f"{place}/nets.py:{name}", place / f"{name.lower()}.npz"
    code, said = prunec("inspect", model, "--input-shape", shape, "--json", "--prove")
    assert code == 0, said
    assert json.loads(said)["totals"]["prunable"] >= 1
    code, said = prunec("compress", model, "--data", data, *CHEAP, "-o", tmp_path / "out")
    assert code == 0, said


def test_tokens_are_exported_and_timed_without_data(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    code, said = prunec("export", f"{place}/nets.py:Tokens", "--input-shape", "9:int64", "-o", path)
    assert code == 0, said
    assert model_inputs.rows_of_tables(onnx.load(path)) == {"input": 50}
    code, said = prunec("bench", path, "--seconds", "0", "--iterations", "2", "--warm-up", "0")
    assert code == 0, said


def test_several_inputs_are_given_by_name(place: Path, tmp_path: Path) -> None:
    model, data = f"{place}/nets.py:Words", f"{place}/nets.py:words"
    code, said = prunec("evaluate", model, "--data", data, "--json")
    assert code == 0, said
    dense = json.loads(said)
    out = tmp_path / "out"
    code, said = prunec("compress", model, "--data", data, *CHEAP, "-o", out)
    assert code == 0, said
    assert dense["images"] == 32
    assert [entry.name for entry in session(out / "model.onnx").get_inputs()] == ["input_0", "input_1"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("inspect", "Tokens", "--input-shape", "9"), 3, "it has an embedding, which takes integers"),
        (("inspect", "Tokens", "--input-shape", "9:long"), 2, "names no type of numbers"),
        (("inspect", "half", "--input-shape", "9:int64"), 3, "computes in float16"),
        (("export", "double", "--input-shape", "6x6x3:uint8", "-o", "x.onnx"), 7, "float64 .*net.float"),
    ],
)
def test_refusals_name_the_type(place: Path, args: tuple[str, ...], code: int, words: str) -> None:
    command, name, *rest = args
    found, said = prunec(command, f"{place}/nets.py:{name}", *rest)
    assert found == code
    assert re.search(words, said), said


def test_shapes_with_a_type() -> None:
    assert (shape_of("here", "20:int64"), type_of("here", "20:int64")) == ((20,), "int64")
    assert (shape_of("here", "3x4"), type_of("here", "3x4"), type_of("here", [3, 4])) == ((3, 4), None, None)
    with pytest.raises(SpecError, match="names no type"):
        shape_of("here", "20:tokens")


def test_noise_is_below_the_rows_of_a_table() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (int32[batch, 4] ids, bool[batch, 4] mask, float[batch, 2] x) => (float[batch, 4, 3] y)
        { wide = Cast<to = 7>(ids)  row = Gather(table, wide)  y = Identity(row) }
    """)
    table = np.zeros((3, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    assert model_inputs.rows_of_tables(model) == {"ids": 3}
    takes = model_inputs.of_model(model)
    assert takes.required == ("ids", "mask", "x")
    opened = session(model)
    assert model_inputs.of_session(opened).types == takes.types
    ids, mask, x = Takes.of(opened, model_inputs.rows_of_tables(model)).noise(50, 0)
    assert [one.dtype.name for one in (ids, mask, x)] == ["int32", "bool", "float32"]
    assert (ids.min(), ids.max()) == (0, 2)
    assert set(np.unique(Takes.of(opened).noise(50, 0)[0])) == {0, 1}


def test_a_network_that_takes_three_at_a_time_is_told_so(place: Path) -> None:
    call = ("compress", f"{place}/nets.py:Threes", "--data", place / "floats.npz", *CHEAP)
    code, said = prunec(*call, "-o", place / "threes")
    assert code == 8
    assert "--batch where it takes one size alone" in said
    code, said = prunec(*call, "-o", place / "threes", "--batch", 3)
    assert code == 0, said
    assert json.loads((place / "threes/report.json").read_text())["capture"]["batch"] == 3
