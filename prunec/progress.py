"""Show the progress of a loop: a `Track` is called as `track(steps, "what")`."""

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
