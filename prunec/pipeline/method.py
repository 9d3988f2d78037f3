"""Method of a compression: strategies of the default pipeline, or another pipeline."""

from __future__ import annotations

from ..errors import SpecError
from ..grammar.registry import STRATEGIES
from ..grammar.spec import name_of
from ..ir.program import Program
from ..request.config import BATCH, CompressConfig
from ..request.conflicts import METHOD, require_no_conflict
from ..request.constraints import ANY, AUTO, Constraints
from ..request.options import options_of
from .context import Context
from .pipeline import Pipeline

PREPARE = "fold-constants,as-linear,fold-bn,explicit-bias,hoist-slices,analyse"
PIPELINE = (
    PREPARE + ",calibrate,select{{method={selector}}},ranks{{method={decomposer}}},branches{{method={compensator}}},"
    "sensitivity,allocate{{method={allocator}}},compensate{{method={compensator}}},slice,decompose"
)
STRATEGY = {
    one.name: one.option.usual or "" for one in options_of(CompressConfig) if f"{one.name}s" in STRATEGIES
}  # of each kind, the one that None stands for


def passes_of(config: CompressConfig) -> Pipeline:
    """Return the checked pipeline of a config. Raises SpecError, for a strategy beside a pipeline too."""
    options = (*METHOD.options, METHOD.other)
    require_no_conflict({name: f"{name}=" for name in options if getattr(config, name)}, [METHOD])
    specs = {name: getattr(config, name) or usual for name, usual in STRATEGY.items()}
    for name, spec in specs.items():
        STRATEGIES[f"{name}s"].make(spec)
    found = Pipeline.parse(PIPELINE.format(**specs) if config.pipeline is None else config.pipeline)
    found = found.without("branches") if config.keep_branches else found
    found.check()
    return found


def require_effect(config: CompressConfig) -> None:
    """Raise SpecError for an option without effect beside the others."""
    target, round_to, align, on = config.wanted, config.round_to, config.align, config.on
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


def prepared(program: Program, constraints: Constraints = ANY) -> Program:
    """Return the program after the exact passes before the analysis, and the analysis."""
    return Pipeline.parse(PREPARE).run(program, Context(constraints=constraints))
