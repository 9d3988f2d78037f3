"""The versions that a result depends on, for its report."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata

import torch


def versions() -> dict[str, str]:
    """By package, those that are installed."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("prunec", "numpy", "onnx", "onnxruntime", "onnxscript"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    found.setdefault("prunec", "uninstalled")
    return found
