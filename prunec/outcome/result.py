"""Define the result of a compression: the network, its plan, report, files and estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from ..data.images import Images
from ..data.noise import noise_like
from ..deploy.network_files import require_same, save_program, save_weights
from ..device import CPU
from ..files import artefacts
from ..frontend.process_state import kept_process_state
from ..ir.digest import state_digest
from ..ir.program import Program
from ..ir.signature import require_runnable
from ..ir.unhoisted import unhoisted
from ..pipeline.context import Context
from ..pipeline.method import prepared
from ..pipeline.pipeline import Pipeline
from ..progress import Track, silent
from ..surgery.plan import Plan
from ..validation.held_out import Estimate

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..deploy.onnx.drop_in import DropIn
    from ..deploy.ort.parity import Parity


CHECKED = 8  # samples that results are compared on, where nothing says which


@dataclass(frozen=True)
class Result:
    """A compressed network, what was done to it and what that gave."""

    dense: Program  # as captured
    program: Program  # compressed
    plan: Plan
    report: dict[str, Any] = field(repr=False)  # JSON-ready
    samples: tuple[Tensor, ...] = field(default=(), repr=False)  # calibration images that files are compared on
    estimate: Estimate = field(default_factory=Estimate)  # of its answers on images kept back
    drop_in: DropIn | None = field(default=None, repr=False)  # interface of the ONNX file that it replaces

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
        return self._whole(self._exported(self.program, opset, self._provenance()))

    @kept_process_state()
    def dense_onnx(self, opset: int = 18) -> ModelProto:
        """The dense network exported in the same way, compared with it as captured: what is timed against."""
        as_given = unhoisted(self._prepared)
        return self._whole(self._exported(as_given, opset, {"source": state_digest(self.dense.module)}))

    @cached_property
    def _prepared(self) -> Program:
        return prepared(self.dense)

    @cached_property
    def _models(self) -> dict[tuple[bool, int], ModelProto]:
        return {}  # by whether it is the compressed network, and opset

    def _exported(self, program: Program, opset: int, provenance: Mapping[str, str]) -> ModelProto:
        from ..deploy.onnx.export import export_onnx

        opset = self._opset(opset)
        key = (program is self.program, opset)
        if key not in self._models:
            require_runnable(program.module)
            here, fixed = program.on(CPU), self._fixed_batch(program)
            model = export_onnx(
                here.module,
                here.example_inputs if fixed is None else tuple(one[:fixed] for one in here.example_inputs),
                opset=opset,
                dynamic_batch=fixed is None,
                provenance=provenance,
            )
            model = model if self.drop_in is None else self.drop_in.given_to(model)
            self._compared(self.program if key[0] else self.dense, model)
            self._models[key] = model
        return self._models[key]

    def _compared(self, program: Program, model: ModelProto, check: Images | None = None) -> Parity:
        """How near a model comes to a program, on the CPU. Raises NumericsError where they differ."""
        from ..deploy.ort import parity

        here, only = program.on(CPU), self._fixed_batch(program)
        sizes = None if only is None else (only,)
        found = parity.compare(here.module, model, self._checked_on(here, check), sizes)
        return (found if self.drop_in is None else self.drop_in.rounded(found)).require()

    def _whole(self, model: ModelProto) -> ModelProto:
        """Return an exported model with the tail that the import left in the ONNX graph."""
        return model if self.drop_in is None else self.drop_in.with_tail(model)

    def _opset(self, wanted: int) -> int:
        return wanted if self.drop_in is None else self.drop_in.opset(wanted)

    def _fixed_batch(self, program: Program) -> int | None:
        """Return the batch of the ONNX file: the network's, or that of the file it replaces."""
        return program.only_batch or (None if self.drop_in is None else self.drop_in.batch)

    def _checked_on(self, here: Program, check: Images | None) -> tuple[Tensor, ...]:
        if check is not None:
            return check.inputs
        return self.samples or noise_like(here.example_inputs, max(CHECKED, here.only_batch or 1))

    def _provenance(self) -> dict[str, str]:
        from ..deploy.onnx.provenance import digest

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
        head, here = self._exported(self.program, opset, self._provenance()), self.program.on(CPU)
        agreement = self._compared(self.program, head, check)
        serialised = self._whole(head).SerializeToString(deterministic=True)
        self.report["parity"] = agreement.to_json()
        self.report["onnx"] = {"bytes": len(serialised), "opset": self._opset(opset)}
        facts = {"pipeline": self.report["pipeline"], "target": self.report["target"], "seed": self.report["seed"]}
        with artefacts.folder(Path(path), force=force, facts=facts) as folder:
            artefacts.write_bytes(folder / "model.onnx", serialised)
            save_weights(here.module, folder / "model.safetensors")
            save_program(here, folder / "model.pt2")
            require_same(here, folder / "model.pt2", self._checked_on(here, check))
            artefacts.write_json(folder / "plan.json", self.plan.to_json())
            artefacts.write_json(folder / "report.json", self.report)
        return self.report
