"""Scale each curve to the error of the network's outputs.

    scale_s(k) = ( sum |f_s(x) - f(x)|² / sum |f(x) - mean f|² ) / error_s(k)          k coordinates removed at first

f_s lacks a part of one space, its readers refitted. Measured with half of the space removed and, by `levels`, with 7/8
of it, 31/32 …; the logarithm of the scale is interpolated. A branch is measured by `branches`.

The squared error, not the KL divergence, which vanishes on memorised images. The walk shares every prefix: it forks at
the first reader of a space and runs only the rest. If a norm runs over the space, masking is not removing, and the
sliced network is run in full.

The images are those that no statistic uses (`Context.choosing`). The ridge is larger than that of the curves and
shrinks towards the sliced weight, as in `compensate`, whose choice is not known here; an overconfident fit to few
images makes wide layers look expensive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from prunec.channels.matrix import Blocks, columns_of, from_matrix, readers_of, weight_of
from prunec.channels.spaces import Channels, Contraction, Space, Split
from prunec.ir import graph
from prunec.ir.graph import floats
from prunec.ir.interpreter import Interpreter, Live
from prunec.ir.parallel import each
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.solvers import least_squares, lowrank
from prunec.solvers.symmetric import naming
from prunec.statistics.facts import Curve, Curves, Statistics
from prunec.statistics.relative import Spread, squared_error
from prunec.statistics.sweep import channels_last
from prunec.surgery import slicing
from prunec.surgery.plan import Plan

LEAST = 1e-6  # of the largest scale: no less is believed


@dataclass(frozen=True)
class Sensitivity(Pass):
    """Measure the output error on `images` images with part of each space removed.

    At `levels` levels: 1/2, 7/8, 31/32 … of the space; and at the plan's counts, if there is a plan.
    """

    images: int = 16
    levels: int = 2
    ridge: float = 0.1

    requires = (Channels, Statistics, Curves)
    provides = (Curves,)

    def run(self, program: Program, context: Context) -> Program:
        """Replace the `Curves` fact by one with the errors of the outputs."""
        curves = program.fact(Curves).by_space
        measured = {one.space for one in program.fact(Channels).branches}
        found: dict[str, dict[int, float]] = {name: {} for name in curves if name not in measured}
        features: dict[str, Tensor] = {}
        for gone in self._tries(program):
            left = {name: count for name, count in gone.items() if count not in found[name]}
            for name, error in self._measured(program, context, left, features).items():
                found[name][gone[name]] = error
        scaled = {name: _scaled(curves[name], each) for name, each in found.items()}
        return program.knowing(Curves({**curves, **scaled}, scaled=True))

    def _tries(self, program: Program) -> Iterator[dict[str, int]]:
        """Yield the coordinates to remove of each space, by level."""
        channels = program.fact(Channels)
        measured = {one.space for one in channels.branches}
        spaces = [one for one in channels.prunable if one.name not in measured]
        for level in range(self.levels):
            gone = 1 - 0.5 * 0.25**level
            yield {one.name: min(max(1, round(one.size * gone)), max(1, one.size - 1)) for one in spaces}
        if program.has(Plan):
            planned = {one.name: one.size - len(program.fact(Plan).keep[one.name]) for one in spaces}
            yield {name: count for name, count in planned.items() if count}

    def _measured(
        self, program: Program, context: Context, gone: Mapping[str, int], features: dict[str, Tensor]
    ) -> dict[str, float]:
        """Return the relative squared output error by space, each cut by its count.

        `features` keeps those of `lowrank.Parts` for the next level, by rank space.
        """
        channels, curves = program.fact(Channels), program.fact(Curves).by_space
        splits = {one.space: one.split for one in channels.factorings}
        places = {one.node: one.space for one in channels.factorings}
        layers = {places[one.node]: one for one in channels.contractions if one.node in places}
        forks: dict[str, list[tuple[Space, Mapping[str, Tensor]]]] = {}
        sliced: dict[str, fx.GraphModule] = {}
        for space in (one for one in channels.prunable if one.name in gone):
            readers = readers_of(channels, space) or [layers[space.name]]
            with naming(space.name):
                if space.sites:
                    weights = self._weights(program, space, readers, gone[space.name])
                else:
                    left = space.size - gone[space.name]
                    weights = _truncated(program, splits[space.name], readers[0], space, left, features)
            if space.renormalised:
                sliced[space.name] = _sliced(program.module, channels, curves[space.name], space, gone, weights)
            else:
                forks.setdefault(readers[0].node, []).append((space, weights))
        totals, spread = dict.fromkeys(gone, 0.0), Spread()
        batches = list(context.choosing.take(self.images, context.seed).batches(context.batch))
        for batch in context.track(batches, "sensitivity"):
            for name, error in _errors(program.module, batch, forks, sliced, spread).items():
                totals[name] += error
        found = {}
        for name, error in totals.items():
            with naming(name):
                found[name] = spread.relative(error)
        return found

    def _weights(self, program: Program, space: Space, readers: list[Contraction], count: int) -> dict[str, Tensor]:
        """Return full-size weights and biases of the readers, refitted without the removed part."""
        statistics, curve = program.fact(Statistics).moments, program.fact(Curves).by_space[space.name]
        gone = curve.order[:count]
        changed: dict[str, Tensor] = {}
        for one in readers:
            moments, original = statistics[one.node], graph.attribute(program.module, one.weight)
            blocks = Blocks.of(one)
            weight = blocks.weight(weight_of(program.module, one))
            stays = torch.ones(weight.shape[-1], dtype=torch.bool)
            stays[columns_of(one, space)[gone].flatten()] = False
            kept = stays.nonzero().flatten()
            fitted = torch.zeros_like(weight)
            fitted[:, :, kept] = least_squares.absorb(moments.covariance, weight, kept, self.ridge)
            shift = ((weight - fitted) @ moments.mean_z[:, :, None])[:, :, 0]
            if blocks.folded:
                groups, rows, width = fitted.shape
                fitted = fitted.reshape(groups, rows // blocks.taps, blocks.taps, width).transpose(2, 3).flatten(2)
                shift = shift.reshape(groups, -1, blocks.taps).sum(-1)
            changed[one.weight] = from_matrix(fitted, one, original.shape).to(original)
            if one.bias is not None:
                bias = graph.attribute(program.module, one.bias)
                changed[one.bias] = bias + shift.flatten().to(bias)
        return changed


def _truncated(
    program: Program, split: Split, one: Contraction, space: Space, rank: int, features: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return weight and bias of a layer with a lower rank."""
    moments, original = program.fact(Statistics).moments[one.node], graph.attribute(program.module, one.weight)
    weight = weight_of(program.module, one)[0]
    layer = lowrank.Layer(weight, moments.covariance[0])
    if space.name not in features:
        features[space.name] = lowrank.Parts.of(layer, split, space.size - 1).first
    low = lowrank.Parts(layer, split, features[space.name]).truncated(rank)
    bias = graph.attribute(program.module, str(one.bias))
    shift = (weight - low) @ moments.mean_z[0]
    return {one.weight: low.reshape(original.shape).to(original), str(one.bias): bias + shift.to(bias)}


