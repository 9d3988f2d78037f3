"""Cast an FP32 ONNX file to FP16 or BF16, as strongly typed engines expect it.

1. Measure on real images which nodes must be kept in FP32 (`ranges`).
2. Cast the others (`half`); the interface is kept in FP32.
3. Check that every layer has the type (`element_types.require`).
4. Compare with the FP32 model, rounding where the file rounds (`reference`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx

from ...data.images import Images
from ...errors import BackendError, SpecError
from ...progress import Track, silent
from ..onnx import provenance
from ..onnx.element_types import named, number_of, require, require_single
from ..ort import parity, reference
from . import half, qdq
from .ranges import Ranges, measure

LEAST_COSINE = 0.99  # of the outputs with those in FP32: half a point of accuracy is lost long before


@dataclass(frozen=True)
class Cast:
    """Half-width model, its nodes kept in FP32, and its agreement with the FP32 model."""

    model: onnx.ModelProto
    precision: str
    kept: Mapping[str, str]  # node name → reason
    layers: int  # convolutions and products in the precision
    ranges: Ranges
    parity: parity.Parity


def cast(
    model: onnx.ModelProto, precision: str, images: Images, *, keep: Sequence[str] = (), track: Track = silent
) -> Cast:
    """Cast the FP32 `model` to `precision` (`fp16` or `bf16`), checked on real `images`.

    `keep` are patterns of further node names to keep in FP32. Raises SpecError for an unknown precision or unmatched
    pattern; BackendError if a layer does not get the precision, or none can; NumericsError if a value is not finite, or
    the outputs differ from those in FP32.
    """
    to = number_of(precision)
    source = named(model)
    require_single(source)
    source = half.at_opset(source) if precision == "bf16" else source
    ranges = measure(source, images, track)
    kept = {**ranges.leaving(source, precision), **half.without(source, to), **asked_for(source, keep)}
    converted = half.convert(source, kept, to)
    layers = require(converted, precision, kept)
    _require_legal(converted)
    facts = {"precision": precision, "precision_images": images.digest, "precision_kept": str(len(kept))}
    stamped = provenance.derived(converted, model, facts)
    near = reference.compare(model, stamped, images, precision, LEAST_COSINE)
    return Cast(stamped, precision, kept, layers, ranges, near)


def asked_for(model: onnx.ModelProto, patterns: Sequence[str]) -> dict[str, str]:
    """Return the nodes that match `patterns`. Raises SpecError for an unmatched pattern."""
    names = [node.name for node in model.graph.node]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SpecError(f"no node is called '{pattern}'; the first are {', '.join(names[:5])}")
    return {name: "asked for" for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _require_legal(model: onnx.ModelProto) -> None:
    """Raise if TensorRT would refuse the quantised parts after the cast."""
    fatal = [finding for finding in qdq.findings(model) if finding.fatal]
    if fatal:
        raise BackendError(f"the quantised parts do not survive the cast: {fatal[0]}; export with --opset normal first")
