"""Export a captured network to ONNX reproducibly.

The module is captured again by `torch.export`, at two samples: an edited graph has weights of new shapes, and a fresh
capture trusts no old metadata. The exporter's own capture tries a list of strategies, which hides the first failure.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from types import MappingProxyType

import onnx
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import OutputKind

from ...errors import BackendError, CaptureError, SpecError
from ...frontend.capture import quiet
from ...frontend.opaque import paths_in, unwritable
from ...ir.calling import tensors_only
from .attention import with_heads
from .clean import SAME, clean
from .element_types import checked, operator_set
from .provenance import stamp

OPSETS = range(18, 26)  # of torch's exporter; it silently writes 18 for a lower one
MAX_BYTES = 1_800_000_000  # of weights: protobuf holds 2 GiB with the graph
OPSET_NAMES = {"widest": 18, "normal": 20, "bf16": 22}  # TensorRT 10.3 reads 18; FP8 and FP16 scales need 19
Shapes = tuple[dict[int, Dim] | None, ...]
NOTHING: Mapping[str, str] = MappingProxyType({})


def export_onnx(
    module: fx.GraphModule | ExportedProgram | nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    opset: int = 18,
    dynamic_batch: bool = True,
    provenance: Mapping[str, str] = NOTHING,
    names: Mapping[str, str] = SAME,
) -> onnx.ModelProto:
    """Return `module` as a checked ONNX model with weights inside, IR 10 at most.

    `example_inputs` are batch first. Outputs are the tensors of the graph's result, flattened in order. Inputs and
    outputs are called `input` and `output`, or `input_0`, `input_1` … if there are several, and renamed by `names` (old
    to new). With `dynamic_batch` the first dimension is `batch`; other dimensions are the example's. `provenance`
    becomes metadata under `prunec.`. Equal modules and versions give equal `SerializeToString(deterministic=True)`: no
    time, path or stack trace.

    Raises SpecError for an opset outside `OPSETS` or a module in training mode, CaptureError if torch cannot capture
    it, BackendError if the exporter or the ONNX checker fails, the weights exceed `MAX_BYTES`, or a sub-module is
    opaque.
    """
    if opset not in OPSETS:
        raise SpecError(
            f"opset {opset} cannot be exported: torch writes {OPSETS[0]} to {OPSETS[-1]};"
            f" {OPSETS[0]} is read by the most engines"
        )
    if isinstance(module, ExportedProgram):
        module = module.module()
    _check_module(module)
    with quiet():
        if isinstance(module, fx.GraphModule):
            module = with_heads(module, example_inputs)
        program = _capture(module, example_inputs, dynamic_batch)
        model = _translate(program, _shapes(example_inputs, dynamic_batch), opset)
    return stamp(checked(clean(model, names=names), "the exported model"), provenance)


def opset_of(text: str) -> int:
    """Parse an operator set: a number, `widest`, `normal` or `bf16`. Raises SpecError for others."""
    number = OPSET_NAMES.get(text, int(text) if text.isdecimal() else 0)
    if number not in OPSETS:
        raise SpecError(
            f"opset '{text}' cannot be exported: give {', '.join(f'{k} ({v})' for k, v in OPSET_NAMES.items())}"
            f" or a number from {OPSETS[0]} to {OPSETS[-1]}"
        )
    return number


def _check_module(module: nn.Module) -> None:
    """Raise for weights that exceed one file, and for layers in training mode."""
    if paths := paths_in(module):
        raise BackendError(unwritable(paths, "ONNX"))
    training = [
        name
        for name, part in module.named_modules()
        if part.training and isinstance(part, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd)
    ]
    if training:
        raise SpecError(f"'{training[0]}' is in training mode and would compute something else; call .eval() first")
    weights = {tensor.data_ptr(): tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    size = sum(weights.values())
    if size > MAX_BYTES:
        raise BackendError(
            f"the weights take {size / 1e9:.1f} GB, and one ONNX file holds at most {MAX_BYTES / 1e9:.1f} GB;"
            " prune further, or export in half precision"
        )


def _capture(module: nn.Module, inputs: tuple[Tensor, ...], dynamic_batch: bool) -> ExportedProgram:
    """Capture `module` for inference at two samples, or at a fixed example batch."""
    samples = tuple(_two(tensor) for tensor in inputs) if dynamic_batch else inputs
    try:
        with torch.no_grad():
            module = tensors_only(module, samples) if isinstance(module, fx.GraphModule) else module
            return torch.export.export(module, samples, dynamic_shapes=_shapes(inputs, dynamic_batch), strict=False)
    except Exception as error:
        said = _reason(error)
        if dynamic_batch and ("(batch)" in said or ".size()[0]" in said):
            raise CaptureError("the network fixes its batch size; export it with dynamic_batch=False") from error
        raise CaptureError(f"torch.export cannot capture the module: {said}") from error


def _shapes(inputs: tuple[Tensor, ...], dynamic_batch: bool) -> Shapes:
    """Return the dynamic shapes: `batch` first in every input with dimensions, or none."""
    batch = Dim("batch")
    return tuple({0: batch} if dynamic_batch and tensor.ndim else None for tensor in inputs)


def _two(tensor: Tensor) -> Tensor:
    """Return two samples: a batch of one invites specialisation, more costs time."""
    return torch.cat([tensor[:2], tensor[:1]])[:2] if tensor.ndim else tensor


def _translate(program: ExportedProgram, shapes: Shapes, opset: int) -> onnx.ModelProto:
    """Return the exporter's model in operator set `opset`."""
    outputs = sum(spec.kind is OutputKind.USER_OUTPUT for spec in program.graph_signature.output_specs)
    try:
        with redirect_stdout(sys.stderr):  # onnxscript before 0.7 prints there
            result = torch.onnx.export(
                program,
                (),
                None,
                dynamo=True,
                opset_version=opset,
                input_names=_names("input", len(program.graph_signature.user_inputs)),
                output_names=_names("output", outputs),
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise BackendError(f"torch cannot write this network as ONNX: {_reason(error)}") from error
    assert result is not None
    model = result.model_proto
    written = operator_set(model)
    if written != opset:
        raise BackendError(f"torch wrote opset {written} instead of {opset}; ask for opset {written}")
    return model


def _names(stem: str, count: int) -> list[str]:
    """Return `input`, or `input_0`, `input_1` … for several."""
    return [stem] if count == 1 else [f"{stem}_{number}" for number in range(count)]


def _reason(error: BaseException) -> str:
    """Return the first nonempty line of the root cause."""
    while error.__cause__ is not None:  # ends: torch makes no circle of causes
        error = error.__cause__
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
