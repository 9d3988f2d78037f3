"""`prunec cast`."""

from __future__ import annotations

from dataclasses import dataclass

from ..request.options import optional, reuse
from ..request.values import FLAG
from . import lower
from .console import out, progress
from .flags import flattened


@dataclass(frozen=True, kw_only=True)
class Cast(lower.Lower):
    """Record the options of `prunec cast`."""

    fp16: bool = optional(False, "Half precision: largest 65,504, 11 bits.", FLAG)
    bf16: bool = optional(False, "The range of FP32, 8 bits; opset 22.", FLAG)
    images: int = reuse(lower.Lower, "images", default=64, help="Images to measure ranges on, at most.")


@flattened(Cast)
def cast(options: Cast) -> None:
    """Write an ONNX model in half the width, and prove that it happened. Inputs and outputs stay FP32.

    The model runs on real images first: what leaves the safe range stays in FP32, and is named. Afterwards every layer
    must be of the type, and the outputs those of the FP32 model, computed with the rounding that the file asks for.

    \b
        prunec cast out/model.onnx --fp16 --data photos/ -o model16.onnx
        prunec cast out/model.onnx --bf16 --data train.npz --keep 'head*' -o modelb16.onnx
        prunec cast net.onnx --fp16 --data train.npz --evaluate test.npz -o net16.onnx
    """
    from ..deploy.onnx import onnx_file
    from ..deploy.precision.cast import cast as to_half
    from ..errors import SpecError

    if options.fp16 == options.bf16:
        raise SpecError("give one of --fp16 and --bf16")
    onnx_file.require_free(options.output, options.force)
    kind = "fp16" if options.fp16 else "bf16"
    with progress() as track:
        given = lower.read(options, track)
        done = to_half(given.model, kind, given.images, keep=options.keep, track=track)
        accuracy = lower.accuracies(given, done.model, track)
    lower.write(done.model, options)
    total = f"{done.layers} layers in {done.precision}"
    out.print(f"{total}, {len(done.kept)} nodes kept in fp32; ranges of {done.ranges.images:,} images")
    lower.show(done.parity, done.kept, "kept", accuracy)
