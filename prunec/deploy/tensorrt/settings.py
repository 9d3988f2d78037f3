"""Describe the settings of an engine: GPUs, batch sizes, precision, flags.

Flags are kept by name, since their numbers change between versions.

>>> Settings("tensorrt-rtx", targets_of("89,sm_86"), Profile.parse("1/8/32")).targets
('86', '89')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import SpecError
from .package import package

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "fp8": "float8"}
HARDWARE = {"ampere-plus": "AMPERE_PLUS", "same": "SAME_COMPUTE_CAPABILITY"}
LEVELS = range(6)


@dataclass(frozen=True)
class Profile:
    """Batch sizes of an engine: least, optimal, most."""

    least: int
    best: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Parse `1/8/32`, or `8` for that batch alone. Raises SpecError for other text."""
        parts = text.split("/")
        if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
            raise SpecError(f"profile '{text}' is not like 1/8/32 (least, best, most batch) or like 8")
        sizes = [int(part) for part in parts]
        least, best, most = sizes if len(sizes) == 3 else sizes * 3
        if not 1 <= least <= best <= most:
            raise SpecError(f"profile '{text}' must rise from at least 1: least/best/most, for instance 1/8/32")
        return cls(least, best, most)

    def covers(self, batch: int) -> bool:
        """Return whether an engine of this profile takes `batch`."""
        return self.least <= batch <= self.most

    def __str__(self) -> str:
        return f"{self.least}/{self.best}/{self.most}"


@dataclass(frozen=True)
class Settings:
    """Settings that determine an engine, with the ONNX file and the package."""

    backend: str
    targets: tuple[str, ...] = ()  # compute capabilities without the dot; empty: the package's default
    profile: Profile | None = None  # None: the ONNX file fixes its batch
    precision: str | None = None  # checked only: the ONNX file has it
    weak_typing: bool = False
    flags: tuple[str, ...] = ()
    cleared_flags: tuple[str, ...] = ()
    hardware: str | None = None
    workspace_mb: int | None = None
    level: int | None = None

    def __post_init__(self) -> None:
        """Raise SpecError for a setting that does not exist."""
        package(self.backend)
        if self.precision is not None and self.precision not in PRECISIONS:
            raise SpecError(f"precision '{self.precision}' is not known; choose one of {', '.join(PRECISIONS)}")
        if self.hardware is not None and self.hardware not in HARDWARE:
            known = ", ".join(HARDWARE)
            raise SpecError(f"hardware compatibility '{self.hardware}' is not known; choose one of {known}")
        if self.level is not None and self.level not in LEVELS:
            raise SpecError(f"optimisation level {self.level} is not one of {LEVELS[0]} to {LEVELS[-1]}")
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise SpecError(f"a workspace of {self.workspace_mb} MB is none; give 1 or more, or leave the option out")

    def to_json(self) -> dict[str, Any]:
        """Return names and numbers valid in every version."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Settings:
        """Invert `to_json`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in found.items()
        }
        profile = values.pop("profile")
        return cls(profile=None if profile is None else Profile(**profile), **values)


def targets_of(text: str | None) -> tuple[str, ...]:
    """Parse `86,89` or `8.6,sm_89` to ('86', '89'), sorted and unique. Raises SpecError for other text."""
    if text is None:
        return ()
    names = [part.strip().lower().removeprefix("sm").removeprefix("_").replace(".", "") for part in text.split(",")]
    if not all(name.isdecimal() for name in names):
        raise SpecError(f"'{text}' is no list of compute capabilities; write for instance --sm 86,89,120")
    return tuple(sorted(set(names), key=int))


def flags_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of builder flags as TensorRT spells them, sorted and unique."""
    return tuple(sorted({flag.strip().upper().replace("-", "_") for flag in names}))
