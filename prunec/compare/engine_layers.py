r"""Read the layers of a TensorRT engine from its inspector's JSON.

`trtexec --exportLayerInfo` and `IEngineInspector.get_engine_information` write a list `Layers`, at the top or one level
down. With detailed verbosity a layer names its ONNX nodes in `Metadata`, `[ONNX Layer: conv1]\x1f[ONNX Layer: relu_0]`;
else they are parsed from its name, `conv1 + relu_0`. Shapes, and so MACs, are those of the inspected profile, with its
batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from ..deploy.onnx.layers import Layer, Network
from ..errors import BackendError

METADATA = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
COPIES = re.compile(r"Reformatting CopyNode for (?:Input|Output) Tensor \d+ to (.+)")
WRAPPED = re.compile(r"PWN\((.+)\)")
BYTES = (
    ("bf16", 2), ("bfloat16", 2), ("fp16", 2), ("half", 2), ("fp8", 1), ("int8", 1), ("int32", 4), ("int64", 8),
    ("fp32", 4), ("float", 4),
)  # fmt: skip


def read(path: Path) -> Network:
    """Read the layers of the engine that `path` describes.

    Raises BackendError where it is no such JSON; inspect an engine itself on a GPU first.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackendError(
            f"{path} is neither ONNX nor the JSON of an engine ({error}): inspect the engine where it runs, with"
            " trtexec --exportLayerInfo"
        ) from error
    listed = _layers(found)
    if listed is None:
        raise BackendError(
            f"{path} has no list of Layers: give what trtexec --exportLayerInfo writes, or an engine of TensorRT-RTX"
            " itself"
        )
    layers = tuple(_layer(one, place) for place, one in enumerate(listed))
    makers = {name: layer.name for one, layer in zip(listed, layers, strict=True) for name in _names(one, "Outputs")}
    reads = [tuple(dict.fromkeys(makers.get(name, name) for name in _names(one, "Inputs"))) for one in listed]
    return Network(
        tuple(replace(layer, reads=names) for layer, names in zip(layers, reads, strict=True)), is_engine=True
    )


def _layers(found: Any) -> list[Any] | None:
    """Return the list `Layers`, at the top or one level below."""
    candidates = [found, *(found.values() if isinstance(found, dict) else ())]
    lists = [one["Layers"] for one in candidates if isinstance(one, dict) and isinstance(one.get("Layers"), list)]
    return lists[0] if lists else None


def _layer(entry: Any, place: int) -> Layer:
    """Return one layer; without detailed verbosity its name only."""
    if isinstance(entry, str):
        return Layer(
            entry, "Reformat" if COPIES.fullmatch(entry) else "Layer", (), nodes=_nodes(entry, ""), kernel_name="Layer"
        )
    name = str(entry.get("Name", f"layer {place}"))
    outputs = entry.get("Outputs") or [{}]
    shape = tuple(int(size) for size in outputs[0].get("Dimensions", ()))
    count = int((entry.get("Weights") or {}).get("Count", 0))
    bias = int((entry.get("Bias") or {}).get("Count", 0))
    kernel = tuple(int(size) for size in entry.get("Kernel", ()))
    groups, makes = int(entry.get("Groups", 1)), int(entry.get("OutMaps", 0))
    weight = (makes, count // (makes * prod(kernel)), *kernel) if count and makes and kernel else ()
    positions = prod(shape[2:]) * (shape[0] if shape else 1) if kernel else (shape[0] if shape else 1)
    return Layer(
        name,
        str(entry.get("LayerType", "Layer")),
        shape,
        weight=weight,
        groups=groups,
        parameters=count + bias,
        macs=count * positions,
        activation_bytes=sum(_bytes(one) for one in outputs),
        dtype=_dtype(outputs[0]),
        nodes=_nodes(name, str(entry.get("Metadata") or "")),
        kernel_name=str(entry.get("TacticName") or entry.get("LayerType", "Layer")),
    )


def _nodes(name: str, metadata: str) -> tuple[str, ...]:
    """Return the ONNX nodes of a layer; for a copy, a key of its own."""
    copied = COPIES.fullmatch(name)
    if copied:
        return (f"copy for {_nodes(copied[1], '')[0]}",)
    found = METADATA.findall(metadata)
    parts = found or [WRAPPED.sub(r"\1", part) for part in name.split(" + ")]
    return tuple(dict.fromkeys(part.strip() for part in parts))


def _names(entry: Any, side: str) -> list[str]:
    return [str(one.get("Name", "")) for one in entry.get(side) or ()] if isinstance(entry, dict) else []


def _dtype(tensor: Mapping[str, Any]) -> str:
    """Return a type such as `fp16`, in the formats of TensorRT 10 and 11."""
    text = str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "").lower()
    return next((name for name, _ in BYTES if name in text), "")


def _bytes(tensor: Mapping[str, Any]) -> int:
    size = dict(BYTES).get(_dtype(tensor), 0)
    return prod(int(one) for one in tensor.get("Dimensions", ())) * size
