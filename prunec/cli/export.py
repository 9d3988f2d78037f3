"""`prunec export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..request.config import IMAGES, CompressRequest
from ..request.options import optional, reuse
from ..request.values import TEXT, TEXTS
from .console import out, progress, say, warn
from .flags import Checks, flattened
from .inputs import example_inputs
from .options import GivenImages, OnnxOutput, ShapedNetwork

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

    from ..frontend.load import LoadedModel
    from ..ir.program import Program
    from ..progress import Track

# exact: the exporter's own folding has been wrong (pytorch issues 166797, 169178)
FOLDED = "fold-constants,fold-bn,hoist-slices"
CHECKED_IMAGES = 8  # for the parity of ONNX with torch, at batch 1, 2 and this


@dataclass(frozen=True, kw_only=True)
class Export(GivenImages, OnnxOutput, ShapedNetwork, Checks):
    """Record the options of `prunec export`."""

    data: str | None = reuse(GivenImages, "data", help=f"Images to compare on: {IMAGES}.")
    opset: str = reuse(
        CompressRequest,
        "opset",
        default="normal",
        kind=TEXT,
        help="Of ONNX: widest (18), normal (20), bf16 (22), or a number from 18 to 25.",
        panel=None,
    )
    name: Sequence[str] = optional((), "Call an input or output otherwise: 'input=images'.", TEXTS, metavar="OLD=NEW")


@flattened(Export)
def export(options: Export) -> None:
    """Write a network as ONNX: cleaned, checked, stamped with its source, and compared with PyTorch.

    The comparison is with the network as it was given, at batch 1, 2 and 8, on real images where --data gives some,
    else on noise; nothing is written where it fails. opset widest is read by the most engines, FP8 and FP16 scales need
    normal, BF16 needs bf16.

    \b
        prunec export torchvision:resnet50 --weights resnet50.safetensors -o resnet50.onnx
        prunec export out/model.pt2 --opset bf16 --data photos/ -o model22.onnx
        prunec export nets.py:make --input-shape 3x32x32 --name input=images --name output=logits -o net.onnx
    """
    from ..deploy.onnx import onnx_file
    from ..deploy.onnx.export import export_onnx, opset_of
    from ..deploy.ort import parity
    from ..ir.signature import require_runnable

    onnx_file.require_free(options.output, options.force)
    number, names = opset_of(options.opset), _names(options.name)
    if options.model.endswith(".onnx"):
        raise SpecError(f"{options.model} is an ONNX file already: give it to prunec compress, cast, quantize or lint")
    loaded = options.load()
    require_runnable(loaded.model)
    with progress() as track:
        steps = iter(track(range(3), "exporting"))
        next(steps)
        program = _folded(loaded, options.input_shape)
        next(steps)
        written = export_onnx(
            program.module,
            program.example_inputs,
            opset=number,
            dynamic_batch=program.dynamic_batch,
            provenance=_stamp(loaded, options.model),
            names=names,
        )
        next(steps)
        images = _images(program, options, track)
    only = program.only_batch
    given = program.original or program.module
    agreement = parity.compare(given, written, images, None if only is None else (only,)).require(of="the network")
    size = onnx_file.save(written, options.output)
    for note in program.notes:
        warn(note)
    for one in agreement.agreements:
        out.print(str(one), markup=False, soft_wrap=True)
    _tell(written, options.output, number, size)


def _folded(loaded: LoadedModel, input_shape: str | None) -> Program:
    from ..frontend.capture import capture
    from ..pipeline.context import Context
    from ..pipeline.pipeline import Pipeline

    return Pipeline.parse(FOLDED).run(capture(loaded.model, example_inputs(loaded, input_shape)), Context())


def _stamp(loaded: LoadedModel, source: str) -> dict[str, str]:
    """Return the metadata that say what the file was made from."""
    from .. import __version__
    from ..deploy.onnx import provenance

    return {"version": __version__, "source": loaded.digest, "pipeline": FOLDED, **provenance.beside(Path(source))}


def _tell(written: onnx.ModelProto, output: Path, opset: int, size: int) -> None:
    from ..deploy.onnx import provenance

    stamped = ", ".join(provenance.read(written))
    say(f"wrote {output}: opset {opset}, {size:,} bytes, stamped with {stamped}", "dim")


def _names(given: Sequence[str]) -> dict[str, str]:
    """Parse `OLD=NEW` to a mapping. Raises SpecError for anything else."""
    from ..errors import SpecError

    pairs = [text.partition("=") for text in given]
    if not all(old and new for old, _, new in pairs):
        raise SpecError(f"--name {' --name '.join(given)}: write OLD=NEW, for instance --name input=images")
    return {old: new for old, _, new in pairs}


def _images(program: Program, options: Export, track: Track) -> tuple[Tensor, ...]:
    """Return images for the comparison, or seeded noise of the example's shape."""
    from ..data.noise import noise_like
    from ..ir.signature import signature_of

    count = max(CHECKED_IMAGES, program.only_batch or 1)
    if options.data is None:
        return noise_like(program.example_inputs, count)
    shape = tuple(program.example_inputs[0].shape[1:])
    takes = signature_of(program.module, program.example_inputs)
    return options.read(shape, takes, track, count).inputs
