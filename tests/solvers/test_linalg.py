"""Laws of the solvers, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prunec.solvers import least_squares, symmetric
from prunec.solvers.least_squares import Reader

ORDERS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "backward": least_squares.backward,
    "forward": least_squares.forward,
}
RIDGE = 1e-9


def reader(seed: int, size: int = 6, block: int = 2, outputs: int = 5, groups: int = 1, extra: int = 0) -> Reader:
    generator = torch.Generator().manual_seed(seed)
    width = size * block + extra
    x = torch.randn(groups, 400, width, generator=generator, dtype=torch.float64)
    x = x @ torch.randn(groups, width, width, generator=generator, dtype=torch.float64)
    x = x - x.mean(1, keepdim=True)
    weight = torch.randn(groups, outputs, width, generator=generator, dtype=torch.float64)
    return Reader(x.mT @ x / 400, weight, torch.arange(size * block).reshape(size, block))


def compensated_error(one: Reader, gone: Tensor) -> float:
    """e(K) from its definition."""
    stays = torch.ones(one.covariance.shape[-1], dtype=torch.bool)
    stays[one.columns[gone].flatten()] = False
    kept = stays.nonzero().flatten()
    fitted = least_squares.refit(one.covariance, one.weight, kept, RIDGE)
    full = torch.zeros_like(one.weight)
    full[:, :, kept] = fitted
    difference = one.weight - full
    return float(((difference @ one.covariance) * difference).sum()) / one.variance


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("groups", "extra"), [(1, 0), (1, 3), (3, 0)])
def test_curve_is_the_error_of_the_exact_refit(order: str, groups: int, extra: int) -> None:
    readers = [reader(0, groups=groups, extra=extra), reader(1, block=1, groups=groups)]
    found, errors = ORDERS[order](readers, RIDGE)
    assert sorted(found.tolist()) == list(range(6))
    for gone in range(6):
        wanted = sum(compensated_error(one, found[:gone]) for one in readers)
        assert float(errors[gone]) == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    assert bool((errors.diff() >= -1e-12).all())


def test_the_error_along_a_given_order_is_that_of_the_exact_refit() -> None:
    readers = [reader(0, groups=3, extra=2), reader(1, block=1, groups=3)]
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    errors = least_squares.along(readers, order, RIDGE)
    for gone in range(6):
        wanted = sum(compensated_error(one, order[:gone]) for one in readers)
        assert float(errors[gone]) == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_many_coordinates_are_removed_together_and_nearly_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    one = reader(3, size=40)
    _, exact = least_squares.backward([one], RIDGE)
    monkeypatch.setattr(least_squares, "STEPS", 8)
    order, errors = least_squares.backward([one], RIDGE)
    assert sorted(order.tolist()) == list(range(40))
    for gone in (5, 20, 35):
        assert float(errors[gone]) == pytest.approx(compensated_error(one, order[:gone]), rel=1e-4, abs=1e-7)
        assert float(errors[gone]) < 1.1 * float(exact[gone]) + 1e-9


def test_backward_removes_the_cheapest_first() -> None:
    one = reader(2)
    order, _ = least_squares.backward([one], RIDGE)
    alone = [compensated_error(one, torch.tensor([place])) for place in range(6)]
    assert int(order[0]) == alone.index(min(alone))


@pytest.mark.parametrize("order", ORDERS)
def test_a_duplicated_channel_goes_first_and_costs_nothing(order: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(500, 5, generator=generator, dtype=torch.float64)
    x = torch.cat([x, x[:, 2:3]], 1)
    weight = torch.randn(1, 4, 6, generator=generator, dtype=torch.float64)
    one = Reader((x.T @ x / 500)[None], weight, torch.arange(6)[:, None])
    found, errors = ORDERS[order]([one], 1e-8)
    assert int(found[0]) in (2, 5)
    assert float(errors[1]) < 1e-6
    assert float(errors[2]) > 1e-3


def test_refit_with_everything_kept_is_the_weight() -> None:
    one = reader(4)
    torch.testing.assert_close(least_squares.refit(one.covariance, one.weight, torch.arange(12), 1e-14), one.weight)


def test_a_ridge_shrinks_an_absorbed_weight_towards_the_sliced_one() -> None:
    one, kept = reader(3), torch.arange(7)
    least, most = (least_squares.absorb(one.covariance, one.weight, kept, ridge) for ridge in (1e-14, 1e14))
    torch.testing.assert_close(least, least_squares.refit(one.covariance, one.weight, kept, 1e-14))
    torch.testing.assert_close(most, one.weight[:, :, kept])


def test_solve_survives_a_singular_gram() -> None:
    x = torch.randn(3, 8, dtype=torch.float64)
    gram = (x.T @ x)[None]
    solution = symmetric.solve(gram, gram @ torch.ones(8, 1, dtype=torch.float64))
    torch.testing.assert_close(gram @ solution, gram @ torch.ones(1, 8, 1, dtype=torch.float64), rtol=1e-2, atol=1e-2)
