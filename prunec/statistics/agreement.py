"""Measure the agreement of a compressed network with the dense one, without labels.

    agreement       mean over images of the share of positions with the same argmax over classes
    interval        95%: Wilson for one position per image, Student's t over images for several (pixels of one image
                    depend on each other)
    relative error  Σ|f_s − f|² / Σ|f − mean f|²                 over all outputs: `prunec.statistics.relative`
    KL              mean over positions of Σ_c p_c log(p_c/q_c), p = softmax f, q = softmax f_s, in nats

Source: E. B. Wilson, *Probable inference, the law of succession, and statistical inference* (1927).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..data.arrays import Array
from ..device import full_float32
from ..ir.graph import floats
from .relative import Spread, squared_error

TEMPERATURE = 2.0  # of softened answers (Hinton, Vinyals & Dean 2015)
Z95 = NormalDist().inv_cdf(0.975)  # standard errors to either end of a 95% interval
Interval = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """Agreement of two networks over `images` images; None without class scores."""

    images: int
    answers: str  # kind of answer, or why there is none
    agreement: float | None
    interval: Interval | None
    relative_error: float
    kl: float | None  # nats; infinite where q is 0 and p is not
    soft_kl: float | None = None  # the same, of outputs divided by TEMPERATURE


@torch.no_grad()
def agreements_of(
    dense: nn.Module, compressed: Sequence[nn.Module], batches: Iterable[tuple[Tensor, ...]]
) -> list[Agreement]:
    """Compare several networks with the dense network, which runs each batch once.

    Class scores are the first output [N, C] or [N, C, positions, …], of two classes or more. Raises NumericsError for
    outputs that are not finite.
    """
    spread, found = Spread(), [_Comparison() for _ in compressed]
    for batch in batches:
        samples = len(batch[0])
        with full_float32():
            wanted = floats(dense(*batch))
            spread.add(wanted, samples)
            for one, network in zip(found, compressed, strict=True):
                one.add(floats(network(*batch)), wanted, samples)
    return [one.agreement(spread) for one in found]


def agreement_between(
    found: Sequence[Sequence[Tensor]], wanted: Sequence[Sequence[Tensor]], sizes: Sequence[int]
) -> Agreement:
    """Compare outputs for batches of `sizes` images with those of the dense network, as `agreements_of`."""
    spread, comparison = Spread(), _Comparison()
    for one, dense, samples in zip(found, wanted, sizes, strict=True):
        spread.add(dense, samples)
        comparison.add(one, dense, samples)
    return comparison.agreement(spread)


class _Comparison:
    """Accumulator of the agreement of one network with the dense one."""

    def __init__(self) -> None:
        self._squared, self._images, self._answers, self._positions = 0.0, 0, "", 1
        self._shares: list[NDArray[np.float64]] = []
        self._divergence: dict[float, list[Tensor]] = {1.0: [], TEMPERATURE: []}

    def add(self, found: Sequence[Tensor], wanted: Sequence[Tensor], samples: int) -> None:
        """Add the outputs of `samples` images."""
        self._squared += squared_error(found, wanted)
        self._images += samples
        place, self._answers = scores_in(wanted, samples)
        if place is not None:
            reference, output = wanted[place].double(), found[place].double()
            same = same_class(reference.cpu().numpy(), output.cpu().numpy()).reshape(samples, -1)
            self._positions = same.shape[1]
            self._shares.append(same.mean(1))
            for temperature, known in self._divergence.items():
                each = _divergence(reference, output, temperature).reshape(samples, -1).mean(1)
                known.append(each.cpu())

    def agreement(self, spread: Spread) -> Agreement:
        """Return the agreement over all images; `spread` is that of the dense outputs."""
        error = spread.relative(self._squared)
        if not self._shares:
            return Agreement(self._images, self._answers, None, None, error, None)
        each = np.concatenate(self._shares)
        interval = wilson(float(each.mean()), self._images) if self._positions == 1 else t_interval(each)
        kl, soft = (float(torch.cat(known).mean()) for known in self._divergence.values())
        return Agreement(self._images, self._answers, float(each.mean()), interval, error, kl, soft)


def scores_in(outputs: Sequence[Tensor], samples: int) -> tuple[int | None, str]:
    """Return the index of the class scores and the kind of answer. None and the reason if there are none."""
    first = next((place for place, one in enumerate(outputs) if one.dim() > 1), None)
    if first is None:
        return None, "no output holds scores of classes [N, C]: it has no answers that could be the same"
    shape = list(outputs[first].shape)
    if shape[0] != samples or shape[1] < 2 or len(shape) == 3 or not outputs[first].numel():
        kind = ["N" if shape[0] == samples else shape[0], *shape[1:]]
        named = str(kind).replace("'", "")
        return None, f"the output {named} is none of [N, C] or [N, C, H, W]: it has no answers that could be the same"
    answer = f"the largest of {shape[1]:,} scores"
    return first, f"{answer} at each position" if math.prod(shape[2:]) > 1 else answer


def same_class(reference: Array, output: Array, margin: float = 0.0) -> NDArray[np.bool_]:
    """Compare the largest entries along dimension 1: True if equal or within `margin`."""
    first, other = (np.expand_dims(one.argmax(1), 1) for one in (reference, output))
    best, chosen = (np.take_along_axis(reference, one, 1).astype(np.float64) for one in (first, other))
    tied = (best == chosen) | (best <= chosen + margin)
    return np.asarray((first == other) | tied)


def wilson(share: float, count: int) -> Interval:
    """Return the 95% Wilson interval of a share of `count` independent trials."""
    spread = Z95 * Z95 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def t_interval(shares: NDArray[np.float64]) -> Interval:
    """Return the 95% interval of the mean of per-image shares. Wilson's where all images have the same share."""
    count, mean = len(shares), float(shares.mean())
    error = float(shares.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    if not error:
        return wilson(mean, count)
    half = t95(count - 1) * error
    return max(0.0, mean - half), min(1.0, mean + half)


def t95(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t by Cornish-Fisher, within 0.1% for freedom ≥ 8."""
    z = Z95
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum((term / float(freedom**power) for power, term in enumerate(terms)), 0.0)


def _divergence(reference: Tensor, output: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax reference/T ‖ softmax output/T), or of given probabilities, over dimension 1, in nats."""
    if bool((reference >= 0).all()) and bool(((reference.sum(1) - 1).abs() < 1e-3).all()):
        reference, output = reference.log(), output.clamp_min(0).log()
    p, q = (functional.log_softmax(one / temperature, 1) for one in (reference, output))
    each = functional.kl_div(q, p, reduction="none", log_target=True)
    return torch.where(p.isneginf(), 0.0, each).sum(1)
