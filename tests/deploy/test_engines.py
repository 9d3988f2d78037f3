"""Engines truly built by TensorRT-RTX without a GPU: every GPU it knows, three precisions, the same bytes each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import engine_models as models
import pytest
import shared_nets
from conftest import SHARED
from engine_models import needs_linux, needs_rtx

from prunec import demo
from prunec.deploy.tensorrt import store
from prunec.deploy.tensorrt.build import build, check
from prunec.deploy.tensorrt.settings import Profile, Settings
from prunec.errors import BackendError, SpecError

KNOWN = ("75", "80", "86", "89", "120", "121")
RTX = "tensorrt-rtx"
pytestmark = needs_rtx


@pytest.fixture(scope="session", params=["demo", "cifar_resnet56"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32.onnx, fp16.onnx and int8.onnx of a real network at half its MACs."""
    place = tmp_path_factory.mktemp(request.param)
    if request.param == "demo":
        images, network = demo.calibration_images().inputs[0][:64], demo.load_network()
        return models.in_three_precisions(models.compressed(network, images), images[:16], place)
    if not SHARED.is_dir():
        pytest.skip(f"no shared networks and images at {SHARED}")
    images, _ = shared_nets.cifar("train_8192", 64)
    model = models.compressed(shared_nets.load("cifar_resnet56"), images)
    return models.in_three_precisions(model, images[:16], place)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_gpu_in_every_precision(folder: Path, precision: str) -> None:
    settings = models.settings(RTX, profile="1/8/32", precision=precision)
    found = {one.target: one for one in check(folder / f"{precision}.onnx", settings)}
    assert tuple(found) == KNOWN
    built = [name for name, one in found.items() if one.ok]
    assert built == (list(KNOWN) if precision == "fp16" else list(KNOWN[1:]))
    assert all((found[name].size or 0) > 100_000 for name in built)
    if precision != "fp16":
        assert "SM75 (Turing) cannot run" in found["75"].reason
        assert "FP32 GEMM is not supported; cast it to half precision" in found["75"].reason


def test_half_precision_halves_the_engine_and_says_so(folder: Path) -> None:
    single, half = (
        build(folder / f"{name}.onnx", models.settings(RTX, sms="86", profile="1/8/32")) for name in ("fp32", "fp16")
    )
    assert len(half.plan) < 0.75 * len(single.plan)
    assert set(single.record["computes_in"]) == {"float32"}
    assert set(half.record["computes_in"]) == {"float16"}
    with pytest.raises(BackendError, match=r"no layer of the ONNX file computes in float16 \(\d+ layers in float32\)"):
        build(folder / "fp32.onnx", models.settings(RTX, sms="86", profile="1/8/32", precision="fp16"))


@needs_linux
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_same_bytes_whatever_the_file_is_called(folder: Path, precision: str, tmp_path: Path) -> None:
    settings = models.settings(RTX, sms="86,89,120", profile="1/8/32")
    first = build(folder / f"{precision}.onnx", settings)
    if not first.record["reproducible"]:
        pytest.skip("this system forbids fixed addresses, or one thread at a time")
    other = tmp_path / "the same network in a file with a longer name.onnx"
    other.write_bytes((folder / f"{precision}.onnx").read_bytes())
    second = build(other, settings)
    assert first.plan == second.plan
    assert first.record["key"] == second.record["key"]


def test_bfloat16_and_float8_need_their_gpus(tmp_path: Path) -> None:
    settings = models.settings(RTX, profile="1/8/32")
    brain = {one.target: one.reason for one in check(models.bfloat16_conv(tmp_path), settings)}
    assert [name for name, reason in brain.items() if reason] == ["75"]
    assert "the network holds bfloat16 (b16), which GPUs have from SM80 on" in brain["75"]
    eight = {one.target: one.reason for one in check(models.float8_conv(tmp_path), settings)}
    assert [name for name, reason in eight.items() if reason] == ["75", "80", "86"]
    assert "the network holds float8 (fp8_e4m3), which GPUs have from SM89 on" in eight["86"]


def test_of_several_gpus_the_one_to_blame_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"float8.*; SM89, SM120 can run it: --sm 89,120"):
        build(models.float8_conv(tmp_path), models.settings(RTX, sms="120,86,89", profile="4"))


