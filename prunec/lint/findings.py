"""Define the findings that the rules of `prunec lint` report, and their levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

LEVELS = ("note", "warning", "error")  # worse and worse


@dataclass(frozen=True)
class Finding:
    """One sentence on one node: an error where an engine refuses it or computes something else, or how slow it is."""

    rule: str
    level: str
    node: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """The numbers behind the text, by name."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rule": self.rule,
            "level": self.level,
            "node": self.node,
            "text": self.text,
            **({"facts": dict(self.facts)} if self.facts else {}),
        }


def at_least(findings: Sequence[Finding], level: str) -> list[Finding]:
    """The findings that are so bad or worse."""
    return [finding for finding in findings if LEVELS.index(finding.level) >= LEVELS.index(level)]
