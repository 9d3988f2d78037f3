"""`prunec bench`, whole: real models of every backend that a machine without a GPU has, and the refusals."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import onnx
import pytest
import torch
from bench_schema import checked
from onnx_nets import demo_pair
from typer.testing import CliRunner

from prunec import demo
from prunec.cli import app
from prunec.deploy.benchmark.contestant import Entry, Setup
from prunec.deploy.benchmark.point import Point, document
from prunec.deploy.benchmark.sweep import Sweep, measure
from prunec.errors import SpecError
from prunec.report.latency_plot import drawing

QUICK = Sweep(seconds=0, iterations=4, warm_up=0)
COMPILER = shutil.which("g++") or shutil.which("clang++")
NETS = """
from torch import nn

def make():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

def branches():
    class Net(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum().item() > 0 else x - 1
    return Net()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the demo's network as ONNX, dense and compressed, a program, and factories."""
    folder = tmp_path_factory.mktemp("place")
    for name, model in zip(("dense", "small"), demo_pair(), strict=True):
        onnx.save(copy.deepcopy(model), folder / f"{name}.onnx")
    (folder / "nets.py").write_text(NETS)
    net = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(net, (torch.randn(2, 16),), dynamic_shapes=shapes), folder / "net.pt2")
    return folder


@pytest.fixture
def room(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return `place`, as the current folder."""
    monkeypatch.chdir(place)
    return place


def bench(*args: str) -> tuple[int, str]:
    """The exit code of a quick benchmark, and all that was printed."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["bench", *args, "--warm-up", "0"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_sweep_of_the_demo_before_and_after(room: Path, tmp_path: Path) -> None:
    files = ("--json", str(tmp_path / "times.json"), "--plot", str(tmp_path / "times.svg"))
    sizes = ("--batch", "1,2", "--threads", "1,2", "--seconds", "0", "--iterations", "6")
    code, said = bench("dense.onnx", "small.onnx", *sizes, *files, "--profile")
    assert code == 0, said
    found = checked(json.loads((tmp_path / "times.json").read_text()))
    assert [(one["batch"], one["threads"]) for one in found["points"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    first = found["points"][0]
    dense, small = first["models"]
    assert len(dense["samples"]["wallMs"]) == len(small["samples"]["wallMs"]) == 18  # of three openings
    assert dense["metrics"]["Latency"]["percentile(99%)"] is None
    assert "p99_ms" not in dense
    assert dense["metrics"]["Images a second"] == pytest.approx(dense["metrics"]["Throughput"])
    assert small["speedup"]["low"] <= small["speedup"]["ratio"] <= small["speedup"]["high"]
    assert dense["ran_with"] | {"threads": 1, "spinning": False, "denormals_as_zero": True} == dense["ran_with"]
    assert {"cpu", "isa", "affinity", "load_average", "load_average_after", "packages"} <= set(first["environment"])
    work = [row for row in found["layers"][0]["layers"] if row["before"] and row["before"]["weights"]]
    assert sum(row["before"]["ms"] or 0 for row in work) > 0
    root = ET.parse(tmp_path / "times.svg").getroot()
    assert len(root.findall("{*}g/{*}circle")) == 4
    assert "no p99 from fewer than 1,000 runs" in said
    assert "A against itself" in said


@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler, and there is no g++ or clang++")
def test_the_three_ways_of_one_network_on_the_cpu(room: Path) -> None:
    code, said = bench("nets.py:make", "net.pt2", "net.pt2", "--backend", "torch", "--backend", "torch",
                       "--backend", "torch-compile", "--input-shape", "16", "--seconds", "0",
                       "--json", "x.json")  # fmt: skip
    assert code == 0, said
    eager, exported, compiled = json.loads((room / "x.json").read_text())["points"][0]["models"]
    assert [each["ran_with"].get("compile_seconds", 0) > 0 for each in (eager, exported, compiled)] == [
        False,
        False,
        True,
    ]
    assert "C" in said
    assert exported["name"] == "net.pt2 (torch)"


def test_a_model_alone_is_timed_against_itself_and_p99_needs_a_thousand(room: Path) -> None:
    code, said = bench(
        "nets.py:make", "--input-shape", "16", "--seconds", "0", "--iterations", "1000", "--json", "y.json"
    )
    assert code == 0, said
    (model,) = json.loads((room / "y.json").read_text())["points"][0]["models"]
    assert model["p99_ms"] == pytest.approx(model["metrics"]["Latency"]["percentile(99%)"])
    assert "speedup" not in model
    assert "p99" in said


@pytest.mark.parametrize(("gate", "code"), [("0.001x", 0), ("900x", 9)])
def test_a_gate_ends_in_its_exit_code(room: Path, gate: str, code: int) -> None:
    found, said = bench(
        "dense.onnx", "small.onnx", "--seconds", "0", "--iterations", "6", "--gate", gate, "--json", "z.json"
    )
    assert found == code, said
    assert ("the gate of 900x was missed: B has " in said) == (code == 9)
    assert len(checked(json.loads((room / "z.json").read_text()))["gate"]["missed"]) == (code == 9)


def test_real_images_are_used(room: Path) -> None:
    images = demo.test_images().take(4, 0).inputs
    (point,) = measure([Entry.parse("dense.onnx")], QUICK, inputs=images)
    assert len(point.samples[0]["wallMs"]) == 12  # of three openings
    with pytest.raises(SpecError, match="batch 8 needs that many images"):
        next(measure([Entry.parse("dense.onnx")], Sweep(batches=(8,)), inputs=images))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin threads")
def test_threads_are_pinned_while_a_point_is_timed_and_freed_after(room: Path) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    (point,) = measure([Entry.parse("net.pt2")], Sweep(seconds=0, iterations=2, warm_up=0, pin=str(core)))
    assert point.environment["affinity"] == [core]
    assert os.sched_getaffinity(0) == before
    (auto,) = measure([Entry.parse("net.pt2")], Sweep(seconds=0, iterations=2, warm_up=0, pin="auto"))
    assert len(auto.environment["affinity"]) == 1


def test_torch_gets_its_threads_back(room: Path) -> None:
    before = torch.get_num_threads()
    list(measure([Entry.parse("net.pt2")], Sweep(threads=(before + 1,), seconds=0, iterations=2, warm_up=0)))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["dense.onnx", "--batch", "one"], 2, "--batch 'one' is no list of numbers"),
        (["dense.onnx", "--batch", "0"], 2, "below 1 cannot be timed"),
        (["dense.onnx", "--threads", "0"], 2, "below 1 cannot be timed"),
        (["dense.onnx", "--iterations", "1"], 2, "the least are 0 s, 2 and 0 s"),
        (["dense.onnx", "small.onnx", "--gate", "fast"], 2, "write for instance --gate 1.2x"),
        (["dense.onnx", "--gate", "1.2x"], 2, "there is one model"),
        (["dense.onnx", "--backend", "tvm"], 2, "backend 'tvm' is not known; choose one of auto, onnxruntime"),
        (["dense.onnx", "--backend", "tensorrt-rtx"], 2, "prunec build --backend tensorrt-rtx"),
        (["net.pt2", "--backend", "onnxruntime"], 2, "export it first, with prunec export"),
        (["dense.onnx"] * 3 + ["--backend", "auto"] * 2, 2, "once for all, or once each"),
        (["dense.onnx", "--pin", "9999"], 2, "not among those allowed here"),
        (["dense.onnx", "--pin", "first"], 2, "--pin 0,1"),
        (["dense.onnx", "--cuda-graph"], 2, "leave --cuda-graph out"),
        (["net.pt2", "--cuda-graph"], 2, "leave --cuda-graph out"),
        (["net.pt2", "--profile"], 2, "--profile sees into ONNX Runtime alone"),
        (["net.pt2", "--provider", "tensorrt"], 2, "on cpu or cuda, and not on 'tensorrt'"),
        (["nets.py:make"], 2, "give --input-shape"),
        (["nets.py:make", "--input-shape", "17"], 8, "does not run on inputs of [1, 17]"),
        (["nets.py:branches", "--input-shape", "17", "--backend", "torch-compile"], 7, "cannot be compiled"),
        (["gone.onnx"], 7, "there is no model file 'gone.onnx'"),
        (["gone.engine"], 7, "there is no engine 'gone.engine'"),
        (["gone.pt2"], 3, "there is no file gone.pt2"),
    ],
)  # fmt: skip
def test_refusals(room: Path, args: list[str], code: int, sentence: str) -> None:
    if "--pin" in args and not sys.platform.startswith("linux"):
        pytest.skip("this system cannot pin threads")
    found, said = bench(*args, "--json", "never.json")
    assert (found, len(said.strip().splitlines())) == (code, 1), said
    assert sentence in said
    assert not (room / "never.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(room: Path) -> None:
    code, said = bench("net.pt2", "--provider", "cuda")
    assert (code, "install a build of it for CUDA" in said) == (7, True), said


def test_a_drawing_of_one_model_has_no_speedup(room: Path) -> None:
    (point,) = measure([Entry.parse("net.pt2")], QUICK, setup=Setup())
    assert isinstance(point, Point)
    root = ET.fromstring(drawing(document(["net.pt2"], [point])))
    assert root.findall("{*}g/{*}circle") == []
    assert len(root.findall("{*}g/{*}rect")) == 1
