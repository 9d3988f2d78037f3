"""Save and load dense statistics, so that many methods share one calibration.

A file is named by the digest of the inputs of the calibration: graph, tensors, images, measured layers, rows, seed,
batch, device, and the versions of prunec and torch. It carries the digest of its numbers; a file that does not match is
measured anew. It is written under a hidden name and renamed, so concurrent runs never read a partial file.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import PrunecError
from ..files import artefacts, cache
from ..files.digest import of_json
from ..frontend.opaque import paths_in
from ..ir import graph
from ..ir.digest import tensor_digest
from ..ir.program import Program
from ..machine import versions
from ..pipeline.context import Context
from .facts import Statistics
from .moments import Moments

FORMAT = 4  # of the file, and of how rows are drawn and summed
MOMENTS, PART, READ = "moments", "part", "read"  # names in the file


def place(program: Program, context: Context, rows: int, layers: Iterable[str] = ()) -> Path | None:
    """Return the path of this calibration's statistics; None without a folder.

    `layers` lists the measured layers. None too if the network has an opaque sub-module, whose weights and code are not
    in the graph.
    """
    if context.cache is None or paths_in(program.module):
        return None
    module = program.module
    read = sorted(graph.tensors_read(module))
    parts = {
        "format": FORMAT,
        "versions": [versions()["prunec"], torch.__version__],
        "graph": str(module.graph),
        "tensors": tensor_digest((name, graph.attribute(module, name)) for name in read),
        "images": context.fitting.digest,
        "layers": sorted(layers),
        "rows": rows,
        "seed": context.seed,
        "batch": context.batch,
        "device": str(program.device),  # sums differ in their last bits
    }
    return cache.folder("statistics", context.cache) / f"{of_json(parts)[:32]}.safetensors"


def load(path: Path, wanted: Iterable[str]) -> tuple[Statistics | None, str]:
    """Return the statistics of all `wanted` nodes, or None and a message. The message is empty if there is no file."""
    from safetensors import safe_open

    try:
        if not path.is_file():
            return None, ""
        with safe_open(path, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            digest = (stored.metadata() or {}).get("sha256")
    except Exception as error:  # safetensors has its own for a file cut short, one of another kind, one of no size
        return None, f"the statistics in {path} cannot be read ({error}): they were measured anew"
    if digest != _digest(tensors):
        return None, f"the statistics in {path} are not as they were written (sha256): they were measured anew"
    read = int(tensors.pop(READ))
    sets: dict[str, dict[str, Moments]] = {MOMENTS: {}, PART: {}}
    for key, value in tensors.items():
        which, node, name = key.split("|")
        sets[which].setdefault(node, Moments()).restore(name, value)
    if sets[MOMENTS].keys() != set(wanted):
        return None, f"the statistics in {path} are of other layers: they were measured anew"
    return Statistics(sets[MOMENTS], sets[PART], read), ""


def save(path: Path, statistics: Statistics) -> str:
    """Write the statistics atomically; return a message if the folder cannot be written."""
    from safetensors.torch import save as serialised

    sets = {MOMENTS: statistics.moments, PART: statistics.part}
    tensors = {READ: torch.tensor(statistics.read)}
    for which, moments in sets.items():
        for node, one in moments.items():
            tensors |= {f"{which}|{node}|{name}": value for name, value in one.sums().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        artefacts.write_bytes(path, serialised(tensors, {"sha256": _digest(tensors)}))
    except (OSError, PrunecError) as error:
        return f"the statistics are not kept for the next run: {error}"
    return ""


def warned(*sentences: str) -> list[str]:
    """Return the non-empty sentences, after a warning for each."""
    found = [sentence for sentence in sentences if sentence]
    for sentence in found:
        warnings.warn(sentence, RuntimeWarning, stacklevel=2)
    return found


def _digest(tensors: Mapping[str, Tensor]) -> str:
    return tensor_digest(sorted(tensors.items()))
