"""`prunec export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..request.config import IMAGES, MODEL
from .console import err, out, progress, warn
from .model_options import Debug, InputShape, NoVerify, PreprocessText, Weights, preprocess_of, read_images

if TYPE_CHECKING:
    from torch import Tensor

    from ..ir.program import Program
    from ..progress import Track

# exact: the exporter's own folding has been wrong (pytorch issues 166797, 169178)
FOLDED = "fold-constants,fold-bn,hoist-slices"
CHECKED_IMAGES = 8  # for the parity of ONNX with torch, at batch 1, 2 and this

Force = Annotated[bool, typer.Option("--force", help="Replace the file.")]


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL, show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.onnx", help="The file to write.", show_default=False)
    ],
    weights: Weights = None,
    input_shape: InputShape = None,
    opset: Annotated[
        str, typer.Option(metavar="N", help="Of ONNX: widest (18), normal (20), bf16 (22), or a number from 18 to 25.")
    ] = "normal",
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Call an input or output otherwise: 'input=images'. Repeatable."),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="IMAGES", help=f"Images to compare on: {IMAGES}.")] = None,
    preprocess: PreprocessText = None,
    force: Force = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Write a network as ONNX: cleaned, checked, stamped with its source, and compared with PyTorch.

    The comparison is with the network as it was given, at batch 1, 2 and 8, on real images where --data gives some,
    else on noise; nothing is written where it fails. opset widest is read by the most engines, FP8 and FP16 scales need
    normal, BF16 needs bf16.

    \b
        prunec export torchvision:resnet50 --weights resnet50.safetensors -o resnet50.onnx
        prunec export out/model.pt2 --opset bf16 --data photos/ -o model22.onnx
        prunec export nets.py:make --input-shape 3x32x32 --name input=images --name output=logits -o net.onnx
    """
    from .. import __version__
    from ..deploy.onnx import onnx_file, provenance
    from ..deploy.onnx.export import export_onnx, opset_of
    from ..deploy.ort import parity
    from ..frontend.capture import capture
    from ..frontend.load import load_model
    from ..ir.signature import require_runnable
    from ..pipeline.context import Context
    from ..pipeline.pipeline import Pipeline
    from .model_options import example_inputs

    onnx_file.require_free(output, force)
    number, names = opset_of(opset), _names(name or [])
    loaded = load_model(model, weights)
    require_runnable(loaded.model)
    with progress() as track:
        steps = iter(track(range(3), "exporting"))
        next(steps)
        program = Pipeline.parse(FOLDED).run(capture(loaded.model, example_inputs(loaded, input_shape)), Context())
        next(steps)
        facts = {"version": __version__, "source": loaded.digest, "pipeline": FOLDED, **provenance.beside(Path(model))}
        written = export_onnx(
            program.module,
            program.example_inputs,
            opset=number,
            dynamic_batch=program.dynamic_batch,
            provenance=facts,
            names=names,
        )
        next(steps)
        images = _images(program, data, preprocess, track)
    only = program.only_batch
    given = program.original or program.module
    agreement = parity.compare(given, written, images, None if only is None else (only,)).require(of="the network")
    size = onnx_file.save(written, output)
    for note in program.notes:
        warn(note)
    for one in agreement.agreements:
        out.print(str(one), markup=False, soft_wrap=True)
    stamped = ", ".join(provenance.read(written))
    err.print(
        f"wrote {output}: opset {number}, {size:,} bytes, stamped with {stamped}",
        style="dim",
        markup=False,
        soft_wrap=True,
    )


def _names(given: list[str]) -> dict[str, str]:
    """Parse `OLD=NEW` to a mapping. Raises SpecError for anything else."""
    from ..errors import SpecError

    pairs = [text.partition("=") for text in given]
    if not all(old and new for old, _, new in pairs):
        raise SpecError(f"--name {' --name '.join(given)}: write OLD=NEW, for instance --name input=images")
    return {old: new for old, _, new in pairs}


def _images(program: Program, data: str | None, preprocess: str | None, track: Track) -> tuple[Tensor, ...]:
    """Return images for the comparison, or seeded noise of the example's shape."""
    from ..data.noise import noise_like
    from ..ir.signature import signature_of

    count = max(CHECKED_IMAGES, program.only_batch or 1)
    if data is not None:
        shape = tuple(program.example_inputs[0].shape[1:])
        takes = signature_of(program.module, program.example_inputs)
        return read_images(data, preprocess_of(preprocess, data, shape), count, 0, None, track, takes).inputs
    return noise_like(program.example_inputs, count)
