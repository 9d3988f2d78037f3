"""Selectors on layers small enough to know: a permutation, an error that does not fall, and what is useless first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from prunec.errors import PassError
from prunec.grammar.registry import STRATEGIES
from prunec.selection.evidence import Evidence
from prunec.solvers import least_squares
from prunec.solvers.exchange import _prices
from prunec.solvers.least_squares import Reader
from prunec.statistics.facts import Curve

NAMES = ("obs", "obs{swap=3}", "cap", "lasso", "pivoted-qr", "kmeans")


@dataclass(frozen=True)
class _Named:
    name: str = "imagined"


@dataclass(frozen=True)
class _Known:
    """Facts of a space that a selector reads."""

    readers: list[Reader]
    producers: list[Tensor]
    space: _Named = _Named()


def curve(name: str, readers: list[Reader], producers: list[Tensor]) -> Curve:
    known = cast(Evidence, _Known(readers, producers))
    found: Curve = STRATEGIES["selectors"].make(name).curve(known)
    return found


def reader(x: Tensor, outputs: int, block: int = 1, weight: Tensor | None = None) -> Reader:
    """One reader of centred inputs [rows, size · block]."""
    x = x - x.mean(0)
    generator = torch.Generator().manual_seed(7)
    drawn = torch.randn(1, outputs, x.shape[1], generator=generator, dtype=torch.float64)
    columns = torch.arange(x.shape[1]).reshape(-1, block)
    return Reader((x.T @ x / len(x))[None], drawn if weight is None else weight, columns)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_is_a_permutation_and_the_error_does_not_fall(name: str) -> None:
    mixed = normal(0, 300, 16) @ normal(1, 16, 16)
    readers = [reader(mixed, 5, block=2), reader(mixed[:, ::2], 3)]
    found = curve(name, readers, [normal(2, 8, 4, 3), normal(3, 8, 1, 5)])
    assert sorted(found.order.tolist()) == list(range(8))
    assert found.error.shape == (9,)
    assert float(found.error[0]) == 0.0
    assert bool((found.error.diff() >= -1e-9).all())
    assert float(found.error[-1]) > 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("block", [1, 2])
def test_a_duplicated_channel_goes_first_and_costs_nothing(name: str, block: int) -> None:
    x = normal(3, 500, 5, block) + 0.3 * normal(4, 500, 1, block)
    x = torch.cat([x, x[:, 2:3]], 1).flatten(1)
    weight = normal(5, 1, 4, 5, block)
    weight = torch.cat([weight, weight[:, :, 2:3]], 2).flatten(2)  # lasso scales what is read, and cannot mix it
    filters = normal(6, 5, 2, 3)
    found = curve(name, [reader(x, 4, block, weight)], [torch.cat([filters, filters[2:3]])])
    assert int(found.order[0]) in (2, 5)
    assert float(found.error[1]) < 1e-2
    assert float(found.error[2]) > 3 * float(found.error[1])


@pytest.mark.parametrize("name", ["obs", "cap", "lasso"])
def test_a_channel_that_is_not_read_goes_first(name: str) -> None:
    weight = normal(0, 1, 4, 6)
    weight[:, :, 3] = 0
    found = curve(name, [reader(normal(1, 400, 6), 4, weight=weight)], [normal(2, 6, 1, 3)])
    assert int(found.order[0]) == 3


def test_lasso_follows_the_path_of_independent_channels() -> None:
    """For diagonal Q, channel j is removed at m = Q_jj."""
    x = torch.linalg.qr(normal(0, 50, 5) - normal(0, 50, 5).mean(0)).Q
    weight = torch.diag(torch.tensor([3.0, 1.0, 5.0, 2.0, 4.0], dtype=torch.float64))[None]
    found = curve("lasso", [reader(x, 5, weight=weight)], [])
    assert found.order.tolist() == [1, 3, 0, 4, 2]


def test_pivoted_qr_looks_at_activations_and_not_at_weights() -> None:
    x = normal(1, 400, 6)
    orders = [curve("pivoted-qr", [reader(x, 4, weight=normal(seed, 1, 4, 6))], []).order.tolist() for seed in range(3)]
    assert orders[0] == orders[1] == orders[2]


def test_pivoted_qr_gives_the_pivots_of_a_qr() -> None:
    x = normal(1, 60, 6) @ normal(2, 6, 6)
    centred, left, pivots = x - x.mean(0), list(range(6)), []
    while left:
        pivots.append(max(left, key=lambda place: float(centred[:, place].square().sum())))
        left.remove(pivots[-1])
        unit = centred[:, pivots[-1]] / centred[:, pivots[-1]].norm()
        centred = centred - unit[:, None] * (unit @ centred)
    order = STRATEGIES["selectors"].make("pivoted-qr{ridge=0}").curve(_Known([reader(x, 4)], [])).order
    assert order.flip(0).tolist() == pivots


def test_kmeans_leaves_one_channel_of_each_cluster() -> None:
    centres = 10 * normal(0, 3, 8)
    filters = (centres.repeat_interleave(4, 0) + 0.1 * normal(1, 12, 8))[:, None]
    found = curve("kmeans", [reader(normal(2, 100, 12), 3)], [filters])
    assert sorted(place // 4 for place in found.order[-3:].tolist()) == [0, 1, 2]


def test_kmeans_says_that_it_needs_filters() -> None:
    with pytest.raises(PassError, match="choose a selector that needs no filters"):
        curve("kmeans", [reader(normal(0, 50, 4), 2)], [])


@pytest.mark.parametrize("name", ["lasso", "pivoted-qr", "kmeans"])
def test_dead_channels_and_constant_inputs_are_survived(name: str) -> None:
    x: Any = normal(0, 100, 6)
    x[:, [1, 4]] = 1.0
    found = curve(name, [reader(x, 3)], [torch.zeros(6, 1, 3, dtype=torch.float64)])
    assert sorted(found.order.tolist()) == list(range(6))
    assert bool(found.error.isfinite().all())


@pytest.mark.parametrize("seed", range(6))
def test_swaps_lower_the_error_at_a_level_and_never_raise_the_curve(seed: int) -> None:
    mixed = normal(seed, 300, 24) @ normal(seed + 10, 24, 24)
    readers = [reader(mixed, 5, block=2), reader(mixed[:, ::2], 3)]
    plain, swapped = (curve(name, readers, []) for name in ("obs", "obs{swap=12}"))
    torch.testing.assert_close(least_squares.along(readers, swapped.order, 1e-3), swapped.error)
    assert float(swapped.error.sum()) <= float(plain.error.sum()) + 1e-9
    for level in (3, 6, 9):
        assert float(swapped.error[level]) <= float(plain.error[level]) + 1e-9


def test_a_swap_finds_what_going_backwards_missed() -> None:
    found = []
    for seed in range(20):
        mixed = normal(seed, 300, 12) @ normal(seed + 100, 12, 12)
        plain, swapped = (curve(name, [reader(mixed, 4)], []) for name in ("obs", "obs{swap=12}"))
        found.append(float(swapped.error[6]) < 0.999 * float(plain.error[6]))
    assert any(found)


def test_the_prices_of_a_swap_are_steps_of_the_curve() -> None:
    one = reader(normal(0, 300, 16) @ normal(1, 16, 16), 5, block=2)
    order = torch.tensor([3, 1, 6, 0, 2, 7, 4, 5])
    errors = least_squares.along([one], order, 1e-3)
    gain, cost = _prices(one, order, 4, 1e-3)
    assert float(gain[-1]) == pytest.approx(float(errors[4] - errors[3]))
    assert float(cost[0]) == pytest.approx(float(errors[5] - errors[4]))
