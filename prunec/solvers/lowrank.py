"""Factor a layer into two or more, W = B A, whitened by its input.

A split of W [O, I, *kernel] gives the taps of some axes to the first layer (t1), the others to the second (t2): W is a
matrix M [O·t2, I·t1] and x, seen through the second's taps, t2 vectors of I·t1. With S their mean covariance:

    C = M S M' = U diag(s²) U',      A_r = diag(1/s_r) U_r' M,      B_r = argmin E|W x - B A_r x|²

A_r spans the best r features for t2 = 1 (PCA of the responses: Zhang et al. 2016; BALF 2025), and is the whitened SVD
of Jaderberg et al. 2014 otherwise; B_r is exact least squares with the full covariance of x. A further split of B
treats it as a layer that reads A x, with that covariance (successive, as the tensor train's SVD).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..channels.spaces import Split
from ..errors import NumericsError
from ..ir.parallel import each
from .symmetric import SMALLEST, add_ridge, cholesky, eigh, require_finite, solve_by

SAMPLED = 10  # ranks at which the error of more than two layers is computed, interpolated between
ROUNDING = 1e-5  # of the largest variance; products of float32 are summed, and one below may well be negative
RIDGE = 1e-9  # relative; the least squares have as many unknowns as the rank, and the features unit variance


@dataclass(frozen=True)
class Layer:
    """A layer's weight W [O, I·taps] and input covariance S [I·taps, I·taps]."""

    weight: Tensor
    covariance: Tensor

    @cached_property
    def cross(self) -> Tensor:
        """Covariance of outputs and inputs, W S [O, I·taps]."""
        return self.weight @ self.covariance

    @cached_property
    def variance(self) -> float:
        """Total variance of the output, tr(W S W')."""
        return float((self.cross * self.weight).sum())

    def positive(self) -> Layer:
        """Return the layer with twice the ridge that S needs to be positive.

        Rounding leaves S negative by up to 1e-7 of its largest variance, which features of little variance amplify.
        """
        ridge = -2 * eigh(self.covariance)[0][0].clamp_max(0)
        return replace(self, covariance=self.covariance + ridge * torch.eye(len(self.covariance), dtype=ridge.dtype))


