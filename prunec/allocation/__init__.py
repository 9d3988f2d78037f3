"""Choose how many coordinates of each space to keep within a budget."""

from __future__ import annotations

from ..grammar.moved import names_of

__getattr__ = names_of("allocation")
