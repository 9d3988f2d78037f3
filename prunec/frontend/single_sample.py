"""Check a captured network on one sample against the original.

`torch.export` captures a dynamic batch for two samples or more. A network that treats one sample otherwise, by a
`squeeze()` without a dimension or an `if len(x) == 1`, differs from its graph there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, fx

from ..errors import one_line
from ..ir.calling import samples_of
from ..ir.drift import outputs_of
from ..ir.original import Original
from ..ir.program import Program
from .requirements import close

ADVICE = (
    "look for a squeeze() without a dimension, which takes away a batch of one too (write squeeze((2, 3)) or flatten(1)"
    " for the dimensions that are meant), and for an if on the batch size"
)


def with_one_sample(program: Program, original: Original) -> Program:
    """Return the program with its original, checked on one sample.

    If the original fails or gives other shapes, a note reports it, and one sample is treated as any batch. If the graph
    fails or gives other numbers, the batch is fixed.
    """
    program = replace(program, original=original)
    if not program.dynamic_batch:
        return program
    name = "the exported program" if isinstance(original.model, fx.GraphModule) else type(original.model).__name__
    one = tuple(samples_of(value, 1) for value in program.example_inputs)
    theirs, failure = _tried(lambda: original.outputs(one))
    ours, fault = _tried(lambda: outputs_of(program.module, one))
    if fault is not None:
        return _fixed(program, name, f"it runs on two samples and not on one: {one_line(fault)}")
    given, written = ([list(value.shape) for value in side] for side in (theirs, ours))
    if failure is not None or given != written:
        does = f"gives {_listed(given)}" if failure is None else f"fails ({one_line(failure)})"
        note = (
            f"for a batch of one {name} {does}, and what prunec writes gives {_listed(written)}, as for any other"
            f" batch: {ADVICE}"
        )
        return replace(program, original=replace(original, alone=False), notes=(*program.notes, note))
    if not all(close(a, b) for a, b in zip(theirs, ours, strict=True)):
        return _fixed(program, name, f"it computes something else for one sample than for more: {ADVICE}")
    return program


def fixed_note(name: str, why: str, count: int) -> str:
    """Return a note on a fixed batch size."""
    return (
        f"{name} fixes its batch size ({why}): captured with a batch of {count}, the sweeps run {count} samples at a"
        f" time and the ONNX file takes {count}; for any other batch, rewrite it with x.shape[0] or -1"
    )


def _fixed(program: Program, name: str, why: str) -> Program:
    note = fixed_note(name, why, len(program.example_inputs[0]))
    return replace(program, dynamic_batch=False, notes=(note, *program.notes))


def _tried(run: Callable[[], list[Tensor]]) -> tuple[list[Tensor], Exception | None]:
    try:
        return run(), None
    except Exception as error:
        return [], error


def _listed(shapes: list[list[int]]) -> str:
    return " and ".join(map(str, shapes)) or "nothing"
