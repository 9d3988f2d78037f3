"""How a loop shows that it moves: anything called as `track(steps, "what")` that yields the steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Shows the progress of a loop: `for x in track(xs, "calibrate")`."""

    def __call__(self, steps: Iterable[T], what: str, /) -> Iterable[T]:
        """Return the same steps, each shown as it is taken."""
        ...


def silent(steps: Iterable[T], what: str, /) -> Iterable[T]:
    """Show nothing."""
    return steps
