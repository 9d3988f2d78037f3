"""The command line. Signals, output streams and the exit code are seen to here, before anything heavy is imported."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from . import signals

if TYPE_CHECKING:
    from .commands import app as app

UNWRITTEN = 8  # of DataError: the output cannot be written


def __getattr__(name: str) -> Any:
    """Import the commands on first use: until `main` has seen to signals, Ctrl-C would end in a traceback."""
    if name != "app":
        raise AttributeError(f"module 'prunec.cli' has no attribute '{name}'")
    from .commands import app

    return app


def main() -> None:
    """Run the command line; the process ends with the exit code of what went wrong.

    OpenMP's idle threads shall sleep: where other programs share the cores they spin in each other's way. The demo took
    184 s instead of 12.5 on two busy cores. It is read when torch loads, so it must be said here.
    """
    signals.install()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal of latin-1 or ASCII shows '?' for what it lacks
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries, and complains, again
        if isinstance(error, BrokenPipeError):
            return signals.BROKEN_PIPE
        print(f"the output cannot be written: {error.strerror}", file=sys.stderr)
        return code or UNWRITTEN
    return code
