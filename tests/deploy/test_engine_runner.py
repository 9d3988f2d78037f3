"""Engines that run: the calls by name, on the CPU with a stand-in for TensorRT that really reads and writes memory.

What a GPU does with a real engine is for `bench/gpu.py`; that the calls exist is for `test_engine_surface.py`.
"""

from __future__ import annotations

import ctypes
import enum
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_models as models
import numpy as np
import pytest
import torch
from bench_schema import checked
from engine_models import needs_linux, needs_rtx
from typer.testing import CliRunner

from prunec.cli import app
from prunec.deploy.ort.parity import Agreement
from prunec.deploy.ort.runtime import run as run_session
from prunec.deploy.ort.runtime import session
from prunec.deploy.tensorrt import store, verification
from prunec.deploy.tensorrt.build import build
from prunec.deploy.tensorrt.runner import Runner, installed, open_engine
from prunec.errors import BackendError, DataError, NumericsError

runner = CliRunner()


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class DataType(enum.Enum):
    FLOAT, HALF = 0, 1


class Severity(enum.Enum):
    ERROR = 1


class Context:
    """Doubles `x` into `y`, in half precision, through the addresses that it was given."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.address: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= 4

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.address[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def execute_async_v3(self, stream: int) -> bool:
        count = int(np.prod(self.shape))
        memory = {name: memoryview((ctypes.c_uint16 * count).from_address(at)) for name, at in self.address.items()}
        values = np.asarray(memory["x"]).view(np.float16)
        np.asarray(memory["y"]).view(np.float16)[:] = 2 * values
        return not np.isnan(values).any()


class Engine:
    num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        return "yx"[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.HALF

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        return [[1, 3], [2, 3], [4, 3]]

    def create_execution_context(self) -> Context:
        return Context()


class StandIn:
    """Stand-in for the parts of a TensorRT module that the runner uses."""

    __name__ = "stand_in"
    TensorIOMode = TensorIOMode

    class ILogger:
        def __init__(self) -> None:
            self.said: list[str] = []

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if plan == b"plan":
                return Engine()
            self._log.log(Severity.ERROR, "Serialization assertion failed. In f at a.cpp:1")
            return None


def test_tensors_are_bound_by_name_and_cast() -> None:
    it = Runner(StandIn(), b"plan", device="cpu")
    assert (it.inputs, it.outputs) == (("x",), ("y",))
    given = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).T.contiguous().T  # not contiguous, and float32
    for value in (given, given[:1], 3 * given):  # other shapes, and other values at the same shape
        (found,) = it({"x": value}).values()
        assert found.dtype == torch.float16
        assert torch.equal(found.float(), 2 * value)


def test_what_a_runner_refuses() -> None:
    it = Runner(StandIn(), b"plan", device="cpu")
    with pytest.raises(DataError, match=r"takes 'x' from \(1, 3\) to \(4, 3\), and was given \(5, 3\): choose another"):
        it({"x": torch.zeros(5, 3)})
    with pytest.raises(DataError, match="the engine takes x, and was given z"):
        it({"z": torch.zeros(1, 3)})
    with pytest.raises(BackendError, match="failed to run the engine"):
        it({"x": torch.full((1, 3), torch.nan)})
    with pytest.raises(BackendError, match="cannot read the engine: Serialization assertion failed"):
        Runner(StandIn(), b"other", device="cpu")


class Event:
    """A CUDA event whose clock is the host's."""

    def record(self, stream: object) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, other: Event) -> float:
        return 1e3 * (other.at - self.at)


