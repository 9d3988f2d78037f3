"""Programs of the micro-networks, captured once per process, with shared pass results."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from micro import networks

from prunec.api import prepared
from prunec.cost.macs import Macs, counts_of
from prunec.frontend.capture import capture
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.surgery.plan import Plan

NETS = networks()


@cache
def captured(name: str) -> Program:
    """Capture a micro-network. A program is frozen: a test that writes into its module captures anew."""
    return capture(NETS[name], (torch.randn(2, 3, 12, 12),))


@cache
def ready(name: str) -> Program:
    """Prepare and analyse a micro-network."""
    return prepared(captured(name))


class Stages:
    """Run pipelines on micro-networks in one context, and each beginning that several share but once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._known: dict[tuple[str, ...], Program] = {}

    def run(self, name: str, passes: str) -> Program:
        """Return the program after these passes."""
        key: tuple[str, ...] = (name,)
        program = captured(name)
        for step in Pipeline.parse(passes).passes:
            key = (*key, str(step))
            if key not in self._known:
                self._known[key] = Pipeline((step,)).run(program, replace(self.context, notes={}))
            program = self._known[key]
        return program


def share(program: Program) -> float:
    """Divide the MACs that the plan of a program keeps by all."""
    plan = program.fact(Plan)
    model = Macs.of(plan.channels)
    return model.total(counts_of(plan.channels, plan.keep)) / model.total()
