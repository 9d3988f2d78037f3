"""Read the kernels of a TensorRT-RTX engine from its plan's text, without a GPU.

An engine built with default or detailed profiling verbosity lists its memory (`region={ name=devmem size=… }`), its
values (`tensor={ dims={ 4 16 28 28 } name="…" type=half }`) and its kernels (`corrltn={ name="conv1_U3" output={…}
layers="[ONNX Layer: conv1]…" }`: a convolution; `function={ name=__myl_… }`: generated code). The format is
undocumented; this reads 1.7.1. It holds no times: code for a convolution is chosen on the GPU.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from ..deploy.onnx.layers import Layer, Network, Shape, elements
from ..errors import BackendError
from .engine_layers import METADATA

PROGRAM = re.compile(rb"header \{\n.*?\nshape_main \{", re.DOTALL)
REGION = re.compile(r"region = \{ name=(\S+) size=(\d+)([^\n}]*)\}")
TENSOR = re.compile(r"\btensor=\{ ([^\n]*?) type=(\w+) \}")
KERNEL = re.compile(r'\n\s*(\w+)=\{ name="?([^\s"]+)"? ([^\n]*?)layers="([^"]*)"')
UNIQUE = re.compile(r"_U\d+$")
QUOTED = re.compile(r'"([^"]+)"')
PRODUCTS = ("corrltn", "fully_connected", "runtime_fusion")
BYTES = {"float": 4, "half": 2, "bf16": 2, "int8": 1, "fp8_e4m3": 1, "int32": 4, "int64": 8, "bool": 1}


@dataclass(frozen=True)
class _Value:
    dims: Shape
    kind: str
    constant: bool

    @property
    def sizes(self) -> tuple[int, ...]:
        """Static dims; all of a constant's."""
        return tuple(size for size in self.dims if isinstance(size, int))


def read(path: Path) -> Network:
    """Read the kernels of the engine in `path`, in order.

    Raises BackendError where the file holds no such text, as engines of TensorRT proper do not.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackendError(f"there is no engine file '{path}' ({error.strerror})") from error
    programs = [found.decode("latin-1") for found in PROGRAM.findall(data)]
    layers = [layer for program in programs for layer in _kernels(program)]
    if not layers:
        raise BackendError(
            f"{path} holds no plan that can be read without a GPU: only engines of TensorRT-RTX do; of others compare"
            " the JSON that trtexec --exportLayerInfo writes"
        )
    return Network(tuple(_numbered(layers)), peak_bytes=max(map(_arena, programs)), is_engine=True)


def _kernels(program: str) -> Iterator[Layer]:
    """Yield every kernel, with inputs and outputs."""
    values = dict(_values(program))
    for kind, name, arguments, onnx in KERNEL.findall(program):
        given, made = _listed(arguments, "input"), _listed(arguments, "output")
        outputs = [values[one] for one in made if one in values]
        if not outputs:  # arithmetic on shapes, done on the processor
            continue
        constants = [values[one].sizes for one in dict.fromkeys(given) if one in values and values[one].constant]
        parameters = [sizes for sizes in constants if prod(sizes) > 1]
        weight = max(parameters, key=prod, default=()) if kind in PRODUCTS else ()
        output = outputs[0].dims
        yield Layer(
            UNIQUE.sub("", name),
            kind,
            output,
            reads=tuple(one for one in given if one not in values or not values[one].constant),
            weight=weight,
            parameters=sum(map(prod, parameters)),
            macs=prod(weight) * elements(output[:1] + output[2:]) if len(weight) > 1 else 0,
            activation_bytes=sum(elements(one.dims) * BYTES.get(one.kind, 0) for one in outputs),
            dtype=outputs[0].kind,
            nodes=tuple(dict.fromkeys(METADATA.findall(onnx))) or (name,),
            kernel_name=name if kind == "function" else kind,
        )


def _values(program: str) -> Iterator[tuple[str, _Value]]:
    for text, kind in TENSOR.findall(program):
        name, dims = re.search(r'\bname="([^"]+)"', text), re.search(r"\bdims=\{([^}]*)\}", text)
        if name is not None and dims is not None:
            sizes = tuple(int(size) if size.isdecimal() else "batch" for size in dims[1].split())
            yield name[1], _Value(sizes, kind, "const_payload_size=" in text)


def _listed(arguments: str, side: str) -> list[str]:
    """Return the names in `input={ "a" "b" }` or `input_args={ … }`."""
    found = re.search(rf"\b{side}(?:_args)?=\{{([^}}]*)\}}", arguments)
    return QUOTED.findall(found[1]) if found else []


def _arena(program: str) -> int:
    """Return GPU bytes for activations and scratch space."""
    regions = REGION.findall(program)
    return sum(int(size) for _, size, rest in regions if "place=accelerator" in rest and "constant=true" not in rest)


def _numbered(layers: list[Layer]) -> Iterator[Layer]:
    """Yield the layers with unique names; generated kernels share names."""
    seen: Counter[str] = Counter()
    for layer in layers:
        seen[layer.name] += 1
        yield layer if seen[layer.name] == 1 else replace(layer, name=f"{layer.name}#{seen[layer.name]}")
