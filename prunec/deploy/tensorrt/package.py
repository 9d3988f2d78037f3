"""Find the two packages that build engines, and import them on demand.

`tensorrt` builds for the GPU it runs on; `tensorrt_rtx` builds ahead of time for any GPU it knows, without one.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...errors import BackendError, SpecError

OLDEST = {"tensorrt": (10, 0), "tensorrt_rtx": (1, 4)}
LAST_WEAK = (10, 11)  # strong typing is complete from 10.12 on, and the only one in 11


@dataclass(frozen=True)
class Package:
    """Package that builds engines."""

    backend: str  # as the command line has it: tensorrt-rtx
    module: str  # as Python imports it: tensorrt_rtx
    extra: str  # pip install "prunec[rtx]"

    @property
    def ahead_of_time(self) -> bool:
        """Return whether the package builds for absent GPUs."""
        return self.module == "tensorrt_rtx"

    def load(self) -> Any:
        """Import the module. Raises BackendError if missing, broken or too old."""
        install = f'pip install "prunec[{self.extra}]"'
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            raise BackendError(f"the package {self.module} is not installed: {install}") from error
        except ImportError as error:  # a library of the bindings is missing
            raise BackendError(f"{self.module} is installed and cannot be imported ({error}): {install}") from error
        if version_of(module) < OLDEST[self.module]:
            oldest = ".".join(map(str, OLDEST[self.module]))
            raise BackendError(f"{self.module} {module.__version__} is too old, {oldest} is the least: {install}")
        return module

    def folder(self) -> str | None:
        """Return the file of the module without importing it; None if there is none."""
        spec = importlib.util.find_spec(self.module)
        return None if spec is None or spec.origin is None else spec.origin


PACKAGES = {
    "tensorrt": Package("tensorrt", "tensorrt", "tensorrt"),
    "tensorrt-rtx": Package("tensorrt-rtx", "tensorrt_rtx", "rtx"),
}


def package(backend: str) -> Package:
    """Return the package of a backend. Raises SpecError for an unknown name."""
    if backend not in PACKAGES:
        raise SpecError(f"backend '{backend}' builds no engines; choose one of {', '.join(PACKAGES)}")
    return PACKAGES[backend]


def version_of(module: ModuleType) -> tuple[int, int]:
    """Return the major and minor version."""
    major, minor, *_ = str(module.__version__).split(".")
    return int(major), int(minor)
