"""Share steps of `prunec cast` and `prunec quantize`: model, images, accuracy, printed output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request.config import IMAGES, Sources
from ..request.options import optional, reuse
from ..request.values import TEXTS
from .console import out, say
from .flags import Checks
from .inputs import preprocess_of, read_images
from .options import GivenImages, OnnxFile, OnnxOutput

if TYPE_CHECKING:
    import onnx

    from ..data.images import Images
    from ..deploy.ort.parity import Parity
    from ..progress import Track

SHOWN = 8  # unchanged nodes that are listed


@dataclass(frozen=True, kw_only=True)
class Lower(GivenImages, OnnxOutput, OnnxFile, Checks):
    """Record the options that `prunec cast` and `prunec quantize` share."""

    model: Path = reuse(OnnxFile, "model", help="An ONNX model of FP32.")
    data: str = reuse(GivenImages, "data", default=MISSING, help=f"Real images to measure on: {IMAGES}.")
    images: int = reuse(Sources, "images", default=256)
    keep: Sequence[str] = optional(
        (), "Nodes that stay as they are, for instance 'layer1.*'.", TEXTS, metavar="PATTERN"
    )
    labelled: str | None = reuse(Sources, "labelled")
    classes: tuple[int, ...] | None = reuse(Sources, "classes")


@dataclass(frozen=True)
class Given:
    """A model, as read, and its images, as inputs."""

    model: onnx.ModelProto
    images: Images
    labelled: Images | None


def read(options: Lower, track: Track) -> Given:
    """Read the model, images to measure on, and all labelled ones. Raises BackendError for the model, DataError."""
    from ..data.images import ImageSource
    from ..deploy.onnx import model_inputs, onnx_file

    model = onnx_file.load(options.model)
    shape, takes = onnx_file.input_shape(model), model_inputs.of_model(model)
    images = options.read(shape, takes, track, options.images).unlabelled()
    if options.labelled is None:
        return Given(model, images, None)
    how = preprocess_of(options.preprocess, options.labelled, shape)
    source = ImageSource(options.labelled, how, classes=options.classes)
    return Given(model, images, read_images(source, takes, track))


def accuracies(given: Given, lower: onnx.ModelProto, track: Track) -> dict[str, float]:
    """Measure top-1 in percent, before and after; empty without labelled images."""
    from ..deploy.ort import reference
    from ..evaluate import accuracy

    if given.labelled is None:
        return {}
    models = {"before": given.model, "after": lower}
    return {name: accuracy(reference.session(model), given.labelled, track=track) for name, model in models.items()}


def write(model: onnx.ModelProto, options: Lower) -> None:
    """Write the file, and print its path and size."""
    from ..deploy.onnx import onnx_file

    before = options.model.stat().st_size
    size = onnx_file.save(model, options.output)
    say(f"wrote {options.output}: {size:,} bytes, {before:,} before", "dim")


def show(parity: Parity, left: Mapping[str, str], how: str, accuracy: Mapping[str, float]) -> None:
    """Print the parity, the unchanged nodes and why, and any accuracy."""
    for agreement in parity.agreements:
        _line(str(agreement))
    for name, reason in list(left.items())[:SHOWN]:
        _line(f"{how} {name}: {reason}")
    if len(left) > SHOWN:
        _line(f"{how} {len(left) - SHOWN} more")
    if accuracy:
        before, after = accuracy["before"], accuracy["after"]
        _line(f"top-1 accuracy {before:.2f}% before, {after:.2f}% after ({after - before:+.2f} points)")


def _line(text: Any) -> None:
    out.print(text, markup=False, soft_wrap=True)
