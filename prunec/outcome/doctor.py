"""Check an installation: packages, engines, devices, folders, and a compression that takes seconds."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ..deploy.ort import providers, runtime
from ..deploy.tensorrt.gpu import compute_capability
from ..deploy.tensorrt.package import PACKAGES
from ..errors import BackendError, PrunecError, first_line
from ..files import cache
from ..machine import version_of, versions
from ..request.config import CompressConfig
from .calibrated import Calibrated, Session

BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-training",
)  # packages that install one and the same module
SIDE = 16  # pixels


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `ok`, `absent` (works without it) or `fault`."""

    name: str
    state: str
    found: str
    advice: str = ""  # what to do for more


def checks(self_test: bool = True) -> Iterator[Check]:
    """Yield each check as soon as it is made. None raises."""
    yield Check("Python", "ok", platform.python_version())
    yield Check("prunec", "ok", versions()["prunec"])
    yield Check("PyTorch", "ok", _torch())
    yield _runtime_builds()
    for name in providers.PROVIDERS:
        yield _asked(f"ONNX Runtime on {name}", lambda name=name: _provider(name))  # type: ignore[misc]
    for name, package in PACKAGES.items():
        yield _asked(name, lambda package=package: str(package.load().__version__))  # type: ignore[misc]
    yield _gpu()
    yield _cache()
    if self_test:
        yield _self_test()


def _torch() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{torch.__version__}, on {device}, {torch.get_num_threads()} threads"


def _runtime_builds() -> Check:
    """Check that one build of ONNX Runtime is installed: two overwrite each other's files."""
    found = {name: version for name in BUILDS if (version := version_of(name))}
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        names = " ".join(found)
        advice = f"these overwrite each other: pip uninstall {names}, then install one of them"
        return Check("ONNX Runtime", "fault", text, advice)
    if not found:
        return Check("ONNX Runtime", "absent", "not installed", 'for ONNX files: pip install "prunec[cpu]"')
    return Check("ONNX Runtime", "ok", text)


def _asked(name: str, ask: Callable[[], str]) -> Check:
    """Return what `ask` finds; absent, with the advice of its error, where it raises."""
    try:
        return Check(name, "ok", ask())
    except BackendError as error:
        return Check(name, "absent", "not here", first_line(error))


def _provider(name: str) -> str:
    providers.require(runtime.require(), name)
    return providers.PROVIDERS[name].name


def _gpu() -> Check:
    capability = compute_capability()
    if capability is None:
        return Check("NVIDIA GPU", "absent", "none", "TensorRT-RTX builds engines without one; they run with one")
    return Check("NVIDIA GPU", "ok", f"compute capability {capability}")


def _cache() -> Check:
    folder = cache.folder("latency").parent
    place = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if os.access(place, os.W_OK):
        return Check("cache folder", "ok", str(folder))
    return Check("cache folder", "fault", f"{folder} cannot be written", f"set ${cache.VARIABLE} to a folder that can")


def _self_test() -> Check:
    """Compress a small network, export it, and compare the file with PyTorch."""
    started = time.perf_counter()
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)
    wide = nn.Sequential(*layers)
    images = torch.randn(64, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            wide(images[:1])
        config = CompressConfig(target="macs:0.5", align="none")
        result = Calibrated.of(wide.eval(), images, config, Session()).result(config.wanted)
        what = "compressed and captured"
        if _runtime_builds().state == "ok":
            result.onnx()
            what = "compressed, exported and compared with PyTorch"
    except PrunecError as error:
        return Check("self-test", "fault", first_line(error), "report this, with the output of prunec doctor --json")
    return Check("self-test", "ok", f"a small network was {what} in {time.perf_counter() - started:.1f} s")
