"""Images for calibration and evaluation, from wherever a user keeps them, as tensors in memory.

Labels come along only for ``evaluate``: calibration and search drop them with ``unlabelled``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import image_folder
from .device import CPU
from .errors import DataError, PrunecError
from .preprocess import Preprocess
from .progress import Track, silent
from .source import imported, tensor_digest


@dataclass(frozen=True, eq=False)
class Images:
    """N samples in memory. Raises DataError where the numbers of samples do not agree, or there is none."""

    inputs: tuple[Tensor, ...]
    """One float32 tensor [N, ...] for each input of the network."""
    labels: Tensor | None
    """int64 [N]."""
    source: str
    skipped: tuple[str, ...] = ()
    """The files that could not be decoded, each with the reason."""
    step: int = 1
    """Samples come in multiples of it: the batch of a network that takes no other."""
    device: torch.device = CPU
    """Where ``batches`` go; the samples themselves stay where they are."""

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
        """The sha256, in hexadecimal, of the inputs and labels."""
        named = [(f"input{index}", tensor) for index, tensor in enumerate(self.inputs)]
        return tensor_digest(named if self.labels is None else [*named, ("labels", self.labels)])

    def batches(self, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The inputs in order on ``device``, ``size`` samples at a time; the last batch holds what is left."""
        if size < 1:
            raise DataError(f"a batch of {size} images holds none: give a batch size of at least 1")
        for batch in zip(*(torch.split(tensor, size) for tensor in self.inputs), strict=True):
            yield tuple(tensor.to(self.device) for tensor in batch)

    def in_steps(self, step: int) -> Images:
        """The first samples, as many as make whole batches of `step`. Raises DataError where they make none."""
        whole = len(self) // step * step
        if not whole:
            raise DataError(
                f"{self.source} holds {len(self)} samples, and the network takes {step} at a time: give more"
            )
        labels = None if self.labels is None else self.labels[:whole]
        return replace(self, inputs=tuple(tensor[:whole] for tensor in self.inputs), labels=labels, step=step)

    def take(self, n: int, seed: int, skip: int = 0) -> Images:
        """Samples ``skip`` to ``skip + n`` of the permutation that ``seed`` gives, or fewer where no more are there.

        Two ranges of one seed that do not overlap are disjoint. `n` is rounded up to whole steps. Raises DataError
        where nothing is left.
        """
        if n < 1 or not 0 <= skip < len(self):
            raise DataError(
                f"cannot take {n} images after the first {skip} of the {len(self)} in {self.source}: give more images"
            )
        chosen = _permutation(len(self), seed)[skip : skip + -(-n // self.step) * self.step]
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, inputs=tuple(tensor[chosen] for tensor in self.inputs), labels=labels)

    def on(self, device: torch.device) -> Images:
        """The same samples, whose batches go to a device."""
        return replace(self, device=device)

    def unlabelled(self) -> Images:
        """The same samples without labels."""
        return replace(self, labels=None)


def load_images(
    source: str | Path,
    preprocess: Preprocess | None = None,
    limit: int | None = None,
    seed: int = 0,
    classes: Sequence[int] | None = None,
    track: Track = silent,
) -> Images:
    """Read the images that ``source`` names, and their labels where it has any.

    - A folder of images, or of one folder a class: label i is the i-th class folder by name. ``preprocess`` is
      ``Preprocess.imagenet()`` unless given.
    - ``.npz`` (or ``.npy``) with ``images`` (uint8, preprocessed; unless ``preprocess`` is given, only normalised)
      or ``inputs`` (floating point, ready: taken as they are), perhaps with ``labels``; ``x`` and ``y`` will do too.
    - ``file.py:name`` or ``package.module:name``: an iterable, or a function that returns one, of batches: a tensor, a
      tuple of one tensor per network input, or ``{"inputs": ..., "labels": ...}``; ready, too.

    ``limit`` keeps so many: of files and arrays a random choice under ``seed``, made before decoding; of batches the
    first. ``classes`` maps label i to ``classes[i]``. A broken image among good ones is left out and listed in
    ``skipped``. Raises DataError, with advice, for whatever else cannot be read or does not fit.
    """
    _check_limit(limit)
    path, text = Path(source), str(source)
    if path.is_dir():
        found = _from_folder(path, preprocess or Preprocess.imagenet(), limit, seed, track)
    elif path.suffix in (".npz", ".npy"):
        found = _from_arrays(path, preprocess, limit, seed)
    elif ":" in text:
        found = _from_code(text, limit, track)
    else:
        raise DataError(
            f"there are no images at {text}: give an image folder, a .npz or .npy file, or file.py:function"
        )
    if classes is None or found.labels is None:
        return found
    return replace(found, labels=_mapped(found.labels, classes, text))


def as_images(data: object, limit: int | None = None) -> Images:
    """Take what a Python program has at hand, without labels: Images, a ready tensor [N, ...], an iterable of batches.

    A batch is what ``load_images`` takes from a function, or (inputs, labels) as a DataLoader gives, where the labels
    are a 1-D tensor of integers. The first ``limit`` samples are kept. Raises DataError where anything does not fit.
    """
    _check_limit(limit)
    if isinstance(data, Images):
        return replace(data.unlabelled(), inputs=tuple(tensor[:limit].cpu() for tensor in data.inputs))
    source = f"a {type(data).__name__}"
    batches: Any = [data] if isinstance(data, (Tensor, np.ndarray)) else data
    if isinstance(data, (str, bytes, Mapping)) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
        raise DataError(f"{source} is not images: give a tensor [N, ...], or a DataLoader or other iterable of batches")
    return _gathered((_without_labels(batch) for batch in batches), source, limit, silent)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} leaves no images: give at least 1")


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
        files, labels = image_folder.listed(path)
    except OSError as error:
        raise DataError(f"{path} cannot be listed ({error}): check its permissions") from error
    chosen = _chosen(len(files), limit, seed)
    files = [files[index] for index in chosen]
    pixels, kept, skipped = image_folder.decoded(files, preprocess, track)
    if not kept:
        raise DataError(f"none of the {len(files)} images in {path} can be read ({skipped[0]}): are they complete?")
    picked = None if labels is None else torch.tensor([labels[chosen[index]] for index in kept])
    return Images((pixels,), picked, str(path), tuple(skipped))


