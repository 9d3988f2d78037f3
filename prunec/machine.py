"""Report the machine, its load, and the versions that a result depends on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

FLAGS = {"avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "asimd", "asimddp", "sve", "neon", "fma"}
PACKAGES = (
    "prunec", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnx", "torch", "numpy",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the installed versions by package."""
    names = ("prunec", "numpy", "onnx", "onnxruntime", "onnxscript")
    found = {name: version for name in names if (version := version_of(name))}
    return {"python": platform.python_version(), "torch": torch.__version__, "prunec": "uninstalled", **found}


def environment() -> dict[str, Any]:
    """Return the machine and package versions that a measured time is valid for."""
    fields = _cpuinfo()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "isa": sorted(FLAGS & set(flags)) or [platform.machine()],
        "cores": os.cpu_count(),
        "affinity": affinity,
        "load_average": load_average(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := version_of(name))},
    }


def load_average() -> list[float] | None:
    """Return the load averages of 1, 5 and 15 minutes; None if not available."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def _cpuinfo() -> dict[str, str]:
    """Read the fields of the first core; empty without /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").split("\n\n")[0].splitlines() if path.is_file() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def version_of(package: str) -> str | None:
    """Return the installed version of `package`; None if not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
