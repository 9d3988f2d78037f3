"""Derive the typed keywords of a function from a record of options.

The constructor of a dataclass has a parameter specification already: a `ParamSpec` captures it and gives the function
the keywords of the constructor, which mypy and editors check and complete. A `TypedDict` with `Unpack`, or a `.pyi`
file, would spell every option a second time.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from ..errors import SpecError
from .config import CompressConfig
from .options import options_of

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    Given = nn.Module | ExportedProgram | str | Path  # a network, or its source

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Compress(Protocol[P, Q, R_co]):
    """Declare a function of network and images that takes options as keywords, or one config."""

    @overload
    def __call__(self, model: Given, calibration: Any, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(
        self,
        model: Given,
        calibration: Any,
        config: CompressConfig,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> R_co: ...


def keywords_of(
    whole: Callable[P, CompressConfig], watch: Callable[Q, S]
) -> Callable[[Callable[[Given, Any, CompressConfig, S], R]], Compress[P, Q, R]]:
    """Make a decorator: `run(model, calibration, config, watch)` takes the fields of both as keywords.

    `whole` is a record with the fields of `CompressConfig` and of `watch`. A config replaces all fields of the former.
    Raises SpecError for a config beside one of them, TypeError for unknown keywords.
    """
    signature, aside = _signature_of(whole), {one.name for one in options_of(_record(watch))}
    optional = signature.replace(
        parameters=[
            one.replace(default=None) if one.kind is one.KEYWORD_ONLY else one for one in signature.parameters.values()
        ]
    )  # a config stands for what is required
    make: Callable[..., CompressConfig] = whole
    beside: Callable[..., S] = watch

    def decorate(
        run: Callable[[Given, Any, CompressConfig, S], R],
    ) -> Compress[P, Q, R]:
        @wraps(run)
        def call(*args: Any, **kwargs: Any) -> R:
            full = signature if len(args) < 3 and kwargs.get("config") is None else optional
            given = full.bind(*args, **kwargs).arguments
            model, calibration, config = given.pop("model"), given.pop("calibration"), given.pop("config", None)
            watched = beside(**{name: given.pop(name) for name in aside & given.keys()})
            return run(model, calibration, _config_of(make, config, given), watched)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__doc__ = f"{run.__doc__}\n{described(_record(whole))}"
        return call

    return decorate


def described(config: type) -> str:
    """Return a paragraph for each option of a record: its name, its documentation, its default."""
    lines = []
    for one in options_of(config):
        default = f" Default: {one.shown_default}." if one.shown_default is not None else ""
        text = f"{one.name}: {one.option.help}{default}"
        lines.append(textwrap.fill(text, 120, initial_indent=" " * 4, subsequent_indent=" " * 8))
    return "\n".join(lines)


def _config_of(whole: Callable[..., CompressConfig], config: object, given: Mapping[str, Any]) -> CompressConfig:
    """Return the config given, or else one of the keywords given."""
    if config is None:
        return whole(**given)
    if not isinstance(config, CompressConfig):
        raise TypeError(f"config is a CompressConfig, not {config!r}: give options by name, as in target='macs:0.5'")
    if given:
        raise SpecError(
            f"{next(iter(given))}= has no effect beside config=, which holds all options: leave out one of the two"
        )
    return config


def _signature_of(config: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of the keywords, behind model, calibration and config."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = [inspect.Parameter(name, positional) for name in ("model", "calibration")]
    last = inspect.Parameter("config", positional, default=None, annotation="CompressConfig | None")
    return inspect.Signature([*first, last, *inspect.signature(config).parameters.values()])


def _record(kind: Callable[..., Any]) -> type:
    assert isinstance(kind, type)
    return kind