def _from_arrays(path: Path, preprocess: Preprocess | None, limit: int | None, seed: int) -> Images:
    name, values, labels = _arrays(path)
    images = values.dtype == np.uint8
    if values.ndim < 2 or name == ("inputs" if images else "images"):
        advice = "images are uint8 [N, H, W, C], inputs are floating point [N, ...]"
        raise DataError(f"{path} holds {name} as {values.dtype} {list(values.shape)}: {advice}")
    if labels is not None and (labels.shape != values.shape[:1] or labels.dtype.kind not in "iu"):
        raise DataError(f"{path} holds labels as {labels.dtype} {list(labels.shape)}: expected {len(values)} integers")
    chosen = _chosen(len(values), limit, seed)
    if len(chosen) < len(values):
        values, labels = values[chosen], None if labels is None else labels[chosen]
    try:
        inputs = (preprocess or _normalised(values)).array(values) if images else _ready(values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return Images((inputs,), None if labels is None else torch.from_numpy(labels.astype(np.int64)), str(path))


def _arrays(path: Path) -> tuple[str, npt.NDArray[Any], npt.NDArray[Any] | None]:
    """The name and values of the images, and the labels, of a .npz or .npy file."""
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return "an array", stored, None
        others = [key for key in stored.files if key not in ("labels", "y")]
        named = [key for key in ("images", "inputs", "x") if key in others] or others
        if len(named) == 1 or named[:1] == ["images"]:
            label = next((key for key in ("labels", "y") if key in stored.files), None)
            return named[0], stored[named[0]], None if label is None else stored[label]
    except Exception as error:  # zip, zlib and numpy each have their own for a broken file
        if "pickle" in str(error):  # numpy's own words advise to run what is in it
            raise DataError(
                f"{path} holds Python objects, not numbers: save arrays of numbers, of one shape"
            ) from error
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}): write it anew") from error
    raise DataError(
        f"{path} holds {', '.join(stored.files) or 'nothing'}: name the arrays images or inputs, and labels"
    )


def _normalised(images: npt.NDArray[Any]) -> Preprocess:
    gray = images.ndim == 3 or 3 not in (images.shape[1], images.shape[-1])
    return Preprocess(order="gray") if gray else Preprocess.from_mapping({"preset": "imagenet", "size": "none"})


def _from_code(reference: str, limit: int | None, track: Track) -> Images:
    with imported(reference, DataError) as found:
        try:
            batches: Any = found() if callable(found) else found
            return _gathered([batches] if isinstance(batches, Tensor) else batches, reference, limit, track)
        except PrunecError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(f"{reference} raised {type(error).__name__}: {error}") from error


def _without_labels(batch: object) -> object:
    """(inputs, labels) of a DataLoader, or a batch with labels, to its inputs; any other batch as it is."""
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key != "labels"}
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        return batch
    if isinstance(batch[1], int):
        raise DataError("these are single samples, not batches: wrap the dataset in a DataLoader(..., batch_size=64)")
    labels = isinstance(batch[1], Tensor) and batch[1].ndim == 1 and not batch[1].is_floating_point()
    return batch[0] if labels else batch


def _gathered(batches: Iterable[object], source: str, limit: int | None, track: Track) -> Images:
    parts: list[tuple[Tensor, ...]] = []
    labels: list[Tensor] = []
    seen = 0
    for batch in track(batches, "reading batches"):
        values = batch.get("inputs") if isinstance(batch, Mapping) else batch
        parts.append(tuple(_ready(each) for each in (values if isinstance(values, (tuple, list)) else [values])))
        if [each.shape[1:] for each in parts[-1]] != [each.shape[1:] for each in parts[0]]:
            shapes = [[list(each.shape) for each in part] for part in (parts[0], parts[-1])]
            raise DataError(f"{source} gives batches of different shapes, {shapes[0]} and {shapes[1]}: resize to one")
        if isinstance(batch, Mapping) and "labels" in batch:
            labels.append(torch.as_tensor(batch["labels"]).to(torch.int64))
        seen += len(parts[-1][0])
        if limit is not None and seen >= limit:
            break
    if not parts:
        raise DataError(f"{source} gives no batches: has its iterator been used up already?")
    inputs = tuple(torch.cat(each)[:limit] for each in zip(*parts, strict=True))
    return Images(inputs, torch.cat(labels)[:limit] if labels else None, source)


def _ready(values: object) -> Tensor:
    """One network input, ready: float32 on the CPU, with a batch axis, finite."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
    if not isinstance(tensor, Tensor):
        advice = "give a tensor [N, ...], a tuple of one per network input, or {'inputs': ..., 'labels': ...}"
        raise DataError(f"a batch is or holds a {type(values).__name__}: {advice}")
    if not tensor.is_floating_point() or tensor.ndim < 2:
        advice = "expected floating point [N, ...]; labels go into {'inputs': ..., 'labels': ...}"
        raise DataError(f"an input is {tensor.dtype} {list(tensor.shape)}: {advice}")
    tensor = tensor.detach().to("cpu", torch.float32)
    if not bool(tensor.isfinite().all()):
        raise DataError("the inputs hold NaN or infinity: check how they were made")
    return tensor
