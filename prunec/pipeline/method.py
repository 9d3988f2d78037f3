"""Method of a compression: strategies of the default pipeline, or another pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ..errors import SpecError
from ..grammar.registry import STRATEGIES
from ..grammar.spec import name_of
from ..request.conflicts import METHOD, require_no_conflict
from ..request.constraints import AUTO
from ..request.target import Target
from .pipeline import Pipeline

PREPARE = "fold-constants,as-linear,fold-bn,explicit-bias,hoist-slices,analyse"
PIPELINE = (
    PREPARE + ",calibrate,select{{method={selector}}},ranks{{method={decomposer}}},branches{{method={compensator}}},"
    "sensitivity,allocate{{method={allocator}}},compensate{{method={compensator}}},slice,decompose"
)
BATCH = 64  # samples a step, where neither the user nor the network says
STRATEGY = {"selector": "obs", "allocator": "portfolio", "compensator": "sequential", "decomposer": "collaborative"}


@dataclass(frozen=True)
class Method:
    """Names or specs of strategies, None for the default; or a `pipeline` without any."""

    selector: str | None = None
    allocator: str | None = None
    compensator: str | None = None
    decomposer: str | None = None
    keep_branches: bool = False
    pipeline: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Raise SpecError for a strategy beside a pipeline."""
        given = {each.name: f"{each.name}=" for each in fields(self) if getattr(self, each.name)}
        require_no_conflict(given, [METHOD])

    def passes(self) -> Pipeline:
        """Return the checked pipeline. Raises SpecError."""
        specs = {name: getattr(self, name) or usual for name, usual in STRATEGY.items()}
        for name, spec in specs.items():
            STRATEGIES[f"{name}s"].make(spec)
        found = Pipeline.parse(PIPELINE.format(**specs) if self.pipeline is None else self.pipeline)
        found = found.without("branches") if self.keep_branches else found
        found.check()
        return found


def require_effect(target: Target, round_to: int, align: str | int | None, on: str | None) -> None:
    """Raise SpecError for an option without effect beside the others."""
    if on is not None and all(one.kind != "latency" for one in target.each):
        raise SpecError(
            f"on={on} is where a latency target is met, and target={target} has none: leave out one of them"
        )
    if align == AUTO and round_to > 1:
        raise SpecError(f"align={align} has no effect beside round_to={round_to}: leave one out, or name a target")


def require_kept(passes: Pipeline, cache: object) -> None:
    """Raise SpecError for a `cache` beside passes that write no statistics."""
    if cache is not None and all(name_of(type(each)) != "calibrate" for each in passes.passes):
        raise SpecError(
            f"cache={cache} has no effect beside a pipeline without calibrate, whose statistics it keeps: leave out one"
            " of the two, or add calibrate"
        )


def batch_of(given: int | None, only: int | None) -> int:
    """Return samples per step: the given number, or the network's only one. Raises SpecError where they differ."""
    if given is not None and only not in (None, given):
        raise SpecError(f"batch={given} cannot hold for a network of batches of {only} alone: leave it out")
    return only or given or BATCH
