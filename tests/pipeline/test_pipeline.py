"""Pipelines: checked before any work, held to their word after each step, watched by instruments."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import fx, nn

from prunec.errors import NumericsError, PassError, SpecError
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Instrument, Pass, Pipeline, Time, _note


@dataclass(frozen=True)
class Colour:
    value: int = 0


@dataclass(frozen=True)
class Shape:
    value: int = 0


def named(name: str) -> Callable[[type[Any]], type[Any]]:
    """Makes a pass think that it came from a file of that name."""

    def rename(kind: type[Any]) -> type[Any]:
        kind.__module__ = f"test_passes.{name}"
        return kind

    return rename


@named("paint")
@dataclass(frozen=True)
class Paint(Pass):
    value: int = 1
    provides = (Colour,)

    def run(self, program: Program, context: Context) -> Program:
        return program.knowing(Colour(self.value))


@named("carve")
@dataclass(frozen=True)
class Carve(Pass):
    requires = (Colour,)
    provides = (Shape,)

    def run(self, program: Program, context: Context) -> Program:
        return program.knowing(Shape(program.fact(Colour).value + 1))


@named("rebuild")
@dataclass(frozen=True)
class Rebuild(Pass):
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        return program.rewritten(traced())


@named("careless")
@dataclass(frozen=True)
class Careless(Pass):
    """Rewrites and forgets to forget; makes a new `Colour` without saying so."""

    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        return replace(program.knowing(Colour(9)), module=traced())


@named("mend")
@dataclass(frozen=True)
class Mend(Pass):
    """Rewrites, and promises that the shape still holds."""

    requires = (Shape,)
    provides = (Shape,)
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        return program.rewritten(traced(), program.fact(Shape))


@named("idle")
@dataclass(frozen=True)
class Idle(Pass):
    """Could rewrite, and finds nothing to do."""

    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        return program


@named("liar")
@dataclass(frozen=True)
class Liar(Pass):
    provides = (Colour, Shape)

    def run(self, program: Program, context: Context) -> Program:
        return program.knowing(Shape())


@named("sneak")
@dataclass(frozen=True)
class Sneak(Pass):
    def run(self, program: Program, context: Context) -> Program:
        return program.rewritten(traced())


@named("fail")
@dataclass(frozen=True)
class Fail(Pass):
    depth: int = 1

    def run(self, program: Program, context: Context) -> Program:
        raise ZeroDivisionError("by zero")


class Log(Instrument):
    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.events = name, events

    def before(self, step: Pass, program: Program) -> None:
        self.events.append(f"{self.name}<{step}")

    def after(self, step: Pass, before: Program, after: Program) -> None:
        self.events.append(f"{self.name}>{step}")


def traced() -> fx.GraphModule:
    return fx.symbolic_trace(nn.ReLU())


def program(*facts: object) -> Program:
    return Program(traced(), (torch.arange(6.0).reshape(2, 3),)).knowing(*facts)


def run(*passes: Pass, at: Program | None = None, instruments: tuple[Instrument, ...] = ()) -> Program:
    return Pipeline(passes).run(at or program(), Context(), instruments)


def test_facts_flow_and_history_is_kept() -> None:
    result = run(Paint(4), Carve())
    assert result.fact(Shape) == Shape(5)
    assert result.history == ("paint{value=4}", "carve")


def test_requirements_are_checked_before_any_work() -> None:
    events: list[str] = []
    with pytest.raises(SpecError, match="'carve' needs Colour, which no pass before it provides in rebuild,carve"):
        run(Rebuild(), Carve(), instruments=(Log("log", events),))
    assert not events


def test_what_the_program_knows_already_counts() -> None:
    assert run(Carve(), at=program(Colour(1))).fact(Shape) == Shape(2)
    Pipeline((Carve(),)).check([Colour])


def test_a_rewrite_forgets() -> None:
    with pytest.raises(SpecError, match="'carve' needs Colour"):
        Pipeline((Paint(), Rebuild(), Carve())).check()
    assert not run(Paint(), Rebuild()).facts


def test_a_rewrite_keeps_what_it_promises() -> None:
    result = run(Paint(), Carve(), Mend())
    assert result.facts == {Shape: Shape(2)}


def test_a_careless_rewrite_is_made_to_forget_what_is_stale() -> None:
    result = run(Careless(), at=program(Shape(1)))
    assert result.facts == {Colour: Colour(9)}


def test_a_rewrite_that_does_nothing_loses_nothing() -> None:
    assert run(Idle(), at=program(Shape(1))).fact(Shape) == Shape(1)


def test_a_broken_promise_is_the_fault_of_the_pass() -> None:
    with pytest.raises(PassError, match="'liar' promised Colour and did not provide it: a fault of the pass"):
        run(Liar())


def test_an_unannounced_rewrite_is_the_fault_of_the_pass() -> None:
    with pytest.raises(PassError, match="'sneak' changed the graph and does not say"):
        run(Sneak())


def test_foreign_exceptions_pass_through_with_a_note() -> None:
    with pytest.raises(ZeroDivisionError, match="by zero") as caught:
        run(Paint(), Fail(depth=2))
    assert getattr(caught.value, "__notes__", None) == ["while running step 2 of 2, fail{depth=2}"]


def test_notes_without_add_note() -> None:
    class Old(Exception):  # noqa: N818
        add_note = property()  # as on Python 3.10: hasattr is False

    error = Old()
    _note(error, "one")
    _note(error, "two")
    assert error.__notes__ == ["one", "two"]


def test_instruments_see_every_step_in_order() -> None:
    events: list[str] = []
    run(Paint(), Rebuild(), instruments=(Log("a", events), Log("b", events)))
    steps = [["a<paint", "b<paint", "a>paint", "b>paint"], ["a<rebuild", "b<rebuild", "a>rebuild", "b>rebuild"]]
    assert events == steps[0] + steps[1]


def test_instruments_may_refuse() -> None:
    class Refuse(Instrument):
        def after(self, step: Pass, before: Program, after: Program) -> None:
            raise NumericsError("no")

    with pytest.raises(NumericsError, match="no"):
        run(Paint(), instruments=(Refuse(),))


def test_time_adds_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 10.0, 10.5, 20.0, 23.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Time()
    run(Paint(), Rebuild(), Paint(2), instruments=(clock,))
    assert clock.seconds == {"paint": 4.0, "rebuild": 0.5}


def test_text_form_round_trips() -> None:
    text = "fold-bn,analyse,calibrate{rows=100},compensate{method=lstsq{ridge=0.5}},slice"
    assert str(Pipeline.parse(text)) == text
    assert Pipeline.parse(text.split(",")) == Pipeline.parse(text)


@pytest.mark.parametrize("text", ["", "  ", []])
def test_an_empty_pipeline_is_refused(text: Any) -> None:
    with pytest.raises(SpecError, match="an empty pipeline does nothing"):
        Pipeline.parse(text)


def test_programs_are_frozen() -> None:
    before = program(Colour(1))
    after = before.knowing(Colour(2))
    assert (before.fact(Colour), after.fact(Colour)) == (Colour(1), Colour(2))
    assert isinstance(after.facts, MappingProxyType)
    with pytest.raises(PassError, match="no pass before this one provides Shape"):
        after.fact(Shape)


def test_a_context_says_what_it_lacks() -> None:
    with pytest.raises(PassError, match="--data IMAGES"):
        Context().images()
    with pytest.raises(PassError, match="--target"):
        Context().wanted()
