"""Solvers give a solution or say why there is none: never zeros or NaN in the place of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from micro import three
from torch import Tensor, nn

import prunec
from prunec.channels.spaces import Split
from prunec.errors import NumericsError
from prunec.grammar.registry import STRATEGIES
from prunec.passes.selectors import pivoted_qr
from prunec.solvers import least_squares, lowrank, symmetric
from prunec.solvers.exchange import exchanged
from prunec.solvers.least_squares import Reader
from prunec.statistics.moments import Moments

RIDGE = 1e-3
SPLIT = Split((3,), (True,))
IMAGES = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def parts(one: Reader, split: Split) -> lowrank.Parts:
    return lowrank.Parts.of(lowrank.Layer(one.weight[0], one.covariance[0]), split, 4)


def rows(kind: str) -> Tensor:
    """Rows [n, 12] with a covariance that is hard to solve."""
    x = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    found: dict[str, Tensor] = {
        "rank deficient": x[:, :3] @ x[:3],
        "fewer rows than columns": x[:4],
        "one row": x[:1],
        "constant columns": x.clone().index_fill_(1, torch.tensor([0, 5]), 7.3),
        "all constant": torch.full_like(x, 7.3),
        "dead": torch.zeros_like(x),
        "tiny": x * 1e-8,
        "minute": x.double() * 1e-20,
        "huge": x * 1e8,
        "uneven": x * torch.logspace(-6, 6, 12),
        "large means": x + 1e4,
    }
    return found[kind]


KINDS = ["rank deficient", "fewer rows than columns", "one row", "constant columns", "all constant", "dead", "tiny"]
KINDS += ["minute", "huge", "uneven", "large means"]


def known(kind: str) -> Moments:
    found = Moments()
    for part in rows(kind).split(64):
        found.add(part[:, None], part[:, None] @ weight()[0].to(part).T)
    return found


def weight() -> Tensor:
    return torch.randn(1, 5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def reader(kind: str) -> Reader:
    return Reader(known(kind).covariance, weight(), torch.arange(12).reshape(6, 2))


SOLVERS: dict[str, Callable[[Reader], Any]] = {
    "backward": lambda one: least_squares.backward([one], RIDGE),
    "forward": lambda one: least_squares.forward([one], RIDGE),
    "along": lambda one: (least_squares.along([one], torch.arange(6), RIDGE),),
    "exchange": lambda one: exchanged([one], torch.arange(6), RIDGE, 2),
    "refit": lambda one: (least_squares.refit(one.covariance, one.weight, torch.arange(4), RIDGE),),
    "inverse": lambda one: (symmetric.inverse(symmetric.add_ridge(one.covariance, RIDGE)),),
    "pivoted qr": lambda one: (pivoted_qr._pivots([one], RIDGE),),
    "ranks": lambda one: (parts(one, SPLIT).errors(4),),
    "truncated": lambda one: (lowrank.truncated(one.weight[0], one.covariance[0], SPLIT, 2),),
    "principal": lambda one: (parts(one, Split((), ())).errors(4),),
    "wide": lambda one: (lowrank.truncated(one.weight[0].T @ one.weight[0], one.covariance[0], Split((), ()), 2),),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOLVERS)
def test_what_is_hard_to_solve_is_solved(name: str, kind: str) -> None:
    found = SOLVERS[name](reader(kind))
    assert all(bool(value.isfinite().all()) for value in found)
    errors = found[-1] if name in ("backward", "forward", "along", "exchange", "ranks", "principal") else torch.zeros(1)
    assert -1e-9 <= float(errors.min()) <= float(errors.max()) < 1.1


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_is_refused(name: str, value: float) -> None:
    one = reader("tiny")
    one.covariance[0, 3, 3] = value
    with pytest.raises(NumericsError, match="holds NaN or infinity"):
        SOLVERS[name](one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequential_fit_gives_what_the_dense_layer_gave(kind: str) -> None:
    moments, zero = known(kind), torch.zeros(1, 5, dtype=torch.float64)
    fitted, bias = STRATEGIES["compensators"].make("sequential").fit(moments, weight(), zero)
    assert float(fitted.abs().max()) < 10
    wanted = moments.mean_y
    given = (fitted @ moments.mean_z[:, :, None])[..., 0] + bias
    assert float((given - wanted).abs().max()) <= 1e-6 * float(1 + wanted.abs().max())


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e8])
def test_scale_changes_no_order_and_no_error(scale: float) -> None:
    one = reader("large means")
    other = Reader(one.covariance * scale**2, one.weight, one.columns)
    for solved in (least_squares.backward, least_squares.forward):
        order, errors = solved([one], RIDGE)
        again, scaled = solved([other], RIDGE)
        assert torch.equal(again, order)
        torch.testing.assert_close(scaled, errors, rtol=1e-6, atol=1e-9)


def test_an_inverse_is_one_and_is_symmetric() -> None:
    gram = symmetric.add_ridge(known("uneven").covariance, RIDGE)
    found = symmetric.inverse(gram)
    torch.testing.assert_close(found @ gram, torch.eye(12).double()[None], rtol=0, atol=1e-9)
    assert torch.equal(found, found.mT)


def test_only_the_matrix_that_needs_it_gets_a_ridge() -> None:
    gram = torch.stack([torch.eye(3), torch.ones(3, 3)]).double()
    first, second = symmetric.cholesky(gram)
    assert torch.equal(first, torch.eye(3).double())
    assert float((second @ second.T - gram[1]).abs().max()) < 1e-5


def test_a_matrix_that_no_ridge_helps_is_refused_with_advice() -> None:
    with pytest.raises(NumericsError, match=r"a system of 2 unknowns cannot be solved.*give more images, or a larger"):
        symmetric.solve(torch.tensor([[[1.0, 5.0], [5.0, 1.0]]]).double(), torch.ones(1, 2, 1).double())


def test_values_too_large_to_square_name_the_layer() -> None:
    network = three(6, 6, 6)
    first, second = (layer for layer in list(network)[:3:2])
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    with torch.no_grad():
        first.weight.mul_(1e25)
        second.weight.mul_(1e-25)
    with pytest.raises(NumericsError, match="the layer 2 reads of the calibration images holds NaN or infinity"):
        prunec.compress(network, IMAGES, target="macs:0.7", align="none")
