"""`prunec list`."""

from __future__ import annotations

import json
from dataclasses import dataclass

import typer

from ..request.options import optional
from ..request.values import FLAG
from .console import out
from .flags import Debug, flattened


@dataclass(frozen=True, kw_only=True)
class Catalogue(Debug):
    """Record the options of `prunec list`."""

    schema: bool = optional(False, "Print the JSON schema of recipes instead, for editors.", FLAG)


@flattened(Catalogue)
def catalogue(options: Catalogue) -> None:
    """List the passes, and the strategies that they take: selectors, allocators, compensators and decomposers.

    Any of them is named in a pipeline or an option by its text form, with options in braces:

    \b
        prunec list
        prunec list --schema > recipe.schema.json
        prunec compress … --compensator "sequential{ridge=1e-4}"
        prunec compress … --pipeline "fold-bn,analyse,…"
    """
    from ..grammar.registry import PASSES, STRATEGIES
    from ..report.catalogue import catalogue_table
    from ..request.schema import schema_of

    if options.schema:
        typer.echo(json.dumps(schema_of(), indent=2, ensure_ascii=False))
        return
    for title, folder in {"passes": PASSES, **STRATEGIES}.items():
        out.print(catalogue_table(title, folder))
