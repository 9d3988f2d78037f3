"""Pin the threads of a benchmark to cores for a while.

A thread that moves loses its caches. The least busy cores are used, and one hardware thread per core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import SpecError

LOOK_SECONDS = 0.1
IDLE = (3, 4)  # fields of a line of /proc/stat: idle, and waiting for a disk


def parse(text: str, threads: int) -> tuple[int, ...] | None:
    """Parse cores: `0,2`; `auto` for as many as `threads`; `none`, which gives None.

    Raises SpecError for cores that this process may not use, or a system that cannot pin.
    """
    if text == "none" or (text == "auto" and not can_pin()):
        return None
    if text == "auto":
        return quietest(threads)
    if not can_pin():
        raise SpecError(f"this system cannot pin threads to cores: leave --pin {text} out")
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise SpecError(f"--pin '{text}' is no list of cores: write for instance --pin 0,1, or auto, or none")
    cores, allowed = tuple(int(part) for part in text.split(",")), os.sched_getaffinity(0)
    if not set(cores) <= allowed:
        raise SpecError(f"--pin {text} names a core that is not among those allowed here, {sorted(allowed)}")
    return cores


def can_pin() -> bool:
    """Return whether this system can pin threads."""
    return hasattr(os, "sched_setaffinity")


def quietest(count: int) -> tuple[int, ...]:
    """Return the `count` least busy of the allowed cores, one hardware thread a core first."""
    allowed = sorted(os.sched_getaffinity(0))
    idle = _idle(allowed)
    order = sorted(allowed, key=lambda core: (_place_in_core(core), -idle.get(core, 0), core))
    return tuple(sorted(order[:count]))


@contextmanager
def pinned(cores: Sequence[int] | None) -> Iterator[None]:
    """Pin every thread of this process, and new ones, to `cores` inside the block. None leaves them as they are."""
    if cores is None:
        yield
        return
    before = _affinities()
    everywhere = os.sched_getaffinity(0)
    try:
        _move(_threads(), {}, set(cores))
        yield
    finally:
        _move(_threads(), before, everywhere)


def _move(threads: Sequence[int], cores: dict[int, set[int]], otherwise: set[int]) -> None:
    for thread in threads:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(thread, cores.get(thread, otherwise))


def _affinities() -> dict[int, set[int]]:
    """Return the allowed cores of each thread."""
    found = {}
    for thread in _threads():
        with suppress(ProcessLookupError):  # it has just ended
            found[thread] = os.sched_getaffinity(thread)
    return found


def _threads() -> list[int]:
    """Return the thread numbers of this process; 0, the calling thread, if unknown."""
    tasks = Path("/proc/self/task")
    return [int(each.name) for each in tasks.iterdir()] if tasks.is_dir() else [0]


def _idle(cores: Sequence[int]) -> dict[int, int]:
    """Return the idle ticks of each core in a tenth of a second."""
    before = _ticks()
    time.sleep(LOOK_SECONDS)
    after = _ticks()
    return {core: after[core] - before[core] for core in cores if core in before and core in after}


def _ticks() -> dict[int, int]:
    path = Path("/proc/stat")
    rows = (line.split() for line in path.read_text().splitlines() if line.startswith("cpu")) if path.is_file() else ()
    return {int(row[0][3:]): sum(int(row[1 + field]) for field in IDLE) for row in rows if row[0] != "cpu"}


def _place_in_core(core: int) -> int:
    """Return 0 for the first hardware thread of a core, 1 for others."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    if not path.is_file():
        return 0
    first, *_ = path.read_text().strip().replace("-", ",").split(",")
    return int(core != int(first))