def _scaled(curve: Curve, measured: Mapping[int, float]) -> Curve:
    """Return the curve through the measured errors, with the nearest scale outside."""
    local = curve.error.numpy()
    known = sorted(count for count in measured if local[count] > 0)
    scales = np.array([measured[count] / local[count] for count in known])
    if len(known) < 2 or not scales.any():  # one scale, or none
        return replace(curve, error=curve.error * float(scales.sum()))
    logarithms = np.log(np.maximum(scales, LEAST * scales.max()))
    error = local * np.exp(np.interp(np.arange(len(local)), known, logarithms))
    return replace(curve, error=torch.from_numpy(np.maximum.accumulate(error)))


def _sliced(
    module: fx.GraphModule,
    channels: Channels,
    curve: Curve,
    space: Space,
    gone: Mapping[str, int],
    weights: Mapping[str, Tensor],
) -> fx.GraphModule:
    """Return the network without part of one space, for norms that masking cannot model."""
    plan = Plan(channels, {space.name: curve.keep(space.size - gone[space.name])})
    refit = {name: slicing.narrow(weight, name, plan, plan.mask) for name, weight in weights.items()}
    return slicing.apply(module, replace(plan, refit=refit))


@torch.no_grad()
def _errors(
    module: fx.GraphModule,
    batch: tuple[Tensor, ...],
    forks: Mapping[str, list[Any]],
    sliced: Mapping[str, fx.GraphModule],
    spread: Spread,
) -> dict[str, float]:
    """Return the squared output error of each fork and sliced network on a batch. `spread` gets the batch."""
    walk = Interpreter(module)
    values = walk.start(channels_last(module, batch))

    def forked() -> Iterator[tuple[str, int, Live]]:
        done = 0  # and the dense network last
        for name in sorted(forks, key=walk.places.__getitem__):
            walk.advance(values, done, done := walk.places[name])
            yield from ((space.name, done, walk.fork(values, changed)) for space, changed in forks[name])
        yield "", done, values

    def finished(fork: tuple[str, int, Live]) -> tuple[str, list[Tensor]]:
        name, done, live = fork
        return name, walk.finish(live, done)

    ends = dict(each(finished, forked(), 1 + sum(map(len, forks.values()))))
    dense = ends.pop("")
    spread.add(dense, len(batch[0]))
    for name, narrow in sliced.items():
        ends[name] = floats(narrow(*channels_last(narrow, batch)))
    return {name: squared_error(end, dense) for name, end in ends.items()}
