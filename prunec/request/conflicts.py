"""Options that cannot both hold, or of which one has no effect alone: refused with both names, and never ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import SpecError


@dataclass(frozen=True)
class Beside:
    """Options that have no effect where another is given, and why."""

    options: tuple[str, ...]
    other: str
    why: str

    def fault(self, given: Mapping[str, str]) -> str | None:
        """A sentence on the first of them that is given beside the other; `given` maps options to how they are said."""
        found = next((given[name] for name in self.options if name in given), None)
        if found is None or self.other not in given:
            return None
        return f"{found} has no effect beside {given[self.other]}, {self.why}: leave out one of the two"


@dataclass(frozen=True)
class Without:
    """Options that have no effect unless another is given, which is said as `spelling`."""

    options: tuple[str, ...]
    other: str
    spelling: str

    def fault(self, given: Mapping[str, str]) -> str | None:
        """A sentence on the first of them that is given alone; `given` maps options to how they are said."""
        found = next((given[name] for name in self.options if name in given), None)
        if found is None or self.other in given:
            return None
        return f"{found} has no effect without {self.spelling}: give both, or leave it out"


METHOD = Beside(
    ("selector", "allocator", "compensator", "decomposer", "keep_branches"), "pipeline", "which replaces all passes"
)


def require_no_conflict(given: Mapping[str, str], rules: Iterable[Beside | Without]) -> None:
    """Raise SpecError for the first rule that is broken; `given` maps options to how they are said."""
    for rule in rules:
        if fault := rule.fault(given):
            raise SpecError(fault)
