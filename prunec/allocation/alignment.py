"""Align the steps of channel spaces with the block sizes of an engine.

An engine computes channels in blocks (`prunec/cost/hardware.py`): in blocks of 16, 49 to 60 channels cost as much as
64, and off the granule a layer leaves the fast kernel. Half a block saves nothing, made or read. So a space keeps a
multiple of the preferred width; of the block, where it has room for fewer than `ROOM` of these; or all its channels. It
keeps at least as many channels as fill the fast kernel.
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
    """Multiples of `most` channels, halved in narrow spaces down to `least`; or all channels.

    At least `fewest` channels are kept; ranks may be fewer.
    """

    name: str
    most: int
    least: int
    fewest: int = 1

    @staticmethod
    def parse(text: str) -> Alignment | None:
        """Parse `auto` (ONNX Runtime on this machine), a deployment target, a number, or `none`.

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
        """Return the multiple for a space of `channels` channels."""
        step = self.most
        while step // 2 >= self.least and channels < ROOM * step:  # ends: it halves
            step //= 2
        return step

    def apply(self, channels: Channels) -> Channels:
        """Return the spaces with aligned steps; steps they already had are respected."""
        return replace(channels, spaces=tuple(self._stepped(space) for space in channels.spaces))

    def _stepped(self, space: Space) -> Space:
        rows = next((site.rows.shape[1] for site in space.sites if site.role == PRODUCES), 1)
        step = self.step(space.size * rows)
        least = min(-(-self.fewest // rows), space.size) if space.sites else 0
        return replace(space, step=math.lcm(space.step, step // math.gcd(step, rows)), least=max(space.least, least))

    def finer(self) -> Iterator[Alignment]:
        """Yield this alignment, then weaker ones: without `fewest`, then steps of half, a quarter, …"""
        if self.fewest > 1:
            yield self
        most = self.most
        while most > 1:  # ends: it halves
            yield Alignment(self.name, most, min(self.least, most))
            most //= 2
