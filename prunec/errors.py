"""Exception tree of prunec.

    PrunecError              1   anything prunec raises on purpose
    ├── SpecError            2   a pass, option, target or recipe that does not parse or does not fit
    ├── CaptureError         3   the model could not be found, built, loaded or captured
    ├── PassError            4   a pass ran without its requirements, or broke its promise
    ├── BudgetError          5   the target cannot be reached: the best reachable, what is frozen and why
    ├── NumericsError        6   a result that is not finite, or does not agree with its reference
    ├── BackendError         7   an engine or its package is missing or failed
    └── DataError            8   images that cannot be read or do not fit the model; output that cannot be written

The number is the exit code of the command line. Each error names the problem, its place, and the next step. Foreign
exceptions pass through with a note of the step that ran.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PrunecError(Exception):
    """Base of all errors that prunec raises on purpose."""

    exit_code = 1


class SpecError(PrunecError):
    """A pass, option, target or recipe that does not parse or does not fit."""

    exit_code = 2


class CaptureError(PrunecError):
    """The model could not be found, built, loaded or captured."""

    exit_code = 3


class PassError(PrunecError):
    """A pass ran without its requirements, or broke its promise."""

    exit_code = 4


class BudgetError(PrunecError):
    """The target cannot be reached."""

    exit_code = 5


class NumericsError(PrunecError):
    """A result that is not finite, or does not agree with its reference."""

    exit_code = 6


class BackendError(PrunecError):
    """An engine or its package is missing, or failed."""

    exit_code = 7


class DataError(PrunecError):
    """Images that cannot be read or do not fit, or output that cannot be written."""

    exit_code = 8


class PrunecWarning(UserWarning):
    """A problem that does not stop a run, such as an unreadable cache."""


def first_line(error: BaseException) -> str:
    """Return the first line of a message, without its full stop; else the error's type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def one_line(error: BaseException) -> str:
    """Return `TypeError: its first line`."""
    return f"{type(error).__name__}: {first_line(error)}"


def near(name: str, known: Iterable[str], otherwise: str) -> str:
    """Ask `did you mean a or b?` of the nearest names; else give other advice."""
    found = difflib.get_close_matches(name, list(known))
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def kind_of(thing: object) -> str:
    """Return the type of an object with its article: `a list`, `an Image`, `nothing` for None."""
    kind = type(thing).__name__
    return "nothing" if thing is None else f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
