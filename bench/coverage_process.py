"""Run one network of bench/coverage.py in its own process, with limited processor time.

A crash or a hang is a result; the row up to then is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import architectures
import torch

WAITING = 10  # times the limit by the clock, and a network waits for something
FORKING = threading.Lock()
Row = dict[str, Any]


class Clock:
    """Row with processor seconds of each stage, reported to `tell` at each.

    So a crash leaves the row up to then. Other processes do not count.
    """

    def __init__(self, tell: Callable[[Row], object]) -> None:
        self.row: Row = {"seconds": {}, "stage": "start"}
        self.tell, self.last = tell, time.process_time()

    def __call__(self, stage: str) -> None:
        """End a stage."""
        now = time.process_time()
        self.row["seconds"][stage], self.last = now - self.last, now
        self.row["stage"] = stage
        self.tell(self.row)


Side = Callable[[architectures.Architecture, Clock, bool], None]


def _child(side: Side, one: architectures.Architecture, onnx: bool, patience: int, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (patience, patience + 60))  # then SIGXCPU: neighbours do not count
    torch.set_num_threads(1)
    clock = Clock(pipe.send)
    row = clock.row
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    os.dup2(nowhere.fileno(), 2)  # what a crash prints; the row says what it was
    sys.stdout = sys.stderr = nowhere  # a thread of the parent that was printing holds the lock of its own for ever
    try:
        side(one, clock, onnx)
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{pathlib.Path(frame.filename).name}:{frame.lineno}"
        row["result"] = f"fail after {row['stage']}: {type(error).__name__}: {line[:160]} ({where})"
    pipe.send(row)
    pipe.close()


def isolated(side: Side, one: architectures.Architecture, onnx: bool, patience: int) -> Row:
    """Run one network in its own process of `patience` processor seconds; return its row."""
    context = multiprocessing.get_context("fork")
    with FORKING:  # a sibling forked before `send` is closed would hold it open, and a crash would look like a hang
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(side, one, onnx, patience, send))
        started = time.perf_counter()
        child.start()
        send.close()
    row: Row = {"name": one.name, "kind": one.kind, "size": one.size, "stage": "start"}
    try:
        while "result" not in row:
            left = started + WAITING * patience - time.perf_counter()
            late = {"result": f"hang after {row['stage']}: {WAITING * patience} s by the clock"}
            row |= receive.recv() if receive.poll(max(left, 0)) else late
    except EOFError:
        child.join()
        hung, ended = child.exitcode == -signal.SIGXCPU, f"exit code {child.exitcode}"
        row["result"] = f"hang after {row['stage']}: {patience} s" if hung else f"crash after {row['stage']}: {ended}"
    child.kill()
    child.join()
    receive.close()
    return row | {"total": time.perf_counter() - started}
