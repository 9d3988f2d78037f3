"""Calibrate a network once, and compress it to one target or several."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.export import ExportedProgram

from ..allocation.alignment import Alignment
from ..cost.budget import written
from ..data.images import Images, as_images
from ..data.noise import why_nothing_varies
from ..device import CPU, named
from ..frontend.capture import capture
from ..frontend.process_state import kept_process_state
from ..frontend.requirements import plain_module
from ..ir.calling import Inputs
from ..ir.program import Program
from ..ir.signature import signature_of
from ..latency.engine import checked
from ..pipeline.context import Context
from ..pipeline.method import batch_of, passes_of, require_effect, require_kept
from ..pipeline.pipeline import Instrument, Pipeline, Time, Verify
from ..progress import Track, silent
from ..report.compression import capture_facts, layer_facts, request_facts, sensitivity_facts, size_facts
from ..request.config import CompressConfig
from ..request.options import optional
from ..request.target import Target
from ..surgery.plan import Plan
from ..validation.held_out import Planned, estimate, keep_back
from .result import CHECKED, Result

if TYPE_CHECKING:
    from ..deploy.onnx.drop_in import DropIn


@dataclass(frozen=True, kw_only=True)
class Session:
    """Record what only Python can give `compress`, beside the options: objects of this process."""

    example_inputs: Inputs | None = optional(
        None,
        "Arguments to capture the model with, or a mapping of keywords, nested as it takes them; the tensors among"
        " them are, in order, those of the images.",
        usual="the first samples",
    )
    track: Track = optional(silent, "Progress of loops, called as track(steps, text).")
    instruments: Sequence[Instrument] = optional((), "Observers of each pass.")


@dataclass(frozen=True)
class Calibrated:
    """A network after the passes that depend on no target."""

    dense: Program
    whole: Images
    left_out: int
    passes: Pipeline
    program: Program
    context: Context
    verify: Verify
    instruments: Sequence[Instrument]
    seconds: Mapping[str, float]  # by pass, with the capture and their total
    drop_in: DropIn | None = None  # interface of the ONNX file that the network is from

    @staticmethod
    @kept_process_state()
    def of(
        model: nn.Module | ExportedProgram, calibration: Any, config: CompressConfig, session: Session
    ) -> Calibrated:
        """Capture the network and run the passes before the plan."""
        started = time.perf_counter()
        wanted, passes = config.wanted, passes_of(config)
        require_effect(config)
        require_kept(passes, config.cache)
        constraints = config.constraints
        Alignment.parse(constraints.align)
        engine = checked(config.on or "ort-cpu")
        dense, whole, left_out, interface = _captured(model, calibration, config, session.example_inputs)
        batch = batch_of(config.batch, dense.only_batch)
        images, kept = keep_back(whole, config.seed)
        captured = time.perf_counter() - started
        clock, verify = Time(), Verify(next(images.batches(dense.only_batch or min(batch, CHECKED))))
        context = Context(
            wanted, constraints, images, config.seed, batch, config.cache, session.track, kept=kept, on=engine
        )
        program = passes.run(dense, context, (clock, verify, *session.instruments), stop=passes.before(Plan))
        seconds = {"capture": captured, **clock.seconds, "total": time.perf_counter() - started}
        watching = session.instruments
        return Calibrated(dense, whole, left_out, passes, program, context, verify, watching, seconds, interface)

    @kept_process_state()
    def result(self, target: Target) -> Result:
        """Run the remaining passes for a target, and estimate the error on other images."""
        started, passes, context = time.perf_counter(), self.passes, self.context.toward(target)
        start = passes.before(Plan)
        clock, planned = Time(), Planned(start)
        program = passes.run(self.program, context, (clock, self.verify, planned, *self.instruments), start=start)
        plan = program.fact(Plan)
        if "allocate" in context.notes:
            context.notes["allocate"]["budgets"] = written(program, context.notes["allocate"]["budgets"])
        finished = time.perf_counter()
        expected = estimate(self.dense, lambda: planned.judged(passes, context, program), context.kept, context)
        ended = time.perf_counter()
        seconds = {**self.seconds, **clock.seconds, "estimate": ended - finished}
        seconds["total"] = seconds.pop("total") + ended - started
        report = {
            **size_facts(self.dense, planned.program(program), program, plan, self.whole, seconds),
            **request_facts(context),
            "pipeline": str(passes),
            "drift": self.verify.reported,
            "notes": context.notes,
            "estimate": expected.to_json(),
            "capture": capture_facts(self.dense, self.left_out),
            "layers": layer_facts(plan),
            "sensitivity": sensitivity_facts(planned.program(program)),
        }
        few = tuple(one.to(CPU) for one in self.verify.samples[0])
        dense, program = (replace(one, original=None) for one in (self.dense, program))
        return Result(dense, program, plan, report, few, expected, self.drop_in)


def _interface(model: nn.Module | ExportedProgram, images: Images) -> DropIn | None:
    """Return the interface of the ONNX file of a network; None of other networks."""
    from ..frontend.onnx_import.network import OnnxNetwork

    if not isinstance(model, OnnxNetwork):
        return None
    from ..deploy.onnx.drop_in import DropIn  # needs the exporter's packages, which other networks do not

    return DropIn.of(model, images.inputs)


def _captured(
    model: nn.Module | ExportedProgram, calibration: Any, config: CompressConfig, example_inputs: Inputs | None
) -> tuple[Program, Images, int, DropIn | None]:
    """Return the captured network, images, number left out, interface of its file."""
    place = named(config.device)
    model = plain_module(model)
    images = as_images(calibration, takes=signature_of(model, example_inputs))
    interface = _interface(model, images.take(CHECKED, config.seed))
    dense = capture(model, example_inputs or images.example(config.batch or 2), config.opaque).on(place)
    batch_of(config.batch, dense.only_batch)
    whole = images.in_steps(dense.only_batch or 1).on(dense.device)
    if (alike := why_nothing_varies(whole.inputs)) is not None:
        dense = replace(dense, notes=(*dense.notes, alike))
    return dense, whole, len(images) - len(whole), interface
