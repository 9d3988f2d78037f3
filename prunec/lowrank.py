"""Two layers, or more, in the place of one, W [O, I, *kernel] = B A, whitened by what the layer reads.

A split gives the taps of some axes to the first layer (t1) and the rest to the second (t2), so that W is a matrix
M [O·t2, I·t1] and x, seen through the second's taps, t2 vectors of I·t1. With S their mean covariance:

    C = M S M' = U diag(s²) U',      A_r = diag(1/s_r) U_r' M,      B_r = argmin E|W x - B A_r x|²

A_r spans the best r features where t2 = 1 (PCA of the responses: Zhang et al. 2016; BALF 2025), and is the whitened SVD
of Jaderberg et al. 2014 where it is not; B_r is exact least squares with the full covariance of x. Where B is cut as
well, it is as a layer that reads A x, with the covariance of that (successive, as the tensor train's SVD). All float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .channels.spaces import Split
from .solvers import SMALLEST, add_ridge, cholesky, eigh, require_finite, solve

SAMPLED = 10  # ranks at which the error of more than two layers is worked out; between them it is interpolated
ROUNDING = 1e-5  # of the largest variance; products of float32 are summed, and one below may well be negative
RIDGE = 1e-9  # relative; the least squares have as many unknowns as the rank, and the features unit variance


@dataclass(frozen=True)
class Factors:
    """W = B A: `first` [r, I·t1], best row first, `second` [O, r, t2], and what the second reads, Cov [r·t2, r·t2]."""

    first: Tensor
    second: Tensor
    covariance: Tensor


def factors(weight: Tensor, covariance: Tensor, split: Split, rank: int) -> Factors:
    """The best first two layers of `rank` for weight [O, I·taps] reading x with Cov[x] [I·taps, I·taps]."""
    seen = _seen(covariance, split)
    first = _features(weight, seen, split, rank)
    gram, cross = _moments(first, weight, seen, split)
    second = solve(add_ridge(gram[None], RIDGE), cross[None])[0]  # [r·t2, O]
    return Factors(first, second.T.reshape(len(weight), -1, split.taps[1]), gram)


def truncated(weight: Tensor, covariance: Tensor, split: Split, rank: int) -> Tensor:
    """The weight [O, I·taps] of that rank which best gives what `weight` gives."""
    found = factors(weight, covariance, split, rank)
    second = found.second
    if split.then is not None:
        second = truncated(second.flatten(1), found.covariance, split.then, rank).reshape(second.shape)
    return fold(torch.einsum("ort,rq->otq", second, found.first).flatten(0, 1), split)


def error(weight: Tensor, covariance: Tensor, split: Split, rank: int) -> float:
    """The squared error of W x with this rank, relative to its variance."""
    variance = float(((weight @ covariance) * weight).sum())
    if rank == 0 or variance <= 0:  # an output that does not vary is the bias, at any rank
        return float(variance > 0)
    less = weight - truncated(weight, covariance, split, rank)
    return float(((less @ covariance) * less).sum().clamp_min(0)) / variance


def errors(weight: Tensor, covariance: Tensor, split: Split, highest: int) -> Tensor:
    """The squared error of W x with rank 0, 1 … highest, relative to its variance, float64 [highest + 1]."""
    if split.then is not None:
        return _sampled(weight, covariance, split, highest)
    variance = float(((weight @ covariance) * weight).sum())
    if variance <= 0:
        return torch.zeros(highest + 1, dtype=weight.dtype)
    seen = _seen(covariance, split)
    first = _features(weight, seen, split, highest)
    gram, cross = _moments(first, weight, seen, split)
    damped = add_ridge(gram[None], RIDGE)
    factor = cholesky(damped)
    explained = torch.linalg.solve_triangular(factor[0], cross, upper=False).square().sum(1)  # [r·t2], in order
    gained = explained.reshape(-1, split.taps[1]).sum(1).cumsum(0) / variance
    return torch.cat([torch.ones(1, dtype=gained.dtype), (1 - gained).clamp_min(0)])


def _sampled(weight: Tensor, covariance: Tensor, split: Split, highest: int) -> Tensor:
    ranks = np.unique(np.linspace(0, highest, min(highest, SAMPLED) + 1).round())
    found = [error(weight, covariance, split, int(rank)) for rank in ranks]
    falling = np.minimum.accumulate(found)
    return torch.from_numpy(np.interp(np.arange(highest + 1), ranks, falling))


def split_exactly(weight: Tensor, split: Split, rank: int) -> tuple[Tensor, ...]:
    """A weight [O, I, *kernel] of that rank as those of the layers, by SVD: exact where it has no higher rank."""
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
    """A weight [O, I·taps] as the matrix [O·t2, I·t1]."""
    wide: Tensor = weight.unflatten(1, (-1, *split.kernel)) if split.kernel else weight
    return wide.permute(*_order(split)).reshape(len(weight) * split.taps[1], -1)


def fold(matrix: Tensor, split: Split) -> Tensor:
    """The inverse of `unfold`."""
    first, second = _axes(split)
    sizes = [split.kernel[axis] for axis in (*second, *first)]
    outputs = len(matrix) // split.taps[1]
    inputs = matrix.shape[1] // split.taps[0]
    shape = [outputs, *sizes[: len(second)], inputs, *sizes[len(second) :]]
    order = _order(split)
    found: Tensor = matrix.reshape(shape).permute(*[order.index(axis) for axis in range(len(order))])
    return found.reshape(outputs, -1)


def _axes(split: Split) -> tuple[list[int], list[int]]:
    """The kernel's axes of the first layer and of the second."""
    axes = range(len(split.kernel))
    return [axis for axis in axes if split.first[axis]], [axis for axis in axes if not split.first[axis]]


