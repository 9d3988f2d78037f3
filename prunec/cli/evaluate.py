"""`prunec evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..request.config import IMAGES, MODEL
from .console import out, progress
from .model_options import (
    Batch,
    Classes,
    Debug,
    Device,
    NoVerify,
    PreprocessText,
    Provider,
    Weights,
    batch_of,
    module_of,
    preprocess_of,
    read_images,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import nn

    from ..ir.signature import Signature


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"An .onnx file; or {MODEL}.", show_default=False)],
    data: Annotated[str, typer.Option(metavar="IMAGES", help=f"Labelled images: {IMAGES}.", show_default=False)],
    preprocess: PreprocessText = None,
    classes: Classes = None,
    weights: Weights = None,
    batch: Batch = None,
    written: Annotated[
        bool,
        typer.Option(
            "--as-written",
            help="Of an .onnx file: round where it says so, not as the CPU's kernels do. FP8 runs only so.",
        ),
    ] = False,
    device: Device = None,
    provider: Provider = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")] = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
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
    from ..errors import SpecError
    from ..evaluate import accuracy
    from ..request.values import classes_of

    mapping = None if classes is None else classes_of("--classes", classes)
    network, shape, only, takes = _opened(model, weights, device, provider, written)
    if batch is not None and only not in (None, batch):
        raise SpecError(f"--batch {batch} cannot hold: {model} takes batches of {only} alone; leave it out")
    with progress() as track:
        images = read_images(data, preprocess_of(preprocess, data, shape), None, 0, mapping, track, takes)
        found = accuracy(network, images, batch=only or batch or 64, fixed=only is not None, track=track)
    if as_json:
        typer.echo(json.dumps({"model": model, "data": data, "images": len(images), "top1": found}))
        return
    out.print(f"top-1 accuracy of {model}: [bold]{found:.2f}%[/] of {len(images):,} images")


def _opened(
    source: str, weights: Path | None, device: str | None, provider: str, written: bool
) -> tuple[nn.Module | InferenceSession, tuple[int, ...] | None, int | None, Signature]:
    """Open a network; return it with its input shape, fixed batch size and inputs.

    Each is None where unknown.
    """
    from ..errors import SpecError

    if not source.endswith(".onnx"):
        if written:
            raise SpecError(f"--as-written is for ONNX files, and {source} runs in PyTorch: leave it out")
        if provider != "cpu":
            raise SpecError(f"--provider is ONNX Runtime's, and {source} runs in PyTorch: give an .onnx file")
        from ..frontend.load import load_model
        from ..ir.signature import signature_of

        loaded = load_model(source, weights)
        takes = signature_of(loaded.model)
        return module_of(loaded, device), loaded.input_size_hint, batch_of(loaded), takes
    from ..deploy.onnx import model_inputs
    from ..deploy.ort import reference
    from ..deploy.ort.runtime import session

    if weights is not None:
        raise SpecError(f"{source} carries its own weights: leave out --weights {weights}")
    if device is not None:
        raise SpecError(f"--device is PyTorch's, and {source} runs in ONNX Runtime: give --provider, for instance cuda")
    if written and provider != "cpu":
        raise SpecError(f"--as-written computes on the CPU, and --provider {provider} does not: give one or the other")
    opened = reference.session(Path(source)) if written else session(Path(source), provider=provider)
    fixed, *sizes = opened.get_inputs()[0].shape
    known = tuple(sizes) if all(isinstance(size, int) for size in sizes) else None
    return opened, known, fixed if isinstance(fixed, int) else None, model_inputs.of_session(opened)
