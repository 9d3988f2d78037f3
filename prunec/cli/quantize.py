"""`prunec quantize`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import lower
from .console import out, progress
from .model_options import Classes, Debug, NoVerify, PreprocessText


def quantize(
    model: lower.Source,
    data: lower.Data,
    output: lower.Output,
    int8: Annotated[bool, typer.Option("--int8", help="Integers of 8 bits.")] = False,
    fp8: Annotated[bool, typer.Option("--fp8", help="Floats of 8 bits (E4M3); opset 19.")] = False,
    preprocess: PreprocessText = None,
    images: Annotated[int, typer.Option(metavar="N", help="Images to calibrate with, at most.")] = 256,
    keep: lower.Keep = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="The range of a value: minmax of all images, or average over batches.")
    ] = "minmax",
    labelled: lower.Labelled = None,
    classes: Classes = None,
    force: lower.Force = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
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

    if int8 == fp8:
        raise SpecError("give one of --int8 and --fp8")
    onnx_file.require_free(output, force)
    with progress() as track:
        given = lower.read(model, data, preprocess, images, labelled, classes, track)
        kind = "int8" if int8 else "fp8"
        done = to_eight(given.model, kind, given.images, keep=keep or (), method=method, track=track)
        accuracy = lower.accuracies(given, done.model, track)
    lower.write(done.model, output, model.stat().st_size)
    out.print(f"{len(done.layers)} layers in {kind}, {len(done.left)} left alone; calibrated on {done.images:,} images")
    lower.show(done.parity, done.left, "left", accuracy)
