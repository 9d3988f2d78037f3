"""Steps run side by side: in order, on one level of threads, with the settings of the caller."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

import prunec
from prunec.ir.parallel import AHEAD, each

WORKERS = 2


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(WORKERS)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_from_several_threads() -> None:
    meeting = threading.Barrier(WORKERS, timeout=60)  # passes only if two steps run at once

    def step(number: int) -> tuple[int, str]:
        meeting.wait()
        return number, threading.current_thread().name

    found = each(step, range(6))
    assert [number for number, _ in found] == list(range(6))
    assert len({name for _, name in found}) == WORKERS


@pytest.mark.usefixtures("two_threads")
def test_a_step_computes_with_its_share_and_a_stage_inside_runs_in_turn() -> None:
    def inner(_: int) -> str:
        return threading.current_thread().name

    def step(_: int) -> tuple[int, bool, str, list[str]]:
        return torch.get_num_threads(), torch.is_grad_enabled(), threading.current_thread().name, each(inner, range(3))

    with torch.no_grad():
        found = each(step, range(2))
    assert [(threads, gradients) for threads, gradients, _, _ in found] == [(1, False)] * 2
    assert all(inside == [name] * 3 for _, _, name, inside in found)
    assert torch.get_num_threads() == WORKERS


@pytest.mark.usefixtures("two_threads")
def test_the_first_failure_is_raised_after_running_steps_have_ended() -> None:
    ended = []

    def step(number: int) -> None:
        if number == 1:
            raise ValueError("step 1")
        ended.append(number)

    with pytest.raises(ValueError, match="step 1"):
        each(step, range(100))
    count = len(ended)
    assert count < 100
    assert each(lambda number: number, range(3)) == [0, 1, 2]
    assert len(ended) == count, "a step of the failed stage still ran"


@pytest.mark.usefixtures("two_threads")
def test_steps_are_taken_as_workers_become_free() -> None:
    taken: list[int] = []
    done: list[int] = []

    def steps() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            assert len(taken) - len(done) <= AHEAD * WORKERS + 1
            yield number

    each(done.append, steps(), 20)
    assert sorted(done) == list(range(20))


def test_one_thread_runs_in_turn() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert set(each(lambda _: threading.current_thread().name, range(3))) == {threading.current_thread().name}
    finally:
        torch.set_num_threads(before)


def test_the_plan_does_not_depend_on_the_threads() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d
    model = torch.nn.Sequential(
        *(conv(3, 12, 3, padding=1), torch.nn.ReLU(), conv(12, 16, 3, stride=2), torch.nn.ReLU()),
        *(conv(16, 16, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 10)),
    ).eval()
    images = torch.randn(96, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    before, found = torch.get_num_threads(), []
    for threads in (1, WORKERS):
        torch.set_num_threads(threads)
        found.append(prunec.compress(model, images, target="macs:0.5"))
    torch.set_num_threads(before)
    one, two = (result.module.state_dict() for result in found)
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-4)
