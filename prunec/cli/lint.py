"""`prunec lint`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

from ..request.config import IMAGES, Sources
from ..request.options import optional, reuse
from ..request.values import TEXT, choice
from .console import out, progress
from .flags import Checks, flattened
from .options import GivenImages, Listing, OnnxFile

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


@dataclass(frozen=True, kw_only=True)
class Lint(Listing, GivenImages, OnnxFile, Checks):
    """Record the options of `prunec lint`."""

    target: str = optional(
        "native",
        "Where it will run: native (ONNX Runtime on this machine), trt-fp16, trt-int8, trt-tf32, rtx-fp16,"
        " rtx-int8, ort-avx512, ort-avx2, arm or generic.",
        TEXT,
        metavar="NAME",
    )
    data: str | None = reuse(GivenImages, "data", help=f"Measure the FP16 range of activations on these: {IMAGES}.")
    images: int = reuse(Sources, "images", default=64, help="Images, at most.")
    fail_on: FailOn = optional(
        FailOn.error, "The mildest finding that ends in exit code 9; never always ends in 0.", choice(FailOn)
    )
    show_all: bool = reuse(Listing, "show_all", help=f"Show every finding, not the worst {SHOWN}.")


@flattened(Lint)
def lint(options: Lint) -> None:
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

    aim = target_of(options.target)
    network = load(options.model)
    with progress() as track:
        given = None if options.data is None else _images(network, options, track)
        verdict = check(network, aim, given, track)
    facts = {"model": str(options.model), **verdict.to_json()}
    if options.as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts, None if options.show_all else SHOWN)
    if options.fail_on is not FailOn.never and at_least(verdict.findings, options.fail_on.value):
        raise typer.Exit(FOUND)


def _show(facts: dict[str, Any], most: int | None) -> None:
    from ..report.findings import findings_lines, findings_table

    if facts["findings"]:
        out.print(findings_table(facts, most))
    out.print(findings_lines(facts))


def _images(model: onnx.ModelProto, options: Lint, track: Track) -> Images:
    """Return the images, as inputs of the model."""
    from ..deploy.onnx import model_inputs
    from ..deploy.onnx.onnx_file import input_shape

    return options.read(input_shape(model), model_inputs.of_model(model), track, options.images)
