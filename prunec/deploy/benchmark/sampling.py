"""Runs in turn: every model meets the same load, heat and caches, and no place in the order is always the same one's.

Two models run ABBA BAAB, three ABCCBA BCAACB CABBAC: a block goes there and back, the next begins one further on. At
its turn each runs twice and the second run is timed, as in use, where a model follows itself: the first finds the
caches full of the others' weights, which cost a 4 ms network 1% and the same compressed to 2.7 ms 3%.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .statistics import Times

WARM_UP_SECONDS, WARM_UP_BLOCKS = 0.2, 5  # as trtexec: 200 ms and 10 runs at least
WALL = "wallMs"  # what the host's clock says of a whole run

Stages = Mapping[str, float]
Run = Callable[[], Stages]  # a whole run, over when it returns; the parts of it that were timed, in ms
Samples = Mapping[str, Times]  # by name, each run's time in ms; `WALL` always


def race(runs: Sequence[Run], blocks: Iterable[int], warm_up: float = WARM_UP_SECONDS) -> tuple[Samples, ...]:
    """The samples of each, two a block; the i-th of one were taken beside the i-th of the others.

    All are warmed up first, for `warm_up` seconds and ten runs; the clock of `blocks` starts after. Always ABBA favours
    B: a 50 µs model seemed 0.5% faster than itself, in turn 0.3%.
    """
    for _ in until(warm_up, WARM_UP_BLOCKS):
        for run in (*runs, *runs):
            run()
    taken: list[list[Stages]] = [[] for _ in runs]
    for block in blocks:
        first = block % len(runs)
        order = [*range(first, len(runs)), *range(first)]
        for place in (*order, *reversed(order)):
            taken[place].append(_timed(runs[place]))
    return tuple(_columns(rows) for rows in taken)


def until(seconds: float, blocks: int) -> Iterator[int]:
    """Count until both the time and the number have passed."""
    end, done = time.perf_counter() + seconds, 0
    while done < blocks or time.perf_counter() < end:  # ends: the clock only moves on
        yield done
        done += 1


def _timed(run: Run) -> Stages:
    """One run after another: its wall time, and the stages that it tells of."""
    run()
    start = time.perf_counter_ns()
    stages = run()
    return {**stages, WALL: max(time.perf_counter_ns() - start, 1) / 1e6}


def _columns(rows: Sequence[Stages]) -> Samples:
    return {name: tuple(row[name] for row in rows) for name in rows[0]}
