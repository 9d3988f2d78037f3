"""Dense statistics on disk, so that many methods can be tried on one calibration.

A file is named by the digest of all that its content depends on: the network's graph and weights, the images, the
number of rows, the seed, the batch, the version of torch and the GPU, if it was one. Another network is another file,
never a wrong one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from .. import artefacts
from ..device import CPU
from ..errors import DataError
from ..program import Context, Program
from ..source import state_digest
from .moments import Moments


def place(program: Program, context: Context, rows: int) -> Path | None:
    """Where the statistics of this calibration belong; None without a folder for them."""
    if context.cache is None:
        return None
    parts = [str(program.module.graph), state_digest(program.module), context.images().digest]
    parts += [str(rows), str(context.seed), str(context.batch), torch.__version__]
    parts += [] if program.device == CPU else [str(program.device)]  # whose sums differ in their last bits
    return context.cache / f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}.safetensors"


def load(path: Path) -> dict[str, Moments]:
    """The moments by node. Raises DataError where the file is not what `save` wrote."""
    from safetensors.torch import load_file

    found: dict[str, Moments] = {}
    try:
        for key, value in load_file(path).items():
            node, _, name = key.rpartition("|")
            found.setdefault(node, Moments()).restore(name, value)
    except Exception as error:
        raise DataError(f"the statistics in {path} cannot be read ({error}): delete the file") from error
    return found


def save(path: Path, moments: Mapping[str, Moments]) -> None:
    """Write the moments, whole or not at all."""
    from safetensors.torch import save as serialised

    tensors = {f"{node}|{name}": value for node, one in moments.items() for name, value in one.sums().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    artefacts.write_bytes(path, serialised(tensors))
