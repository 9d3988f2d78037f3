"""What is asked of the compressed network: `macs:0.5` asks that half of the dense MACs remain."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from .errors import SpecError
from .spec import print_value

KINDS = ("macs",)


@dataclass(frozen=True)
class Target:
    """A resource and the share of it that may remain, 0 < remaining < 1."""

    kind: str
    remaining: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SpecError(f"there is no target '{self.kind}'; there is {', '.join(KINDS)}")
        if not 0 < self.remaining < 1:
            raise SpecError(
                f"target '{self}': a target says what remains, so it lies between 0 and 1 exclusive;"
                " macs:0.5 keeps half of the dense MACs"
            )

    @staticmethod
    def parse(text: str) -> Target:
        """Read `kind:share`. Raises SpecError with the sentence a user needs."""
        kind, colon, amount = text.partition(":")
        if not colon or kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, 1)
            hint = f" Did you mean '{near[0]}:{amount or '0.5'}'?" if near and (kind != near[0] or not colon) else ""
            raise SpecError(f"target '{text}' is not of the form macs:SHARE, for instance macs:0.5.{hint}")
        try:
            remaining = float(amount)
        except ValueError:
            raise SpecError(f"target '{text}': '{amount}' is not a number; write for instance macs:0.5") from None
        return Target(kind, remaining)

    def __str__(self) -> str:
        return f"{self.kind}:{print_value(self.remaining)}"
