"""`prunec cast`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import lower
from .console import out, progress
from .model_options import Classes, Debug, NoVerify, PreprocessText


def cast(
    model: lower.Source,
    data: lower.Data,
    output: lower.Output,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision: largest 65,504, 11 bits.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="The range of FP32, 8 bits; opset 22.")] = False,
    preprocess: PreprocessText = None,
    images: Annotated[int, typer.Option(metavar="N", help="Images to measure ranges on, at most.")] = 64,
    keep: lower.Keep = None,
    labelled: lower.Labelled = None,
    classes: Classes = None,
    force: lower.Force = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
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

    if fp16 == bf16:
        raise SpecError("give one of --fp16 and --bf16")
    onnx_file.require_free(output, force)
    with progress() as track:
        given = lower.read(model, data, preprocess, images, labelled, classes, track)
        done = to_half(given.model, "fp16" if fp16 else "bf16", given.images, keep=keep or (), track=track)
        accuracy = lower.accuracies(given, done.model, track)
    lower.write(done.model, output, model.stat().st_size)
    total = f"{done.layers} layers in {done.precision}"
    out.print(f"{total}, {len(done.kept)} nodes kept in fp32; ranges of {done.ranges.images:,} images")
    lower.show(done.parity, done.kept, "kept", accuracy)
