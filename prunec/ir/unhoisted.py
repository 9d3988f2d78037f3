"""Keep the network as it was before slices were moved up, for targets that ask for a share of it."""

from __future__ import annotations

from dataclasses import dataclass

from .program import Program


@dataclass(frozen=True)
class Unhoisted:
    """Hold a network and its `Channels` before slices were moved up; known where some were."""

    program: Program


def unhoisted(program: Program) -> Program:
    """Return the network before slices were moved up; the program itself where none were."""
    return program.fact(Unhoisted).program if program.has(Unhoisted) else program
