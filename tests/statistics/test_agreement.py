"""The agreement of two networks: same answers, intervals against known values, relative error, KL."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prunec.errors import NumericsError
from prunec.statistics.agreement import (
    Agreement,
    agreements_of,
    same_class,
    scores_in,
    t95,
    t_interval,
    wilson,
)
from prunec.statistics.relative import relative_error


class Fixed(nn.Module):
    """A network that gives what a function makes of its input."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> object:
        """The answer."""
        return self.answer(x)


def compared(dense: Callable[[Tensor], object], other: Callable[[Tensor], object], x: Tensor) -> Agreement:
    return agreements_of(Fixed(dense), [Fixed(other)], [(part,) for part in x.split(7)])[0]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [(47, 50, 0.8378, 0.9794), (10, 100, 0.0552, 0.1744), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0),
     (81, 263, 0.2553, 0.3662)],
)  # fmt: skip
def test_wilson_gives_the_published_intervals(correct: int, count: int, low: float, high: float) -> None:
    assert wilson(correct / count, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(8, 2.30600), (15, 2.13145), (31, 2.03951), (101, 1.98373), (1000, 1.96234)]
)
def test_the_quantiles_of_t_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t95(freedom) == pytest.approx(quantile, rel=1e-3)


def test_classes_are_compared_image_by_image() -> None:
    x = normal(40, 5)
    moved = x.clone()
    moved[:4] = -moved[:4]  # the largest becomes the smallest
    found = compared(lambda one: one, lambda one: moved[[int((x == row).all(1).nonzero()) for row in one]], x)
    assert (found.images, found.agreement, found.answers) == (40, 0.9, "the largest of 5 scores")
    assert found.interval == wilson(0.9, 40)
    assert found.relative_error == pytest.approx(relative_error([[moved]], [[x]], [40]))
    expected = functional.kl_div(moved.log_softmax(1), x.log_softmax(1), reduction="batchmean", log_target=True)
    assert found.kl == pytest.approx(float(expected))


def test_the_interval_of_pixels_is_over_images() -> None:
    scores, other = normal(20, 3, 8, 8), normal(20, 3, 8, 8, seed=1)
    scores[:10], scores[10:] = 0.2 * scores[:10] + other[:10], 2 * scores[10:] + other[10:]
    found = compared(lambda one: one[:, 0], lambda one: one[:, 1], torch.stack([scores, other], 1))
    each = np.array([float((a.argmax(0) == b.argmax(0)).double().mean()) for a, b in zip(scores, other, strict=True)])
    half = t95(19) * each.std(ddof=1) / math.sqrt(20)
    assert found.answers == "the largest of 3 scores at each position"
    assert found.agreement == pytest.approx(each.mean())
    assert found.interval == pytest.approx((each.mean() - half, each.mean() + half))
    assert half > 2 * (wilson(each.mean(), 20 * 64)[1] - each.mean())  # pixels of an image are no independent trials


def test_images_that_are_all_alike_still_have_an_interval() -> None:
    assert t_interval(np.ones(32)) == wilson(1.0, 32)


@pytest.mark.parametrize(
    ("shape", "word"),
    [((8,), "no output holds scores"), ((8, 1), "the output [N, 1]"), ((8, 100, 85), "the output [N, 100, 85]"),
     ((16, 10), "the output [16, 10]")],
)  # fmt: skip
def test_outputs_that_are_no_scores_of_classes_have_no_answers(shape: tuple[int, ...], word: str) -> None:
    place, reason = scores_in([torch.zeros(shape)], 8)
    assert place is None
    assert reason.startswith(word)


def test_without_scores_the_relative_error_remains() -> None:
    found = compared(lambda one: one[:, :1], lambda one: one[:, :1] + 0.1, normal(20, 4))
    assert (found.agreement, found.interval, found.kl) == (None, None, None)
    assert 0 < found.relative_error < 0.1
    assert "it has no answers" in found.answers


def test_the_first_scores_are_read_of_several_outputs() -> None:
    x = normal(20, 4)
    found = compared(lambda one: {"n": one[:, 0], "y": one}, lambda one: {"n": one[:, 0] + 1, "y": one}, x)
    assert (found.agreement, found.kl) == (1.0, 0.0)
    assert found.relative_error > 0


def test_a_tie_of_the_dense_network_is_no_other_answer() -> None:
    assert same_class(np.array([[1.0, 1.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])).all()


def test_probabilities_are_not_put_through_softmax_again() -> None:
    x, y = normal(20, 4), normal(20, 4, seed=1)
    both = torch.stack([x, y], 1)
    logits = compared(lambda one: one[:, 0], lambda one: one[:, 1], both)
    found = compared(lambda one: one[:, 0].softmax(1), lambda one: one[:, 1].softmax(1), both)
    assert found.kl == pytest.approx(logits.kl)


def test_a_class_that_is_ruled_out_adds_no_divergence() -> None:
    x = normal(20, 4)
    masked = torch.tensor([0.0, 0.0, 0.0, -math.inf], dtype=torch.float64)
    found = compared(lambda one: one + masked, lambda one: 0.9 * one + masked, x)
    assert found.kl is not None
    assert 0 < found.kl < 0.1
    certain = compared(lambda one: one.softmax(1), lambda one: functional.one_hot(one.argmax(1), 4).to(one), x)
    assert certain.kl == math.inf


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(NumericsError, match="NaN or infinity"):
        compared(lambda one: one, lambda one: one / 0, normal(20, 4))


def test_several_networks_are_compared_with_one_run_of_the_dense_network() -> None:
    seen: list[int] = []

    def dense(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x

    x = normal(20, 5)
    others = [Fixed(lambda x: x + 0.1), Fixed(lambda x: -x)]
    found = agreements_of(Fixed(dense), others, [(part,) for part in x.split(7)])
    assert seen == [7, 7, 6]
    alone = [agreements_of(Fixed(lambda x: x), [other], [(part,) for part in x.split(7)]) for other in others]
    assert [[one] for one in found] == alone
    assert found[0] != found[1]
