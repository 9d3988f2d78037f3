"""Define the user's constraints: frozen layers, removable shares, and multiples of channels.

A pattern is matched, as file names are (`layer4.*`), against the names of the layers that produce a space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from ..errors import SpecError, near

NONE, AUTO = "none", "auto"  # of `align`


@dataclass(frozen=True)
class Constraints:
    """Limits on the channels that may be removed.

    Nothing is removed from a space that a layer among `freeze` produces; nothing from a space that a layer outside
    `only` produces, unless `only` is empty; at most the share `limits[pattern]` of a space that a matching layer
    produces. The channels of a layer that remain are a multiple of `round_to`, or all of them. `align` selects the
    widths that the engine prefers (`prunec.allocation.alignment`); unlike `round_to`, it is relaxed where it would miss
    a target.
    """

    freeze: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    round_to: int = 1
    align: str = NONE

    def __post_init__(self) -> None:
        """Raise SpecError for invalid values."""
        if self.round_to < 1:
            raise SpecError(f"round_to {self.round_to}: give 1, or what the target likes, for instance 8")
        for pattern, share in self.limits.items():
            if not 0 <= share <= 1:
                raise SpecError(f"limit {pattern}={share}: give the share that may be removed, from 0 to 1")

    def to_json(self) -> dict[str, Any]:
        """Return the constraints for the report."""
        return {
            "freeze": list(self.freeze),
            "only": list(self.only),
            "limits": dict(self.limits),
            "round_to": self.round_to,
            "align": self.align,
        }

    def reason(self, layers: Iterable[str]) -> str | None:
        """Return why the space of these layers is frozen, or None."""
        names = list(layers)
        for pattern in self.freeze:
            if any(fnmatchcase(name, pattern) for name in names):
                return f"you froze it (--freeze {pattern})"
        if self.only and not all(any(fnmatchcase(name, pattern) for pattern in self.only) for name in names):
            return f"it is not among what you chose (--only {' --only '.join(self.only)})"
        return None

    def least(self, layers: Iterable[str], size: int) -> int:
        """Return the fewest of `size` coordinates of these layers to keep."""
        return max(1, math.ceil(size * (1 - self.share(layers)) - 1e-9))

    def share(self, layers: Iterable[str]) -> float:
        """Return the largest share that may be removed of the channels that these layers produce."""
        names = list(layers)
        shares = [share for pattern, share in self.limits.items() if any(fnmatchcase(one, pattern) for one in names)]
        return min(shares, default=1.0)

    def step(self, channels: int) -> int:
        """Return the multiple of coordinates, of `channels` channels each, that respects `round_to`."""
        return self.round_to // math.gcd(self.round_to, channels)

    def check(self, layers: Iterable[str]) -> None:
        """Raise SpecError for a pattern that matches no layer of the network."""
        names = list(dict.fromkeys(layers))
        for pattern in (*self.freeze, *self.only, *self.limits):
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = near(pattern, names, f"it has, among others, {', '.join(names[:4])}")
                raise SpecError(f"no layer of the network is called '{pattern}'; {hint}")


ANY = Constraints()
