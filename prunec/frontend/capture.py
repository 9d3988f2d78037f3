"""Capture a `nn.Module`, GraphModule or ExportedProgram as a Program, by `torch.export`.

The result is functional: no operator writes into its inputs. A graph that is functional already (no `relu_`, no `add_`)
skips the decomposition. The batch is dynamic where the model allows it; `dynamic_batch` and
`notes` of the program report where it does not.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, ShapesCollection

from ..device import device_of
from ..errors import CaptureError, SpecError, one_line
from ..ir import graph
from ..ir.calling import Inputs, arguments, calling_of, filled, flatten, register_dataclasses, samples_of, tensors_of
from ..ir.module_state import preserved
from ..ir.original import Original
from ..ir.program import Program
from ..ir.signature import advice_on_types, exported_inputs, require_precision
from .control_flow import has_blocks, require_full_precision, without_branches
from .diagnosis import line_at_fault, module_at_fault, why_batch_is_fixed
from .input_writes import copies, require_no_writes, writes, writes_inputs
from .lazy_layers import initialise
from .opaque import sealed
from .process_state import kept_process_state
from .requirements import plain_module, require_deterministic, require_finite, require_same
from .single_sample import fixed_note, with_one_sample

UNBOUNDED = 2**31  # samples: a range that ends earlier is a limit of the network


@dataclass(frozen=True)
class _Call:
    """Arguments of one call of a network."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tensors_of((self.args, self.kwargs))

    def of(self, samples: int) -> _Call:
        """Return a copy with `samples` samples, repeated where there are too few."""
        return self._with(samples_of(one, samples) for one in self.tensors)

    def on(self, device: torch.device) -> _Call:
        """Return a copy with its tensors on `device`."""
        return self._with(one.to(device) for one in self.tensors)

    def _with(self, tensors: Iterable[Tensor]) -> _Call:
        return _Call(*filled((self.args, self.kwargs), tensors))


@kept_process_state()
def capture(model: nn.Module | ExportedProgram, example_inputs: Inputs, opaque: Sequence[str] = ()) -> Program:
    """Capture `model`, called as `model(*example_inputs)`, tensors batch first (any size ≥ 1).

    Inputs and outputs may be nested: tuples, lists, dicts, dataclasses, constants; a mapping for `example_inputs` holds
    keyword arguments. The program takes their tensors as a flat list, moved to the device of the network. `opaque` are
    paths of sub-modules, or patterns of paths, to keep as they are (`prunec.frontend.opaque`). A batch that cannot be
    dynamic has the size of the example, or two if the network runs on two. The model is not changed (but lazy layers
    get their weights, under seed 0), and later changes to it do not reach the program.

    Raises CaptureError where the model does not run on the inputs, cannot be captured, lies on several devices, draws
    random numbers or has weights that are not finite, SpecError for a path in `opaque` that the model lacks.
    """
    model = plain_module(model)
    register_dataclasses(example_inputs)
    call = _Call(*arguments(example_inputs))
    if not call.tensors:
        raise CaptureError("the example inputs hold no tensor; give what the network is called with, batch first")
    require_precision(model)
    call = call.on(device_of(model) or call.tensors[0].device)
    if isinstance(model, ExportedProgram):
        return _from_exported(model, call, opaque)
    initialise(model, call.args, call.kwargs)
    with preserved(model):
        call = _that_runs(model, call)
        larger = call.of(3) if opaque and _runs(model, call.of(3)) is None else call
        answers = [_forward(model, call) for _ in range(2)]
        with sealed(model, opaque, [partial(_forward, model, one) for one in (call, larger)]) as unseal:
            program = _captured(model, call)
            unseal(program.module)
    require_same(type(model).__name__, *answers)
    program = replace(program, notes=(*program.notes, *getattr(model, "capture_notes", ())))
    return with_one_sample(program, Original(model, call.args, call.kwargs))


def only_batch(exported: ExportedProgram) -> int | None:
    """Return the batch size of an exported program, None if dynamic."""
    sizes = [value.shape[0] for value in exported_inputs(exported).values() if value.dim()]
    return next((size for size in sizes if isinstance(size, int)), None)


def _from_exported(exported: ExportedProgram, call: _Call, opaque: Sequence[str]) -> Program:
    if opaque:
        raise SpecError(f"an exported program has no sub-modules left: name {opaque[0]} as opaque where it is captured")
    wanted, batch = len(exported_inputs(exported)), only_batch(exported)
    if len(call.tensors) != wanted:
        raise CaptureError(f"the exported program takes {wanted} tensors, and the example has {len(call.tensors)}")
    call = call.of(batch or 2)
    fixed = None if batch is None else fixed_note("the exported program", "it was exported so", len(call.tensors[0]))
    program = _program(exported, call, fixed)
    return with_one_sample(program, Original.of_exported(exported, program.example_inputs))


def _that_runs(model: nn.Module, call: _Call) -> _Call:
    """Return the call with two samples, else the given number, else one."""
    two = call.of(2)  # one would be exported as a constant
    failure = _runs(model, two)
    if failure is None:
        return two
    for other in (call.of(len(call.tensors[0])), call.of(1)):
        if _runs(model, other) is None:
            return other
    shapes = ", ".join(str(list(value.shape)) for value in two.tensors)
    advice = advice_on_types(model, two.tensors) or (
        "check the image size, the number of channels and the preprocessing, or give example inputs of the batch that"
        " it is fixed to"
    )
    raise CaptureError(
        f"{type(model).__name__} fails on inputs of shape {shapes}: {one_line(failure)}; {advice}"
    ) from failure


