"""Format the output of `prunec build`: the matrix of GPUs, and engine lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from .console import plain_table

if TYPE_CHECKING:
    from ..deploy.tensorrt.build import Verdict
    from ..deploy.tensorrt.store import Engine
    from ..deploy.tensorrt.verification import Verification

FAMILIES = {
    "75": "Turing", "80": "Ampere, A100", "86": "Ampere, RTX 30", "87": "Ampere, Orin", "89": "Ada, RTX 40",
    "90": "Hopper", "100": "Blackwell, B200", "120": "Blackwell, RTX 50", "121": "Blackwell, GB10",
}  # fmt: skip


def matrix_table(verdicts: Sequence[Verdict], model: str) -> Table:
    """Return a row per GPU: engine size, or the reason why none can be built."""
    table = plain_table(f"engines of {model}", ["GPU"], ["engine"])
    table.add_column("why not", overflow="fold")
    for one in verdicts:
        size = "no" if one.size is None else f"{one.size / 1e6:.2f} MB"
        table.add_row(f"SM{one.target} {FAMILIES.get(one.target, '')}".strip(), size, one.reason)
    return table


def engine_lines(engine: Engine) -> str:
    """Return package, GPUs, batch sizes, and compute types of the layers."""
    record = engine.record
    targets = ", ".join(f"SM{name}" for name in record["targets"]) or "the package's default GPUs"
    layers = ", ".join(f"{len(names)} in {kind}" for kind, names in sorted(record["computes_in"].items()))
    typing = "as TensorRT chose (weak typing)" if record["typing"] == "weak" else layers or "none"
    batch = "as the network fixes it" if engine.profile is None else str(engine.profile)
    return (
        f"{engine.package} for {targets}, batch {batch}, {len(engine.plan) / 1e6:.2f} MB\n"
        f"layers with matrix products: {typing}"
    )


def verification_lines(found: Verification) -> str:
    """Return a line per proved fact, unproved fact and verified batch."""
    lines = [f"proved      {one}" for one in found.proved]
    lines += [f"engine      {one}" for one in found.agreements]
    return "\n".join([*lines, *(f"not proved  {one}" for one in found.unproved)])
