"""Extrapolate the error to more images, from fits to a half and a quarter.

    error(n) = a + b / n        agreement(n) = c - d / n        least squares in a, b >= 0 and in c, d >= 0

The variance of a least-squares fit falls as 1 / n, so the error on unseen images falls towards a constant. The networks
have the same channels; their layers are fitted to fewer images, and all run on the held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..statistics.agreement import Agreement

HARDLY = 0.05  # of the error: a smaller fall counts as none


@dataclass(frozen=True)
class Learning:
    """Error on the held-out images by number of fitted images, ascending."""

    images: tuple[int, ...]
    relative_error: tuple[float, ...]
    agreement: tuple[float, ...]  # empty where there are no answers
    twice_relative_error: float  # extrapolated to twice the most images
    twice_agreement: float | None

    @staticmethod
    def of(found: Mapping[int, Agreement]) -> Learning | None:
        """Build the curve from agreements by number of images; None unless there are three."""
        if len(found) < 3:
            return None
        images = tuple(sorted(found))
        errors = tuple(found[count].relative_error for count in images)
        answers = tuple(one for count in images if (one := found[count].agreement) is not None)
        agreement = _twice(images, [-one for one in answers]) if len(answers) == len(images) else None
        return Learning(images, errors, answers, _twice(images, errors), None if agreement is None else -agreement)

    def to_json(self) -> dict[str, Any]:
        """Return the curve and its sentence, for the report."""
        rows = {name: list(getattr(self, name)) for name in ("images", "relative_error", "agreement")}
        foretold = {name: getattr(self, name) for name in ("twice_relative_error", "twice_agreement")}
        return {**rows, **foretold, "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """Sentence on the effect of twice the images."""
        last, gain = self.relative_error[-1], None
        if self.twice_agreement is not None:
            gain = 100 * (self.twice_agreement - self.agreement[-1])
        if self.twice_relative_error > (1 - HARDLY) * last:
            return "more images would bring next to nothing"
        points = "" if gain is None or gain < 0.05 else f" and about {gain:+.1f} points of agreement"
        return f"twice the images would bring a relative output error of about {self.twice_relative_error:.2g}{points}"


def _twice(images: Sequence[int], values: Sequence[float]) -> float:
    """Extrapolate a value that falls as 1 / n to twice the most images."""
    inverse = 1 / np.array(images, dtype=np.float64)
    slope = np.polyfit(inverse, values, 1)[0]
    return float(values[-1] - max(slope, 0.0) * inverse[-1] / 2)