def _runs(model: nn.Module, call: _Call) -> Exception | None:
    try:
        _forward(model, call)
    except Exception as error:
        return error
    return None


@torch.no_grad()
def _forward(model: nn.Module, call: _Call) -> Any:
    with preserved(model):
        args, kwargs = copies(model, call.args, call.kwargs)  # it may write into them
        found = model(*args, **kwargs)
    register_dataclasses(found)
    return found


def _captured(model: nn.Module, call: _Call) -> Program:
    name = type(model).__name__
    try:
        exported = _export(model, call, dynamic=True)
        why = None if _any_batch(exported) else why_batch_is_fixed(exported)
        return _program(exported, call, None if why is None else fixed_note(name, why, len(call.tensors[0])))
    except CaptureError:
        raise
    except Exception as dynamic_failure:
        try:
            fixed = fixed_note(name, one_line(dynamic_failure), len(call.tensors[0]))
            return _program(_export(model, call, dynamic=False), call, fixed)
        except CaptureError:
            raise
        except Exception as error:
            raise CaptureError(_advice(model, error)) from dynamic_failure


def _advice(model: nn.Module, error: Exception) -> str:
    """Return an error message with the module at fault, its line and a remedy."""
    path, line = module_at_fault(model, error), line_at_fault(error)
    where = f"{path} ({type(model.get_submodule(path)).__name__})" if path else "it"
    keep = f", or leave the module as it is with --opaque {path} (opaque=('{path}',) in Python)" if path else ""
    said = f"torch.export cannot capture {type(model).__name__}: {where} fails"
    said += f" at {line}" if line else ""
    said += f", {one_line(error)}"
    if "not a known type" in str(error):
        return f"{said}; give and take tensors, tuples, lists, dicts or plain dataclasses"
    rewrite = f"rewrite {line} in operators of torch that look at no values" if line else "rewrite what it names"
    export = "" if path else ", or export the network yourself and give the .pt2 file"
    return f"{said}; {rewrite}{keep}{export}"


def _export(model: nn.Module, call: _Call, *, dynamic: bool) -> ExportedProgram:
    with quiet(), torch.no_grad():
        shapes = dynamic_shapes(model, call.args, call.kwargs) if dynamic else None
        found = torch.export.export(model, call.args, call.kwargs, dynamic_shapes=shapes, strict=False)
        if not writes_inputs(found):
            return found
        hook = model.register_forward_pre_hook(copies, with_kwargs=True)
        try:
            return torch.export.export(model, call.args, call.kwargs, dynamic_shapes=shapes, strict=False)
        finally:
            hook.remove()


def dynamic_shapes(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return `dynamic_shapes` for torch.export with a dynamic batch in every tensor."""
    shapes = ShapesCollection()
    for value in tensors_of((args, kwargs)):
        shapes[value] = {0: Dim.AUTO}
    return shapes.dynamic_shapes(model, args, kwargs)


def _program(exported: ExportedProgram, call: _Call, fixed: str | None) -> Program:
    """Build the program of `exported`; `fixed` is the reason for a fixed batch, or None."""
    device = call.tensors[0].device  # of everything that the network reads
    require_full_precision(exported, device)
    require_finite(exported)
    with quiet(), torch.no_grad():
        if has_blocks(exported) or any(writes(node) for node in exported.graph.nodes):
            exported = exported.run_decompositions({})
        require_no_writes(exported)
        module = exported.module(check_guards=False)
    if not isinstance(module, fx.GraphModule):
        raise CaptureError(f"torch.export returned a {type(module).__name__}, not a graph")
    calling = calling_of(exported, module)
    without_branches(module)
    require_deterministic(graph.strip(module))
    graph.forget_metadata(module)
    graph.reshape_views(module)
    graph.squeeze_by_name(module, call.tensors)
    flatten(module, calling)
    notes = tuple(note for note in (fixed, *_state_notes(exported, module), *_size_notes(exported, call)) if note)
    module = graph.moved(graph.owned(module), device)
    return Program(module, call.tensors, dynamic_batch=fixed is None, calling=calling, notes=notes)


def _state_notes(exported: ExportedProgram, module: fx.GraphModule) -> Iterator[str]:
    """Yield a note on the buffers that forward writes, if the outputs depend on them."""
    read = graph.tensors_read(module)
    written = [name for name in exported.graph_signature.buffers_to_mutate.values() if name in read]
    if written:
        yield f"forward reads and writes {', '.join(written)}: captured with the values of now, which no call changes"


def _size_notes(exported: ExportedProgram, call: _Call) -> Iterator[str]:
    """Yield a note for each input with a dynamic size besides the batch."""
    for number, (value, given) in enumerate(zip(exported_inputs(exported).values(), call.tensors, strict=True)):
        free = [dim for dim, size in enumerate(value.shape) if dim and not isinstance(size, int)]
        if free:
            sizes = "x".join(str(size) for size in given.shape[1:])
            yield (
                f"input {number} of the exported program may vary in dimension {' and '.join(map(str, free))}; what"
                f" prunec writes takes {sizes}, the size of the example, and any batch: compress once for each size"
            )


def _any_batch(exported: ExportedProgram) -> bool:
    """Return whether every input tensor has a dynamic batch."""
    upper = {str(symbol): bounds.upper for symbol, bounds in exported.range_constraints.items()}
    sizes = [value.shape[0] for value in exported_inputs(exported).values() if value.dim()]
    return all(not isinstance(size, int) and bool(upper.get(str(size), 0) > UNBOUNDED) for size in sizes)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, stderr and logs of torch.export and its ONNX exporter."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)
