"""nn.Module, GraphModule or ExportedProgram to Program, by `torch.export`.

The result is functional: no operator writes into its inputs. Where the exported graph already is (no `relu_`, no
`add_`), the functionalising decomposition is skipped, which halves the time. The batch is dynamic where the model
allows it; where it does not, the program says so (`dynamic_batch`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from . import graph
from .errors import CaptureError
from .program import Program


def capture(model: nn.Module | ExportedProgram, example_inputs: tuple[Tensor, ...]) -> Program:
    """Capture `model`, called as `model(*example_inputs)`; each input has the batch in front (any size ≥ 1).

    Raises CaptureError where the model does not run on the inputs or cannot be captured.
    """
    inputs = tuple(_two_samples(value) for value in example_inputs)
    if isinstance(model, ExportedProgram):
        return _program(model, inputs, dynamic=_is_dynamic(model))
    model.eval()
    _try_forward(model, inputs)
    try:
        return _program(_export(model, inputs, dynamic=True), inputs, dynamic=True)
    except Exception as dynamic_failure:
        try:
            return _program(_export(model, inputs, dynamic=False), inputs, dynamic=False)
        except Exception as error:
            raise CaptureError(
                f"torch.export cannot capture {type(model).__name__}: {_first_line(error)};"
                " rewrite what it names, or export the model yourself and give the .pt2 file"
            ) from dynamic_failure


def _two_samples(value: Tensor) -> Tensor:
    """Two samples: a batch of one would be taken for a constant."""
    if value.dim() == 0 or not value.shape[0]:
        raise CaptureError(f"an example input of shape {tuple(value.shape)} has no batch in front; give [N, …], N ≥ 1")
    return value.detach()[[0, min(1, value.shape[0] - 1)]]


def _try_forward(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    try:
        with torch.no_grad():
            model(*inputs)
    except Exception as error:
        shapes = ", ".join(str(list(value.shape)) for value in inputs)
        raise CaptureError(
            f"{type(model).__name__} fails on inputs of shape {shapes}: {_first_line(error)};"
            " check the image size, the number of channels and the preprocessing"
        ) from error


def _export(model: nn.Module, inputs: tuple[Tensor, ...], *, dynamic: bool) -> ExportedProgram:
    shapes: Any = tuple({0: Dim.AUTO} for _ in inputs) if dynamic else None
    with quiet(), torch.no_grad():
        return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)


def _program(exported: ExportedProgram, inputs: tuple[Tensor, ...], *, dynamic: bool) -> Program:
    with quiet(), torch.no_grad():
        if any(_writes(node) for node in exported.graph.nodes):
            exported = exported.run_decompositions({})
        module = exported.module()
    if not isinstance(module, fx.GraphModule):
        raise CaptureError(f"torch.export returned a {type(module).__name__}, not a graph")
    return Program(graph.rebuild(graph.strip(module), {}), inputs, dynamic_batch=dynamic)


def _writes(node: fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _is_dynamic(exported: ExportedProgram) -> bool:
    return bool(exported.range_constraints)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the chatter of torch.export: nothing of it is the user's to act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
