"""Passes, pipelines and the instruments that watch them."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from . import spec as grammar
from .device import full_float32
from .errors import BackendError, NumericsError, PassError, SpecError
from .program import Context, Program
from .registry import PASSES


class Pass(ABC):
    """One step of the compiler: a frozen dataclass whose fields are its options.

    `requires` and `provides` are classes of facts; `rewrites` says that the graph changes, `exact` that its outputs do
    not (the `Verify` instrument checks it numerically); `strategies` maps a field to the folder its value is from.
    """

    requires: ClassVar[tuple[type, ...]] = ()
    provides: ClassVar[tuple[type, ...]] = ()
    rewrites: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    strategies: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @abstractmethod
    def run(self, program: Program, context: Context) -> Program:
        """The program after this pass."""

    def __str__(self) -> str:
        return grammar.text_of(self)


class Instrument:
    """Watches a pipeline; the default does nothing."""

    def before(self, step: Pass, program: Program) -> None:
        """Called before each pass."""

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Called after each pass; may raise."""


class Time(Instrument):
    """Measures the wall time of each pass, in seconds. Put it first, lest it times what other instruments do after."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = 0.0

    def before(self, step: Pass, program: Program) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Stop the clock."""
        name = grammar.name_of(type(step))
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._started


class Verify(Instrument):
    """Runs the network on its example inputs before and after each pass that changed it.

    `drift` holds, by pass name, the largest change of an output relative to the largest output. Raises NumericsError
    where a pass that calls itself exact moved them by more than `tolerance`.
    """

    def __init__(self, tolerance: float = 1e-4) -> None:
        self.tolerance = tolerance
        self.drift: dict[str, float] = {}

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Compare the outputs."""
        if after.module is before.module:
            return
        name = grammar.name_of(type(step))
        found = self.drift[name] = _drift(_outputs(before), _outputs(after))
        if step.exact and not found <= self.tolerance:  # a NaN is no agreement
            raise NumericsError(
                f"'{step}' promises to leave the outputs as they are and moved them by {found:.1e} of the largest,"
                f" more than {self.tolerance:.0e}: a fault of the pass"
            )


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. `str` and `parse` are inverse."""

    passes: tuple[Pass, ...]

    @staticmethod
    def parse(text: str | Sequence[str]) -> Pipeline:
        """Read `name{…},name{…}` or a list of such. Raises SpecError."""
        whole = text if isinstance(text, str) else ",".join(text)
        pipeline = Pipeline(tuple(PASSES.make(spec) for spec in grammar.parse_list(whole)))
        if not pipeline.passes:
            raise SpecError("an empty pipeline does nothing; `prunec list` shows the passes")
        return pipeline

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))

    def without(self, name: str) -> Pipeline:
        """The passes that are not called so."""
        return Pipeline(tuple(one for one in self.passes if grammar.name_of(type(one)) != name))

    def check(self, known: Sequence[type] = ()) -> None:
        """Make sure, before any work, that each pass finds what it requires. Raises SpecError."""
        facts = set(known)
        for step in self.passes:
            missing = [kind.__name__ for kind in step.requires if kind not in facts]
            if missing:
                raise SpecError(f"'{step}' needs {' and '.join(missing)}, which no pass before it provides in {self}")
            facts = (set() if step.rewrites else facts) | set(step.provides)

    def run(self, program: Program, context: Context, instruments: Sequence[Instrument] = ()) -> Program:
        """Run every pass. An exception leaves with a note of the step that raised it.

        Raises SpecError before any work where a pass would not find what it requires, PassError where one does not do
        what it says, BackendError where the memory of a GPU is too small.
        """
        self.check(tuple(program.facts))
        for number, step in enumerate(self.passes, 1):
            try:
                with full_float32():
                    program = self._step(step, program, context, instruments)
            except torch.OutOfMemoryError as error:
                raise BackendError(
                    f"'{step}' needs more memory than {program.device} has, for it holds what it knows of all images at"
                    " once: give fewer images, or run it on the CPU"
                ) from error
            except Exception as error:
                _note(error, f"while running step {number} of {len(self.passes)}, {step}")
                raise
        return program

    @staticmethod
    def _step(step: Pass, program: Program, context: Context, instruments: Sequence[Instrument]) -> Program:
        for instrument in instruments:
            instrument.before(step, program)
        result = _kept_word(step, program, step.run(program, context))
        for instrument in instruments:
            instrument.after(step, program, result)
        return replace(result, history=(*program.history, str(step)))


def _kept_word(step: Pass, before: Program, after: Program) -> Program:
    """The result of a pass without facts about the network that was. Raises PassError where the pass broke its word."""
    absent = [kind.__name__ for kind in step.provides if not after.has(kind)]
    if absent:
        raise PassError(f"'{step}' promised {' and '.join(absent)} and did not provide it: a fault of the pass")
    if after.module is before.module:
        return after
    if not step.rewrites:
        raise PassError(f"'{step}' changed the graph and does not say `rewrites = True`: a fault of the pass")
    current = {
        kind: fact for kind, fact in after.facts.items() if kind in step.provides or fact is not before.facts.get(kind)
    }
    return replace(after, facts=MappingProxyType(current))


@torch.no_grad()
def _outputs(program: Program) -> list[Tensor]:
    found = pytree.tree_leaves(program.module(*program.example_inputs))
    return [value.double() for value in found if isinstance(value, Tensor)]


def _drift(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    if [value.shape for value in before] != [value.shape for value in after]:
        return math.inf
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a.numel()]
    worst = [float((a - b).abs().max() / a.abs().max().clamp_min(1e-30)) for a, b in pairs if not torch.equal(a, b)]
    return math.nan if any(map(math.isnan, worst)) else max(worst, default=0.0)


def _note(error: Exception, text: str) -> None:
    """`error.add_note(text)`, also on Python 3.10."""
    if hasattr(error, "add_note"):
        error.add_note(text)
        return
    error.__notes__ = [*getattr(error, "__notes__", ()), text]
