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

from ..data import Images
from ..errors import BackendError, NumericsError, SpecError
from ..progress import Track, silent
from . import bfloat16, float16, onnx_file, parity, provenance, qdq, reference
from .element_types import FLOAT, element_types, inferred, named, number_of, require, require_flat
from .ranges import Ranges, measure

LEAST_COSINE = 0.99  # with the FP32 model's outputs: half a point of accuracy is lost long before
COMPARED = 32  # images


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
    _require_single(source)
    source = bfloat16.at_opset(source) if precision == "bf16" else source
    ranges = measure(source, images, track)
    fixed = float16.without_half(source) if precision == "fp16" else bfloat16.without(source)
    kept = {**ranges.leaving(source, precision), **fixed, **_asked(source, keep)}
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
    return Cast(stamped, precision, kept, layers, ranges, compared(model, stamped, images, precision))


def compared(model: onnx.ModelProto, lower: onnx.ModelProto, images: Images, what: str) -> parity.Parity:
    """How near `lower` comes to `model` on the first images. Raises NumericsError where that is not near."""
    only = onnx_file.only_batch(model)
    few = tuple(value[: max(COMPARED, only or 1)] for value in images.inputs)
    batches = None if only is None else (only,)
    found = parity.compare(reference.session(model), reference.session(lower), few, batches)
    worst = min(found.agreements, key=lambda one: one.cosine)
    if worst.cosine < LEAST_COSINE:
        raise NumericsError(
            f"in {what} the network computes something else, {worst}: keep more of it in FP32 (--keep PATTERN)"
        )
    return found


def _asked(model: onnx.ModelProto, patterns: Sequence[str]) -> dict[str, str]:
    """The nodes that the user wants in FP32."""
    names = [node.name for node in model.graph.node]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SpecError(f"no node is called '{pattern}'; the first are {', '.join(names[:5])}")
    return {name: "asked for" for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _require_single(model: onnx.ModelProto) -> None:
    """Raise where the model is not of FP32 throughout."""
    require_flat(model)
    kinds = set(element_types(inferred(model)).values())
    halves = [name for name in ("FLOAT16", "BFLOAT16") if onnx.TensorProto.DataType.Value(name) in kinds]
    if halves or FLOAT not in kinds:
        raise BackendError(f"the model is of {(halves or ['no float'])[0]} already; cast the FP32 model it came from")


def _require_legal(model: onnx.ModelProto) -> None:
    """Raise for quantised parts that TensorRT would refuse after the cast."""
    fatal = [finding for finding in qdq.findings(model) if finding.fatal]
    if fatal:
        raise BackendError(f"the quantised parts do not survive the cast: {fatal[0]}; export with --opset normal first")
