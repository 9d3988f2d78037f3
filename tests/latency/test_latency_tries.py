"""Several noisy races of networks near a target in milliseconds: what they say together, and when they end."""

from __future__ import annotations

import numpy as np
import pytest

from prunec.latency.tries import Tries, Try


def raced(count: int, true: float, correction: float = 1.0, unsure: float = 0.005) -> Try:
    """Simulate a race of a network of `channels` at 10 ns each in the table."""
    return Try(correction, np.array([count]), 10.0 * count, true, true / 1e6, true / 200, unsure)


def test_races_are_believed_together() -> None:
    """The table is 10% low, races vary by 3%, the target is 100 ns: 9 channels take 99."""
    tries = Tries(100.0, [raced(20, 220.0)])
    assert tries.correction == pytest.approx(1.1)
    tries.each.extend([raced(9, 102.0, 1.1), raced(9, 96.0, 1.1), raced(10, 107.0, 1.07)])
    assert tries.correction == pytest.approx(1.09, abs=0.01)  # the first was far away
    assert tries.best.counts == 9
    assert tries.report()["off"] == pytest.approx(-0.02, abs=0.01)
    assert not tries.over
    tries.each.append(raced(9, 104.0, 1.09))
    assert tries.report()["off"] == pytest.approx(-0.005, abs=0.002)
    assert tries.report()["share"] == pytest.approx(tries.report()["ms"] * 1e6 / 200)
    assert not tries.over  # they differ too much
    tries.each.extend([raced(9, 100.0, 1.1), raced(9, 99.0, 1.1), raced(9, 100.0, 1.1)])
    assert tries.over


def test_races_end() -> None:
    """Another binding budget repeats the widths, and the search ends far from the target."""
    assert not Tries(100.0, [raced(5, 55.0)]).over
    assert Tries(100.0, [raced(5, 55.0), raced(5, 54.0, 1.1)]).over
    assert Tries(100.0, [raced(9, 97.0), raced(9, 98.0), raced(9, 93.0)] * 6).over
    assert Tries(100.0, [raced(9, 140.0)]).known_to_be_slow(np.array([9]))
    assert not Tries(100.0, [raced(9, 90.0)]).known_to_be_slow(np.array([9]))


def test_races_that_were_disturbed_count_for_little_and_more_are_run() -> None:
    """9 channels take 99 ns; one disturbed race reports 115, uncertain enough for 100."""
    quiet = [raced(9, 98.0, 1.1), raced(9, 100.0, 1.1)]
    loud = Tries(100.0, [*quiet, raced(9, 115.0, 1.1, unsure=0.1)])
    assert loud.correction == pytest.approx(1.1, rel=0.01)
    assert not loud.over
    assert loud.unsure < 0.025  # the other two differ by 2%, this one by 16%
    loud.each.append(raced(9, 99.0, 1.1))
    assert loud.over
    differ = [raced(9, 93.0, 1.1), raced(9, 107.0, 1.1), raced(9, 99.0, 1.1)]
    assert Tries(100.0, differ).unsure > 0.035  # more than each says of itself
    assert not Tries(100.0, differ).over
    assert not Tries(100.0, [raced(9, 110.0, unsure=0.1)]).known_to_be_slow(np.array([9]))
