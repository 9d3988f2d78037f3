"""`prunec lint`."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..request.config import IMAGES
from .console import out, progress
from .model_options import Debug, NoVerify, PreprocessText, preprocess_of, read_images

if TYPE_CHECKING:
    import onnx

    from ..data.images import Images
    from ..progress import Track

FOUND = 9  # exit code of findings; 1 to 8 are errors
SHOWN = 20


class FailOn(str, Enum):
    """Mildest level of a finding that ends in exit code 9."""

    error = "error"
    warning = "warning"
    note = "note"
    never = "never"


def lint(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX file to judge.", show_default=False)],
    target: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where it will run: native (ONNX Runtime on this machine), trt-fp16, trt-int8, trt-tf32, rtx-fp16,"
            " rtx-int8, ort-avx512, ort-avx2, arm or generic.",
        ),
    ] = "native",
    data: Annotated[
        str | None, typer.Option(metavar="IMAGES", help=f"Measure the FP16 range of activations on these: {IMAGES}.")
    ] = None,
    preprocess: PreprocessText = None,
    images: Annotated[int, typer.Option(metavar="N", help="Images, at most.")] = 64,
    fail_on: Annotated[
        FailOn, typer.Option(help="The mildest finding that ends in exit code 9; never always ends in 0.")
    ] = FailOn.error,
    show_all: Annotated[bool, typer.Option("--all", help=f"Show every finding, not the worst {SHOWN}.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Report what in an ONNX file will fail, or run slowly, on an engine.

    Channels that the target pads or copies, and their cost; Q and DQ that TensorRT refuses; values that FP16 cannot
    hold; batches that are baked in, and shapes that hang on the data.

    \b
        prunec lint out/model.onnx
        prunec lint out/model.onnx --target trt-fp16 --data photos/
        prunec lint out/model.onnx --target rtx-fp16 --fail-on warning && echo fits
        prunec lint out/model.onnx --target ort-avx512 --json | jq '.findings[] | select(.level == "warning")'

    Exit codes: 0 where nothing as bad as --fail-on was found, 9 where it was, 7 where the file cannot be read.
    """
    from ..cost.hardware import target_of
    from ..deploy.onnx.onnx_file import load
    from ..lint.check import check
    from ..lint.findings import at_least
    from ..report.findings import findings_lines, findings_table

    aim = target_of(target)
    network = load(model)
    with progress() as track:
        given = None if data is None else _images(network, data, preprocess, images, track)
        verdict = check(network, aim, given, track)
    facts = {"model": str(model), **verdict.to_json()}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        if verdict.findings:
            out.print(findings_table(facts, None if show_all else SHOWN))
        out.print(findings_lines(facts))
    if fail_on is not FailOn.never and at_least(verdict.findings, fail_on.value):
        raise typer.Exit(FOUND)


def _images(model: onnx.ModelProto, data: str, preprocess: str | None, images: int, track: Track) -> Images:
    """Return the images, as inputs of the model."""
    from ..deploy.onnx import model_inputs
    from ..deploy.onnx.onnx_file import input_shape

    how = preprocess_of(preprocess, data, input_shape(model))
    return read_images(data, how, images, 0, None, track, model_inputs.of_model(model))
