"""Define the inputs of a pipeline besides the program: target, constraints, images, settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..data.images import Images
from ..errors import PassError
from ..progress import Track, silent
from ..request.constraints import ANY, Constraints
from ..request.engine import On
from ..request.target import Target

CHOOSE = 8  # an eighth of the images
FEW = 32  # images: fewer are not shared out


@dataclass(frozen=True)
class Context:
    """Inputs of a pipeline run besides the program: target, constraints, images and settings."""

    target: Target | None = None
    constraints: Constraints = ANY
    calibration: Images | None = None  # unlabelled
    seed: int = 0
    batch: int = 64  # samples a step of a sweep
    cache: Path | None = None  # folder of reusable statistics
    track: Track = silent
    notes: dict[str, Any] = field(default_factory=dict)  # reports of passes, by pass name
    kept: Images | None = None  # held out from every choice; only the last refit reads them
    on: On | None = None  # the engine of a latency target; None is ONNX Runtime on this machine

    def images(self) -> Images:
        """Return the calibration images. Raises PassError if there are none."""
        if self.calibration is None:
            raise PassError("this pipeline needs calibration images; give some (--data IMAGES)")
        return self.calibration

    @cached_property
    def choosing(self) -> Images:
        """Images for choices: an eighth, disjoint from `fitting`; all if there are few."""
        images, count = self.images(), self._choosing
        return images.take(count, self.seed) if count else images

    @cached_property
    def fitting(self) -> Images:
        """Images for dense statistics."""
        images, count = self.images(), self._choosing
        return images.take(len(images), self.seed, skip=count) if count else images

    @property
    def _choosing(self) -> int:
        images = self.images()
        count = -(-len(images) // CHOOSE) // images.step * images.step
        return count if len(images) >= FEW and count else 0

    def toward(self, target: Target) -> Context:
        """Return a copy with another target and its own notes, and the same drawn images."""
        found = replace(self, target=target, notes=dict(self.notes))
        drawn = ("choosing", "fitting")
        vars(found).update({name: value for name, value in vars(self).items() if name in drawn})
        return found

    def wanted(self) -> Target:
        """Return the target. Raises PassError if there is none."""
        if self.target is None:
            raise PassError("this pipeline needs a target; give one (--target macs:0.5)")
        return self.target
