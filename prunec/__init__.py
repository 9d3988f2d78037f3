"""prunec: makes trained PyTorch networks smaller and faster without retraining, and proves it.

>>> result = prunec.compress(model, images, target="macs:0.5")     # half of the MACs remain
>>> result.save("out/")                                            # ONNX, weights, plan, report
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .grammar import moved

__version__ = "0.1.0"
__all__ = [
    "CompressConfig",
    "Images",
    "PrunecError",
    "Result",
    "Target",
    "__version__",
    "compress",
    "inspect",
    "load_images",
    "sweep",
]

if TYPE_CHECKING:
    from .api import Result, compress, inspect, sweep
    from .data.images import Images, load_images
    from .errors import PrunecError
    from .request.config import CompressConfig
    from .request.target import Target

_HOMES = {
    "compress": "api",
    "inspect": "api",
    "sweep": "api",
    "Result": "api",
    "Images": "data.images",
    "load_images": "data.images",
    "PrunecError": "errors",
    "CompressConfig": "request.config",
    "Target": "request.target",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `prunec --help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prunec' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"prunec.{_HOMES[name]}"), name)


moved.install()
