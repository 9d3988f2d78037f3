"""`prunec list`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .console import out
from .model_options import Debug


def catalogue(
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes instead, for editors.")
    ] = False,
    debug: Debug = False,
) -> None:
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

    if schema:
        typer.echo(json.dumps(schema_of(), indent=2, ensure_ascii=False))
        return
    for title, folder in {"passes": PASSES, **STRATEGIES}.items():
        out.print(catalogue_table(title, folder))