class OnnxRuntime:
    """A runner that computes with ONNX Runtime, a little off."""

    inputs, device_name, load_seconds, off = ("input",), "a stand-in", 0.5, 0.0
    stream, captures = None, False

    def __init__(self, path: Path) -> None:
        self._session = session(path)

    def __call__(self, feed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        (found,) = run_session(self._session, (feed["input"],))
        return {"output": torch.from_numpy(found).half() + self.off}

    def resident(self, feed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return feed

    def bound(self, feed: dict[str, torch.Tensor]) -> tuple[Callable[[], object], dict[str, torch.Tensor]]:
        return lambda: self(feed), self(feed)


@needs_rtx
def test_what_the_commands_make_of_an_engine_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = models.one_conv(tmp_path)
    store.save(build(path, models.settings("tensorrt-rtx", sms="86", profile="1/2/4")), Path("c.engine"))
    monkeypatch.setattr("prunec.deploy.tensorrt.gpu.compute_capability", lambda: "86")
    for module in ("verification", "execution"):
        monkeypatch.setattr(f"prunec.deploy.tensorrt.{module}.open_engine", lambda engine: OnnxRuntime(path))
    found = runner.invoke(app, ["verify", "c.engine", str(path), "--batches", "1,4", "--tolerance", "0.05"])
    assert found.exit_code == 0, found.output
    assert [line.split(":")[0] for line in found.stdout.splitlines()[2:]] == [
        "engine      batch 1",
        "engine      batch 4",
    ]
    monkeypatch.setattr(OnnxRuntime, "off", 1.0)
    found = runner.invoke(app, ["verify", "c.engine", str(path)])
    assert found.exit_code == 6
    assert "the engine differs from ONNX Runtime at batch 1: max 1.0e+00" in found.stderr
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: Event())
    found = runner.invoke(app, ["run", "c.engine", "-o", "outputs.npz", "--json", "times.json", "--seconds", "0"])
    said = r"\d+\.\d{3} ms a batch of 2 \(nine in ten under \d+\.\d{3} ms\), 20 runs on a stand-in; "
    assert re.match(said, found.stdout), found.output
    assert np.load("outputs.npz")["output"].shape == (2, 8, 8, 8)
    (point,) = checked(json.loads(Path("times.json").read_text()))["points"]
    (model,) = point["models"]
    assert (point["compared_by"], len(model["samples"]["computeMs"]), model["name"]) == ("computeMs", 20, "c.engine")
    np.savez("images.npz", inputs=np.zeros((1, 3, 8, 8), np.float32))
    found = runner.invoke(app, ["run", "c.engine", "--data", "images.npz"])
    assert found.exit_code == 8
    assert "takes 1 inputs of 2 samples each: give as many" in found.stderr


def agreements(max_abs: float, top1: float = 1.0) -> verification.Verification:
    one = Agreement(8, max_abs, max_abs / 2, 1.0, top1, 5.0)
    return verification.Verification(("built",), (), (one,), tolerance=0.01)


def test_the_gate() -> None:
    assert agreements(0.009).require().agreements[0].batch == 8
    with pytest.raises(NumericsError, match=r"differs from ONNX Runtime at batch 8: max 2\.0e-02"):
        agreements(0.02).require()
    with pytest.raises(NumericsError, match="same class"):
        agreements(0.001, top1=0.5).require()


@needs_rtx
@needs_linux
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: verify runs the engine instead")
def test_without_a_gpu_it_is_said_what_was_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = models.one_conv(tmp_path)
    assert runner.invoke(app, ["build", str(path), "--sm", "86", "--profile", "1/2/4", "-o", "c.engine"]).exit_code == 0
    if not json.loads(Path("c.engine.json").read_text())["reproducible"]:
        pytest.skip("this system forbids fixed addresses, or one thread at a time")
    found = runner.invoke(app, ["verify", "c.engine", "--json", "found.json"])
    assert found.exit_code == 7
    assert "the engine was not run, for there is no GPU here" in found.stderr
    told = json.loads(Path("found.json").read_text())
    assert len(told["proved"]) == 4
    assert "ONNX Runtime runs the ONNX file at batch 1, 2, 4" in found.stdout
    assert "a second build gives the same" in found.stdout
    assert told["unproved"][0] == "that it loads and its kernels compile on SM86"
    ran = runner.invoke(app, ["run", "c.engine", "-o", "outputs.npz"])
    assert ran.exit_code == 7
    assert "no NVIDIA driver or GPU here, so the engine cannot run" in ran.stderr
    assert not Path("outputs.npz").exists()


@needs_rtx
def test_an_engine_that_does_not_fit(tmp_path: Path) -> None:
    path, other = models.one_conv(tmp_path), models.one_conv(tmp_path, "4")
    engine = build(path, models.settings("tensorrt-rtx", sms="86", profile="1/2/4"))
    place = tmp_path / "c.engine"
    store.save(engine, place)
    for arguments, said in (
        ((str(other),), "was built from another file"),
        (("--batches", "8"), "takes batches 1/2/4 (least/best/most), and not 8"),
    ):
        found = runner.invoke(app, ["verify", str(place), *arguments])
        assert found.exit_code == 7
        assert said in found.stderr
    older = store.Engine(engine.plan, {**engine.record, "version": "1.4.0.76"})
    with pytest.raises(BackendError, match=r"by tensorrt_rtx 1\.4\.0\.76, and .* is installed, which cannot read"):
        installed(older)
    with pytest.raises(BackendError, match="built by"):
        open_engine(older)
    place.with_name("c.engine.json").unlink()
    found = runner.invoke(app, ["verify", str(place)])
    assert found.exit_code == 7
    assert "has no record c.engine.json beside it" in found.stderr
