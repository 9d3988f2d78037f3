"""Import public names by the modules that held them before modules stood in rooms.

`prunec.capture` is `prunec.frontend.capture` now. The old names import with a DeprecationWarning until version 0.2.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

MOVED = {  # old name below prunec: the modules that hold its names now
    "allocation": ("allocation.problem",),
    "artefacts": ("files.artefacts",),
    "budget": ("cost.budget",),
    "capture": ("frontend.capture",),
    "compression": ("api", "pipeline.method"),
    "constraints": ("request.constraints",),
    "cost": ("cost.macs",),
    "data": ("data.images",),
    "deploy.benchmark.comparison": tuple(f"deploy.benchmark.{name}" for name in ("statistics", "metrics", "inputs")),
    "deploy.export": ("deploy.onnx.export",),
    "deploy.layers": ("deploy.onnx.layers",),
    "deploy.parity": ("deploy.ort.parity",),
    "diff": ("compare",),
    "diff.compare": ("compare.difference",),
    "evidence": ("selection.evidence",),
    "facts": ("statistics.facts", "ir.unhoisted"),
    "identity": ("surgery.identity",),
    "latency.shapes": ("latency.layer_shapes",),
    "pipeline": ("pipeline.pipeline", "pipeline.instruments"),
    "plan": ("surgery.plan",),
    "preprocess": ("data.preprocess",),
    "program": ("ir.program", "pipeline.context"),
    "source": ("frontend.load", "frontend.weights_file"),
    "strategy": ("selection.interface", "allocation.interface", "compensation.interface"),
    "target": ("request.target",),
}
PACKAGES = ("diff",)
ROOT = Path(__file__).resolve().parents[1]


def names_of(old: str) -> Callable[[str], Any]:
    """Return a module's `__getattr__`, which looks its old names up where they are now.

    It is asked for modules of a package, too (`from prunec.cost import macs`), and leaves these to the import.
    """
    folder = ROOT.joinpath(*old.split("."))

    def find(name: str) -> Any:
        is_module = (folder / f"{name}.py").is_file() or (folder / name).is_dir()
        for home in () if name.startswith("__") or is_module else MOVED[old]:
            try:
                found = getattr(importlib.import_module(f"prunec.{home}"), name)
            except AttributeError:
                continue
            text = f"prunec.{old}.{name} is prunec.{home}.{name} now; the old name goes with version 0.2"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            return found
        raise AttributeError(f"module 'prunec.{old}' has no attribute '{name}'")

    return find


class Finder(MetaPathFinder, Loader):
    """Finder of the old modules; each looks up its names in the new ones."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of an old module, or None."""
        old = name.removeprefix("prunec.")
        known = name != old and old in MOVED
        return ModuleSpec(name, self, is_package=old in PACKAGES) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return an empty module with a `__getattr__`."""
        found = ModuleType(spec.name)
        found.__getattr__ = names_of(spec.name.removeprefix("prunec."))  # type: ignore[method-assign]
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is."""


def install() -> None:
    """Append the finder, once, behind those that find what exists."""
    if not any(isinstance(one, Finder) for one in sys.meta_path):
        sys.meta_path.append(Finder())
