"""Derive the options of a command from records of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Annotated, Any

import typer

from ..request.options import Field, option, options_of
from ..request.values import FLAG


@dataclass(frozen=True)
class Checks:
    """Record the options of every command: trust in files, and detail of errors."""

    no_verify: bool = field(
        default=False, metadata=option("Use files that differ from the manifest beside them, as they are.", FLAG)
    )
    debug: bool = field(default=False, metadata=option("Show the traceback of an error too.", FLAG))


@dataclass(frozen=True)
class Given:
    """Collect the options of a record that the command line gives, by field."""

    record: type

    def __call__(self, **values: object) -> dict[str, object]:
        """Drop options that are not given; 0 counts as given."""
        return {name: value for name, value in values.items() if not (value is None or value is False or value == [])}


def flag_of(record: type, name: str) -> Any:
    """Return typer's description of one option of a record. Raises KeyError."""
    return _described({one.name: one for one in options_of(record)}[name])


def flattened(*groups: type | Given) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a decorator: a command of records becomes one of all their options, for typer.

    A record arrives as an object; a `Given` as a dictionary of what the command line gives.
    """
    names = {group: [one.name for one in _options_of(group)] for group in groups}
    parameters = [_parameter(one) for group in groups for one in _options_of(group)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            command(*(group(**{name: values[name] for name in names[group]}) for group in groups))

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _options_of(group: type | Given) -> tuple[Field, ...]:
    options = options_of(group.record if isinstance(group, Given) else group)
    return tuple(one for one in options if one.option.kind is not None)


def _parameter(one: Field) -> inspect.Parameter:
    """Return the parameter of an option, with default False for flags, else None."""
    assert one.option.kind is not None, one.name
    given = one.option.kind.given
    annotation: Any = Annotated[given if given is bool else given | None, _described(one)]
    default = False if given is bool else None
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _described(one: Field) -> Any:
    """Return typer's description of an option, or of a positional argument."""
    if one.flags == ("",):
        return typer.Argument(metavar=one.option.metavar, help=one.option.help, show_default=False)
    repeatable = one.option.kind is not None and one.option.kind.given == list[str]
    return typer.Option(
        *one.flags,
        metavar=one.option.metavar,
        help=f"{one.option.help} Repeatable." if repeatable else one.option.help,
        show_default=one.shown_default or True,
        rich_help_panel=one.option.panel,
    )
