"""`prunec list`."""

from __future__ import annotations

from .console import out
from .model_options import Debug


def catalogue(debug: Debug = False) -> None:
    """List the passes, and the strategies that they take: selectors, allocators, compensators and decomposers.

    Any of them is named in a pipeline or an option by its text form, with options in braces:

    \b
        prunec list
        prunec compress … --compensator "sequential{ridge=1e-4}"
        prunec compress … --pipeline "fold-bn,analyse,…"
    """
    from ..grammar.registry import PASSES, STRATEGIES
    from ..report.catalogue import catalogue_table

    for title, folder in {"passes": PASSES, **STRATEGIES}.items():
        out.print(catalogue_table(title, folder))
