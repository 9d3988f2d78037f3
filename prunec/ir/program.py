"""Define the Program that passes transform: a captured network and its facts; frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, fx

from ..errors import PassError
from . import graph

if TYPE_CHECKING:
    from .calling import Calling
    from .original import Original

T = TypeVar("T")


@dataclass(frozen=True)
class Program:
    """A captured network and the facts known about it.

    `module` is a functional graph of ATen operators: placeholders, get_attr nodes for parameters and buffers,
    call_function nodes and one output. `facts` holds at most one object of each class (`Channels`, `Statistics`,
    `Plan` …); `history` the text of each pass that made it.
    """

    module: fx.GraphModule
    example_inputs: tuple[Tensor, ...]  # batch first, 2 samples, or as many as it is fixed to
    dynamic_batch: bool = True
    calling: Calling | None = None  # how the original is called; None where it takes `example_inputs`
    notes: tuple[str, ...] = ()  # notes on the capture, for the user
    facts: Mapping[type, object] = field(default_factory=lambda: MappingProxyType({}))
    history: tuple[str, ...] = ()
    original: Original | None = None  # the user's network, to check the graph against; None once released

    @property
    def only_batch(self) -> int | None:
        """Return the fixed batch size; None where any is allowed."""
        return None if self.dynamic_batch else len(self.example_inputs[0])

    @property
    def device(self) -> torch.device:
        """Return the device that the network computes on."""
        return self.example_inputs[0].device

    def on(self, device: torch.device | None) -> Program:
        """Return a copy on another device, without facts; itself if already there."""
        if device is None or device == self.device:
            return self
        inputs = tuple(value.to(device) for value in self.example_inputs)
        return replace(self.rewritten(graph.moved(self.module, device)), example_inputs=inputs)

    def as_called(self, plain: bool = False) -> fx.GraphModule:
        """Return the network with the original's signature; with `plain`, without the user's classes."""
        if self.calling is None or (self.calling.flat and not plain):
            return self.module
        return self.calling.restored(self.module, plain)

    def fact(self, kind: type[T]) -> T:
        """Return the fact of class `kind`. Raises PassError if no pass has provided it."""
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
        """Return another network, which forgets every fact not given again."""
        return replace(self, module=module, facts=MappingProxyType({type(fact): fact for fact in facts}))
