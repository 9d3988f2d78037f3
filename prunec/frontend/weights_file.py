"""Read weight files, tensors only, and find the set that fits a network.

A checkpoint may hold its weights under a trainer's key (`model_state_dict`, `params_ema`) and with prefixes of wrappers
(`module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning), in any nesting. Candidates are all
sets of tensors in the file, with and without leading parts of their names.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import CaptureError, first_few, first_line, kind_of

State = Mapping[str, Tensor]
DEPTH = 4  # of mappings in a checkpoint, and of wrappers around a network
HEADS = frozenset("module _orig_mod _forward_module model net network generator ema ema_model".split())  # of wrappers
WRAPPER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module)\.")
COUNTER = "num_batches_tracked"  # which inference never reads
JIT = "is TorchScript (torch.jit), and prunec works on the code of a network, not on its trace"
JIT_ADVICE = (
    "name the function that builds it, such as nets.py:make, with a file of net.state_dict() as --weights, or write a"
    " .pt2 with torch.export"
)


def weights_for(model: nn.Module, path: Path) -> State:
    """Return the tensors in `path` by their names in `model`.

    Raises CaptureError where the file cannot be read, where no set of tensors in it fits, or where two that differ do.
    """
    found = _read(path)
    sets = dict(_sets(found, ""))
    if not sets:
        raise CaptureError(f"{path} holds {_contents(found)}, not a state dict: save net.state_dict()")
    fitting: dict[str, State] = {}
    for place, state in _candidates(sets):
        if not _faults(state, model) and not any(_equal(state, other) for other in fitting.values()):
            fitting[place] = state
    if len(fitting) > 1:
        raise CaptureError(
            f"{path} holds {len(fitting)} sets of weights that fit the network, {', '.join(fitting)}: save the one that"
            " you want by itself, and give that"
        )
    if fitting:
        return next(iter(fitting.values()))
    raise CaptureError(_misfit(path, found, sets, model))


def weights_alone(path: Path) -> CaptureError:
    """Return the error for a weight file given as a network."""
    if path.is_file():
        _read(path)
    return CaptureError(f"{path} holds weights only: name the code that builds the network, and pass this as --weights")


def _read(path: Path) -> Any:
    """Return the file's contents. Raises CaptureError if it is no file of tensors."""
    if not path.is_file():
        raise CaptureError(f"there is no weights file {path}: check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if _is_torchscript(path):
        raise CaptureError(f"{path} {JIT}: {JIT_ADVICE}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CaptureError(f"the weights in {path} cannot be read, for {_why(error)}") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:
        advice = "is it whole, and written by safetensors?"
        raise CaptureError(f"the weights in {path} cannot be read ({first_line(error)}): {advice}") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _why(error: Exception) -> str:
    """Return why torch refused a file; torch's own message advises to run its code."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named is None:
        return "it is cut off, or no file of torch.save: write it anew with torch.save(net.state_dict(), …)"
    return (
        f"it holds Python objects ({named[1]}), as torch.save(net) writes them, and prunec reads tensors only, since to"
        " read objects runs code: where you made the file, save net.state_dict() by itself, and give that as --weights"
    )


def _sets(value: Any, place: str, depth: int = DEPTH) -> Iterator[tuple[str, State]]:
    """Yield each mapping of names to tensors in a checkpoint, with its key."""
    if not isinstance(value, Mapping):
        return
    tensors = {key: one for key, one in value.items() if isinstance(key, str) and isinstance(one, Tensor)}
    if tensors:
        yield place, tensors
    for key, one in value.items() if depth else ():
        yield from _sets(one, f"{place}.{key}".lstrip("."), depth - 1)


def _candidates(sets: Mapping[str, State]) -> Iterator[tuple[str, State]]:
    for place, state in sets.items():
        yield from _unwrapped(place, state, DEPTH)


def _unwrapped(place: str, state: State, depth: int) -> Iterator[tuple[str, State]]:
    """Yield the tensors under their names and, in turn, without the first part.

    A wrapper's part drops the tensors outside it, such as the loss beside the `model.` of Lightning.
    """
    yield place, state
    plain = {WRAPPER.sub("", name): one for name, one in state.items()}
    if len(plain) == len(state) and plain.keys() != state.keys():
        yield place, plain
    heads = dict.fromkeys(name.partition(".")[0] for name in state if "." in name) if depth else {}
    for head in heads:
        inner = {name.partition(".")[2]: one for name, one in state.items() if name.startswith(f"{head}.")}
        if head in HEADS or len(inner) == len(state):
            yield from _unwrapped(f"{place}.{head}".lstrip("."), inner, depth - 1)


def _faults(state: State, model: nn.Module) -> list[str]:
    """List the misfits of a checkpoint: missing names, unexpected names, other shapes."""
    wanted = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    missing = [key for key in wanted if key not in state and not key.endswith(COUNTER)]
    unexpected = [key for key in state if key not in wanted and not key.endswith(COUNTER)]
    shapes = [
        f"{key} ({list(state[key].shape)} in the file, {list(value.shape)} in the network)"
        for key, value in wanted.items()
        if key in state and not is_lazy(value) and state[key].shape != value.shape
    ]
    listed = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return [f"{len(keys)} {what}: {first_few(keys)}" for what, keys in listed.items() if keys]


def _misfit(path: Path, found: Any, sets: Mapping[str, State], model: nn.Module) -> str:
    own = set(model.state_dict())
    place, state = max(_candidates(sets), key=lambda pair: len(own & pair[1].keys()))
    where = f" (of {_contents(found)}, {place} comes nearest)" if place else ""
    return f"the weights in {path} do not fit the network{where}; {'; '.join(_faults(state, model))}"


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def _contents(found: Any) -> str:
    """Return the keys of a checkpoint, or its type."""
    if isinstance(found, Mapping) and found:
        return f"the keys {first_few([str(key) for key in found], 8)}"
    return kind_of(found) if found else "nothing"