def test_the_record_names_everything_and_nothing_local(tmp_path: Path) -> None:
    path = models.one_conv(tmp_path)
    settings = models.settings(
        RTX, sms="8.9,sm_86", profile="1/2/4", cleared_flags=("tf32",), flags=("sparse-weights",)
    )
    engine = build(path, settings)
    store.save(engine, tmp_path / "conv.engine")
    text = (tmp_path / "conv.engine.json").read_text()
    record = json.loads(text)
    assert str(tmp_path) not in text
    assert (record["package"], record["typing"], record["targets"]) == ("tensorrt_rtx", "strong", ["86", "89"])
    assert record["flags"] == ["SPARSE_WEIGHTS"]
    assert record["onnx"]["file"] == path.name
    assert record["inputs"]["input"] == {"type": "float32", "shape": [-1, 3, 8, 8]}
    assert Settings.from_json(record["settings"]) == settings
    again = store.load(tmp_path / "conv.engine")
    assert (again.plan, again.profile) == (engine.plan, Profile(1, 2, 4))
    again_path = tmp_path / "conv.engine"
    again_path.write_bytes(engine.plan + b"x")
    with pytest.raises(BackendError, match="is not the engine that its record describes"):
        store.load(again_path)


def test_external_weights_are_found_and_count(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "apart.onnx"
    onnx.save(
        onnx.load(models.one_conv(tmp_path)), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    settings = models.settings(RTX, sms="86", profile="1")
    before = build(path, settings)
    weights = bytearray((tmp_path / "w.bin").read_bytes())
    weights[0:4] = b"\x00\x00\x00\x40"
    (tmp_path / "w.bin").write_bytes(bytes(weights))
    after = build(path, settings)
    assert before.record["onnx"]["sha256"] != after.record["onnx"]["sha256"]
    assert before.plan != after.plan
    (tmp_path / "w.bin").unlink()
    with pytest.raises(BackendError, match=r"keeps its weights in w\.bin, which is not beside it"):
        build(path, settings)


def test_the_cache_is_used_and_is_keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = models.one_conv(tmp_path), store.Cache(tmp_path / "kept")
    settings = models.settings(RTX, sms="86", profile="1/2/4")
    first = build(path, settings, cache)
    monkeypatch.setattr("prunec.deploy.tensorrt.build.ask", lambda *given: 1 / 0)
    assert build(path, settings, cache).plan == first.plan
    others: list[dict[str, Any]] = [{"sms": "89"}, {"profile": "1/2/8"}, {"cleared_flags": ("TF32",)}, {"level": 1}]
    for other in others:
        with pytest.raises(ZeroDivisionError):
            build(path, models.settings(RTX, **{"sms": "86", "profile": "1/2/4", **other}), cache)
    (kept,) = (tmp_path / "kept" / "engines").glob("*.engine")
    kept.write_bytes(first.plan[:-1])
    with pytest.raises(ZeroDivisionError):  # what is torn is built anew
        build(path, settings, cache)


@needs_linux
def test_a_crash_is_a_sentence(tmp_path: Path) -> None:
    fake = tmp_path / "tensorrt_rtx"
    fake.mkdir()
    (fake / "__init__.py").write_text(
        "import sys\n__version__ = '1.7'\nclass ComputeCapability: __members__ = {'SM86': 1}\n"
        "if 'worker' in ' '.join(sys.orig_argv):\n    import os\n    print('last words', file=sys.stderr, flush=True)\n"
        "    os.kill(os.getpid(), 11)\n"
    )
    code = "from prunec.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, "build", str(models.one_conv(tmp_path)), "--sm", "86", "--profile", "1"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 7
    assert found.stderr == "tensorrt-rtx ended with SIGSEGV while it built this network: last words\n"
    assert list(tmp_path.glob("*.engine*")) == []


def test_settings_that_do_not_parse() -> None:
    for given, said in (
        ({"profile": "8/1"}, "is not like 1/8/32"),
        ({"profile": "8/4/32"}, "must rise"),
        ({"profile": "0/1/2"}, "must rise"),
        ({"sms": "turing"}, "no list of compute capabilities"),
        ({"precision": "fp12"}, "choose one of fp32"),
        ({"hardware": "all"}, "choose one of ampere-plus"),
        ({"level": 9}, "not one of 0 to 5"),
        ({"workspace_mb": 0}, "give 1 or more"),
    ):
        with pytest.raises(SpecError, match=said):
            models.settings(RTX, **given)
    with pytest.raises(SpecError, match="backend 'rtx' builds no engines; choose one of tensorrt, tensorrt-rtx"):
        models.settings("rtx")
