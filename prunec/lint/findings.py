"""Define the findings that the rules of `prunec lint` report, and their levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

LEVELS = ("note", "warning", "error")  # in increasing severity


@dataclass(frozen=True)
class Finding:
    """One problem of one node: an error if an engine refuses or miscomputes it."""

    rule: str
    level: str
    node: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Numbers behind the text, by name."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "rule": self.rule,
            "level": self.level,
            "node": self.node,
            "text": self.text,
            **({"facts": dict(self.facts)} if self.facts else {}),
        }


def at_least(findings: Sequence[Finding], level: str) -> list[Finding]:
    """Return the findings of `level` or worse."""
    return [finding for finding in findings if LEVELS.index(finding.level) >= LEVELS.index(level)]
