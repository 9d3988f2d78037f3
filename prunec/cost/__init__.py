"""Count what a network costs as a function of the channels kept."""

from __future__ import annotations

from ..grammar.moved import names_of

__getattr__ = names_of("cost")
