"""Run independent steps of one stage side by side: batches, folds, forks.

There is one level of threads. Steps divide the threads that torch may use, and a stage inside a step runs in turn.
Results come in the order of the steps, so a sum over them does not depend on the threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # steps taken ahead for each worker
_here = threading.local()


def each(function: Callable[[T], R], steps: Iterable[T], count: int | None = None) -> list[R]:
    """Return `function` of each step, in order.

    `count` is the number of steps, if they are not a sequence; they are taken one by one, as workers become free.
    Raises what the first failing step raises, after all running ones have ended.
    """
    count = len(steps) if isinstance(steps, Sequence) else count
    threads = torch.get_num_threads()
    workers = threads if count is None else min(threads, count)
    if workers < 2 or getattr(_here, "inside", False) or torch.cuda.is_initialized():
        return [function(step) for step in steps]
    pool, share, gradients = _pool(), threads // workers, torch.is_grad_enabled()

    def run(step: T) -> R:
        _here.inside = True
        torch.set_num_threads(share)  # of this thread
        with torch.set_grad_enabled(gradients):
            return function(step)

    found: list[R] = []
    running: deque[Future[R]] = deque()
    try:
        for step in steps:
            if len(running) == AHEAD * workers:
                found.append(running.popleft().result())
            running.append(pool.submit(run, step))
        return found + [one.result() for one in running]
    finally:
        for one in running:
            one.cancel()
        wait(running)
        torch.set_num_threads(threads)  # of threads to come, too


def shares(tensor: Tensor) -> Sequence[Tensor]:
    """Return a tensor in parts along its first axis, one for each thread."""
    return tensor.chunk(torch.get_num_threads())


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="prunec")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
