"""Instruments of the command line: notes, print, stop and dump after a pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ..files import artefacts
from ..grammar.registry import PASSES
from ..grammar.spec import name_of
from ..ir.program import Program
from .pipeline import Instrument, Pass


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """Raised to leave a pipeline after the pass of `--stop-after`."""

    def __init__(self, step: Pass, program: Program) -> None:
        super().__init__(f"stopped after {step}")
        self.step, self.program = step, program


class PrintAfter(Instrument):
    """Show the network after the pass `name`. Raises SpecError for an unknown pass."""

    def __init__(self, name: str, show: Callable[[str], None]) -> None:
        self.name, self.show = _checked(name), show

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Print after the pass."""
        if name_of(type(step)) == self.name:
            self.show(f"# after {step}\n{describe(after)}")


class StopAfter(Instrument):
    """Raise `Stopped` after the pass `name`. Raises SpecError for an unknown pass."""

    def __init__(self, name: str) -> None:
        self.name = _checked(name)

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Stop after the pass."""
        if name_of(type(step)) == self.name:
            raise Stopped(step, after)


class Notes(Instrument):
    """Show the capture's notes before the first pass."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.show, self._shown = show, False

    def before(self, step: Pass, program: Program) -> None:
        """Show each note, once."""
        for note in () if self._shown else program.notes:
            self.show(note)
        self._shown = True


class Dump(Instrument):
    """Write the network after each pass into `folder`: `01-fold-bn.txt`, `02-analyse.txt` …"""

    def __init__(self, folder: Path) -> None:
        self.folder, self._number = folder, 0
        folder.mkdir(parents=True, exist_ok=True)

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Write after each pass."""
        self._number += 1
        text = f"# {self._number}: {step}\n{describe(after)}\n"
        artefacts.write_bytes(self.folder / f"{self._number:02d}-{name_of(type(step))}.txt", text.encode())


def describe(program: Program) -> str:
    """Return a network's facts and graph as reproducible text."""
    facts = [f"## {kind.__name__}\n{_described(fact)}" for kind, fact in program.facts.items()]
    return "\n\n".join([*facts, f"## graph\n{program.module.graph}"])


def _described(fact: object) -> str:
    """Return channels and plan, one space per line, or field names of other facts."""
    to_json, spaces = getattr(fact, "to_json", None), getattr(fact, "spaces", None)
    if callable(to_json):
        return "\n".join(json.dumps(row, default=str) for row in to_json()["spaces"])
    if spaces is None:
        return "\n".join(sorted(getattr(fact, "__dataclass_fields__", ())))
    return "\n".join(
        f"{space.name} [{space.size}] "
        + ", ".join(f"{site.role} {site.parameter}:{site.dim}" for site in space.sites)
        + (f"; frozen: {space.frozen}" if space.frozen else "")
        for space in spaces
    )


def _checked(name: str) -> str:
    PASSES.load(name)
    return name
