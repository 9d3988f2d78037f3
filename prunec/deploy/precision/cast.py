"""FP32 → FP16 or BF16 in the ONNX file itself, where strongly typed engines look for it.

1. The range check on real images says which nodes must stay in FP32 (`ranges`).
2. FP16 by ONNX Runtime's converter (`float16`), BF16 by our own pass (`bfloat16`); inputs and outputs stay FP32.
3. Every layer is seen to be of the type (`element_types.require`): what was asked for and did not happen is an error.
4. The result is compared with the FP32 model, rounding where the file rounds (`reference`).
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
from . import bfloat16, float16, qdq
from .ranges import Ranges, measure

LEAST_COSINE = 0.99  # of the outputs with those in FP32: half a point of accuracy is lost long before


@dataclass(frozen=True)
class Cast:
    """A model of half width, what of it stayed in FP32 and why, and how near it is to the model that it was."""

    model: onnx.ModelProto
    precision: str
    kept: Mapping[str, str]  # node name → reason
    layers: int  # convolutions and products in the precision
    ranges: Ranges
    parity: parity.Parity


def cast(
    model: onnx.ModelProto,
    precision: str,
    images: Images,
    *,
    keep: Sequence[str] = (),
    track: Track = silent,
) -> Cast:
    """`model`, of FP32, in `precision` (`fp16` or `bf16`), checked on `images`: real ones, ready for the network.

    `keep` are patterns of node names that stay in FP32 besides those that leave the range. Raises SpecError for a
    precision or pattern that there is not; BackendError where a layer is not of the precision in the end, or none can
    be; NumericsError where a value is not finite, or the outputs are not those of the FP32 model.
    """
    number_of(precision)
    source = named(model)
    require_single(source)
    source = bfloat16.at_opset(source) if precision == "bf16" else source
    ranges = measure(source, images, track)
    fixed = float16.without_half(source) if precision == "fp16" else bfloat16.without(source)
    kept = {**ranges.leaving(source, precision), **fixed, **asked_for(source, keep)}
    converted = (float16 if precision == "fp16" else bfloat16).convert(source, kept)
    layers = require(converted, precision, kept)
    _require_legal(converted)
    facts = {
        **provenance.read(model),
        "precision": precision,
        "precision_images": images.digest,
        "precision_kept": str(len(kept)),
        "parent": provenance.digest(model),
    }
    stamped = provenance.stamp(converted, facts)
    near = reference.compare(model, stamped, images, precision, LEAST_COSINE)
    return Cast(stamped, precision, kept, layers, ranges, near)


def asked_for(model: onnx.ModelProto, patterns: Sequence[str]) -> dict[str, str]:
    """The nodes, by name, that the user wants left alone. Raises SpecError for a pattern that fits none."""
    names = [node.name for node in model.graph.node]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SpecError(f"no node is called '{pattern}'; the first are {', '.join(names[:5])}")
    return {name: "asked for" for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _require_legal(model: onnx.ModelProto) -> None:
    """Raise for quantised parts that TensorRT would refuse after the cast."""
    fatal = [finding for finding in qdq.findings(model) if finding.fatal]
    if fatal:
        raise BackendError(f"the quantised parts do not survive the cast: {fatal[0]}; export with --opset normal first")
