"""`prunec quantize`."""

from __future__ import annotations

from dataclasses import dataclass

from ..request.options import optional
from ..request.values import FLAG, TEXT
from . import lower
from .console import out, progress
from .flags import flattened


@dataclass(frozen=True, kw_only=True)
class Quantize(lower.Lower):
    """Record the options of `prunec quantize`."""

    int8: bool = optional(False, "Integers of 8 bits.", FLAG)
    fp8: bool = optional(False, "Floats of 8 bits (E4M3); opset 19.", FLAG)
    method: str = optional(
        "minmax", "The range of a value: minmax of all images, or average over batches.", TEXT, metavar="NAME"
    )


@flattened(Quantize)
def quantize(options: Quantize) -> None:
    """Quantise the layers of an ONNX model to 8 bits, as TensorRT takes it: symmetric, a scale a channel, no INT32.

    Calibrated on real images, judged by the rules of `prunec.deploy.precision.qdq`, and compared with the FP32 model as
    Q and DQ are defined. Layers under 16 channels are left alone, and named. Then `prunec cast --fp16` casts the rest.

    \b
        prunec quantize out/model.onnx --int8 --data photos/ -o model8.onnx
        prunec quantize net.onnx --int8 --data train.npz --evaluate test.npz --keep 'layer1.*' -o net8.onnx
        prunec quantize net.onnx --fp8 --data train.npz -o net8.onnx
    """
    from ..deploy.onnx import onnx_file
    from ..deploy.precision.quantize import quantize as to_eight
    from ..errors import SpecError

    if options.int8 == options.fp8:
        raise SpecError("give one of --int8 and --fp8")
    onnx_file.require_free(options.output, options.force)
    kind = "int8" if options.int8 else "fp8"
    with progress() as track:
        given = lower.read(options, track)
        done = to_eight(given.model, kind, given.images, keep=options.keep, method=options.method, track=track)
        accuracy = lower.accuracies(given, done.model, track)
    lower.write(done.model, options)
    out.print(f"{len(done.layers)} layers in {kind}, {len(done.left)} left alone; calibrated on {done.images:,} images")
    lower.show(done.parity, done.left, "left", accuracy)
