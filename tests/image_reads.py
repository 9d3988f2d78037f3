"""An instrument that writes down which images each pass reads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import Tensor

from prunec.data.images import Images
from prunec.grammar.spec import name_of
from prunec.ir.program import Program
from prunec.pipeline.pipeline import Instrument, Pass


def rows(images: Tensor) -> set[bytes]:
    """The images [N, …], by their bytes."""
    return {row.numpy().tobytes() for row in images}


class Reads(Instrument):
    """Record the images that each pass reads; "before" and "after" are outside passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_pass: dict[str, set[bytes]] = {}
        self._now = "before"
        batches = Images.batches

        def spied(images: Images, size: int) -> Iterator[tuple[Tensor, ...]]:
            for batch in batches(images, size):
                self.by_pass.setdefault(self._now, set()).update(rows(batch[0]))
                yield batch

        monkeypatch.setattr(Images, "batches", spied)

    def before(self, step: Pass, program: Program) -> None:
        """Begin the list of a pass."""
        self._now = name_of(type(step))

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """End it."""
        self._now = "after"
