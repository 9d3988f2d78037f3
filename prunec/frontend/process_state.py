"""Restore the settings of the process: random states, threads, denormals, precision, logging, warnings.

Passes, torch's exporters and the user's forward may change them, and an exception may come between.
"""

from __future__ import annotations

import logging
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch

from ..device import precision_restored


@contextmanager
def kept_process_state() -> Iterator[None]:
    """Restore the settings of the process when the block ends; also a decorator."""
    with ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        for restore in _restores():
            undo.callback(restore)
        yield


def flushes_denormals() -> bool:
    """Return whether this thread flushes denormals to zero (torch has no getter)."""
    return sys.float_info.min / 2 == 0.0


def _restores() -> Iterator[Callable[[], object]]:
    """Yield a function per setting that restores its present value."""
    yield partial(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():
        yield partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    yield partial(np.random.set_state, np.random.get_state())
    yield partial(random.setstate, random.getstate())
    yield partial(_set_threads, torch.get_num_threads())
    yield partial(torch.set_flush_denormal, flushes_denormals())
    yield partial(torch.set_default_dtype, torch.get_default_dtype())
    yield partial(torch.set_grad_enabled, torch.is_grad_enabled())
    yield precision_restored()
    yield partial(logging.disable, logging.root.manager.disable)
    yield partial(setattr, sys, "stdout", sys.stdout)
    yield partial(setattr, sys, "stderr", sys.stderr)


def _set_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
