"""Command line entry: signals, output streams and exit codes, before any heavy import."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from . import signals

if TYPE_CHECKING:
    from .commands import app as app

UNWRITTEN = 8  # exit code of DataError: the output cannot be written


def __getattr__(name: str) -> Any:
    """Import the commands on first use.

    Before `main` has handled signals, Ctrl-C would end in a traceback.
    """
    if name != "app":
        raise AttributeError(f"module 'prunec.cli' has no attribute '{name}'")
    from .commands import app

    return app


def main() -> None:
    """Run the command line; exit with the code of the error, or 0.

    OpenMP's idle threads shall sleep: spinning slows other programs on the same cores. Set here, before torch reads it.
    """
    signals.install()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # latin-1 and ASCII terminals show '?' for missing characters
            stream.reconfigure(errors="replace")
    from .commands import app

    try:
        app()
    except SystemExit as end:
        raise SystemExit(_flushed(end.code)) from None


def _flushed(code: Any) -> Any:
    """Flush the output, and return the exit code: `code`, unless the output cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter flushes, and fails, again
        if isinstance(error, BrokenPipeError):
            return signals.BROKEN_PIPE
        print(f"the output cannot be written: {error.strerror}", file=sys.stderr)
        return code or UNWRITTEN
    return code
