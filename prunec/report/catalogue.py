"""Format a registry folder as a table."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from rich.table import Table

from ..grammar.registry import Folder
from ..grammar.spec import print_value


def catalogue_table(title: str, folder: Folder) -> Table:
    """Return name, options with defaults, and docstring summary of each class in `folder`."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 3, 0, 0), expand=False)
    for heading, style in (("name", "cyan"), ("options", "dim"), ("what it does", "")):
        table.add_column(heading, style=style, header_style="dim", overflow="fold")
    for name in folder.names():
        table.add_row(name, *described(folder, name))
    return table


def described(folder: Folder, name: str) -> tuple[str, str]:
    """Return the options and summary of `name`, or the import error of its file."""
    try:
        kind = folder.load(name)
    except Exception as error:  # a missing package fails only its own row
        return "", f"cannot be imported: {type(error).__name__}: {error}"
    return _options(kind), summary_of(kind)


def summary_of(kind: type[Any]) -> str:
    """The first line of the class's docstring, or of its file's where the class has none of its own."""
    own = kind.__doc__ or ""
    if not own or own.startswith(f"{kind.__name__}("):  # dataclasses make one up
        own = sys.modules[kind.__module__].__doc__ or ""
    return own.strip().partition("\n")[0]


def _options(kind: type[Any]) -> str:
    if not dataclasses.is_dataclass(kind):
        return ""
    return " ".join(f"{item.name}={_default(item)}" for item in dataclasses.fields(kind))


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is not dataclasses.MISSING:
        return print_value(item.default)
    return "?" if item.default_factory is dataclasses.MISSING else print_value(item.default_factory())
