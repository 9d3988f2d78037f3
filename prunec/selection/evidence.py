"""Collect the evidence on one space: readers, producers and calibration statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx

from ..channels.matrix import Blocks, columns_of, readers_of, weight_of
from ..channels.spaces import CONSUMES, PRODUCES, Channels, Contraction, Space
from ..cost.macs import Macs
from ..errors import PassError
from ..ir import graph
from ..ir.program import Program
from ..pipeline.context import Context
from ..solvers.least_squares import Reader
from ..statistics.facts import Norms, Statistics
from ..statistics.moments import Moments
from .gradients import contributions


@dataclass(frozen=True)
class Maker:
    """Layer that produces the channels of a space, or carries them one by one (`layer.by_group`)."""

    layer: Contraction
    beta: Tensor | None  # float64 [size]: mean and deviation of what it puts out, from the batch norm after it; None
    gamma: Tensor | None  # where there was none, or it was not folded


@dataclass(frozen=True)
class Evidence:
    """Lazily computed evidence on one space of an analysed and calibrated program."""

    program: Program
    context: Context
    space: Space

    @property
    def channels(self) -> Channels:
        """Return all channel spaces."""
        return self.program.fact(Channels)

    @cached_property
    def layers(self) -> list[Contraction]:
        """Return the layers that read the space. Raises PassError if there are none."""
        found = readers_of(self.channels, self.space)
        if not found:
            name = self.space.name
            raise PassError(f"no layer reads the space {name}: its channels are dead; freeze it or remove them")
        return found

    @cached_property
    def readers(self) -> list[Reader]:
        """List the readers of the space with weights and dense covariances, for least squares."""
        moments = self.program.fact(Statistics).moments
        return [reader(self.program.module, one, self.space, moments[one.node]) for one in self.layers]

    @cached_property
    def producers(self) -> list[Tensor]:
        """List each producer's weights by coordinate, float64 [size, rows, weights of a row]."""
        return self._weights(PRODUCES)

    @cached_property
    def consumers(self) -> list[Tensor]:
        """List each reader's weights by coordinate, float64 [size, columns, weights of a column]."""
        return self._weights(CONSUMES)

    def _weights(self, role: str) -> list[Tensor]:
        weights = {one.weight for one in self.channels.contractions}
        found = []
        for site in self.space.sites:
            if site.role == role and site.parameter in weights:
                weight = graph.numbers(self.program.module, site.parameter).movedim(site.dim, 0)
                found.append(weight.flatten(1)[site.rows])
        return found

    @cached_property
    def makers(self) -> list[Maker]:
        """List the layers that produce or carry the space, in graph order, with batch norms."""
        mine = self.space.coordinates
        return [self._maker(one) for one in self.channels.contractions if bool(torch.isin(mine, one.outputs).any())]

    def _maker(self, one: Contraction) -> Maker:
        norms = self.program.fact(Norms).by_weight if self.program.has(Norms) else {}
        if one.weight not in norms:
            return Maker(one, None, None)
        norm = norms[one.weight]
        rows = torch.stack([(one.outputs == coordinate).nonzero().flatten() for coordinate in self.space.coordinates])
        return Maker(one, norm.beta[rows].mean(1), norm.gamma[rows].mean(1))

    @cached_property
    def means(self) -> list[Tensor]:
        """List the column means of each layer that reads the space, float64 [g, d]."""
        moments = self.program.fact(Statistics).moments
        return [moments[one.node].mean_z for one in self.layers]

    @cached_property
    def macs(self) -> float:
        """Return the MACs per sample of one coordinate in the dense network."""
        model = Macs.of(self.channels)
        place = [space.name for space in self.channels.prunable].index(self.space.name)
        kept = model.along(model.sizes, place)
        return float(kept[-1] - kept[-2])

    @cached_property
    def parameters(self) -> float:
        """Return the number of parameters of one coordinate."""
        shapes = [(graph.attribute(self.program.module, site.parameter).shape, site) for site in self.space.sites]
        return float(sum(shape.numel() / shape[site.dim] * site.rows.shape[1] for shape, site in shapes))

    @cached_property
    def contributions(self) -> Tensor:
        """Return activation times gradient by sample and coordinate, float64 [samples, size]."""
        return contributions(self.program, self.context)[:, self.space.coordinates]


def reader(module: fx.GraphModule, one: Contraction, space: Space, moments: Moments) -> Reader:
    """Collect the covariance, weight and columns of one layer that reads a space."""
    return Reader(moments.covariance, Blocks.of(one).weight(weight_of(module, one)), columns_of(one, space))
