"""Find samples that two networks answer differently, and draw them as small pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..data.preprocess import Preprocess
from ..statistics.agreement import same_class, scores_in

MOST = 12  # pictures
SIDE = 152  # pixels of the longer side of a picture, at most


@dataclass(frozen=True)
class Shown:
    """Hold the names of the classes, and the preprocessing that pictures undo."""

    classes: Sequence[str] = ()
    preprocess: Preprocess | None = None


@dataclass(frozen=True)
class Picture:
    """Hold a sample as a data URI, and the answer of each network."""

    number: int  # its index among the samples
    source: str
    dense: str
    compressed: str


@dataclass(frozen=True)
class Samples:
    """Hold the samples on which networks differ, or the reason why none are shown."""

    sentence: str
    pictures: tuple[Picture, ...] = ()


NOT_COMPARED = Samples("No samples were compared: prunec report OUT/ --data IMAGES runs both networks on them.")


def differing(images: Tensor, dense: Tensor, compressed: Tensor, shown: Shown = Shown()) -> Samples:
    """Compare class scores [N, C], and draw images [N, C, H, W] that differ.

    Those of which the dense network was surest come first.
    """
    place, answers = scores_in([dense], len(images))
    if place is None or dense.dim() != 2:
        return Samples(f"Samples cannot be compared by class: {answers}.")
    apart = torch.from_numpy(~same_class(dense.double().numpy(), compressed.double().numpy())[:, 0])
    count = f"The networks differ on {int(apart.sum()):,} of {len(images):,} samples"
    if not apart.any():
        return Samples(f"{count}.")
    if images.dim() != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        return Samples(f"{count}; they are no pictures, so none is shown.")
    sure = dense.double().softmax(1).amax(1)
    order = sorted(apart.nonzero()[:, 0].tolist(), key=lambda row: (-float(sure[row]), row))[:MOST]
    found = [
        Picture(
            row,
            _png(images[row], shown.preprocess),
            *(_named(one[row], shown.classes) for one in (dense, compressed)),
        )
        for row in order
    ]
    first = f"; shown are the {len(found)} of which the dense network was surest" if len(order) < apart.sum() else ""
    return Samples(f"{count}{first}.", tuple(found))


def _named(scores: Tensor, classes: Sequence[str]) -> str:
    """Return the class with the highest score, with its probability."""
    best = int(scores.argmax())
    name = classes[best] if best < len(classes) else f"class {best}"
    return f"{name} ({float(scores.double().softmax(0)[best]):.0%})"


def _png(image: Tensor, preprocess: Preprocess | None) -> str:
    """Return a picture [C, H, W] as a PNG data URI.

    Without preprocessing its least value is black and its largest white.
    """
    image = image.float().cpu()
    low, high = image.min(), image.max()
    ranged = preprocess.pixels(image) if preprocess else (image - low) / (high - low).clamp_min(1e-12)
    array = (ranged * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
