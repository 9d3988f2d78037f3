"""Reject options that conflict, or have no effect alone; none is ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import SpecError


@dataclass(frozen=True)
class Beside:
    """Options that have no effect beside another one, and why."""

    options: tuple[str, ...]
    other: str
    why: str

    def fault(self, given: Mapping[str, str]) -> str | None:
        """Describe the first of them given beside the other; None without.

        `given` maps options to their spellings.
        """
        found = next((given[name] for name in self.options if name in given), None)
        if found is None or self.other not in given:
            return None
        return f"{found} has no effect beside {given[self.other]}, {self.why}: leave out one of the two"


@dataclass(frozen=True)
class Without:
    """Options that have no effect without another one, spelled `spelling`."""

    options: tuple[str, ...]
    other: str
    spelling: str

    def fault(self, given: Mapping[str, str]) -> str | None:
        """Describe the first of them given alone; None without.

        `given` maps options to their spellings.
        """
        found = next((given[name] for name in self.options if name in given), None)
        if found is None or self.other in given:
            return None
        return f"{found} has no effect without {self.spelling}: give both, or leave it out"


METHOD = Beside(
    ("selector", "allocator", "compensator", "decomposer", "keep_branches"), "pipeline", "which replaces all passes"
)


def require_no_conflict(given: Mapping[str, str], rules: Iterable[Beside | Without]) -> None:
    """Raise SpecError for the first broken rule.

    `given` maps options to their spellings.
    """
    for rule in rules:
        if fault := rule.fault(given):
            raise SpecError(fault)
