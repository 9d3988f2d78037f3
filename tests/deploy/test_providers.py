"""Execution providers: the one that was asked for, or one sentence and exit code 7; never the CPU in its place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from prunec.cli import app
from prunec.deploy.benchmark.contestant import Entry
from prunec.deploy.benchmark.sweep import Sweep, measure
from prunec.deploy.ort import providers, runtime
from prunec.deploy.ort.providers import PROVIDERS, Provider
from prunec.deploy.ort.runtime import run, session
from prunec.errors import BackendError, SpecError
from prunec.report.benchmark import point_lines

DOUBLE = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 18]>
    double (float[batch, 3] input) => (float[batch, 3] output) { output = Add(input, input) }
""")
ONES = torch.ones(2, 3)
PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
AVAILABLE = onnxruntime.get_available_providers()


def plugin(library: str, name: str = "CPUExecutionProvider") -> ModuleType:
    """Build a plug-in module: its provider name and library path."""
    module = ModuleType(PLUGIN)
    module.get_ep_name, module.get_library_path = lambda: name, lambda: library  # type: ignore[attr-defined]
    return module


def imitation(**given: Any) -> SimpleNamespace:
    """ONNX Runtime with some parts replaced."""
    shell = {name: getattr(onnxruntime, name) for name in ("SessionOptions", "GraphOptimizationLevel")}
    return SimpleNamespace(**{**shell, "InferenceSession": object, "__version__": "1.31", **given})


def test_the_cpu_runs_and_an_unknown_name_is_refused() -> None:
    np.testing.assert_array_equal(run(session(DOUBLE, provider="cpu"), (ONES,))[0], 2 * np.ones((2, 3)))
    with pytest.raises(SpecError, match="provider 'gpu' is not known; choose one of cpu, cuda, tensorrt, rtx"):
        session(DOUBLE, provider="gpu")


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name not in ("cpu", "rtx")])
def test_a_build_without_the_provider_says_what_to_install(name: str) -> None:
    if PROVIDERS[name].name in AVAILABLE:
        pytest.skip(f"this ONNX Runtime has {name}")
    with pytest.raises(BackendError, match=f"this ONNX Runtime has no provider '{name}', only ") as caught:
        session(DOUBLE, provider=name)
    assert f'pip install "{PROVIDERS[name].brought_by}"' in str(caught.value)
    assert caught.value.exit_code == 7


def test_a_provider_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fallen = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    asked: dict[str, Any] = {}

    def create(*args: object, **kwargs: object) -> SimpleNamespace:
        asked.update(kwargs)
        return fallen

    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    fake = imitation(get_available_providers=lambda: available, InferenceSession=create)
    monkeypatch.setattr(runtime, "require", lambda: fake)
    with pytest.raises(BackendError, match="could not start provider 'cuda' and fell back to CPUExecutionProvider"):
        session(DOUBLE, provider="cuda")
    assert asked == {"providers": ["CUDAExecutionProvider"], "enable_fallback": False}


def test_a_provider_that_takes_no_node_is_an_error() -> None:
    part = SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: [1, 2, 3])
    idle = SimpleNamespace(
        get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        get_provider_graph_assignment_info=lambda: [part],
    )
    with pytest.raises(BackendError, match="'cuda' started and took none of the 3 nodes, which CPUExecutionProvider"):
        providers.require_taken(idle, "cuda")


def test_a_plugin_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PLUGIN, None)
    with pytest.raises(BackendError, match=r'plug-in that is not installed: pip install "prunec\[rtx-provider\]"'):
        session(DOUBLE, provider="rtx")


