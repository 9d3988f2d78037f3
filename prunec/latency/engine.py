"""Open the latency table of an engine, and describe this machine."""

from __future__ import annotations

from typing import Any

from ..cost.hardware import target_of
from ..machine import environment
from ..request.engine import On
from . import table_file
from .table import Table
from .table_cache import kept


def checked(text: str, threads: int = 1) -> On:
    """Parse an engine and check its table file. Raises DataError for a bad file."""
    found = On.parse(text, threads)
    if found.file is not None:
        table_file.load(found.file)
    return found


def table_of(on: On) -> Table:
    """Open the table's file, or this machine's own table. Raises DataError for a bad file."""
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
    """Return whether the table was measured on this machine, so that networks can be, too."""
    return dict(table.machine) == machine()
