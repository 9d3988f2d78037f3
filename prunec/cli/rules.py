"""Define the options of each command that conflict, or have no effect alone."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import typer

from ..request.conflicts import METHOD, Beside, Without, require_no_conflict

_READY = Without(("preprocess",), "data", "--data")
_LABELS = Without(("classes",), "labelled", "--evaluate")
_UNWRITTEN = ("output", "force", "no_bench", "provider", "opset", "time", "labelled", "classes", "no_report")
RULES: Mapping[str, tuple[Beside | Without, ...]] = {
    "compress": (
        METHOD,
        Beside(("provider",), "no_bench", "which times nothing"),
        Beside(_UNWRITTEN, "stop_after", "which writes and measures nothing"),
    ),
    "inspect": (Without(("limits", "round_to", "align", "keep_branches"), "how_far", "--how-far"),),
    "export": (_READY,),
    "lint": (Without(("preprocess", "images"), "data", "--data"),),
    "cast": (_LABELS,),
    "quantize": (_LABELS,),
    "build": (Beside(("output", "cache"), "check_only", "which writes nothing"),),
    "run": (_READY,),
    "verify": (_READY,),
    "bench": (_READY,),
    "report": (Without(("model", "weights", "preprocess", "images"), "data", "--data"),),
    "diff": (Without(("batch", "threads", "provider"), "profile", "--profile"),),
}
RECIPE = (METHOD, _LABELS)  # rules of `prunec compress`, whose options may be in the recipe


def require_effect(name: str) -> None:
    """Raise SpecError where an option given to command `name` has no effect."""
    require_no_conflict(given(), RULES.get(name, ()))


def given() -> dict[str, str]:
    """Return the options on the command line, by parameter, as spelled; no defaults."""
    context = _context()
    if context is None:
        return {}
    sources = {each.name: str(context.get_parameter_source(each.name)) for each in context.command.params}
    spelt = {each.name: max(each.opts, key=len) for each in context.command.params}
    return {name: spelt[name] for name, source in sources.items() if source.endswith("COMMANDLINE")}


def _context() -> Any:
    """Return Click's context: of typer's own copy, or of the package for older versions."""
    package = typer.Context.__mro__[1].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.globals").get_current_context(silent=True)
