"""Handle Ctrl-C, SIGTERM and SIGHUP: remove partial output, exit with 128 + the signal.

An exception raised while a module is imported comes out as another one, or not at all: the import machinery and
compiled modules were not written for it. So during imports, and before and after a command, the process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SENTENCES = {
    "SIGINT": "interrupted; nothing was written",
    "SIGTERM": "terminated; nothing was written",
    "SIGHUP": "the terminal has gone; nothing was written",
}
SHOW_CURSOR = "\033[?25h"  # hidden by progress bars
BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader of the output ended, as `head` does
_commands = 0  # number running
_last: KeyboardInterrupt | None = None


class Ended(KeyboardInterrupt):
    """A signal that ends the process, anywhere."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def install() -> None:
    """Handle the signals that are not ignored already, as SIGHUP is under nohup."""
    for name in SENTENCES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _received)


@contextmanager
def command() -> Iterator[None]:
    """Turn signals into exceptions during the block, so that it may clean up."""
    global _commands  # noqa: PLW0603 - a process has its signals once
    _commands += 1
    try:
        yield
    finally:
        _commands -= 1


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interruption behind `error`, possibly converted by compiled code; else None."""
    return error if isinstance(error, KeyboardInterrupt) else _last


def end_of(error: KeyboardInterrupt) -> tuple[str, int]:
    """Return the sentence and the exit code of an interruption."""
    number = error.number if isinstance(error, Ended) else signal.SIGINT
    return SENTENCES[signal.Signals(number).name], 128 + number


def _received(number: int, frame: FrameType | None) -> None:
    global _last  # noqa: PLW0603
    error = _last = Ended(number)
    if not _commands or _is_importing(frame):
        _end_now(error)
    raise error


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:  # ends: at the outermost call
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_now(error: Ended) -> NoReturn:
    """End the process without unwinding; remove its temporary files."""
    sentence, code = end_of(error)
    abandon = getattr(sys.modules.get("prunec.files.scratch"), "abandon", None)  # None while it is being imported
    if abandon is not None:
        abandon()
    try:
        os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}{sentence}\n".encode())
    finally:
        os._exit(code)
