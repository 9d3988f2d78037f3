"""Run passes in order, checked, verified and watched by instruments."""

from __future__ import annotations

from ..grammar.moved import names_of

__getattr__ = names_of("pipeline")
