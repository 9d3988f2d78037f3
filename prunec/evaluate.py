"""Compute top-1 accuracy; no other module of prunec reads labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from .data.images import Images
from .deploy.ort import runtime
from .device import CPU, device_of, full_float32
from .errors import DataError, PrunecError, first_line
from .ir.calling import samples_of, tensors_of
from .progress import Track, silent

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def accuracy(
    network: nn.Module | InferenceSession,
    images: Images,
    *,
    batch: int = 64,
    fixed: bool = False,
    track: Track = silent,
) -> float:
    """Return the top-1 accuracy of `network` on `images`, in percent.

    `network` maps inputs, batch first, to logits [N, classes], its first output; images are copied to its device. With
    `fixed` the last batch is filled up. Raises DataError if images have no labels or do not fit the network, or if a
    label is not one of its classes.
    """
    if images.labels is None and images.unread:
        raise DataError(
            f"{images.source} holds {images.unread}, and accuracy needs one class for each sample, integers [N]"
        )
    if images.labels is None:
        raise DataError(
            f"{images.source} holds no labels, and accuracy needs them: give one folder a class, or labels in the .npz"
        )
    correct = 0
    for rows, logits in outputs(network, images, "measuring accuracy", batch=batch, fixed=fixed, track=track):
        labels = images.labels[rows]
        _check(logits, labels, images.source)
        correct += int((logits.argmax(1) == labels).sum())
    return 100 * correct / len(images)


def outputs(
    network: nn.Module | InferenceSession,
    images: Images,
    what: str,
    *,
    batch: int = 64,
    fixed: bool = False,
    track: Track = silent,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of each batch and the network's first output, on the CPU.

    Arguments are as of `accuracy`; `what` names the progress bar.
    """
    predict = _in_torch(network, images.keywords) if isinstance(network, nn.Module) else _in_runtime(network)
    if not isinstance(network, nn.Module) and isinstance(only := network.get_inputs()[0].shape[0], int):
        batch, fixed = only, True
    start = 0
    for inputs in track(list(images.on(_device(network)).batches(batch)), what):
        count = len(inputs[0])
        whole = tuple(samples_of(tensor, batch) for tensor in inputs) if fixed else inputs
        yield slice(start, start + count), predict(whole)[:count].cpu()
        start += count


def _device(network: nn.Module | InferenceSession) -> torch.device:
    return (device_of(network) if isinstance(network, nn.Module) else None) or CPU


def _in_torch(network: nn.Module, keywords: tuple[str, ...]) -> Callable[[tuple[Tensor, ...]], Tensor]:
    """Return a function that computes the first output; a user's module is called by keyword."""
    names = () if isinstance(network, fx.GraphModule) else keywords

    def predict(inputs: tuple[Tensor, ...]) -> Tensor:
        try:
            with torch.inference_mode(), full_float32():
                found: Any = network(**dict(zip(names, inputs, strict=True))) if names else network(*inputs)
        except PrunecError:
            raise
        except Exception as error:
            shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
            raise DataError(f"the network does not run on inputs {shapes}: {first_line(error)}") from error
        tensors = tensors_of(found)
        if not tensors:
            raise DataError(f"accuracy needs logits [N, classes], and the network gives a {type(found).__name__}")
        return tensors[0]

    return predict


def _in_runtime(session: InferenceSession) -> Callable[[tuple[Tensor, ...]], Tensor]:
    return lambda inputs: torch.from_numpy(runtime.run(session, inputs)[0])


def _check(logits: Tensor, labels: Tensor, source: str) -> None:
    if logits.ndim != 2 or len(logits) != len(labels):
        raise DataError(f"accuracy needs logits [N, classes], and the network gives {list(logits.shape)}")
    top, classes = int(labels.max()), logits.shape[1]
    if top >= classes or int(labels.min()) < 0:
        raise DataError(
            f"{source} has label {top} and the network {classes} classes: say with --classes which class each label is"
        )