def test_a_plugin_whose_library_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ONNX Runtime itself tries to load it."""
    library = tmp_path / "libplugin.so"
    library.write_bytes(b"no library")
    monkeypatch.setitem(sys.modules, PLUGIN, plugin(str(library), "BrokenExecutionProvider"))
    with pytest.raises(BackendError, match="the plug-in of provider 'rtx' cannot be loaded") as caught:
        session(DOUBLE, provider="rtx")
    assert "\n" not in str(caught.value)


def test_a_plugin_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PLUGIN, plugin("/nowhere.so", "RtxExecutionProvider"))
    registered: list[tuple[str, str]] = []
    fake = imitation(
        register_execution_provider_library=lambda *named: registered.append(named), get_ep_devices=lambda: []
    )
    monkeypatch.setattr(providers, "_registered", set())
    for _ in "ab":
        with pytest.raises(BackendError, match="finds no device that it supports: it needs an RTX GPU"):
            providers.require(fake, "rtx")
    assert registered == [("RtxExecutionProvider", "/nowhere.so")]
    with pytest.raises(BackendError, match=r"ONNX Runtime 1\.31 cannot load plug-ins"):
        providers.require(imitation(), "rtx")


@pytest.mark.skipif(not hasattr(onnxruntime, "get_ep_devices"), reason="this ONNX Runtime has no plug-ins")
def test_devices_of_a_plugin_run_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a plug-in, with the one device that is everywhere: the CPU."""
    monkeypatch.setitem(sys.modules, PLUGIN, plugin("already registered"))
    monkeypatch.setitem(PROVIDERS, "rtx", Provider("CPUExecutionProvider", "nothing", PLUGIN))
    monkeypatch.setattr(providers, "_registered", {"CPUExecutionProvider"})
    opened = session(DOUBLE, provider="rtx")
    np.testing.assert_array_equal(run(opened, (ONES,))[0], 2 * np.ones((2, 3)))
    assert {part.ep_name for part in opened.get_provider_graph_assignment_info()} == {"CPUExecutionProvider"}


@pytest.mark.skipif(importlib.util.find_spec(PLUGIN) is None, reason=f"{PLUGIN} is not installed")
def test_the_real_plugin_runs_or_says_what_it_lacks() -> None:
    if not Path("/dev/nvidiactl").exists():
        with pytest.raises(BackendError, match="it needs an RTX GPU"):
            session(DOUBLE, provider="rtx")
        return
    opened = session(DOUBLE, provider="rtx")
    assert opened.get_providers()[0] == PROVIDERS["rtx"].name
    np.testing.assert_array_equal(run(opened, (ONES,))[0], 2 * np.ones((2, 3)))


@pytest.mark.skipif("CUDAExecutionProvider" not in AVAILABLE, reason="this ONNX Runtime has no CUDA")
def test_cuda_runs_the_nodes() -> None:
    opened = session(DOUBLE, provider="cuda")
    np.testing.assert_array_equal(run(opened, (ONES,))[0], 2 * np.ones((2, 3)))
    assert providers.nodes_by_provider(opened).get("CUDAExecutionProvider", 1) >= 1


@pytest.mark.skipif("CUDAExecutionProvider" in AVAILABLE, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize(
    "command",
    [
        ["bench", "double.onnx", "double.onnx"],
        ["evaluate", "double.onnx", "--data", "images.npz"],
        ["compress", "nets.py:make", "--data", "images.npz", "--target", "macs:0.5", "-o", "out"],
    ],
    ids=lambda command: str(command[0]),
)
def test_commands_refuse_in_one_sentence(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(DOUBLE, "double.onnx")
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*command, "--provider", "cuda"])
    assert (result.exit_code, len(result.output.strip().splitlines())) == (7, 1), result.output
    assert 'pip install "prunec[gpu]"' in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["double.onnx"]


def test_pytorch_has_no_provider(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "nets.py:make", "--data", "x.npz", "--provider", "cuda"])
    assert (result.exit_code, "runs in PyTorch" in result.output) == (2, True)


def test_a_benchmark_records_where_nodes_run(tmp_path: Path) -> None:
    onnx.save(DOUBLE, tmp_path / "double.onnx")
    (point,) = measure([Entry.parse(str(tmp_path / "double.onnx"))] * 2, Sweep(seconds=0, iterations=2, warm_up=0))
    facts = point.to_json()
    assert facts["models"][1]["ran_with"]["nodes_by_provider"] == {}  # the CPU alone: nothing to tell
    facts["models"][1]["ran_with"]["nodes_by_provider"] = {"CUDAExecutionProvider": 60, "CPUExecutionProvider": 2}
    assert "nodes of B: 60 on CUDA, 2 on CPU" in point_lines(facts).plain
