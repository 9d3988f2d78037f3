"""Keep the network before slices were moved up, for targets relative to it."""

from __future__ import annotations

from dataclasses import dataclass

from .program import Program


@dataclass(frozen=True)
class Unhoisted:
    """A network and its `Channels` before slices were moved up; absent where none were."""

    program: Program


def unhoisted(program: Program) -> Program:
    """Return the network before slices were moved up; the program itself where none were."""
    return program.fact(Unhoisted).program if program.has(Unhoisted) else program
