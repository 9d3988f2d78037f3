"""Explain where and why a capture failed, in terms of the user's code."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

_HERE = (Path(torch.__file__).parent, Path(__file__).parents[1])  # code that is not the user's


def module_at_fault(model: nn.Module, error: BaseException) -> str | None:
    """Return the path of the innermost sub-module running when `error` was raised, or None.

    Layers of torch count for the module that calls them, if that lies below the network.
    """
    paths = {id(module): path for path, module in model.named_modules() if path}
    running = [module for frame, _ in _frames(error) if (module := _owner(frame)) is not None and id(module) in paths]
    own = [module for module in running if not type(module).__module__.startswith("torch.nn.")]
    found = own or running
    return paths[id(found[-1])] if found else None


def line_at_fault(error: BaseException) -> str | None:
    """Return the innermost line of user code that raised `error`, such as `nets.py:12`."""
    found = [(frame.f_code.co_filename, line) for frame, line in _frames(error) if _is_users(frame.f_code.co_filename)]
    return f"{Path(found[-1][0]).name}:{found[-1][1]}" if found else None


def why_batch_is_fixed(exported: ExportedProgram) -> str:
    """Return a short reason why the batch of an exported program is constant."""
    for guard in _guards(exported):
        frame: Any = getattr(guard.sloc, "framework_loc", None)  # the line that asked, which may be the user's
        if isinstance(frame, traceback.FrameSummary) and _is_users(frame.filename):
            return f"{Path(frame.filename).name}:{frame.lineno} compares it"
    return "as it does where a shape is written in numbers, such as view(2, …)"


def _guards(exported: ExportedProgram) -> list[Any]:
    for node in exported.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            return list(mode.shape_env.guards)
    return []


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of an error, those of its causes first."""
    earlier = error.__cause__ or error.__context__
    if earlier is not None:
        yield from _frames(earlier)
    yield from traceback.walk_tb(error.__traceback__)


def _owner(frame: FrameType) -> nn.Module | None:
    """Return the module whose method a frame runs."""
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return first if isinstance(first, nn.Module) else None


def _is_users(filename: str) -> bool:
    return filename.endswith(".py") and not any(Path(filename).is_relative_to(folder) for folder in _HERE)


def place_of(node: fx.Node) -> str:
    """Return the sub-module and line of an exported node, such as `neck.drop (nets.py:12)`."""
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f"{Path(file).name}:{line}" for file, line in lines if _is_users(file)]
    path = stack[-1] if stack else "the network"
    return f"{path} ({own[-1]})" if own else path
