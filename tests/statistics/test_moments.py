"""Covariances that few rows tell little about: shrunk, and fits that hold on other rows."""

from __future__ import annotations

import pytest
import torch
from micro import three
from torch import Tensor

import prunec
from prunec.grammar.registry import STRATEGIES
from prunec.report.console import outcome_table
from prunec.solvers import least_squares
from prunec.statistics.moments import ENOUGH, Moments, positions_per_sample

WIDTH = 60


def drawn(rows: int, seed: int, width: int = WIDTH) -> Tensor:
    """Rows with the covariance diag(1, 1/2, 1/3 …) in a fixed rotation."""
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0)))[0]
    scale = (1 / torch.arange(1, width + 1)).sqrt()
    white = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    found: Tensor = (white * scale) @ turn
    return found


def moments(rows: Tensor, targets: Tensor | None = None) -> Moments:
    found = Moments()
    found.add(rows[:, None], None if targets is None else targets[:, None])
    return found


def truth() -> Tensor:
    return moments(drawn(400_000, 1)).zz[0]


@pytest.mark.parametrize("rows", [15, 30, 60, ENOUGH * WIDTH - 1])
def test_shrunk_where_rows_are_few_and_nearer_the_truth(rows: int) -> None:
    wanted, shares, gained = truth(), [], 0.0
    for seed in range(2, 7):
        known = moments(drawn(rows, seed))
        shares.append(float(known.shrinkage[0]))
        gained += float((known.zz[0] - wanted).square().sum() - (known.covariance[0] - wanted).square().sum())
        assert float(torch.linalg.eigvalsh(known.covariance[0])[0]) > 0
        torch.testing.assert_close(known.covariance[0].trace(), known.zz[0].trace())
    assert gained > 0
    assert 0 < min(shares) <= max(shares) < 1


def test_as_it_is_where_there_are_rows_enough_and_a_multiple_of_one_where_all_columns_are_alike() -> None:
    known = moments(drawn(ENOUGH * WIDTH, 3))
    assert torch.equal(known.covariance, known.zz)
    alike = Moments()
    alike.add(torch.eye(4)[:, None].repeat(1, 1, 1))
    assert torch.isfinite(alike.covariance).all()


