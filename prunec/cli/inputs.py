"""Read MODEL and IMAGES of a command, and check that they fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import warn

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..data.images import Images, ImageSource
    from ..data.preprocess import Preprocess
    from ..frontend.load import LoadedModel
    from ..ir.signature import Signature
    from ..progress import Track


def example_inputs(loaded: LoadedModel, input_shape: str | None) -> tuple[torch.Tensor, ...]:
    """Return two samples of seeded noise; of an exported program, its own example.

    The shape is the given one, or else known. Raises SpecError for an unknown shape.
    """
    import torch

    from ..data.noise import noise_of
    from ..errors import SpecError
    from ..ir.calling import tensors_of
    from ..ir.signature import floating_type, rows_of_embeddings
    from ..request.values import shape_of, type_of

    shape = None if input_shape is None else shape_of("--input-shape", input_shape)
    recorded = _recorded(loaded.model)
    if shape is None and recorded is not None:
        return tensors_of(recorded)
    known = shape or loaded.input_size_hint
    if known is None:
        raise SpecError(f"{loaded.source} does not say what it takes: give --input-shape, for instance 3x224x224")
    named = type_of("--input-shape", input_shape)
    kind: torch.dtype = getattr(torch, named) if named else floating_type(loaded.model) or torch.float32
    return (noise_of(known, kind, 2, rows_of_embeddings(loaded.model)),)


def _recorded(model: nn.Module | torch.export.ExportedProgram) -> Any:
    """Return the example that an exported program or an ONNX file carries; None without."""
    from torch import nn

    from ..frontend.onnx_import.network import OnnxNetwork

    return model.example_inputs if isinstance(model, OnnxNetwork) or not isinstance(model, nn.Module) else None


def read_images(source: ImageSource, takes: Signature | None, track: Track) -> Images:
    """Read images for a network; warn of any left out."""
    from ..ir.signature import ANY

    place = str(source.source)
    if source.preprocess is not None and _is_ready(place):
        warn(f"--preprocess has no effect on {place}, whose inputs are ready: they are taken as they are")
    images = source.read(takes or ANY, track)
    for note in images.notes:
        warn(note)
    if images.skipped:
        count, total = len(images.skipped), len(images.skipped) + len(images)
        warn(f"skipped {count} of {total} images in {place}, which cannot be decoded, the first {images.skipped[0]}")
    return images


def _is_ready(source: str) -> bool:
    """Return whether a source gives inputs, not pixels: code, or a .npz of `inputs`."""
    import zipfile

    path = Path(source)
    if path.suffix != ".npz":
        return ":" in source and not path.exists()
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    return "inputs.npy" in names and "images.npy" not in names


def preprocess_of(
    given: str | Mapping[str, object] | None, source: str, shape: tuple[int, ...] | None
) -> Preprocess | None:
    """Return the given preprocessing, or a default for an image folder and a square network.

    The default is ImageNet's at the size of the network, or gray at that size for one channel; otherwise None.
    """
    from ..data.preprocess import Preprocess

    if given is not None:
        return Preprocess.parse(given) if isinstance(given, str) else Preprocess.from_mapping(given)
    if not Path(source).is_dir() or shape is None or len(shape) != 3 or shape[1] != shape[2]:
        return None
    if shape[0] == 1:
        return Preprocess(size=(shape[1], shape[2]), order="gray")
    return Preprocess.imagenet(shape[1])


def module_of(loaded: LoadedModel, device: str | None = None) -> nn.Module:
    """Return the network to call, on a device.

    Raises SpecError or BackendError for a missing device.
    """
    from torch import nn
    from torch.export.passes import move_to_device_pass

    from ..device import named

    model, place = loaded.model, named(device)
    if isinstance(model, nn.Module):
        return model if place is None else model.to(place)
    return (model if place is None else move_to_device_pass(model, place)).module()


def batch_of(loaded: LoadedModel) -> int | None:
    """Return the fixed batch size of an exported program; None for any, or unknown."""
    from torch import nn

    from ..frontend.capture import only_batch

    return None if isinstance(loaded.model, nn.Module) else only_batch(loaded.model)


def require_fit(loaded: LoadedModel, images: Images, shape: tuple[int, ...] | None, batch: int | None = None) -> None:
    """Raise DataError where the network cannot run on the images, or shapes differ.

    It must run on two images, one, or a batch.
    """
    import torch
    from torch import nn

    from ..device import CPU, device_of
    from ..errors import DataError
    from ..frontend.lazy_layers import initialise

    images, found = images.on(device_of(loaded.model) or CPU), tuple(images.inputs[0].shape[1:])
    if shape is not None and found != shape:
        advice = "set size= in --preprocess"
        raise DataError(f"the images in {images.source} come as {_x(found)}, not {_x(shape)}: {advice}")
    if isinstance(loaded.model, nn.Module):
        initialise(loaded.model, next(images.batches(2)), {})
    try:
        with torch.inference_mode():
            _run(loaded, images, batch_of(loaded) or 2)
    except Exception as error:
        if _takes(loaded, images, 1) or (batch is not None and _takes(loaded, images, batch)):
            return
        hint = f" it takes {_x(loaded.input_size_hint)};" if loaded.input_size_hint else ""
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{loaded.source} does not run on the images in {images.source}, which come as {_x(found)};{hint}"
            f" set --preprocess to fit, or --batch where it takes one size alone ({type(error).__name__}: {reason})"
        ) from error


def _takes(loaded: LoadedModel, images: Images, count: int) -> bool:
    """Return whether the network runs on `count` images, as for a fixed batch."""
    import torch

    try:
        with torch.inference_mode():
            _run(loaded, images, count)
    except Exception:
        return False
    return True


def _run(loaded: LoadedModel, images: Images, count: int) -> Any:
    from torch import nn

    from ..ir.calling import filled

    inputs = next(images.batches(count))
    if isinstance(loaded.model, nn.Module) and images.keywords:
        return loaded.model(**dict(zip(images.keywords, inputs, strict=True)))
    if isinstance(loaded.model, nn.Module) or loaded.model.example_inputs is None:
        return module_of(loaded)(*inputs)
    args, kwargs = filled(loaded.model.example_inputs, inputs)
    return module_of(loaded)(*args, **kwargs)


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def numbers_of(name: str, text: str) -> tuple[int, ...]:
    """Parse a list of numbers, `1,8`, of option `name`. Raises SpecError."""
    from ..errors import SpecError

    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise SpecError(f"{name} '{text}' is no list of numbers: write for instance {name} 1,8")
    return tuple(int(part) for part in text.split(","))
