"""Open the latency table of the engine to prune for; describe this machine as its tables do."""

from __future__ import annotations

from typing import Any

from ..cost.hardware import target_of
from ..machine import environment
from ..request.engine import On
from . import table_file
from .table import Table
from .table_cache import kept


def checked(text: str, threads: int = 1) -> On:
    """Parse an engine, and check the file of a table before any work. Raises DataError for a bad file."""
    found = On.parse(text, threads)
    if found.file is not None:
        table_file.load(found.file)
    return found


def table_of(on: On) -> Table:
    """Open the file, or what was measured on this machine before. Raises DataError for a bad file."""
    return kept(Table(machine(), on.batch, on.threads)) if on.file is None else table_file.load(on.file)


def machine() -> dict[str, Any]:
    """Return the properties of this machine that its latency tables are valid for."""
    facts = environment()
    return {
        "engine": "ort-cpu",
        "version": facts["packages"].get("onnxruntime") or facts["packages"].get("onnxruntime-gpu"),
        "cpu": facts["cpu"],
        "isa": facts["isa"],
        "cores": facts["cores"],
        "allowed": facts["cores"] if facts["affinity"] is None else len(facts["affinity"]),
        "system": facts["system"],
        "target": target_of("native").name,
    }


def is_here(table: Table) -> bool:
    """Return whether the table is of this machine, so that networks can be measured, too."""
    return dict(table.machine) == machine()
