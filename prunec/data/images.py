"""Load images for calibration and evaluation as tensors in memory.

Only ``evaluate`` uses labels: calibration and search drop them with ``unlabelled``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from ..device import CPU
from ..errors import DataError, PrunecError
from ..ir.calling import Inputs
from ..ir.digest import tensor_digest
from ..ir.signature import ANY, Signature, is_label
from ..progress import Track, silent
from ..user_code import imported
from . import arrays, folder
from .arrays import Array, ready
from .batches import as_batches, gathered
from .preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Images:
    """N samples in memory. Raises DataError for differing numbers of samples, or none."""

    inputs: tuple[Tensor, ...]
    """One tensor [N, ...] for each input: of the network's floating type, integers or booleans."""
    labels: Tensor | None
    """int64 [N]."""
    source: str
    skipped: tuple[str, ...] = ()
    """Files that could not be decoded, each with the reason."""
    step: int = 1
    """Fixed batch size of the network: samples come in multiples of it."""
    device: torch.device = CPU
    """Device of ``batches``; the samples themselves are not moved."""
    keywords: tuple[str, ...] = ()
    """Keywords of the inputs; empty where they are positional."""
    unread: str = ""
    """Targets that are not one class a sample, as text."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on what was left out."""

    def __post_init__(self) -> None:
        counts = [len(each) for each in (*self.inputs, *([] if self.labels is None else [self.labels]))]
        if not counts or min(counts) == 0:
            raise DataError(f"{self.source} holds no samples: give at least one image")
        if len(set(counts)) > 1:
            raise DataError(
                f"{self.source} holds inputs and labels of different lengths, {counts}: give one of each per sample"
            )

    def __len__(self) -> int:
        return len(self.inputs[0])

    @cached_property
    def digest(self) -> str:
        """Compute the sha256, in hexadecimal, of the inputs and labels."""
        named = [(f"input{index}", tensor) for index, tensor in enumerate(self.inputs)]
        return tensor_digest(named if self.labels is None else [*named, ("labels", self.labels)])

    def example(self, samples: int = 2) -> Inputs:
        """Return the first samples, as arguments of the network."""
        first = tuple(tensor[:samples] for tensor in self.inputs)
        return dict(zip(self.keywords, first, strict=True)) if self.keywords else first

    def fitted(self, takes: Signature) -> Images:
        """Return a copy with inputs of the types that the network takes.

        Raises DataError where the number of inputs differs.
        """
        count = len(self.inputs)
        if not takes.open and not takes.needed <= count <= max(1, len(takes.names)):
            raise DataError(f"{self.source} holds {count} inputs, and {takes}: give one tensor for each")
        extra = [name for name in takes.names[len(takes.required) : count] if is_label(name)]
        if extra and not self.keywords:
            raise DataError(
                f"{self.source} holds {count} inputs, and the last would be the {extra[0]} of {takes.where}: leave it"
                " out, or give example_inputs that have it"
            )
        declared = [*map(takes.type_of, self.keywords or takes.names), *[None] * count]
        inputs = tuple(ready(one, takes.floating, kind) for one, kind in zip(self.inputs, declared, strict=False))
        return replace(self, inputs=inputs, keywords=self.keywords or takes.keywords(takes.names[:count]))

    def batches(self, size: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield the inputs in order, ``size`` samples at a time, on ``device``.

        The last batch may be smaller.
        """
        if size < 1:
            raise DataError(f"a batch of {size} images holds none: give a batch size of at least 1")
        for batch in zip(*(torch.split(tensor, size) for tensor in self.inputs), strict=True):
            yield tuple(tensor.to(self.device) for tensor in batch)

    def in_steps(self, step: int) -> Images:
        """Return the first samples, in whole batches of `step`. Raises DataError for less than one batch."""
        whole = len(self) // step * step
        if not whole:
            raise DataError(
                f"{self.source} holds {len(self)} samples, and the network takes {step} at a time: give more"
            )
        labels = None if self.labels is None else self.labels[:whole]
        return replace(self, inputs=tuple(tensor[:whole] for tensor in self.inputs), labels=labels, step=step)

    def take(self, n: int, seed: int, skip: int = 0) -> Images:
        """Return samples ``skip`` to ``skip + n`` of the permutation of ``seed``.

        Ranges of one seed that do not overlap are disjoint. `n` is rounded up to whole steps; fewer are returned at the
        end. Raises DataError where none are left.
        """
        if n < 1 or not 0 <= skip < len(self):
            raise DataError(
                f"cannot take {n} images after the first {skip} of the {len(self)} in {self.source}: give more images"
            )
        return self.at(_permutation(len(self), seed)[skip : skip + -(-n // self.step) * self.step])

    def at(self, rows: Tensor) -> Images:
        """Return the samples with these indices, int64 [n], in their order."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, inputs=tuple(tensor[rows] for tensor in self.inputs), labels=labels)

    def on(self, device: torch.device) -> Images:
        """Return a copy with batches on a device."""
        return replace(self, device=device)

    def unlabelled(self) -> Images:
        """Return a copy with the same samples and no labels."""
        return replace(self, labels=None)


def load_images(
    source: str | Path,
    preprocess: Preprocess | None = None,
    limit: int | None = None,
    seed: int = 0,
    classes: Sequence[int] | None = None,
    track: Track = silent,
) -> Images:
    """Read the images that ``source`` names, and their labels if any.

    - A folder of images, or of one folder a class: label i is the i-th class folder by name. ``preprocess`` is by
      default ``Preprocess.imagenet()``.
    - ``.npz`` (or ``.npy``) with ``images`` (uint8, preprocessed; without ``preprocess`` only normalised) or ``inputs``
      (ready: used unchanged, of any type), optionally with ``labels``; also ``x`` and ``y``, and for a network of
      several inputs the names of its parameters.
    - ``file.py:name`` or ``package.module:name``: an iterable, or a function that returns one, of batches: a tensor, a
      tuple of one tensor per network input, optionally with labels after them, or ``{"inputs": ..., "labels": ...}``;
      ready, too.

    ``limit`` keeps so many: of files and arrays a random choice under ``seed``, made before decoding; of batches the
    first. ``classes`` maps label i to ``classes[i]``. A broken image among good ones is left out and listed in
    ``skipped``. Raises DataError, with advice, for anything else that cannot be read or does not fit.
    """
    return ImageSource(source, preprocess, limit, seed, classes).read(track=track)


@dataclass(frozen=True)
class ImageSource:
    """Name images to read; the fields are those of `load_images`."""

    source: str | Path
    preprocess: Preprocess | None = None
    limit: int | None = None
    seed: int = 0
    classes: Sequence[int] | None = None

    def read(self, takes: Signature = ANY, track: Track = silent) -> Images:
        """Read the images for a network that takes `takes`, which separates inputs from labels. Raises DataError."""
        if self.limit is not None and self.limit < 1:
            raise DataError(f"a limit of {self.limit} leaves no images: give at least 1")
        found = self._found(Path(self.source), takes, track)
        if self.classes is None or found.labels is None:
            return found
        return replace(found, labels=_mapped(found.labels, self.classes, str(self.source)))

    def _found(self, path: Path, takes: Signature, track: Track) -> Images:
        how, limit, seed, text = self.preprocess, self.limit, self.seed, str(self.source)
        if path.is_dir():
            return _from_folder(path, how or Preprocess.imagenet(), limit, seed, track).fitted(takes)
        if path.suffix in (".npz", ".npy"):
            return _from_arrays(path, how, limit, seed, takes)
        if ":" in text:
            return _from_code(text, limit, track, takes)
        raise DataError(
            f"there are no images at {text}: give an image folder, a .npz or .npy file, or file.py:function"
        )


def as_images(data: object, takes: Signature = ANY) -> Images:
    """Convert Images, a ready tensor [N, ...] or an iterable of batches to unlabelled Images.

    A batch is as in ``load_images``: of a DataLoader's (inputs, labels) the labels are dropped unread.
    Raises DataError where anything does not fit the network's inputs.
    """
    if isinstance(data, Images):
        return replace(data.unlabelled(), inputs=tuple(tensor.cpu() for tensor in data.inputs)).fitted(takes)
    source = f"a {type(data).__name__}"
    if isinstance(data, (str, bytes)) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
        raise DataError(f"{source} is not images: give a tensor [N, ...], or a DataLoader or other iterable of batches")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise DataError(f"{source} gives single samples, not batches: wrap it in a DataLoader(..., batch_size=64)")
    return _of_batches(as_batches(data), source, None, silent, takes, labelled=False)


def _of_batches(
    batches: Any, source: str, limit: int | None, track: Track, takes: Signature, labelled: bool = True
) -> Images:
    found = gathered(batches, source, limit, track, takes, labelled)
    return Images(found.inputs, found.labels, source, keywords=found.keywords, unread=found.unread, notes=found.notes)


def _permutation(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _chosen(n: int, limit: int | None, seed: int) -> list[int]:
    return list(range(n)) if limit is None or limit >= n else _permutation(n, seed)[:limit].tolist()


def _mapped(labels: Tensor, classes: Sequence[int], source: str) -> Tensor:
    top = int(labels.max())
    if int(labels.min()) < 0 or top >= len(classes):
        raise DataError(f"{source} has labels up to {top}, but classes= lists {len(classes)}: list one for each label")
    return torch.tensor(list(classes), dtype=torch.int64)[labels]


def _from_folder(path: Path, preprocess: Preprocess, limit: int | None, seed: int, track: Track) -> Images:
    try:
        files, labels, notes = folder.listed(path)
    except OSError as error:
        raise DataError(f"{path} cannot be listed ({error}): check its permissions") from error
    chosen = _chosen(len(files), limit, seed)
    files = [files[index] for index in chosen]
    pixels, kept, skipped = folder.decoded(files, preprocess, track)
    if not kept:
        raise DataError(f"none of the {len(files)} images in {path} can be read ({skipped[0]}): are they complete?")
    picked = None if labels is None else torch.tensor([labels[chosen[index]] for index in kept])
    return Images((pixels,), picked, str(path), tuple(skipped), notes=notes)


def _from_arrays(path: Path, preprocess: Preprocess | None, limit: int | None, seed: int, takes: Signature) -> Images:
    if len(takes.required) > 1 and set(takes.required) <= set(names := arrays.names_in(path)):
        wanted = [name for name in names if name in takes.names or is_label(name)]
        found = _of_batches([arrays.read(path, wanted)], str(path), None, silent, takes)
        return found.take(limit, seed) if limit is not None and limit < len(found) else found
    name, values, labels = arrays.images_in(path)
    pixels = values.dtype == np.uint8 and (name == "images" or (name != "inputs" and values.ndim > 2))
    if not values.ndim or (name == "images" and not pixels):
        advice = "images are uint8 [N, H, W, C], inputs are of any type [N, ...]"
        raise DataError(f"{path} holds {name} as {values.dtype} {list(values.shape)}: {advice}")
    if labels is not None and labels.shape[:1] != values.shape[:1]:
        raise DataError(f"{path} holds labels as {labels.dtype} {list(labels.shape)}: expected {len(values)} integers")
    chosen = _chosen(len(values), limit, seed)
    if len(chosen) < len(values):
        values, labels = values[chosen], None if labels is None else labels[chosen]
    try:
        inputs = (preprocess or _normalised(values)).array(values) if pixels else values
        batch = {"inputs": inputs} if labels is None else {"inputs": inputs, "labels": labels}
        return _of_batches([batch], str(path), None, silent, takes)
    except DataError as error:
        raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from error


def _normalised(images: Array) -> Preprocess:
    gray = images.ndim < 4 or 3 not in (images.shape[1], images.shape[-1])
    return Preprocess(order="gray") if gray else Preprocess.from_mapping({"preset": "imagenet", "size": "none"})


def _from_code(reference: str, limit: int | None, track: Track, takes: Signature) -> Images:
    with imported(reference, DataError) as found:
        try:
            batches: Any = found() if callable(found) else found
            if isinstance(batches, Images):
                return batches.at(torch.arange(min(len(batches), limit or len(batches)))).fitted(takes)
            return _of_batches(as_batches(batches), reference, limit, track, takes)
        except PrunecError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(f"{reference} raised {type(error).__name__}: {error}") from error
