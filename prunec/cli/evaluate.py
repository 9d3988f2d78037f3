"""`prunec evaluate`."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..request.config import BATCH, IMAGES, MODEL, Sources
from ..request.options import optional, reuse
from ..request.values import FLAG
from .console import out, progress
from .flags import Checks, flattened
from .inputs import batch_of, module_of, preprocess_of, read_images
from .options import GivenImages, Network, Printing, Runtime, Shape, Torch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import nn

    from ..ir.signature import Signature

    Opened = tuple[nn.Module | InferenceSession, Shape, int | None, Signature]


@dataclass(frozen=True, kw_only=True)
class Evaluate(Printing, Runtime, Torch, GivenImages, Network, Checks):
    """Record the options of `prunec evaluate`."""

    model: str = reuse(Network, "model", help=f"An .onnx file; or {MODEL}.")
    data: str = reuse(GivenImages, "data", default=MISSING, help=f"Labelled images: {IMAGES}.")
    classes: tuple[int, ...] | None = reuse(Sources, "classes")
    written: bool = optional(
        False,
        "Of an .onnx file: round where it says so, not as the CPU's kernels do. FP8 runs only so.",
        FLAG,
        flags=("--as-written",),
    )


@flattened(Evaluate)
def evaluate(options: Evaluate) -> None:
    """Measure a network's top-1 accuracy, in PyTorch or, for an .onnx file, in ONNX Runtime.

    Class i is the i-th folder by name, or what `labels` in the .npz says; --classes where the network counts otherwise.

    \b
        prunec evaluate out/model.onnx --data test.npz
        prunec evaluate model8.onnx --data test.npz --as-written
        prunec evaluate out/model.onnx --data test.npz --provider cuda
        prunec evaluate nets.py:make --weights net.safetensors --data test.npz --device cuda
        prunec evaluate torchvision:resnet50 --weights resnet50.pt --data imagenette/val \\
            --classes 0,217,482,491,497,566,569,571,574,701
    """
    from ..data.images import ImageSource
    from ..errors import SpecError
    from ..evaluate import accuracy

    model, data, batch = options.model, options.data, options.batch
    network, shape, only, takes = _of_onnx(options) if model.endswith(".onnx") else _of_torch(options)
    if batch is not None and only not in (None, batch):
        raise SpecError(f"--batch {batch} cannot hold: {model} takes batches of {only} alone; leave it out")
    with progress() as track:
        how = preprocess_of(options.preprocess, data, shape)
        images = read_images(ImageSource(data, how, classes=options.classes), takes, track)
        found = accuracy(network, images, batch=only or batch or BATCH, fixed=only is not None, track=track)
    if options.as_json:
        typer.echo(json.dumps({"model": model, "data": data, "images": len(images), "top1": found}))
        return
    out.print(f"top-1 accuracy of {model}: [bold]{found:.2f}%[/] of {len(images):,} images")


def _of_torch(options: Evaluate) -> Opened:
    """Load a network with its input shape, fixed batch size and inputs.

    Each is None where unknown.
    """
    from ..errors import SpecError
    from ..ir.signature import signature_of

    if options.written:
        raise SpecError(f"--as-written is for ONNX files, and {options.model} runs in PyTorch: leave it out")
    if options.provider != "cpu":
        raise SpecError(f"--provider is ONNX Runtime's, and {options.model} runs in PyTorch: give an .onnx file")
    loaded = options.load()
    takes = signature_of(loaded.model)
    return module_of(loaded, options.device), loaded.input_size_hint, batch_of(loaded), takes


def _of_onnx(options: Evaluate) -> Opened:
    """Open an ONNX file as `_of_torch` does a network."""
    from ..deploy.onnx import model_inputs
    from ..deploy.ort import reference
    from ..deploy.ort.runtime import session
    from ..errors import SpecError

    source, provider = options.model, options.provider
    if options.weights is not None:
        raise SpecError(f"{source} carries its own weights: leave out --weights {options.weights}")
    if options.device is not None:
        raise SpecError(f"--device is PyTorch's, and {source} runs in ONNX Runtime: give --provider, for instance cuda")
    if options.written and provider != "cpu":
        raise SpecError(f"--as-written computes on the CPU, and --provider {provider} does not: give one or the other")
    path = Path(source)
    opened = reference.session(path) if options.written else session(path, provider=provider)
    fixed, *sizes = opened.get_inputs()[0].shape
    known = tuple(sizes) if all(isinstance(size, int) for size in sizes) else None
    return opened, known, fixed if isinstance(fixed, int) else None, model_inputs.of_session(opened)
