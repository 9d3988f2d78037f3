"""Dense statistics on disk, so that many methods can be tried on one calibration.

A file is named by the digest of all that its content depends on: the network's graph and every tensor that it reads,
the images, the layers that are measured and how, the number of rows, the seed, the batch, the versions of prunec and
of torch, the device. Another network is another file, never a wrong one. Each carries the digest of its numbers; a file
that differs from it, is cut short or is something else is measured anew. It is written whole under a hidden name and
renamed, so of two processes each finds nothing or all, and both write the same.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import PrunecError
from ..files import artefacts
from ..frontend.opaque import paths_in
from ..ir import graph
from ..ir.digest import tensor_digest
from ..ir.program import Program
from ..machine import versions
from ..pipeline.context import Context
from .moments import Moments

FORMAT = 3  # of the file, and of how rows are drawn and summed


def place(program: Program, context: Context, rows: int, layers: Iterable[str] = ()) -> Path | None:
    """Return the file for the statistics of this calibration; None without a folder, or where no name would do.

    `layers` say which are measured and how. Of an opaque sub-module neither weights nor code are in the graph.
    """
    if context.cache is None or paths_in(program.module):
        return None
    module = program.module
    read = sorted({str(node.target) for node in module.graph.nodes if node.op == "get_attr"})
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
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    return context.cache / f"{name}.safetensors"


def load(path: Path, wanted: Iterable[str]) -> tuple[dict[str, Moments] | None, str]:
    """The moments of all `wanted` nodes; or None and, where there is a file that is no use, a sentence that says so."""
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
    found: dict[str, Moments] = {}
    for key, value in tensors.items():
        node, _, name = key.rpartition("|")
        found.setdefault(node, Moments()).restore(name, value)
    if found.keys() != set(wanted):
        return None, f"the statistics in {path} are of other layers: they were measured anew"
    return found, ""


def save(path: Path, moments: Mapping[str, Moments]) -> str:
    """Write the moments, whole or not at all; a sentence where the folder does not take them."""
    from safetensors.torch import save as serialised

    tensors = {f"{node}|{name}": value for node, one in moments.items() for name, value in one.sums().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        artefacts.write_bytes(path, serialised(tensors, {"sha256": _digest(tensors)}))
    except (OSError, PrunecError) as error:
        return f"the statistics are not kept for the next run: {error}"
    return ""


def warned(*sentences: str) -> list[str]:
    """The sentences that say something, each given as a warning too."""
    found = [sentence for sentence in sentences if sentence]
    for sentence in found:
        warnings.warn(sentence, RuntimeWarning, stacklevel=2)
    return found


def _digest(tensors: Mapping[str, Tensor]) -> str:
    return tensor_digest(sorted(tensors.items()))
