"""Read what a network must meet: `drop<=1` points of top-1, or `agreement>=0.97` with the dense network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SpecError

FORMS = (
    "drop<=1 (points of top-1, on the images of --evaluate) or agreement>=0.97 (share of same answers, without labels)"
)


@dataclass(frozen=True)
class Condition:
    """Bound the drop of top-1, in points, or the share of same answers as dense."""

    of: str
    bound: float

    @staticmethod
    def parse(text: str) -> Condition:
        """Read `drop<=NUMBER` or `agreement>=NUMBER`. Raises SpecError."""
        found = re.fullmatch(r"\s*(?:(drop)\s*<=|(agreement)\s*>=)\s*(\d+(?:\.\d+)?)(%?)\s*", text)
        if found is None:
            raise SpecError(f"'{text}' is no condition: write {FORMS}")
        of, bound = found[1] or found[2], float(found[3])
        bound = bound / 100 if of == "agreement" and (found[4] or bound > 1) else bound
        if of == "agreement" and not 0 < bound <= 1:
            raise SpecError(f"'{text}' is no share of answers: write {FORMS}")
        return Condition(of, bound)

    def met(self, report: Mapping[str, Any]) -> bool:
        """Return whether the report of a compression meets it. Raises SpecError where it was not measured."""
        if self.of == "drop":
            accuracy = report.get("accuracy")
            if accuracy is None:
                raise SpecError(f"{self} needs labelled images: give --evaluate, or a condition on the agreement")
            return bool(accuracy["dense"] - accuracy["compressed"] <= self.bound)
        agreement = (report.get("estimate") or {}).get("agreement")
        if agreement is None:
            raise SpecError(f"{self} needs class scores and enough images to keep some back: give more images")
        return bool(agreement >= self.bound)

    def __str__(self) -> str:
        return f"drop<={self.bound:g}" if self.of == "drop" else f"agreement>={self.bound:g}"
