"""Read the engine to prune for: `ort-cpu{batch=8,threads=2}`, or a table that was measured elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..deploy.targets import target_of
from ..errors import BackendError, SpecError
from ..machine import environment
from ..spec import parse
from .table import Table
from .table_cache import kept

ENGINES = ("ort-cpu",)
ELSEWHERE = ("ort-cuda", "ort-tensorrt", "tensorrt", "tensorrt-rtx", "torch", "torch-compile")


@dataclass(frozen=True)
class On:
    """An engine of this machine and how it will be run, or the file of a table."""

    batch: int = 1
    threads: int = 1
    file: Path | None = None

    @staticmethod
    def parse(text: str, threads: int = 1) -> On:
        """Read it. Raises SpecError for what is not known, BackendError for engines whose kernels tell no times.

        Raises DataError for the file of a table that cannot be read, or in which anything is wrong.
        """
        if text.endswith(".json"):
            Table.load(Path(text))  # what is wrong with it is said before any work
            return On(file=Path(text))
        found = parse(text)
        if found.name in ELSEWHERE:
            raise BackendError(
                f"--on {found.name}: layers are measured with ort-cpu alone, whose kernels tell their time; for another"
                " engine give the file of a table that was measured on it"
            )
        if found.name not in ENGINES:
            raise SpecError(f"--on {text}: there is ort-cpu, as in ort-cpu{{batch=8,threads=2}}, or table.json")
        options = {"batch": 1, "threads": threads, **found.options}
        wrong = [key for key, value in options.items() if key not in ("batch", "threads") or not _whole(value)]
        if wrong:
            raise SpecError(f"--on {text}: {wrong[0]} is not understood; it takes batch and threads, 1 or more")
        return On(options["batch"], options["threads"])

    def require_here(self) -> None:
        """Raise SpecError where this is a file, and an engine is wanted that can be timed."""
        if self.file is not None:
            raise SpecError(f"{self.file} is a table already: name the engine that is to be timed, ort-cpu")

    def table(self) -> Table:
        """The file, what was measured on this machine before, or an empty table. Raises DataError for a bad file."""
        if self.file is not None:
            return Table.load(self.file)
        return kept(Table(machine(), self.batch, self.threads))


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


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
