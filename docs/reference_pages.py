"""Write the reference of the command line, of recipes and of the Python API from the code."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer
from method_pages import table, written

import prunec
from prunec.cli.commands import app
from prunec.request.config import CompressRequest
from prunec.request.options import Field, options_of


def pages() -> dict[str, str]:
    """Return the generated pages by path."""
    return {
        "docs/reference/command-line.md": command_line(),
        "docs/reference/recipe.md": recipe(),
        "docs/reference/python.md": python(),
    }


def command_line() -> str:
    """Return every command with its help and its options."""
    group: Any = typer.main.get_command(app)
    parts = ["# Command line: reference", "`prunec COMMAND --help` prints the same."]
    for name, command in group.commands.items():
        with command.make_context(f"prunec {name}", [], resilient_parsing=True) as context:
            usage = command.get_usage(context).removeprefix("Usage: ")
            records = [record for one in command.params if (record := one.get_help_record(context))]
        rows = [["`" + re.sub(r" <\w+>$", "", spelled) + "`", escaped(text)] for spelled, text in records]
        parts += [f"## `prunec {name}`", f"```text\n{usage}\n```", *_help(command.help or "")]
        parts += [table(["option", "meaning"], rows)]
    return "\n\n".join([*parts, ""])


def _help(text: str) -> list[str]:
    """Return the paragraphs of a help text; those marked as they are become code."""
    paragraphs = [part.strip("\n") for part in text.split("\n\n")]
    return [
        f"```text\n{inspect.cleandoc(part.lstrip(chr(8)))}\n```" if part.startswith("\b") else part.replace("[", r"\[")
        for part in paragraphs
    ]


def escaped(text: str) -> str:
    """Return a text for the cell of a table."""
    text = re.sub(r"\[default: \((.*)\)\]", r"[default: \1]", text)
    return re.sub(r"([|*])", r"\\\1", re.sub(r"\s+", " ", text)).replace("<", "&lt;")


def recipe() -> str:
    """Return every key of a recipe, by table."""
    parts = [
        "# Recipe keys",
        "A recipe is a TOML file: `prunec compress --recipe net.toml -o out/`. What is said on the command line wins"
        " over it. `prunec list --schema` prints the JSON schema, by which editors complete and check a recipe.",
    ]
    fields = [one for one in options_of(CompressRequest) if one.option.table is not None]
    for name in ("model", "data", "compress"):
        rows = [_key(one) for one in fields if one.option.table == name]
        parts += [f"## [{name}]".replace("[", r"\["), table(["key", "option", "default", "meaning"], rows)]
    return "\n\n".join([*parts, ""])


def _key(field: Field) -> list[str]:
    keys = ", ".join(f"`{key}`" for key in field.keys)
    flags = ", ".join(f"`{flag or field.option.metavar}`" for flag in field.flags)
    return [keys, flags, f"`{shown}`" if (shown := field.shown_default) else "", escaped(field.option.help)]


def python() -> str:
    """Return the public names of `prunec`, with signatures and docstrings."""
    parts = ["# Python: reference", "Names of `prunec`; all others may change without notice."]
    for name in prunec.__all__:
        if not name.startswith("__"):
            parts += _described("##", name, getattr(prunec, name))
    return "\n\n".join([*parts, ""])


def _described(level: str, name: str, thing: Any) -> list[str]:
    """Return heading, signature and docstring of a function or class, and of a class's public methods."""
    told = inspect.getdoc(thing) or ""
    parts = [f"{level} `{name}`", f"```python\n{declared(name, thing)}\n```"]
    if told and not told.startswith(f"{name}("):
        parts.append(written(told))
    for inner, held in vars(thing).items() if inspect.isclass(thing) else ():
        value = getattr(held, "__func__", held)  # of a class method
        if not inner.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            parts += _described(f"{level}#", inner, value)
    return parts


def declared(name: str, thing: Any) -> str:
    """Return the declaration of a class, function or property, one parameter a line where it is long."""
    if isinstance(thing, property):
        return f"{name}: {inspect.signature(thing.fget).return_annotation}".replace("'", "")  # type: ignore[arg-type]
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"class {name}({thing.__mro__[1].__name__})"
    found = inspect.signature(thing)
    text = _plain(f"{name}{found}")
    if len(text) < 100:
        return text
    lines, keyword = [], False
    for one in found.parameters.values():
        lines += ["*"] if one.kind is one.KEYWORD_ONLY and not keyword else []
        keyword = keyword or one.kind is one.KEYWORD_ONLY
        lines.append(_plain(str(one)))
    end = text.rpartition(" -> ")[1:] if found.return_annotation is not inspect.Signature.empty else ()
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + ")" + "".join(end)


def _plain(text: str) -> str:
    """Return annotations without quotes, and functions by their names."""
    return re.sub(r"<function (\w+) at \w+>", r"\1", text.replace("'", ""))
