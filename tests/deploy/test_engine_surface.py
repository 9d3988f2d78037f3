"""Check every TensorRT name in prunec against the bindings of each version.

10.3 (JetPack 6), 10.13, 11 and TensorRT-RTX: the real wheels, fetched for the test and not kept; the libraries below
them, which need NVIDIA's own index, are stubs with the nine entry points of the bindings. So this proves names, and one
behaviour: a TensorRT that cannot start is reported in a sentence. The names are read from prunec's sources.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_models as models
import pytest
from engine_models import needs_rtx

from prunec.deploy.tensorrt import gpu, network, runner
from prunec.deploy.tensorrt.package import LAST_WEAK
from prunec.deploy.tensorrt.settings import HARDWARE

ROOT = Path(__file__).resolve().parents[2]
FILES = ("network", "config", "worker", "runner", "messages")
WHEELS = ("tensorrt-cu12-bindings==10.3.0", "tensorrt-cu13-bindings==10.13.3.9", "tensorrt-cu13-bindings==11.4.0.106")
RECEIVERS = {  # what a variable of these files holds
    "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "error": "ParserError",
    "layer": "ILayer", "tensor": "ITensor", "source": "ITensor", "shapes": "IOptimizationProfile",
    "_runtime": "Runtime", "_engine": "ICudaEngine", "_context": "IExecutionContext", "config": "IBuilderConfig",
}  # fmt: skip
RTX_ONLY = {  # asked for behind a hasattr, or for a package that builds ahead of time
    "ComputeCapability", "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy", "cuda_graph_strategy",
    "num_compute_capabilities", "set_compute_capability", "create_runtime_config",
    "dynamic_shapes_kernel_specialization_strategy",
}  # fmt: skip
ENTRIES = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
DESCRIBE = """
import importlib, json, sys
trt = importlib.import_module(sys.argv[1])
from prunec.deploy.tensorrt import messages, worker
from prunec.errors import BackendError
try:
    worker._builder(trt, messages.logger(trt))
    said = ""
except BackendError as error:
    said = str(error)
kinds = {name: kind for name, kind in vars(trt).items() if isinstance(kind, type)}
print(json.dumps({
    "version": trt.__version__,
    "top": dir(trt),
    "attributes": {name: dir(kind) for name, kind in kinds.items()},
    "enums": {name: list(kind.__members__) for name, kind in kinds.items() if hasattr(kind, "__members__")},
    "parse": trt.OnnxParser.parse.__doc__,
    "said": said,
}))
"""


def used() -> Iterator[tuple[str, str]]:
    """Return (class or '', attribute) of every TensorRT name in the sources, without RTX's."""
    for file in FILES:
        tree = ast.parse((ROOT / f"prunec/deploy/tensorrt/{file}.py").read_text(encoding="utf-8"))
        for node in [each for each in ast.walk(tree) if isinstance(each, ast.Attribute)]:
            holder = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            owner = "" if holder in ("trt", "_trt") else RECEIVERS.get(holder)
            enum = isinstance(node.value, ast.Attribute) and getattr(node.value.value, "id", "") == "trt"
            if enum:
                yield holder, node.attr
            elif owner is not None and not node.attr.startswith("__"):
                yield owner, node.attr


USED = sorted({pair for pair in used() if not set(pair) & RTX_ONLY})


def environment(folder: Path) -> dict[str, str]:
    """Return the environment with the bindings and their stubs."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "LD_LIBRARY_PATH": str(folder / "stubs")}


@pytest.fixture(scope="module", params=WHEELS)
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which `import tensorrt` imports the real bindings of one version."""
    folder, major = tmp_path_factory.mktemp("bindings"), request.param.partition("==")[2].partition(".")[0]
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the stub libraries need Linux and a C compiler")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--quiet"]
    options = ["--only-binary=:all:", "--retries=1", "--timeout=20", "--target", str(folder), request.param]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no package index has {request.param}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    (folder / "stubs").mkdir()
    (folder / "stub.c").write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in ENTRIES))
    for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        name = f"lib{library}.so.{major}"
        target = str(folder / "stubs" / name)
        linked = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", target, str(folder / "stub.c")]
        subprocess.run(linked, check=True, capture_output=True)
    (folder / "tensorrt").mkdir()
    frontend = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    (folder / "tensorrt" / "__init__.py").write_text(frontend)  # as NVIDIA's package of that name does
    return folder


def described(module: str, folder: Path) -> dict[str, Any]:
    """Return the attributes of `module` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE, module], env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def missing(surface: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the used names that are missing."""
    return [(a, b) for a, b in USED if b not in (surface["attributes"].get(a, []) if a else surface["top"])]


def test_the_sources_are_read() -> None:
    assert {owner for owner, _ in USED} >= {"", *RECEIVERS.values()}
    for pair in (("ICudaEngine", "get_tensor_mode"), ("TensorIOMode", "INPUT"), ("", "OnnxParser")):
        assert pair in USED
    assert len(USED) > 50


def test_every_name_is_there(bindings: Path) -> None:
    surface = described("tensorrt", bindings)
    assert missing(surface) == []
    assert "path" in surface["parse"]
    enums = surface["enums"]
    assert set(runner.TYPES) <= set(enums["DataType"])
    assert {*network.PRODUCTS, "DEQUANTIZE"} <= set(enums["LayerType"])
    assert HARDWARE["ampere-plus"] in enums["HardwareCompatibilityLevel"]
    assert "STRONGLY_TYPED" in enums["NetworkDefinitionCreationFlag"]
    weak = tuple(map(int, surface["version"].split(".")[:2])) <= LAST_WEAK
    assert {"FP16", "BF16", "INT8", "FP8"} <= set(enums["BuilderFlag"]) or not weak
    assert surface["said"].startswith("tensorrt cannot start: ")


@needs_rtx
def test_every_name_is_in_rtx_too() -> None:
    import tensorrt_rtx as trt

    surface = {"top": dir(trt), "attributes": {name: dir(kind) for name, kind in vars(trt).items()}}
    assert missing(surface) == []
    strategies = trt.DynamicShapesKernelSpecializationStrategy.__members__
    assert "EAGER" in strategies
    assert hasattr(trt.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    assert hasattr(trt.ICudaEngine, "create_runtime_config")
    assert "runtime_config" in trt.ICudaEngine.create_execution_context.__doc__


def test_a_name_that_is_gone_would_be_noticed() -> None:
    assert missing({"top": [], "attributes": {}}) == USED


@pytest.mark.skipif(gpu.compute_capability() is not None, reason="there is a GPU, and stubs cannot use it")
def test_tensorrt_without_a_gpu(bindings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from prunec.cli import main; main()", "build", str(models.one_conv(tmp_path))]
    for options, said in (
        ((), "builds on the GPU that the engine is for, and there is no NVIDIA driver or GPU here"),
        (("--weak-typing", "--fp16"), "no NVIDIA driver" if "10_3" in _version(bindings) else "10.0 to 10.11 alone"),
    ):
        done = subprocess.run(
            [*command, "--backend", "tensorrt", "--profile", "8", *options], env=environment(bindings),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 7
        assert said in done.stderr
    assert list(tmp_path.glob("*.engine*")) == []


def _version(folder: Path) -> str:
    (info,) = folder.glob("*.dist-info")
    return info.name.replace(".", "_")
