"""Describe an option in the metadata of its field: documentation, values, spellings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar

from .values import Kind

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """Document one option, and describe its form outside Python."""

    help: str
    kind: Kind | None = None  # None: given in Python alone
    metavar: str | None = None
    usual: str | None = None  # effect of the default None
    panel: str | None = None
    flags: tuple[str, ...] = ()  # on the command line, where not --name; "" for a positional argument
    table: str | None = "compress"  # of a recipe; None: not in recipes
    key: str | None = None  # in the table, where not the name of the field
    aliases: tuple[str, ...] = ()  # further keys
    needed: str = ""  # advice, where neither command line nor recipe gives it


@dataclass(frozen=True)
class Field:
    """Pair an option with the name and the default of its field."""

    name: str
    option: Option
    default: Any = MISSING

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the spellings on the command line, the preferred one first."""
        return self.option.flags or (f"--{self.name.replace('_', '-')}",)

    @property
    def place(self) -> str:
        """Return the name of the option for errors: `--seed`, or the field of a positional argument."""
        return self.flags[0] or self.name

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys in a recipe, the preferred one first."""
        return (self.option.key or self.name, *self.option.aliases)

    @property
    def shown_default(self) -> str | None:
        """Return the default as a user writes it, None where there is none to show."""
        if isinstance(self.default, (int, str)) and not isinstance(self.default, bool):
            return str(self.default)
        return self.option.usual


def _metadata_of(kind: Callable[P, Option]) -> Callable[P, Mapping[str, Option]]:
    """Make a function from the fields of `Option` to metadata of a field."""

    def metadata(*args: P.args, **kwargs: P.kwargs) -> Mapping[str, Option]:
        return MappingProxyType({"option": kind(*args, **kwargs)})

    return metadata


def _field_of(metadata: Callable[P, Mapping[str, Option]]) -> Callable[Concatenate[T, P], T]:
    """Make a function from a default and the fields of `Option` to a field."""

    def made(default: T, /, *args: P.args, **kwargs: P.kwargs) -> T:
        documented: T = field(default=default, metadata=metadata(*args, **kwargs))
        return documented

    return made


option = _metadata_of(Option)
optional = _field_of(option)


def reuse(record: type, name: str, *, default: Any = ..., **changed: Any) -> Any:
    """Return a field for an option that another record documents.

    `default` (MISSING: required) and `changed`, by field of `Option`, replace what is said there. Raises KeyError.
    """
    one = {each.name: each for each in options_of(record)}[name]
    documented = MappingProxyType({"option": replace(one.option, **changed)})
    return field(default=one.default if default is ... else default, metadata=documented)


def options_of(config: type) -> tuple[Field, ...]:
    """List the options of a dataclass, in order. Raises KeyError for a field without documentation."""
    return tuple(Field(one.name, one.metadata["option"], one.default) for one in dataclasses.fields(config))


def spelled(config: type, given: Mapping[str, Any]) -> list[str]:
    """Return the words of the command line that gives these options of a record."""
    words: list[str] = []
    for one in options_of(config):
        value, flag = given.get(one.name), one.flags[0]
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            for each in value if isinstance(value, (list, tuple)) else [value]:
                words += [flag, str(each)] if flag else [str(each)]
    return words
