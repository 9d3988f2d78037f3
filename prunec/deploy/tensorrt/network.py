"""Parse ONNX into a strongly typed TensorRT network.

Strong typing gives one path for 10.x, 11.x and RTX: precision is in the ONNX file alone. Members are accessed by name,
since their numbers change: STRONGLY_TYPED is bit 1 in 10 and bit 0 in 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import BackendError

KINDS = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8", "E8M0": "float8_scale"}
PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")


def create(trt: Any, builder: Any, weak: bool) -> Any:
    """Create an empty network, strongly typed unless `weak`."""
    flags = trt.NetworkDefinitionCreationFlag
    strong = not weak and hasattr(flags, "STRONGLY_TYPED")
    return builder.create_network(1 << int(flags.STRONGLY_TYPED) if strong else 0)


def parse(trt: Any, network: Any, log: Any, model: bytes, path: str | None) -> Any:
    """Fill `network` and return the parser, which owns the weights.

    `path` is that of a file with external data. Raises BackendError with the first unsupported node and the number of
    others.
    """
    parser = trt.OnnxParser(network, log)
    if parser.parse(model, path) if path else parser.parse(model):
        return parser
    if not parser.num_errors:
        raise BackendError("the ONNX parser refused the model and gave no reason")
    error = parser.get_error(0)
    more = f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    said = error.desc().strip().splitlines()[0].rstrip(".")
    if error.node_operator():
        node = f"{error.node_operator()} as node '{error.node_name()}' is one"
        reason = "" if said in ("false", "") else f" ({said})"
        raise BackendError(f"{trt.__name__} cannot build {node}{more}{reason}: express it with other operators")
    raise BackendError(f"the ONNX parser refused the model{more}: {said}")


def interface(network: Any) -> dict[str, dict[str, Any]]:
    """Return types and sizes of inputs and outputs by name; a dynamic batch is -1."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return {
        "inputs": {tensor.name: {"type": kind(tensor.dtype), "shape": list(tensor.shape)} for tensor in inputs},
        "outputs": {tensor.name: {"type": kind(tensor.dtype), "shape": list(tensor.shape)} for tensor in outputs},
    }


def computes_in(trt: Any, network: Any) -> dict[str, list[str]]:
    """Return the names of layers that multiply matrices, by (quantised) data type."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    quantised = {
        layer.get_output(0).name: kind(layer.get_input(0).dtype)
        for layer in layers
        if layer.type == trt.LayerType.DEQUANTIZE
    }
    products = {getattr(trt.LayerType, name) for name in PRODUCTS}
    found: dict[str, list[str]] = {}
    for layer in layers:
        if layer.type in products:
            source = layer.get_input(0)
            found.setdefault(quantised.get(source.name, kind(source.dtype)), []).append(layer.name)
    return found


def require(found: Mapping[str, Sequence[str]], wanted: str) -> None:
    """Raise BackendError if no layer computes in `wanted`."""
    if found.get(wanted):
        return
    counts = ", ".join(f"{len(names)} layers in {name}" for name, names in sorted(found.items())) or "none at all"
    cure = "prunec quantize --int8" if wanted == "int8" else f"prunec cast --{SHORT.get(wanted, wanted)}"
    raise BackendError(
        f"no layer of the ONNX file computes in {wanted} ({counts}), and an engine takes its precision from the file:"
        f" run {cure} on it first"
    )


SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


def kind(data_type: Any) -> str:
    """Convert `DataType.HALF` to `float16`."""
    name: str = data_type.name
    return KINDS.get(name, name.lower())
