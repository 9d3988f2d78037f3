"""Where a network is to be fast: `ort-cpu{batch=8,threads=2}`, or a table that was measured elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..deploy.runtime import environment
from ..deploy.targets import target_of
from ..errors import BackendError, DataError, SpecError
from ..spec import parse
from .table import Table

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
        """Read it. Raises SpecError for what is not known, BackendError for engines whose kernels tell no times."""
        if text.endswith(".json"):
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
        empty = Table(machine(), self.batch, self.threads)
        kept = path_of(empty)
        if not kept.exists():
            return empty
        try:
            return Table.load(kept)
        except DataError:  # of an older format, or spoiled: it is measured again, and written over
            return empty


def machine() -> dict[str, Any]:
    """What a table of this machine is true for."""
    facts = environment()
    return {
        "engine": "ort-cpu",
        "version": facts["packages"].get("onnxruntime") or facts["packages"].get("onnxruntime-gpu"),
        "cpu": facts["cpu"],
        "isa": facts["isa"],
        "cores": facts["cores"],
        "target": target_of("native").name,
    }


def is_here(table: Table) -> bool:
    """Whether the table is of this machine, so that networks can be measured, too."""
    return dict(table.machine) == machine()


def path_of(table: Table) -> Path:
    """Where a table of this machine is kept: in $PRUNEC_CACHE, or the user's cache folder."""
    base = os.environ.get("PRUNEC_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "prunec"
    )
    key = json.dumps([dict(table.machine), table.batch, table.threads], sort_keys=True)
    return Path(base) / f"latency-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def keep(table: Table) -> Path:
    """Write a table of this machine where the next run finds it."""
    path = path_of(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.save(path)
    return path


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
