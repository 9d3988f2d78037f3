"""The front door: `prunec.compress(model, calibration, target="macs:0.5")`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from .allocation.alignment import Alignment
from .channels.spaces import Channels
from .cost.budget import written
from .data.images import Images, as_images
from .data.noise import noise_like, why_nothing_varies
from .deploy.network_files import require_same, save_program, save_weights
from .device import CPU, named
from .files import artefacts
from .frontend.capture import capture
from .frontend.process_state import kept_process_state
from .frontend.requirements import plain_module
from .ir.calling import Inputs
from .ir.digest import state_digest
from .ir.program import Program
from .ir.signature import require_runnable, signature_of
from .ir.unhoisted import unhoisted
from .latency.engine import checked
from .pipeline.context import Context
from .pipeline.method import PIPELINE, PREPARE, batch_of, passes_of, require_effect, require_kept
from .pipeline.pipeline import Instrument, Pipeline, Time, Verify
from .progress import Track, silent
from .report.compression import capture_facts, request_facts, size_facts
from .request.config import CompressConfig
from .request.constraints import ANY, Constraints
from .request.keywords import keywords_of
from .request.options import optional
from .surgery.plan import Plan
from .validation.held_out import Estimate, Planned, estimate, keep_back

if TYPE_CHECKING:
    from onnx import ModelProto

    from .deploy.ort.parity import Parity

__all__ = ["PIPELINE", "PREPARE", "Result", "compress", "inspect", "prepared"]
CHECKED = 8  # samples that results are compared on, where nothing says which


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


@dataclass(frozen=True, kw_only=True)
class Keywords(Session, CompressConfig):
    """Record all keywords of `compress`."""


@keywords_of(Keywords, Session)
@kept_process_state()
def compress(model: nn.Module | ExportedProgram, calibration: Any, config: CompressConfig, session: Session) -> Result:
    """Make a trained network smaller without retraining.

    `calibration` are unlabelled training images: a Tensor [N, …], `Images`, or an iterable of batches. A batch is
    matched to the parameters of `forward`: by the keys of a dict, else by place, and what follows the required inputs
    are labels, dropped unread. A few hundred suffice, a thousand are better. A tenth of them, at least 32 and at most a
    quarter, is kept from every fit and choice, and `Result.estimate` reports the error there. The model itself is not
    changed. Options are given by name, as in `target="macs:0.5"`, or all in one `CompressConfig`.

    Raises CaptureError, SpecError, BudgetError, DataError, NumericsError, BackendError.
    """
    started = time.perf_counter()
    wanted, passes = config.wanted, passes_of(config)
    require_effect(config)
    require_kept(passes, config.cache)
    constraints = config.constraints
    Alignment.parse(constraints.align)
    engine = checked(config.on or "ort-cpu")
    dense, whole, left_out = _captured(model, calibration, config, session.example_inputs)
    batch = batch_of(config.batch, dense.only_batch)
    images, kept = keep_back(whole, config.seed)
    captured = time.perf_counter() - started
    few = next(images.batches(dense.only_batch or min(batch, CHECKED)))
    clock, verify, planned = Time(), Verify(few), Planned()
    context = Context(
        wanted, constraints, images, config.seed, batch, config.cache, session.track, kept=kept, on=engine
    )
    program = passes.run(dense, context, (clock, verify, planned, *session.instruments))
    plan = program.fact(Plan)
    if "allocate" in context.notes:
        context.notes["allocate"]["budgets"] = written(program, context.notes["allocate"]["budgets"])
    finished = time.perf_counter()
    expected = estimate(dense, lambda: planned.judged(passes, context, program), kept, context)
    ended = time.perf_counter()
    seconds = {"capture": captured, **clock.seconds, "estimate": ended - finished, "total": ended - started}
    report = {
        **size_facts(dense, planned.program(program), program, plan, whole, seconds),
        **request_facts(context),
        "pipeline": str(passes),
        "drift": verify.reported,
        "notes": context.notes,
        "estimate": expected.to_json(),
        "capture": capture_facts(dense, left_out),
    }
    few = tuple(one.to(CPU) for one in few)
    return Result(replace(dense, original=None), replace(program, original=None), plan, report, few, expected)


def _captured(
    model: nn.Module | ExportedProgram, calibration: Any, config: CompressConfig, example_inputs: Inputs | None
) -> tuple[Program, Images, int]:
    """Return the captured network, its images, and the number of images left out."""
    place = named(config.device)
    model = plain_module(model)
    images = as_images(calibration, takes=signature_of(model, example_inputs))
    dense = capture(model, example_inputs or images.example(config.batch or 2), config.opaque).on(place)
    batch_of(config.batch, dense.only_batch)
    whole = images.in_steps(dense.only_batch or 1).on(dense.device)
    if (alike := why_nothing_varies(whole.inputs)) is not None:
        dense = replace(dense, notes=(*dense.notes, alike))
    return dense, whole, len(images) - len(whole)


@kept_process_state()
def inspect(
    model: nn.Module | ExportedProgram,
    example_inputs: Inputs,
    constraints: Constraints = ANY,
    opaque: Sequence[str] = (),
) -> Channels:
    """The channel spaces of a network, as `compress` would see them (batch norms folded)."""
    return prepared(capture(model, example_inputs, opaque), constraints).fact(Channels)


def prepared(program: Program, constraints: Constraints = ANY) -> Program:
    """The program after the exact passes that come before the analysis, and the analysis."""
    return Pipeline.parse(PREPARE).run(program, Context(constraints=constraints))


@dataclass(frozen=True)
class Result:
    """A compressed network, what was done to it and what that gave."""

    dense: Program  # as captured
    program: Program  # compressed
    plan: Plan
    report: dict[str, Any] = field(repr=False)  # JSON-ready
    samples: tuple[Tensor, ...] = field(default=(), repr=False)  # calibration images that files are compared on
    estimate: Estimate = field(default_factory=Estimate)  # of its answers on images kept back

    @property
    def module(self) -> fx.GraphModule:
        """The compressed network, called as the original was."""
        return self.program.as_called()

    def pruned_only(self) -> fx.GraphModule:
        """Return the network with the same channels removed and nothing compensated."""
        return self.pruned_program().as_called()

    def pruned_program(self) -> Program:
        """The program of `pruned_only`, which takes the tensors of the images."""
        bare = self._prepared.knowing(Plan(self.plan.channels, self.plan.keep))
        return Pipeline.parse("slice,decompose").run(bare, Context())

    @kept_process_state()
    def onnx(self, opset: int = 18) -> ModelProto:
        """The compressed network as ONNX, cleaned, checked, compared with it, and stamped with its provenance."""
        return self._exported(self.program, opset, self._provenance())

    @kept_process_state()
    def dense_onnx(self, opset: int = 18) -> ModelProto:
        """The dense network exported in the same way, compared with it as captured: what is timed against."""
        as_given = unhoisted(self._prepared)
        return self._exported(as_given, opset, {"source": state_digest(self.dense.module)})

    @cached_property
    def _prepared(self) -> Program:
        return prepared(self.dense)

    @cached_property
    def _models(self) -> dict[tuple[bool, int], ModelProto]:
        return {}  # by whether it is the compressed network, and opset

    def _exported(self, program: Program, opset: int, provenance: Mapping[str, str]) -> ModelProto:
        from .deploy.onnx.export import export_onnx

        key = (program is self.program, opset)
        if key not in self._models:
            require_runnable(program.module)
            here = program.on(CPU)
            model = export_onnx(
                here.module,
                here.example_inputs,
                opset=opset,
                dynamic_batch=program.dynamic_batch,
                provenance=provenance,
            )
            self._compared(self.program if key[0] else self.dense, model)
            self._models[key] = model
        return self._models[key]

    def _compared(self, program: Program, model: ModelProto, check: Images | None = None) -> Parity:
        """How near a model comes to a program, on the CPU. Raises NumericsError where they differ."""
        from .deploy.ort import parity

        here, only = program.on(CPU), program.only_batch
        return parity.compare(
            here.module, model, self._checked_on(here, check), None if only is None else (only,)
        ).require()

    def _checked_on(self, here: Program, check: Images | None) -> tuple[Tensor, ...]:
        if check is not None:
            return check.inputs
        return self.samples or noise_like(here.example_inputs, max(CHECKED, here.only_batch or 1))

    def _provenance(self) -> dict[str, str]:
        from .deploy.onnx.provenance import digest

        return {
            "version": str(self.report["versions"]["prunec"]),
            "source": state_digest(self.dense.module),
            "pipeline": str(self.report["pipeline"]),
            "plan": digest(self.plan.to_json()),
            "target": str(self.report["target"]),
            "seed": str(self.report["seed"]),
            "calibration": str(self.report["calibration"]["digest"]),
        }

    @kept_process_state()
    def save(
        self,
        path: str | Path,
        *,
        force: bool = False,
        opset: int = 18,
        check: Images | None = None,
        track: Track = silent,
    ) -> dict[str, Any]:
        """Write model.onnx, model.safetensors, model.pt2, plan.json, report.json and manifest.json, all or nothing.

        All for the CPU. The ONNX file and the .pt2, read again, are compared with the compressed network at batch 1, 2
        and N on `check` (default: calibration images). Returns the report. Raises DataError where `path` exists and
        `force` is not given, NumericsError where a file computes something else, BackendError without an ONNX Runtime,
        or for an opaque module.
        """
        model, here = self.onnx(opset), self.program.on(CPU)
        agreement = self._compared(self.program, model, check)
        serialised = model.SerializeToString(deterministic=True)
        self.report["parity"] = agreement.to_json()
        self.report["onnx"] = {"bytes": len(serialised), "opset": opset}
        facts = {"pipeline": self.report["pipeline"], "target": self.report["target"], "seed": self.report["seed"]}
        with artefacts.folder(Path(path), force=force, facts=facts) as folder:
            artefacts.write_bytes(folder / "model.onnx", serialised)
            save_weights(here.module, folder / "model.safetensors")
            save_program(here, folder / "model.pt2")
            require_same(here, folder / "model.pt2", self._checked_on(here, check))
            artefacts.write_json(folder / "plan.json", self.plan.to_json())
            artefacts.write_json(folder / "report.json", self.report)
        return self.report
