"""Run models in turn, so that load, heat, caches and order affect all alike.

Two models run ABBA BAAB, three ABCCBA BCAACB CABBAC: a block runs forth and back, the next starts one model later. At
its turn each model runs twice and the second run is timed: in the first the caches hold the others' weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .statistics import Times

WARM_UP_SECONDS, WARM_UP_BLOCKS = 0.2, 5  # as trtexec: at least 200 ms and 10 runs
WALL = "wallMs"  # whole run by the host's clock

Stages = Mapping[str, float]
Run = Callable[[], Stages]  # a whole run, over when it returns; the parts of it that were timed, in ms
Samples = Mapping[str, Times]  # by name, each run's time in ms; `WALL` always


def race(runs: Sequence[Run], blocks: Iterable[int], warm_up: float = WARM_UP_SECONDS) -> tuple[Samples, ...]:
    """Return the samples of each model, two a block, paired by index.

    All are warmed up first, for `warm_up` seconds and ten runs; then the clock of `blocks` starts. Without rotation B
    would be favoured.
    """
    for _ in until(warm_up, WARM_UP_BLOCKS):
        for run in (*runs, *runs):
            run()
    taken: list[list[Stages]] = [[] for _ in runs]
    for block in blocks:
        first = block % len(runs)
        order = [*range(first, len(runs)), *range(first)]
        for place in (*order, *reversed(order)):
            taken[place].append(timed(runs[place]))
    return tuple(_columns(rows) for rows in taken)


def until(seconds: float, blocks: int) -> Iterator[int]:
    """Count until both the time and the number have passed."""
    end, done = time.perf_counter() + seconds, 0
    while done < blocks or time.perf_counter() < end:  # ends: the clock only moves on
        yield done
        done += 1


def timed(run: Run) -> Stages:
    """Run twice; return the second run's wall time and stages in ms."""
    run()
    start = time.perf_counter_ns()
    stages = run()
    return {**stages, WALL: max(time.perf_counter_ns() - start, 1) / 1e6}


def _columns(rows: Sequence[Stages]) -> Samples:
    return {name: tuple(row[name] for row in rows) for name in rows[0]}
