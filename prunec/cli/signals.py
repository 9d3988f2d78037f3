"""Ctrl-C, SIGTERM and SIGHUP: what is being written is removed, and the process ends with 128 + the signal.

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
SHOW_CURSOR = "\033[?25h"  # which progress bars hide
BROKEN_PIPE = 141  # 128 + SIGPIPE: who read the output has gone, as `head` does
_commands = 0  # that are running
_last: KeyboardInterrupt | None = None


class Ended(KeyboardInterrupt):
    """A signal that ends the process, wherever it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def install() -> None:
    """Listen to the signals that are not ignored already, as SIGHUP is under nohup."""
    for name in SENTENCES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _received)


@contextmanager
def command() -> Iterator[None]:
    """While the block runs, a signal is an exception, so that the block may clean up."""
    global _commands  # noqa: PLW0603 - a process has its signals once
    _commands += 1
    try:
        yield
    finally:
        _commands -= 1


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """The interruption that `error` is, or that compiled code has turned into `error`; None for any other error."""
    return error if isinstance(error, KeyboardInterrupt) else _last


def end_of(error: KeyboardInterrupt) -> tuple[str, int]:
    """The sentence and the exit code for an interruption."""
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
    """End the process without unwinding it; what it has under hidden names is removed."""
    sentence, code = end_of(error)
    abandon = getattr(sys.modules.get("prunec.files.scratch"), "abandon", None)  # none while that module is imported
    if abandon is not None:
        abandon()
    try:
        os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}{sentence}\n".encode())
    finally:
        os._exit(code)
