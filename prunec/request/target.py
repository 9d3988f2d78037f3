"""Define and read targets of compression: `macs:0.5` asks for half of the dense MACs.

`params:200k`, `size:2MB`, `memory:1.5MB` and `latency:3.5ms` ask for an amount; `macs:0.5,params:0.4` for two things.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import SpecError
from ..grammar.spec import print_value

KINDS = ("macs", "params", "size", "memory", "latency")
NAMES = {
    "macs": "MACs",
    "params": "parameters",
    "size": "bytes of weights",
    "memory": "bytes of activations at once",
    "latency": "nanoseconds of a run",
}
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}

MOST_STEPS = 100  # of a family of targets
TIMES = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@dataclass(frozen=True)
class Target:
    """A resource and the share or amount of it that may remain, with further ones.

    A share is 0 < remaining < 1. Resources: `macs` of a sample; `params`, numbers in weights and biases; `size`, bytes
    of all weights; `memory`, bytes of the activations of one sample alive at once, at the peak; `latency`, the time of
    a run in the chosen engine (`prunec.latency`).
    """

    kind: str
    remaining: float
    unit: str | None = None  # of an amount; None where `remaining` is a share
    also: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        """Raise SpecError for invalid values."""
        if self.kind not in KINDS:
            raise SpecError(f"there is no target '{self.kind}'; there is {', '.join(KINDS)}")
        if self.unit is None and not 0 < self.remaining < 1:
            raise SpecError(
                f"target '{self.own}': a target says what remains, so it lies between 0 and 1 exclusive;"
                f" {self.kind}:0.5 keeps half of the dense {NAMES[self.kind]}"
            )
        if self.unit is not None and self.unit not in _units(self.kind):
            known = ", ".join(unit for unit in _units(self.kind) if unit)
            raise SpecError(f"target '{self.own}': '{self.unit}' is no unit of {NAMES[self.kind]}; there is {known}")
        kinds = [one.kind for one in self.each]
        if len(set(kinds)) < len(kinds):
            raise SpecError(f"target '{self}' asks twice for the same; say each of {', '.join(KINDS)} once")

    @property
    def each(self) -> tuple[Target, ...]:
        """Return the targets, one resource each."""
        return (replace(self, also=()), *self.also) if self.also else (self,)

    @property
    def own(self) -> str:
        """Return the text of the first resource."""
        return f"{self.kind}:{print_value(self.remaining)}{self.unit or ''}"

    @property
    def share_of_macs(self) -> float:
        """Return the share of the MACs, or of the latency, in the target; else half."""
        shares = {one.kind: one.remaining for one in self.each if one.unit is None}
        return shares.get("macs", shares.get("latency", 0.5))

    def allowed(self, dense: int) -> int:
        """Return the amount of the first resource that may remain of `dense`."""
        return int(self.remaining * (dense if self.unit is None else _units(self.kind)[self.unit]))

    @staticmethod
    def parse(text: str | Sequence[str]) -> Target:
        """Read `kind:share` or `kind:amount`, or several: a list, or comma-separated.

        Raises SpecError, with advice.
        """
        texts = text.split(",") if isinstance(text, str) else [part for one in text for part in one.split(",")]
        first, *also = [_one(part) for part in texts] or [_one("")]
        return replace(first, also=tuple(also)) if also else first

    def __str__(self) -> str:
        return ",".join(one.own for one in (self, *self.also))


def _one(text: str) -> Target:
    kind, colon, amount = text.partition(":")
    if not colon or kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, 1)
        hint = f" Did you mean '{near[0]}:{amount or '0.5'}'?" if near and (kind != near[0] or not colon) else ""
        raise SpecError(
            f"target '{text}' is not of the form macs:SHARE, for instance macs:0.5; there is {', '.join(KINDS)}.{hint}"
        )
    number, unit = _number(amount)
    if number is None:
        example = {"size": "size:2MB", "memory": "memory:2MB", "latency": "latency:3.5ms"}.get(kind, f"{kind}:0.5")
        raise SpecError(f"target '{text}': '{amount}' is not a number; write for instance {example}")
    return Target(kind, number, unit)


def _number(text: str) -> tuple[float | None, str | None]:
    """Return a number and its unit; None where there is none."""
    match = re.fullmatch(r"\s*([-+\d.eE]+|nan|inf)\s*([A-Za-z]*)\s*", text)
    try:
        return (None, None) if match is None else (float(match[1]), match[2] or None)
    except ValueError:
        return None, None


def _units(kind: str) -> dict[str, float]:
    return {"size": BYTES, "memory": BYTES, "latency": TIMES}.get(kind, UNITS)


def family_of(text: str) -> tuple[Target, ...]:
    """Read several targets of one kind: `macs:0.8,0.6,0.5`, or `macs:0.8:0.4:0.1` from, to and by.

    Raises SpecError, with advice.
    """
    kind, _, amounts = text.partition(":")
    parts = [part.strip() for part in amounts.split(",")] if ":" not in amounts else _steps(text, amounts)
    found = tuple(Target.parse(f"{kind}:{part}") for part in parts)
    if len(set(found)) < len(found):
        raise SpecError(f"targets '{text}' name one twice: say each once")
    return found


def _steps(text: str, amounts: str) -> list[str]:
    """Return the shares from, to and by, as text."""
    try:
        first, last, step = (float(part) for part in amounts.split(":"))
        count = abs(last - first) / step
    except (ValueError, ZeroDivisionError):
        raise SpecError(
            f"targets '{text}' are no steps: write kind:from:to:by, for instance macs:0.8:0.4:0.1"
        ) from None
    if step < 0 or count > MOST_STEPS:
        raise SpecError(f"targets '{text}' are no steps: by is above 0, and there are at most {MOST_STEPS}")
    way = 1 if last > first else -1
    return [f"{first + way * step * place:.10g}" for place in range(int(count + 1e-9) + 1)]
