"""Derive the options of a command from records of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from ..request.options import Field, optional, options_of, reuse
from ..request.values import FLAG, Kind


@dataclass(frozen=True, kw_only=True)
class Debug:
    """Record the detail of errors."""

    debug: bool = optional(False, "Show the traceback of an error too.", FLAG)


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Record the last options of a command: trust in files, and detail of errors."""

    no_verify: bool = optional(False, "Use files that differ from the manifest beside them, as they are.", FLAG)
    debug: bool = reuse(Debug, "debug")


LAST = ("plot", "to_json", "show_all", "as_json", "no_verify", "debug")  # in every help text


@dataclass(frozen=True)
class Given:
    """Collect the options of a record that the command line gives, by field.

    Those in `without` have no flag.
    """

    record: type
    without: tuple[str, ...] = ()

    def __call__(self, **values: object) -> dict[str, object]:
        """Drop options that are not given; 0 counts as given."""
        return {name: value for name, value in values.items() if not (value is None or value is False or value == [])}


def flattened(*groups: type | Given) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a decorator: a command of records becomes one of all their options, for typer.

    A record arrives as an object, its values read; a `Given` as a dictionary of what the command line gives, as text.
    """
    parameters = [_parameter(one, isinstance(group, Given)) for group in groups for one in _options_of(group)]
    parameters.sort(key=lambda one: one.name in LAST)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            command(*(_made(group, values) for group in groups))

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _options_of(group: type | Given) -> tuple[Field, ...]:
    record, without = (group.record, group.without) if isinstance(group, Given) else (group, ())
    return tuple(one for one in options_of(record) if one.option.kind is not None and one.name not in without)


def _made(group: type | Given, values: Mapping[str, Any]) -> Any:
    """Make the argument of a command from the values that typer has parsed. Raises SpecError."""
    found = {one.name: (one, values[one.name]) for one in _options_of(group)}
    if isinstance(group, Given):
        return group(**{name: value for name, (_, value) in found.items()})
    given = {name: each for name, each in found.items() if each[1] not in (None, [])}
    return group(**{name: _kind(one).read(one.place, value) for name, (one, value) in given.items()})


def _kind(one: Field) -> Kind:
    assert one.option.kind is not None, one.name
    return one.option.kind


def _parameter(one: Field, partial: bool) -> inspect.Parameter:
    """Return the parameter of an option; `partial`: typer is told no default, and requires nothing."""
    given = _kind(one).given
    default = None if one.default == () or (partial and given is not bool) else one.default
    annotation: Any = Annotated[given | None if default is None else given, _described(one, default)]
    default = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _described(one: Field, default: object) -> Any:
    """Return typer's description of an option, or of a positional argument."""
    if one.flags == ("",):
        return typer.Argument(metavar=one.option.metavar, help=one.option.help, show_default=False)
    flags = (f"{one.flags[0]}/--no-{one.flags[0][2:]}",) if default is True else one.flags
    shown = one.shown_default if default is None else one.option.usual
    return typer.Option(
        *flags,
        metavar=one.option.metavar,
        help=f"{one.option.help} Repeatable." if _kind(one).given == list[str] else one.option.help,
        show_default=shown or True,
        rich_help_panel=one.option.panel,
    )
