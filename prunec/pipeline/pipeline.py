"""Run passes in order, under instruments."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, fx

from ..data.noise import noise_like
from ..device import full_float32
from ..errors import BackendError, NumericsError, PassError, SpecError
from ..grammar import spec as grammar
from ..grammar.registry import PASSES
from ..ir.drift import allowed, drift, outputs_of
from ..ir.program import Program
from .context import Context

Inputs = tuple[Tensor, ...]
Outputs = list[Tensor]


class Pass(ABC):
    """One step of the compiler: a frozen dataclass whose fields are its options.

    `requires` and `provides` are classes of facts; `rewrites` marks a changed graph, `exact` unchanged outputs, which
    `Verify` checks numerically; `strategies` maps a field to the registry folder of its value.
    """

    requires: ClassVar[tuple[type, ...]] = ()
    provides: ClassVar[tuple[type, ...]] = ()
    rewrites: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    strategies: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @abstractmethod
    def run(self, program: Program, context: Context) -> Program:
        """Return the program after this pass."""

    def __str__(self) -> str:
        return grammar.text_of(self)


class Instrument:
    """Observer of a pipeline; the default does nothing."""

    def before(self, step: Pass, program: Program) -> None:
        """Run before each pass."""

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Run after each pass; may raise."""


class Time(Instrument):
    """Wall time of each pass, in seconds. Put it first, to exclude other instruments."""

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
    """Check exact passes and the captured graph numerically; part of every pipeline.

    It runs the network on its example inputs, on noise like them and on `samples`, before and after each pass that
    changed it, and raises NumericsError where an exact pass changed the outputs by more than rounding. `drift` holds,
    by pass name, the largest change of an output relative to the largest output: of all passes where the instrument is
    given to `Pipeline.run`, of the exact ones where that adds it (`every=False`).
    """

    def __init__(self, *samples: Inputs, every: bool = True) -> None:
        self.samples, self.every = samples, every
        self.drift: dict[str, float] = {}
        self._noise = True  # whether the network runs on noise
        self._known: tuple[fx.GraphModule, list[Outputs]] | None = None  # the outputs of the network that ran last
        self._base: list[Outputs] | None = None  # those that the exact passes up to here started from

    def start(self, program: Program) -> None:
        """Compare the captured network with the user's. Raises NumericsError where they differ."""
        if program.original is None or program.history:
            return
        self._base = self._run(program.original.outputs, program)
        captured = self._outputs(program)
        found = _largest(self._base, captured)
        if not found <= self._allowed(program, captured, found):
            raise NumericsError(
                f"the graph that torch.export captured differs from the network by {found:.1e} of its largest output,"
                f" at batch {' or '.join(str(len(one[0])) for one in self._inputs(program))}: a fault of the capture"
            )

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Compare the outputs."""
        if after.module is before.module:
            return
        if not (step.exact or self.every):
            self._base = None
            return
        old, new = self._outputs(before), self._outputs(after)
        found = self.drift[grammar.name_of(type(step))] = _largest(old, new)
        if not step.exact:
            self._base = None
            return
        self._base = self._base or old
        found = max(found, _largest(self._base, new), key=_badness)
        limit = self._allowed(before, old, found)
        if not found <= limit:  # a NaN is no agreement
            raise NumericsError(
                f"'{step}' promises to leave the outputs as they are and moved them by {found:.1e} of the largest,"
                f" more than {limit:.0e}: a fault of the pass"
            )

    @property
    def reported(self) -> dict[str, float | None]:
        """Drift by pass name, for a report: None where not finite."""
        return {name: found if math.isfinite(found) else None for name, found in self.drift.items()}

    def _inputs(self, program: Program) -> list[Inputs]:
        samples = [*self.samples, *([noise_like(program.example_inputs)] if self._noise else [])]
        return [program.example_inputs, *(tuple(one.to(program.device) for one in each) for each in samples)]

    def _outputs(self, program: Program) -> list[Outputs]:
        if self._known is None or self._known[0] is not program.module:
            self._known = program.module, self._run(lambda one: outputs_of(program.module, one), program)
        return self._known[1]

    def _run(self, network: Callable[[Inputs], Outputs], program: Program) -> list[Outputs]:
        """Run a network on all inputs; the first run may refuse noise."""
        if self._known is None and self._base is None:
            try:
                network(self._inputs(program)[-1])
            except Exception:
                self._noise = False
        return [network(one) for one in self._inputs(program)]

    def _allowed(self, program: Program, outputs: Sequence[Outputs], found: float) -> float:
        return allowed(program.module, list(zip(self._inputs(program), outputs, strict=True)), found)


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
        """Return the passes without those of this name."""
        return Pipeline(tuple(one for one in self.passes if grammar.name_of(type(one)) != name))

    def check(self, known: Sequence[type] = ()) -> None:
        """Check, before any work, that each pass finds what it requires. Raises SpecError."""
        facts = set(known)
        for step in self.passes:
            missing = [kind.__name__ for kind in step.requires if kind not in facts]
            if missing:
                raise SpecError(f"'{step}' needs {' and '.join(missing)}, which no pass before it provides in {self}")
            facts = (set() if step.rewrites else facts) | set(step.provides)

    def before(self, fact: type) -> int:
        """Count the passes before the first that provides a fact, or all."""
        return next((place for place, step in enumerate(self.passes) if fact in step.provides), len(self.passes))

    def run(
        self,
        program: Program,
        context: Context,
        instruments: Sequence[Instrument] = (),
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> Program:
        """Run the passes from `start` to `stop`, and verify the exact ones. A raised exception has a note of its step.

        Raises SpecError before any work where a pass would not find what it requires, PassError where one breaks its
        declaration, NumericsError where an exact one changes the outputs or the captured graph differs from the user's
        network, BackendError where GPU memory is too small.
        """
        Pipeline(self.passes[start:stop]).check(tuple(program.facts))
        verify = next((one for one in instruments if isinstance(one, Verify)), None)
        if verify is None:
            verify = Verify(every=False)
            instruments = (verify, *instruments)
        verify.start(program)
        for number, step in enumerate(self.passes[start:stop], start + 1):
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
    """Return a pass's result without outdated facts. Raises PassError for a broken declaration."""
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


def _largest(before: Sequence[Outputs], after: Sequence[Outputs]) -> float:
    """Return the largest drift over several runs; NaN where one is."""
    return max((drift(a, b) for a, b in zip(before, after, strict=True)), key=_badness, default=0.0)


def _badness(found: float) -> tuple[bool, float]:
    """Return a sort key that puts NaN above any number."""
    return math.isnan(found), 0.0 if math.isnan(found) else found


def _note(error: Exception, text: str) -> None:
    """Call `error.add_note(text)`, also on Python 3.10."""
    if hasattr(error, "add_note"):
        error.add_note(text)
        return
    error.__notes__ = [*getattr(error, "__notes__", ()), text]
