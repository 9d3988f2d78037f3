"""Read images and other inputs, and turn them into tensors that a network takes."""

from __future__ import annotations

from ..grammar.moved import names_of

__getattr__ = names_of("data")
