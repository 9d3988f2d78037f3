"""Read a `.pt2` file without running code in it.

torch.export.load falls back to an unrestricted pickle where the restricted one refuses, loads compiled libraries, and
evaluates text of the graph. Here each part of the archive is read with `weights_only=True` or checked
(`prunec.frontend.pt2_text`), and torch reads a new archive of those parts only.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ..errors import CaptureError, one_line
from .pt2_text import plain_graph

Convert = Callable[[bytes, str], bytes]
PAYLOADS = ("data/weights", "data/constants")
OLDER = {  # the parts of a file of torch 2.7 and before
    "version": None,
    "serialized_exported_program.json": True,
    "serialized_state_dict.pt": False,
    "serialized_constants.pt": False,
    "serialized_example_inputs.pt": False,
}


def load_exported(path: Path) -> ExportedProgram:
    """Load the exported program in `path`. Raises CaptureError if there is none, or if reading could run code."""
    try:
        with zipfile.ZipFile(path) as archive:
            safe = _repacked(archive, str(path))
        return torch.export.load(io.BytesIO(safe))
    except CaptureError:
        raise
    except Exception as error:
        advice = "was it written by torch.export.save, with a torch no newer than this one?"
        raise CaptureError(f"{path} cannot be loaded ({one_line(error)}); {advice}") from error


def _repacked(archive: zipfile.ZipFile, file: str) -> bytes:
    """Return a new archive, in memory, with the parts of an exported program."""
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if len({name.casefold() for name in names}) < len(names):
        raise CaptureError(f"{file} holds two parts of one name, and is not read: export the network again")
    if "serialized_exported_program.json" in names:
        parts = {name: _older_part(archive.read(name), name, file) for name in OLDER if name in names}
    else:
        parts = _parts(archive, names, file)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)
    return packed.getvalue()


def _older_part(data: bytes, name: str, file: str) -> bytes:
    is_text = OLDER[name]
    if is_text is None:
        return data
    return plain_graph(data.decode(), file).encode() if is_text else _tensors_again(data, file, name)


def _parts(archive: zipfile.ZipFile, names: list[str], file: str) -> dict[str, bytes]:
    root = names[0].partition("/")[0]
    inside = {name.removeprefix(f"{root}/"): name for name in names if name.startswith(f"{root}/")}
    if any(name.startswith("data/aotinductor/") for name in inside):
        raise CaptureError(
            f"{file} is a compiled library (AOTInductor), not a network: give the exported program that it was made of"
        )
    models = [name.removeprefix("models/").removesuffix(".json") for name in inside if name.startswith("models/")]
    if models != ["model"]:
        held = f"the programs {', '.join(models)}" if models else f"no program (it begins with {names[0]})"
        raise CaptureError(f"{file} holds {held}: write one with torch.export.save(program, {Path(file).name!r})")

    def read(name: str) -> bytes:
        return archive.read(inside[name])

    copied = ("archive_format", "archive_version", "byteorder", ".data/version")
    parts = {name: read(name) for name in copied if name in inside}
    parts["models/model.json"] = plain_graph(read("models/model.json").decode(), file).encode()
    parts["data/sample_inputs/model.pt"] = _tensors_again(
        read("data/sample_inputs/model.pt"), file, "the sample inputs"
    )
    for folder in PAYLOADS:
        kind = folder.rpartition("/")[2]
        if f"{folder}/model.pt" in inside:
            parts[f"{folder}/model.pt"] = _tensors_again(read(f"{folder}/model.pt"), file, f"the {kind}")
        else:
            parts.update(_payloads(read, folder, f"{folder}/model_{kind}_config.json", file))
    return {f"archive/{name}": data for name, data in parts.items()}


def _payloads(read: Callable[[str], bytes], folder: str, listed: str, file: str) -> dict[str, bytes]:
    """Return the list of weights or constants, and the bytes of each."""
    config = json.loads(read(listed))
    parts = {listed: json.dumps(config).encode()}
    for name, entry in config["config"].items():
        part = f"{folder}/{entry['path_name']}"
        if not entry["path_name"].startswith(("weight_", "tensor_")):
            raise CaptureError(
                f"{file} holds {name}, an object that is no tensor, and is not read, for that could run code: export"
                " the network without it"
            )
        parts[part] = _tensors_again(read(part), file, name) if entry.get("use_pickle") else read(part)
    return parts


def _tensors_again(data: bytes, file: str, what: str) -> bytes:
    """Return a pickle of tensors and plain values, read in the restricted way and rewritten."""
    if not data:
        return data
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols
            found: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CaptureError(
            f"{file} is not read: {what} in it is pickled Python, which would run code; export the network again with"
            " tensors and plain containers only"
        ) from error
    packed = io.BytesIO()
    torch.save(found, packed)
    return packed.getvalue()
