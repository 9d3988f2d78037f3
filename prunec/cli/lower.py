"""Share steps of `prunec cast` and `prunec quantize`: model, images, accuracy, printed output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..request.config import IMAGES
from .console import err, out
from .model_options import preprocess_of, read_images

if TYPE_CHECKING:
    import onnx

    from ..data.images import Images
    from ..deploy.ort.parity import Parity
    from ..progress import Track

SHOWN = 8  # unchanged nodes that are listed

Source = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An ONNX model of FP32.", show_default=False)]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE.onnx", help="The file to write.", show_default=False)
]
Data = Annotated[str, typer.Option(metavar="IMAGES", help=f"Real images to measure on: {IMAGES}.", show_default=False)]
Labelled = Annotated[
    str | None,
    typer.Option("--evaluate", "--labels-from", metavar="IMAGES", help="Labelled images, for the accuracy."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Nodes that stay as they are, for instance 'layer1.*'. Repeatable."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file.")]


@dataclass(frozen=True)
class Given:
    """A model, as read, and its images, as inputs."""

    model: onnx.ModelProto
    images: Images
    labelled: Images | None


def read(
    path: Path,
    data: str,
    preprocess: str | None,
    count: int,
    labelled: str | None,
    classes: str | None,
    track: Track,
) -> Given:
    """Read the model, `count` images to measure on, and all labelled ones.

    Raises BackendError for the model, DataError for images, SpecError for an invalid count or classes.
    """
    from ..deploy.onnx import model_inputs, onnx_file
    from ..errors import SpecError
    from ..request.values import classes_of

    if count < 1:
        raise SpecError(f"--images {count} are none: give 1 or more")
    model = onnx_file.load(path)
    shape, takes = onnx_file.input_shape(model), model_inputs.of_model(model)
    images = read_images(data, preprocess_of(preprocess, data, shape), count, 0, None, track, takes).unlabelled()
    if labelled is None:
        return Given(model, images, None)
    mapping = None if classes is None else classes_of("--classes", classes)
    how = preprocess_of(preprocess, labelled, shape)
    return Given(model, images, read_images(labelled, how, None, 0, mapping, track, takes))


def accuracies(given: Given, lower: onnx.ModelProto, track: Track) -> dict[str, float]:
    """Measure top-1 in percent, before and after; empty without labelled images."""
    from ..deploy.ort import reference
    from ..evaluate import accuracy

    if given.labelled is None:
        return {}
    models = {"before": given.model, "after": lower}
    return {name: accuracy(reference.session(model), given.labelled, track=track) for name, model in models.items()}


def write(model: onnx.ModelProto, path: Path, before: int) -> None:
    """Write the file, and print its path and size."""
    from ..deploy.onnx import onnx_file

    size = onnx_file.save(model, path)
    err.print(f"wrote {path}: {size:,} bytes, {before:,} before", style="dim", markup=False, soft_wrap=True)


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
