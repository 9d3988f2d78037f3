"""Write a compressed network to files, and compare a written `.pt2` with it."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, fx

from ..files import artefacts
from ..frontend.capture import dynamic_shapes, quiet
from ..ir.calling import tensors_of
from ..ir.program import Program


def save_weights(module: fx.GraphModule, path: Path) -> None:
    """Write all parameters and buffers as safetensors."""
    from safetensors.torch import save

    state = {name: value.detach().contiguous().clone() for name, value in module.state_dict().items()}
    artefacts.write_bytes(path, save(state))


def save_program(program: Program, path: Path) -> None:
    """Write a `.pt2` that `torch.export.load` reads without prunec's or the user's code.

    Its calling convention is the original's, with a dict for a dataclass and a tuple for a NamedTuple. It is built in
    memory first: torch's own file writer aborts the process if the disk is full.
    """
    module, calling = program.as_called(plain=True), program.calling
    args, kwargs = (program.example_inputs, {}) if calling is None else calling.arguments(program.example_inputs)
    data = io.BytesIO()
    with quiet(), torch.no_grad():
        shapes = dynamic_shapes(module, args, kwargs) if program.dynamic_batch else None
        torch.export.save(torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False), data)
    artefacts.write_bytes(path, data.getvalue())


def require_same(program: Program, path: Path, inputs: tuple[Tensor, ...]) -> None:
    """Compare a written `.pt2` with its program. Raises NumericsError if they differ."""
    from .ort import parity

    with quiet(), torch.no_grad():
        again = torch.export.load(path).module()
    only, found = program.only_batch, []
    limit = parity.tolerance_of(program.module)
    for size in parity.sizes_of(inputs, None if only is None else (only,)):
        samples = tuple(tensor[:size] for tensor in inputs)
        args, kwargs = (samples, {}) if program.calling is None else program.calling.arguments(samples)
        with torch.no_grad():
            outputs = parity.arrays(tensors_of(again(*args, **kwargs)))
        found.append(parity.agreement(size, parity.reference(program.module, samples), outputs, limit))
    parity.Parity(tuple(found), limit).require(path.name, "the compressed network")
