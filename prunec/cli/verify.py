"""`prunec verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..request.options import optional, reuse
from ..request.values import NUMBER, TEXT
from .console import out, progress
from .flags import Checks, flattened
from .inputs import numbers_of
from .options import EngineFile, GivenImages, OnnxFile, Results


@dataclass(frozen=True, kw_only=True)
class Verify(Results, GivenImages, EngineFile, Checks):
    """Record the options of `prunec verify`."""

    model: Path | None = reuse(
        OnnxFile, "model", default=None, help="What it was built from; by default, that name beside it."
    )
    batches: str | None = optional(None, "Batch sizes: 1,8.", TEXT, metavar="LIST", usual="the profile's")
    tolerance: float | None = optional(
        None, "Largest difference.", NUMBER, metavar="X", usual="by precision: fp32 0.005, fp16 0.02"
    )
    top1: float = optional(0.98, "Of samples with the same class, at least.", NUMBER, metavar="SHARE")


@flattened(Verify)
def verify(options: Verify) -> None:
    """Run an engine and ONNX Runtime on the same inputs, and compare. Without a GPU, say what that leaves open.

    Of a folder, compare every file with its manifest: exit code 8 where one differs.

    The exit code is 0 where the engine ran and agrees, 6 where it differs, and 7 where it could not run.

    \b
        prunec verify out/
        prunec verify out/model.engine
        prunec verify out/model.engine out/model.onnx --data test.npz --batches 1,8
    """
    from ..deploy.tensorrt.verification import Limits
    from ..deploy.tensorrt.verification import verify as check
    from ..files.artefacts import write_json
    from ..report.engines import verification_lines

    if options.engine.is_dir():
        _folder(options.engine)
        return
    sizes = None if options.batches is None else numbers_of("--batches", options.batches)
    limits = Limits(options.tolerance, options.top1)
    with progress() as track:
        inputs = None if options.data is None else options.read(None, None, track).inputs
        found = check(options.engine, options.model, inputs, batches=sizes, limits=limits, track=track)
    if options.to_json is not None:
        write_json(options.to_json, found.to_json())
    out.print(verification_lines(found), markup=False, soft_wrap=True)
    found.require()


def _folder(path: Path) -> None:
    """Compare a folder with its manifest. Raises DataError where a file is missing or has changed."""
    from ..errors import DataError, SpecError
    from ..files import manifest
    from . import rules

    if others := [said for name, said in rules.given().items() if name not in ("engine", "debug")]:
        raise SpecError(f"{others[0]} has no effect beside the folder {path}, whose files are compared: leave it out")
    if faults := manifest.changed(path):
        raise DataError(f"{path} is not what prunec wrote: {'; '.join(faults)}; write it again")
    out.print(f"all files of {path} are as prunec wrote them", markup=False, soft_wrap=True)
    for name in manifest.added(path):
        out.print(f"{name} came later, and is not in the {manifest.NAME}", markup=False, soft_wrap=True)
