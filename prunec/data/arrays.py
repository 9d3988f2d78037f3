"""Convert numbers of any kind to network inputs; read .npz and .npy files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import DataError, kind_of

Array = npt.NDArray[Any]

_WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64", "bfloat16": "float32"}  # torch or numpy lacks these
_ADVICE = "give a tensor [N, ...], a tuple of one per network input, or {'inputs': ..., 'labels': ...}"


def ready(values: object, floating: torch.dtype = torch.float32, declared: torch.dtype | None = None) -> Tensor:
    """Return one network input on the CPU, with a batch axis, finite.

    Floating point is cast to `floating`, or to the `declared` type; integers and booleans are unchanged, unless others
    are declared. Raises DataError for anything else.
    """
    tensor = _from_numpy(values) if isinstance(values, (np.ndarray, np.generic)) else values
    if not isinstance(tensor, Tensor):
        raise DataError(f"a batch is or holds {kind_of(tensor)}: {_ADVICE}")
    _require_plain(tensor)
    if not tensor.ndim:
        raise DataError(f"an input is {_kind(tensor)} without dimensions: expected [N, ...], one entry for each sample")
    kind = _cast_to(tensor.dtype, floating, declared)
    tensor = tensor.detach().to("cpu", kind).as_subclass(Tensor)
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise DataError(f"the inputs hold NaN or infinity, as {_kind(tensor)}: check how they were made")
    return tensor


def _cast_to(given: torch.dtype, floating: torch.dtype, declared: torch.dtype | None) -> torch.dtype:
    if declared is not None and declared.is_floating_point == given.is_floating_point and declared != torch.bool:
        return declared
    return floating if given.is_floating_point else given


def _require_plain(tensor: Tensor) -> None:
    """Raise DataError for tensors without numbers in rows."""
    faults = {
        "complex": tensor.is_complex(),
        "quantised": tensor.is_quantized,
        "nested": tensor.is_nested,
        f"{tensor.layout}".removeprefix("torch."): tensor.layout != torch.strided,
        "on the meta device, without data,": tensor.is_meta,
    }
    fault = next((what for what, found in faults.items() if found), None)
    if fault is not None:
        raise DataError(f"an input is a tensor that is {fault} {list(tensor.shape)}: give a plain one of numbers")


def _from_numpy(values: Array | np.generic[Any]) -> Tensor:
    """Copy an array to a tensor, in native byte order and a supported dtype."""
    array = np.asarray(values)
    extended = array.dtype.kind == "f" and array.dtype.itemsize > 8
    kind = "float64" if extended else _WIDER.get(array.dtype.name)
    if kind is None and array.dtype.kind not in "biuf":
        raise DataError(f"an array is {array.dtype} {list(array.shape)}: expected floating point, integers or booleans")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError("an array of uint64 holds numbers above those of int64, and torch has none: give smaller ones")
    native = np.asarray(array, kind or array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(native if native.flags.writeable else native.copy())


def names_in(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in a .npz file; empty for a .npy file.

    Raises DataError where it cannot be read.
    """
    with _opened(path) as stored:
        names = () if isinstance(stored, np.ndarray) else tuple(stored.files)
    if not names and not isinstance(stored, np.ndarray):
        raise DataError(f"{path} holds nothing: name the arrays images or inputs, and labels")
    return names


def read(path: Path, names: Sequence[str] = ("",)) -> dict[str, Array]:
    """Read the arrays of a .npz file by name, or of a .npy file.

    The latter is under "". Raises DataError where it cannot be read.
    """
    with _opened(path) as stored:
        return {"": stored} if isinstance(stored, np.ndarray) else {name: stored[name] for name in names}


def images_in(path: Path) -> tuple[str, Array, Array | None]:
    """Return the name and values of the images, and the labels, of an array file. Raises DataError."""
    names = names_in(path)
    if not names:
        return "an array", read(path)[""], None
    others = [key for key in names if key not in ("labels", "y")]
    found = [key for key in ("images", "inputs", "x") if key in others] or others
    if len(found) != 1 and found[:1] != ["images"]:
        raise DataError(f"{path} holds {', '.join(names)}: name the arrays images or inputs, and labels")
    label = next((key for key in ("labels", "y") if key in names), None)
    stored = read(path, (found[0], *([] if label is None else [label])))
    return found[0], stored[found[0]], None if label is None else stored[label]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of arrays with pickling disabled.

    Raises DataError for the errors of zip, zlib and numpy.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    try:
        yield np.load(path, allow_pickle=False)
    except Exception as error:
        if "pickle" in str(error):  # numpy's message advises to allow pickles
            raise DataError(
                f"{path} holds Python objects, not numbers: save arrays of numbers, of one shape"
            ) from error
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}): write it anew") from error


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
