"""Write a recipe with every key as a comment, for a user to edit."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

from .config import CompressRequest
from .options import Field
from .recipe import tables_of

WIDTH = 100


def template_of(given: Mapping[str, Any], config: type = CompressRequest) -> str:
    """Return a TOML recipe with these values, by field, and all other keys as comments.

    A commented key has its default, or the form of its value where the default is none.
    """
    tables = []
    for table, keys in tables_of(config).items():
        fields = {one.name: one for one in keys.values()}.values()
        tables.append(f"[{table}]\n" + "\n\n".join(_entry(one, given.get(one.name)) for one in fields))
    return "\n\n".join(tables) + "\n"


def _entry(one: Field, value: Any) -> str:
    """Return the documentation of a key, and the key."""
    told = textwrap.wrap(one.option.help, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    line = f"{one.keys[0]} = {_literal(_example(one) if value is None else value)}"
    return "\n".join([*told, f"# {line}" if value is None else line])


def _example(one: Field) -> Any:
    """Return the default as a recipe has it, or else the form of the value."""
    if one.default not in (None, MISSING, ()):
        return one.default
    usual = one.option.usual
    if usual is None or " " in usual:
        return one.option.metavar
    return int(usual) if usual.isdecimal() else usual


def _literal(value: Any) -> str:
    """Format a value as TOML: text, a number, a truth or a list of these is written as in JSON."""
    return json.dumps(value, ensure_ascii=False)