def test_each_group_by_itself() -> None:
    both = Moments()
    first, second = drawn(40, 4), 10 * torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(5))
    both.add(torch.stack([first, second], 1))
    torch.testing.assert_close(both.covariance[0], moments(first).covariance[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both.covariance[1], moments(second).covariance[0], rtol=1e-5, atol=1e-5)
    assert both.shrinkage[0] < both.shrinkage[1]  # white noise is all that its mean variance tells


def test_a_fit_to_few_rows_holds_on_others() -> None:
    """A reader of 60 columns loses half of them, with 40 rows known: what is predicted, and what is fitted."""
    weight = torch.randn(1, 10, WIDTH, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    kept, rows, others = torch.arange(0, WIDTH, 2), drawn(40, 7), drawn(4000, 8).double()
    known = moments(rows, rows @ weight[0].float().T)
    wanted = others @ weight[0].T

    def error(fitted: Tensor) -> float:
        return float((others[:, kept] @ fitted[0].T - wanted).square().sum() / wanted.square().sum())

    plain, shrunk = (least_squares.refit(one, weight, kept, 1e-3) for one in (known.zz, known.covariance))
    assert error(shrunk) < error(plain)
    narrow = moments(rows[:, kept], rows @ weight[0].float().T)
    fitted, _ = STRATEGIES["compensators"].make("sequential").fit(narrow, weight[:, :, kept], torch.zeros(1, 10))
    assert error(fitted) < error(plain)


def test_the_report_names_layers_that_the_images_were_too_few_for() -> None:
    network = three(8, 8, 8)
    some = prunec.compress(network, torch.randn(32, 3, 12, 12), target="macs:0.7").report
    # an eighth of the images is left to choose by
    (few,) = some["notes"]["calibrate"]["fewer_rows_than_columns"]
    assert few == {"layer": "7", "rows": 28, "columns": 8 * 144}
    assert "7 saw 28 samples of 1,152 inputs" in str(outcome_table(some, "a network").caption).replace("\n", " ")
    full = prunec.compress(network[:6], torch.randn(32, 3, 12, 12), target="macs:0.7").report
    assert not full["notes"]["calibrate"]["fewer_rows_than_columns"]


def summed(rows: Tensor, targets: Tensor | None = None, batch: int = 500) -> Moments:
    found = Moments()
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        found.add(rows[part, None], None if targets is None else targets[part, None])
    return found


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("mean", [300, 3000, 30_000, 100_000])  # deviations
@pytest.mark.parametrize("level", [1e-8, 1.0, 1e8])
def test_a_mean_far_above_the_deviation_costs_no_digits(mean: int, level: float) -> None:
    """The rows themselves are float32, so it is their own covariance that is wanted."""
    generator = torch.Generator().manual_seed(0)
    z = (torch.randn(4000, 8, generator=generator) + mean) * level
    y = z @ torch.randn(8, 3, generator=generator) + level * torch.randn(4000, 3, generator=generator)
    known, both = summed(z, y), torch.cov(torch.cat([z, y], 1).double().T, correction=0)
    assert off(known.zz[0], both[:8, :8]) < 1e-5
    assert off(known.zy[0], both[:8, 8:]) < 1e-5
    assert off(known.variance_y[0], both.diagonal()[8:]) < 1e-5
    assert off(known.mean_z[0], z.double().mean(0)) < 1e-9
    assert off(known.mean_y[0], y.double().mean(0)) < 1e-9
    assert float(torch.linalg.eigvalsh(known.covariance[0]).min()) > 0


def test_the_first_rows_may_be_unlike_the_rest() -> None:
    """They give the shift: blank images before others, and one row that comes alone."""
    z = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)) + 300
    for blank in (1, 500):
        rows = torch.cat([torch.zeros(blank, 8), z])
        known = summed(rows[:blank], batch=blank)
        for start in range(blank, len(rows), 500):
            known.add(rows[start : start + 500, None])
        assert off(known.zz[0], torch.cov(rows.double().T, correction=0)) < 1e-5


def test_double_stays_double_and_half_is_summed_in_single() -> None:
    z = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e7
    assert off(summed(z).zz[0], torch.cov((z - 1e7).T, correction=0)) < 1e-6
    narrow = (torch.randn(2000, 8, generator=torch.Generator().manual_seed(0)) * 100).half()  # squares exceed 65,504
    assert off(summed(narrow).zz[0], torch.cov(narrow.double().T, correction=0)) < 1e-5


def test_what_is_saved_brings_everything_back() -> None:
    known, again = summed(drawn(100, 1) + 300, drawn(100, 2)), Moments()
    for name, value in known.sums().items():
        again.restore(name, value)
    for name in ("count", "mean_z", "mean_y", "zz", "zy", "variance_y"):
        assert torch.equal(torch.as_tensor(getattr(known, name)), torch.as_tensor(getattr(again, name)))


def test_rows_may_be_added_after_the_covariance_was_read() -> None:
    rows, targets = drawn(400, 1), drawn(400, 2)
    rows[:, 3] = 7.3  # a constant
    known = summed(rows[:150], targets[:150])
    assert not bool(known.zz[0, 3].any())
    known.add(rows[150:, None], targets[150:, None])
    wanted = summed(rows, targets)
    for name in ("zz", "zy", "covariance"):
        torch.testing.assert_close(getattr(known, name), getattr(wanted, name), rtol=1e-5, atol=1e-7)
    assert not bool(known.zz[0, :, 3].any())


@pytest.mark.parametrize(
    ("columns", "samples", "each"),
    [(768, 750, 22), (4608, 1000, 56), (64, 1000, 17), (9, 750, 4), (9, 10_000, 1), (27, 4, 1728)],
)
def test_positions_of_a_narrow_layer_are_few(columns: int, samples: int, each: int) -> None:
    """At least twelve rows per column and 16,384 in all; at most 256 per column."""
    assert positions_per_sample(columns, 16384, samples) == each
