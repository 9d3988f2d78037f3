"""Shared fixtures: the shared networks and images, and a torchvision that imports."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from onnx_registry import cache_registry

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: a core each
    for size in ("COLUMNS", "LINES"):  # of a terminal: readline, in the process that started this one, has made them up
        os.environ.pop(size, None)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the programs that tests start
    torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "shared" / "data"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no shared networks and images at {SHARED}")


def _shim_torchvision() -> torch.library.Library | None:
    """Declare operators that a CUDA build of torchvision lacks beside CPU torch.

    Its Python half imports once they are declared. Keep the library: they vanish with it.
    """
    spec = importlib.util.find_spec("torchvision")
    if torch.version.cuda is not None or spec is None or spec.origin is None:
        return None
    if "+cu" not in Path(spec.origin).with_name("version.py").read_text(encoding="utf-8"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


TORCHVISION_OPERATORS = _shim_torchvision()


cache_registry()


@pytest.fixture(autouse=True, scope="session")
def own_latency_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Latency tables that tests measure stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNEC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def shared_data() -> Path:
    """The folder of shared networks and images; the test is skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared networks and images at {SHARED}")
    return SHARED