@dataclass(frozen=True)
class Parts:
    """First layer A of a factoring; its leading r rows are best at rank r."""

    layer: Layer
    split: Split
    first: Tensor  # A [highest rank, I·t1]

    @staticmethod
    def of(layer: Layer, split: Split, highest: int) -> Parts:
        """Build the parts of any rank up to `highest`, from one decomposition."""
        return Parts(layer, split, _features(layer, split, highest))

    def truncated(self, rank: int) -> Tensor:
        """Return the best weight [O, I·taps] of rank `rank`."""
        return self.truncations(rank, [self.layer.weight])[0]

    def truncations(self, rank: int, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return the best approximations of `weights` at one rank, with a common first layer."""
        try:
            return self._truncations(rank, weights)
        except NumericsError:
            return self._positive(rank)._truncations(rank, weights)

    def errors(self, highest: int) -> Tensor:
        """Return relative squared errors of W x at ranks 0 … highest, float64 [highest+1]."""
        try:
            return self._errors(highest)
        except NumericsError:
            return self._positive(highest)._errors(highest)

    def _positive(self, highest: int) -> Parts:
        return Parts.of(self.layer.positive(), self.split, highest)

    def _truncations(self, rank: int, weights: Sequence[Tensor]) -> list[Tensor]:
        first, gram = self.first[:rank], self._gram(rank)
        factor = cholesky(add_ridge(gram[None], RIDGE))

        def truncated(weight: Tensor) -> Tensor:
            cross = self._cross(rank, replace(self.layer, weight=weight))
            second = solve_by(factor, cross[None])[0]  # [r·t2, O]
            second = second.T.reshape(len(weight), -1, self.split.taps[1])
            if self.split.then is not None:
                after = Layer(second.flatten(1), gram)
                second = Parts.of(after, self.split.then, rank).truncated(rank).reshape(second.shape)
            return fold(torch.einsum("ort,rq->otq", second, first).flatten(0, 1), self.split)

        return each(truncated, weights)

    def _errors(self, highest: int) -> Tensor:
        layer, split = self.layer, self.split
        if highest == 0 or layer.variance <= 0:  # an output that does not vary is the bias, at any rank
            return torch.full((highest + 1,), float(layer.variance > 0), dtype=layer.weight.dtype)
        if split.then is not None:
            return self._sampled(highest)
        gram, cross = self._gram(highest), self._cross(highest, layer)
        factor = cholesky(add_ridge(gram[None], RIDGE))
        explained = torch.linalg.solve_triangular(factor[0], cross, upper=False).square().sum(1)  # [r·t2], in order
        gained = explained.reshape(-1, split.taps[1]).sum(1).cumsum(0) / layer.variance
        return torch.cat([torch.ones(1, dtype=gained.dtype), (1 - gained).clamp_min(0)])

    def _sampled(self, highest: int) -> Tensor:
        ranks = np.unique(np.linspace(0, highest, min(highest, SAMPLED) + 1).round())
        falling = np.minimum.accumulate([self._error(int(rank)) for rank in ranks])
        return torch.from_numpy(np.interp(np.arange(highest + 1), ranks, falling))

    def _error(self, rank: int) -> float:
        """Return the relative squared error of a factoring into more than two layers."""
        less = self.layer.weight - self.truncated(rank) if rank else self.layer.weight
        return float(((less @ self.layer.covariance) * less).sum().clamp_min(0)) / self.layer.variance

    def _gram(self, rank: int) -> Tensor:
        """Return the covariance of the second layer's input features, [r·t2, r·t2]."""
        first, taps = self.first[:rank], self.split.taps[1]
        seen, width = _seen(self.layer.covariance, self.split), first.shape[1]
        gram = first.new_empty(len(first), taps, len(first), taps)
        for tap in range(taps):  # and those after it: the matrix is symmetric
            half = (first @ seen[tap, :, tap:].flatten(1)).reshape(-1, width)  # [r·(t2 - tap), I·t1]
            block = (half @ first.T).reshape(len(first), taps - tap, len(first))
            gram[:, tap, :, tap:] = block.transpose(1, 2)
            gram[:, tap:, :, tap] = block.permute(2, 1, 0)
        return gram.flatten(2).flatten(0, 1)

    def _cross(self, rank: int, layer: Layer) -> Tensor:
        """Return the covariance of those features with the outputs of `layer`, [r·t2, O]."""
        cross = self.first[:rank] @ unfold(layer.cross, self.split).T  # [r, O·t2]
        return cross.reshape(rank, -1, self.split.taps[1]).transpose(1, 2).flatten(0, 1)


def truncated(weight: Tensor, covariance: Tensor, split: Split, rank: int) -> Tensor:
    """Return the best approximation of `weight` at rank `rank`, [O, I·taps]."""
    return Parts.of(Layer(weight, covariance), split, rank).truncated(rank)


def split_exactly(weight: Tensor, split: Split, rank: int) -> tuple[Tensor, ...]:
    """Split a weight [O, I, *kernel] into layers by SVD, exact at its rank."""
    outputs, inputs = weight.shape[:2]
    matrix = require_finite(unfold(weight.reshape(outputs, -1).double(), split), "a weight to be split")
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    sizes = [(k, 1) if mine else (1, k) for k, mine in zip(split.kernel, split.first, strict=True)]
    first = (root[:, None] * v[:rank]).reshape(len(root), inputs, *[size[0] for size in sizes])
    second = (u[:, :rank] * root).reshape(outputs, split.taps[1], len(root)).transpose(1, 2)
    second = second.reshape(outputs, len(root), *[size[1] for size in sizes])
    return (first, second) if split.then is None else (first, *split_exactly(second, split.then, rank))


def unfold(weight: Tensor, split: Split) -> Tensor:
    """Reshape a weight [O, I·taps] to a matrix [O·t2, I·t1]."""
    wide: Tensor = weight.unflatten(1, (-1, *split.kernel)) if split.kernel else weight
    return wide.permute(*_order(split)).reshape(len(weight) * split.taps[1], -1)


def fold(matrix: Tensor, split: Split) -> Tensor:
    """Invert `unfold`."""
    first, second = _axes(split)
    sizes = [split.kernel[axis] for axis in (*second, *first)]
    outputs = len(matrix) // split.taps[1]
    inputs = matrix.shape[1] // split.taps[0]
    shape = [outputs, *sizes[: len(second)], inputs, *sizes[len(second) :]]
    order = _order(split)
    found: Tensor = matrix.reshape(shape).permute(*[order.index(axis) for axis in range(len(order))])
    return found.reshape(outputs, -1)


def _axes(split: Split) -> tuple[list[int], list[int]]:
    """Return the kernel axes of the first layer and of the second."""
    axes = range(len(split.kernel))
    return [axis for axis in axes if split.first[axis]], [axis for axis in axes if not split.first[axis]]


def _order(split: Split) -> list[int]:
    """Return the permutation of [O, I, *kernel] to [O, *second, I, *first]."""
    first, second = _axes(split)
    return [0, *[axis + 2 for axis in second], 1, *[axis + 2 for axis in first]]


def _seen(covariance: Tensor, split: Split) -> Tensor:
    """Reshape Cov[x] [I·taps, I·taps] to [t2, I·t1, t2, I·t1]."""
    first, second = _axes(split)
    count = len(split.kernel)
    order = [*[axis + 1 for axis in second], 0, *[axis + 1 for axis in first]]
    sides = [*order, *[axis + count + 1 for axis in order]]
    wide = covariance.unflatten(1, (-1, *split.kernel)).unflatten(0, (-1, *split.kernel))
    side = (split.taps[1], len(covariance) // math.prod(split.kernel) * split.taps[0])
    seen: Tensor = wide.permute(*sides).reshape(*side, *side)
    return seen


def _features(layer: Layer, split: Split, rank: int) -> Tensor:
    """Return A [rank, I·t1], best first, at unit variance; near-constant ones are not amplified."""
    matrix = unfold(layer.weight, split)
    if len(matrix) > matrix.shape[1]:
        # the same from the smaller side: A = V' L^-1 with S = L L', L'M'M L = V diag(s²) V'
        mean = _mean(layer.covariance, split)
        lower = cholesky(add_ridge(mean[None], 1e-9))[0]
        wide = matrix @ lower
        right = eigh(wide.T @ wide)[1].flip(1)[:, :rank]
        found: Tensor = torch.linalg.solve_triangular(lower.T, right, upper=True).T
        varies = ((found @ mean) * found).sum(1) > 0.5  # one, where the ridge did not make it
        return found * torch.where(varies, 1.0, ROUNDING**0.5)[:, None]
    given = unfold(layer.cross, split) if split.taps[1] == 1 else matrix @ _mean(layer.covariance, split)
    values, vectors = eigh(given @ matrix.T)
    kept = vectors.flip(1)[:, :rank]
    largest, variances = values[-1].clamp_min(SMALLEST), values.flip(0)[:rank]
    level = torch.where(variances > largest * ROUNDING, variances, largest)  # rounding is not blown up
    features: Tensor = (kept.T @ matrix) / level.sqrt()[:, None]
    return features


def _mean(covariance: Tensor, split: Split) -> Tensor:
    """Return the covariance of one tap of the second layer, [I·t1, I·t1], averaged."""
    return torch.einsum("tqtp->qp", _seen(covariance, split)) / split.taps[1]
