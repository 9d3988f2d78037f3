"""Widths that the engine likes: the spaces of a network with steps to match.

An engine computes channels in blocks (`prunec/cost/hardware.py`): 49 to 60 channels cost what 64 do in blocks of 16,
and off the granule a layer leaves the fast kernel. Half a block saves nothing, made or read: measured with ONNX Runtime
on AVX2, 3x3 on 32x32, 12 -> 12 channels take what 16 -> 16 take, 20 -> 20 what 24 -> 24 do. So what stays of a space is
a multiple of what the engine likes; where there is room for fewer than `ROOM` of those, of its block; or all. And as
many channels stay as fill the fast kernel: on AVX2 half of ResNet-56's MACs take 2% less time so (5% on a machine that
nobody else uses), at the same error of the curves, 0.0300 for 0.0294; 0.7 of them 0.0076 for 0.0090.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..channels.spaces import PRODUCES, Channels, Space
from ..cost.hardware import TARGETS, DeployTarget, target_of
from ..errors import SpecError
from ..request.constraints import AUTO, NONE

ROOM = 4  # blocks in a space whose steps are whole blocks


@dataclass(frozen=True)
class Alignment:
    """Multiples of `most` channels, or in narrow spaces of a half or a quarter of that, `least` at least; or all.

    Of channels (ranks may be fewer) `fewest` stay.
    """

    name: str
    most: int
    least: int
    fewest: int = 1

    @staticmethod
    def parse(text: str) -> Alignment | None:
        """`auto` (ONNX Runtime on this machine), the name of a deployment target, a number, or `none`.

        Raises SpecError for anything else.
        """
        if text in {NONE, "1"}:
            return None
        if text.isdecimal() and int(text) > 1:
            return Alignment(text, int(text), int(text))
        if text not in {AUTO, "native", *TARGETS}:
            raise SpecError(f"--align {text}: give auto, none, a number such as 8, or one of {', '.join(TARGETS)}")
        return Alignment.of(target_of("native" if text == AUTO else text))

    @staticmethod
    def of(target: DeployTarget) -> Alignment:
        """Return the alignment that a deployment target prefers."""
        return Alignment(target.name, target.likes, min(target.block, target.likes), target.fewest)

    def step(self, channels: int) -> int:
        """The multiple for a space of so many channels."""
        step = self.most
        while step // 2 >= self.least and channels < ROOM * step:  # ends: it halves
            step //= 2
        return step

    def apply(self, channels: Channels) -> Channels:
        """The spaces with steps that make such multiples, and those that they had before."""
        return replace(channels, spaces=tuple(self._stepped(space) for space in channels.spaces))

    def _stepped(self, space: Space) -> Space:
        rows = next((site.rows.shape[1] for site in space.sites if site.role == PRODUCES), 1)
        step = self.step(space.size * rows)
        least = min(-(-self.fewest // rows), space.size) if space.sites else 0
        return replace(space, step=math.lcm(space.step, step // math.gcd(step, rows)), least=max(space.least, least))

    def finer(self) -> Iterator[Alignment]:
        """This one, then what is left where it leaves no room: fewer than `fewest`, then steps of half, a quarter, …"""
        if self.fewest > 1:
            yield self
        most = self.most
        while most > 1:  # ends: it halves
            yield Alignment(self.name, most, min(self.least, most))
            most //= 2
