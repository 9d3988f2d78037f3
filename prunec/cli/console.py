"""Provide the consoles, progress bars and one-sentence errors of all commands."""

from __future__ import annotations

import functools
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TextIO, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..errors import DataError, PrunecError, PrunecWarning
from ..files import artefacts, manifest
from . import rules, signals

if TYPE_CHECKING:
    from ..progress import Track

P = ParamSpec("P")
T = TypeVar("T")

REDRAW_SECONDS = 0.2
WRITTEN = ("output", "to_json", "plot", "html", "dump", "cache")  # arguments that are not inputs
FILES = ("to_json", "plot", "html")  # arguments that name an output file
ONE_FILE = ("run", "profile")  # commands whose `output` is a file, too
_SHOWN_BY_PYTHON = warnings.showwarning


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, for the command to end by itself; rich would exit with 1."""
        raise BrokenPipeError


out = _Output(highlight=False)
err = _Output(stderr=True, highlight=False)


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap `command`: an error ends in a red sentence on stderr and its exit code.

    With a truthy argument `debug` the traceback comes first.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for noise in (FutureWarning, DeprecationWarning):  # of libraries, about libraries
            warnings.simplefilter("ignore", noise)
        warnings.showwarning = _shown
        try:
            with signals.command():
                rules.require_effect(command.__name__)
                _require_writable(command.__name__, kwargs)
                if not kwargs.get("no_verify"):
                    _require_as_written(kwargs)
                command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            raise typer.Exit(signals.BROKEN_PIPE) from None
        except (KeyboardInterrupt, Exception) as error:
            if interruption := signals.interruption(error):
                sentence, code = signals.end_of(interruption)
                say(sentence)
                raise typer.Exit(code) from None
            if kwargs.get("debug"):
                err.print("".join(traceback.format_exception(error)), markup=False, soft_wrap=True, end="")
            sentence, code = _told(error)
            say(sentence)
            for note in getattr(error, "__notes__", ()):
                err.print(note, style="dim", markup=False, soft_wrap=True)
            raise typer.Exit(code) from None

    return run


def _require_writable(command: str, arguments: Mapping[str, object]) -> None:
    """Raise DataError, before any work, where an output file cannot be written."""
    for name in (*FILES, *(("output",) if command in ONE_FILE else ())):
        if isinstance(path := arguments.get(name), Path):
            artefacts.require_file(path)


def _require_as_written(arguments: Mapping[str, object]) -> None:
    """Check every input file of a command against the manifest beside it."""
    for name, value in arguments.items():
        for each in value if isinstance(value, list) else [value]:
            if name not in WRITTEN and isinstance(each, (str, Path)):
                manifest.require_as_written(Path(each))


def say(sentence: str, style: str = "red") -> None:
    """Print one sentence on stderr, unwrapped and without markup."""
    err.print(sentence, style=style, markup=False, soft_wrap=True)


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show prunec's own warnings as a sentence, others as Python does."""
    if issubclass(category, PrunecWarning):
        warn(str(message))
    else:
        _SHOWN_BY_PYTHON(message, category, filename, lineno, file, line)


def warn(sentence: str) -> None:
    """Print a warning on stderr."""
    say(f"warning: {sentence}", "yellow")


@contextmanager
def progress() -> Iterator[Track]:
    """Show progress bars on stderr during the block; silent where stderr is no terminal.

    Drawn between steps, never from a thread: nothing competes with a measurement.
    """
    from ..progress import silent

    if not err.is_terminal:
        yield silent
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True, auto_refresh=False) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars, self._drawn = bars, 0.0

    def __call__(self, steps: Iterable[T], what: str, /) -> Iterator[T]:
        task = self._bars.add_task(what, total=len(steps) if isinstance(steps, Sized) else None)
        self._draw(now=True)
        try:
            for step in steps:
                yield step
                self._bars.advance(task)
                self._draw()
        finally:
            self._bars.remove_task(task)

    def _draw(self, now: bool = False) -> None:
        if now or time.monotonic() - self._drawn > REDRAW_SECONDS:
            self._bars.refresh()
            self._drawn = time.monotonic()


def _told(error: BaseException) -> tuple[str, int]:
    """Return the sentence and the exit code of an error."""
    if isinstance(error, PrunecError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}", DataError.exit_code
    if reason := artefacts.refusal(error):
        return f"nothing was written: {reason} ({error})", DataError.exit_code
    return (
        f"prunec failed where it should not have, {type(error).__name__}: {error} (please report it, with what"
        " --debug prints)",
        PrunecError.exit_code,
    )
