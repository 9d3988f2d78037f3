"""Parse the engine to prune for: `ort-cpu{batch=8,threads=2}`, or a table that was measured elsewhere."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BackendError, SpecError
from ..grammar.spec import parse

ENGINES = ("ort-cpu",)
ELSEWHERE = ("ort-cuda", "ort-tensorrt", "tensorrt", "tensorrt-rtx", "torch", "torch-compile")


@dataclass(frozen=True)
class On:
    """An engine of this machine with its run options, or the file of a table."""

    batch: int = 1
    threads: int = 1
    file: Path | None = None

    @staticmethod
    def parse(text: str, threads: int = 1) -> On:
        """Parse `ort-cpu{batch=8}` or the path of a table, which is not opened.

        Raises SpecError for unknown engines and options, BackendError for engines that report no kernel times.
        """
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

    def table(self) -> Any:
        """Open the latency table. Deprecated, until version 0.2: `prunec.latency.engine.table_of`."""
        text = "On.table() is prunec.latency.engine.table_of(on) now; the old name goes with version 0.2"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return importlib.import_module("prunec.latency.engine").table_of(self)

    def require_here(self) -> None:
        """Raise SpecError for a table file where an engine to time is required."""
        if self.file is not None:
            raise SpecError(f"{self.file} is a table already: name the engine that is to be timed, ort-cpu")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
