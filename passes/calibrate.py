"""Compute means and covariances of every layer's input over the calibration images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import fx

from prunec.channels.matrix import Blocks, readers_of
from prunec.channels.spaces import Channels, Contraction
from prunec.data.images import Images
from prunec.errors import NumericsError
from prunec.ir import graph
from prunec.ir.interpreter import Interpreter, Live
from prunec.ir.program import Program
from prunec.pipeline.context import FEW, Context
from prunec.pipeline.pipeline import Pass
from prunec.selection.importance import by_position
from prunec.statistics import store
from prunec.statistics.facts import Statistics
from prunec.statistics.moments import Moments, positions_per_sample
from prunec.statistics.patches import Draws, Layer
from prunec.statistics.sweep import channels_last


@dataclass(frozen=True)
class Calibrate(Pass):
    """Collect the dense statistics over at least `rows` sampled positions a layer, if available."""

    rows: int = 4096

    requires = (Channels,)
    provides = (Statistics,)

    def run(self, program: Program, context: Context) -> Program:
        """Add the `Statistics` fact."""
        channels = program.fact(Channels)
        wanted = _wanted(channels)
        path = store.place(program, context, self.rows, [_text(one) for one in wanted.values()])
        found, stale = (None, "") if path is None else store.load(path, wanted)
        unkept = ""
        if found is None:
            found = self._measured(program, context, wanted)
            unkept = "" if path is None else store.save(path, found)
        notes: dict[str, Any] = {"fewer_rows_than_columns": _starved(channels, found.moments)}
        if said := store.warned(stale, unkept):
            notes["cache"] = said
        context.notes["calibrate"] = notes
        return program.knowing(found)

    def _measured(self, program: Program, context: Context, wanted: Mapping[str, Contraction]) -> Statistics:
        """Measure in one sweep. Raises NumericsError if a layer reads NaN or infinity."""
        images, shares = context.fitting, by_position(program, context)
        count = partial(positions_per_sample, minimum=self.rows, samples=len(images))
        draws = {
            name: Draws(len(images), count(Blocks.of(one).columns), name, context.seed, shares.get(name))
            for name, one in wanted.items()
        }
        moments, stop = {name: Moments() for name in wanted}, 0

        def record(node: fx.Node, values: Live) -> Any:
            source, value = values[node.all_input_nodes[0]], graph.run_node(program.module, node, values)
            layer = layers[node.name]
            at = draws[node.name].of(layer.space(value), slice(stop - samples, stop))
            moments[node.name].add(Blocks.of(wanted[node.name]).rows(layer.rows(source, at)))
            return value

        walk = Interpreter(program.module, dict.fromkeys(wanted, record))
        layers = {name: Layer.of(walk.module, walk.nodes[walk.places[name]], one, one.groups)
                  for name, one in wanted.items()}  # fmt: skip
        part, read = {}, _read_by_part(images)
        sides = [images.at(torch.arange(read)), images.at(torch.arange(read, len(images)))] if read else [images]
        steps = range(sum(-(-len(side) // context.batch) for side in sides))
        batches = chain.from_iterable(side.batches(context.batch) for side in sides)
        for _, batch in zip(context.track(steps, "calibrate"), batches, strict=True):
            if read and stop == read:
                part = {name: each.copied() for name, each in moments.items()}
            samples = len(batch[0])
            stop += samples
            with torch.no_grad():
                walk(channels_last(walk.module, batch))
        found = {name: each.on_cpu() for name, each in moments.items()}
        for name, each in found.items():
            _require_finite(wanted[name], each)
        return Statistics(found, part, read)


def _read_by_part(images: Images) -> int:
    """Return the number of images of the part: two thirds, in whole steps.

    It does not depend on the batch, and is 0 if images are few.
    """
    return 0 if len(images) < 2 * FEW else 2 * len(images) // 3 // images.step * images.step


def _wanted(channels: Channels) -> dict[str, Contraction]:
    """Return the readers of prunable spaces and the factorable layers, by node."""
    wanted = {one.node: one for space in channels.prunable for one in readers_of(channels, space)}
    return wanted | {one.node: one for one in channels.contractions if one.groups == 1 and not Blocks.of(one).folded}


def _text(one: Contraction) -> str:
    """Return the properties of a layer, beside the graph, that determine its rows."""
    blocks = Blocks.of(one)
    return f"{one.node} {one.weight} {one.groups} {one.taps} {one.transposed} {blocks}"


def _require_finite(one: Contraction, moments: Moments) -> None:
    if not moments.finite:
        raise NumericsError(
            f"what the layer {graph.layer_of(one.weight)} reads of the calibration images holds NaN or infinity, or is"
            " too large to square: check the images, how they are preprocessed, and the weights of the layers before it"
        )


def _starved(channels: Channels, moments: Mapping[str, Moments]) -> list[dict[str, Any]]:
    """Report the layers with fewer rows than columns."""
    known = [(graph.layer_of(one.weight), moments[one.node]) for one in channels.contractions if one.node in moments]
    return [{"layer": layer, "rows": one.count, "columns": one.width} for layer, one in known if one.count < one.width]
