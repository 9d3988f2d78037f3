"""Define the Program that passes transform and the Context that they may use; both are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, fx

from . import graph
from .constraints import ANY, Constraints
from .errors import PassError
from .progress import Track, silent
from .target import Target

if TYPE_CHECKING:
    from .calling import Calling
    from .data import Images
    from .on import On
    from .original import Original

T = TypeVar("T")
CHOOSE = 8  # an eighth of the images
FEW = 32  # images: fewer are not shared out


@dataclass(frozen=True)
class Program:
    """A captured network and what is known about it.

    `module` is a functional graph of ATen operators: placeholders, get_attr nodes for parameters and buffers,
    call_function nodes and one output. `facts` holds at most one object of each class (`Channels`, `Statistics`,
    `Plan` …); `history` the text of each pass that made it.
    """

    module: fx.GraphModule
    example_inputs: tuple[Tensor, ...]  # batch first, 2 samples, or as many as it is fixed to
    dynamic_batch: bool = True
    calling: Calling | None = None  # how the original is called; None where it takes `example_inputs`
    notes: tuple[str, ...] = ()  # what the user should know of the capture
    facts: Mapping[type, object] = field(default_factory=lambda: MappingProxyType({}))
    history: tuple[str, ...] = ()
    original: Original | None = None  # the user's own network, which the graph is held to; None where it is let go

    @property
    def only_batch(self) -> int | None:
        """The batch size where it is fixed; None where any will do."""
        return None if self.dynamic_batch else len(self.example_inputs[0])

    @property
    def device(self) -> torch.device:
        """Return the device that the network computes on."""
        return self.example_inputs[0].device

    def on(self, device: torch.device | None) -> Program:
        """Return a copy on another device, without facts; itself where it is there already, or for None."""
        if device is None or device == self.device:
            return self
        inputs = tuple(value.to(device) for value in self.example_inputs)
        return replace(self.rewritten(graph.moved(self.module, device)), example_inputs=inputs)

    def as_called(self, plain: bool = False) -> fx.GraphModule:
        """The network, called as the original was; with `plain`, without the classes of the user's in its interface."""
        if self.calling is None or (self.calling.flat and not plain):
            return self.module
        return self.calling.restored(self.module, plain)

    def fact(self, kind: type[T]) -> T:
        """The fact of class `kind`. Raises PassError if no pass has provided it."""
        found = self.facts.get(kind)
        if not isinstance(found, kind):
            raise PassError(f"no pass before this one provides {kind.__name__}; add one that does to the pipeline")
        return found

    def has(self, kind: type) -> bool:
        """Return whether a fact of class `kind` is known."""
        return kind in self.facts

    def knowing(self, *facts: object) -> Program:
        """Return a copy with further facts; a fact of the same class is replaced."""
        merged = {**self.facts, **{type(fact): fact for fact in facts}}
        return replace(self, facts=MappingProxyType(merged))

    def rewritten(self, module: fx.GraphModule, *facts: object) -> Program:
        """Another network: every fact that is not given again is forgotten."""
        return replace(self, module=module, facts=MappingProxyType({type(fact): fact for fact in facts}))


@dataclass(frozen=True)
class Context:
    """Inputs of a pipeline run besides the program: target, constraints, images and settings."""

    target: Target | None = None
    constraints: Constraints = ANY
    calibration: Images | None = None  # unlabelled
    seed: int = 0
    batch: int = 64  # samples a step of a sweep
    cache: Path | None = None  # a folder for statistics, to be used again
    track: Track = silent
    notes: dict[str, Any] = field(default_factory=dict)  # what passes wish to report, by pass name
    kept: Images | None = None  # kept back from every choice: the last refit alone reads them
    on: On | None = None  # the engine whose milliseconds a target means; ONNX Runtime here where nothing is said

    def images(self) -> Images:
        """The calibration images. Raises PassError where there are none."""
        if self.calibration is None:
            raise PassError("this pipeline needs calibration images; give some (--data IMAGES)")
        return self.calibration

    @cached_property
    def choosing(self) -> Images:
        """The calibration images by which choices are made: an eighth, which `fitting` leaves out; all of few."""
        images, count = self.images(), self._choosing
        return images.take(count, self.seed) if count else images

    @cached_property
    def fitting(self) -> Images:
        """The calibration images that dense statistics are made of."""
        images, count = self.images(), self._choosing
        return images.take(len(images), self.seed, skip=count) if count else images

    @property
    def _choosing(self) -> int:
        images = self.images()
        count = -(-len(images) // CHOOSE) // images.step * images.step
        return count if len(images) >= FEW and count else 0

    def wanted(self) -> Target:
        """The target. Raises PassError where there is none."""
        if self.target is None:
            raise PassError("this pipeline needs a target; give one (--target macs:0.5)")
        return self.target