def _order(split: Split) -> list[int]:
    """[O, I, *kernel] to [O, *second, I, *first]."""
    first, second = _axes(split)
    return [0, *[axis + 2 for axis in second], 1, *[axis + 2 for axis in first]]


def _seen(covariance: Tensor, split: Split) -> Tensor:
    """Cov[x] [I·taps, I·taps] as [t2, I·t1, t2, I·t1]."""
    first, second = _axes(split)
    count = len(split.kernel)
    order = [*[axis + 1 for axis in second], 0, *[axis + 1 for axis in first]]
    sides = [*order, *[axis + count + 1 for axis in order]]
    wide = covariance.unflatten(1, (-1, *split.kernel)).unflatten(0, (-1, *split.kernel))
    side = (split.taps[1], len(covariance) // math.prod(split.kernel) * split.taps[0])
    seen: Tensor = wide.permute(*sides).reshape(*side, *side)
    return seen


def _features(weight: Tensor, seen: Tensor, split: Split, rank: int) -> Tensor:
    """Return A [rank, I·t1], best first, each of unit variance; those that do not vary stay as small as they are."""
    matrix = unfold(weight, split)
    mean = torch.einsum("tqtp->qp", seen) / split.taps[1]
    if len(matrix) > matrix.shape[1]:
        # the same from the smaller side: A = V' L^-1 with S = L L', L'M'M L = V diag(s²) V'
        lower = cholesky(add_ridge(mean[None], 1e-9))[0]
        wide = matrix @ lower
        right = eigh(wide.T @ wide)[1].flip(1)[:, :rank]
        found: Tensor = torch.linalg.solve_triangular(lower.T, right, upper=True).T
        varies = ((found @ mean) * found).sum(1) > 0.5  # one, where the ridge did not make it
        return found * torch.where(varies, 1.0, ROUNDING**0.5)[:, None]
    values, vectors = eigh(matrix @ mean @ matrix.T)
    kept = vectors.flip(1)[:, :rank]
    largest, variances = values[-1].clamp_min(SMALLEST), values.flip(0)[:rank]
    level = torch.where(variances > largest * ROUNDING, variances, largest)  # rounding is not blown up
    features: Tensor = (kept.T @ matrix) / level.sqrt()[:, None]
    return features


def _moments(first: Tensor, weight: Tensor, seen: Tensor, split: Split) -> tuple[Tensor, Tensor]:
    """Of the features as the second layer sees them: Cov [r·t2, r·t2], and with W x [r·t2, O]."""
    taps, width = seen.shape[:2]
    half = (first @ seen.permute(1, 0, 2, 3).reshape(width, -1)).reshape(len(first), taps, taps, width)
    gram = (half.reshape(-1, width) @ first.T).reshape(len(first), taps, taps, len(first)).transpose(2, 3)
    flat = unfold(weight, split).reshape(len(weight), taps * width)  # [O, t2·I·t1]
    cross = half.reshape(len(first) * taps, taps * width) @ flat.T
    return gram.reshape(len(first) * taps, -1), cross
