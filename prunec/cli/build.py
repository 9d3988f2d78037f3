"""`prunec build`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..request.config import CompressRequest
from ..request.options import optional, reuse
from ..request.values import FLAG, TEXT, TEXTS, whole
from .console import out, progress, say, warn
from .flags import Checks, flattened
from .options import OnnxFile, OnnxOutput

if TYPE_CHECKING:
    from ..deploy.tensorrt.settings import Settings

PRECISION, TUNING = "Precision (asserted: it is in the ONNX file)", "Tuning"
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
UNLESS = "Fail unless layers compute in"


@dataclass(frozen=True, kw_only=True)
class Build(OnnxFile, Checks):
    """Record the options of `prunec build`."""

    backend: str = optional("tensorrt-rtx", "tensorrt, or tensorrt-rtx.", TEXT, metavar="NAME")
    sm: str | None = optional(None, "Compute capabilities to build for: 86,89,120.", TEXT, metavar="LIST")
    profile: str | None = optional(None, "Batch sizes, where the batch is open: 1/8/32.", TEXT, metavar="MIN/BEST/MAX")
    output: Path | None = reuse(
        OnnxOutput, "output", default=None, help="Default: the model's name with .engine.", metavar="FILE"
    )
    check_only: bool = optional(False, "Write nothing; print for which GPUs it can be built.", FLAG)
    cache: Path | None = reuse(CompressRequest, "cache", help="Keeps engines, and timings of kernels.")
    fp32: bool = optional(False, f"{UNLESS} fp32.", FLAG, panel=PRECISION)
    fp16: bool = optional(False, f"{UNLESS} fp16.", FLAG, panel=PRECISION)
    bf16: bool = optional(False, f"{UNLESS} bf16.", FLAG, panel=PRECISION)
    int8: bool = optional(False, f"{UNLESS} int8.", FLAG, panel=PRECISION)
    fp8: bool = optional(False, f"{UNLESS} fp8.", FLAG, panel=PRECISION)
    weak_typing: bool = optional(False, "tensorrt 10.0 to 10.11: precision as a flag.", FLAG, panel=PRECISION)
    level: int | None = optional(None, "How long to look for fast kernels.", whole(0), metavar="0..5", panel=TUNING)
    workspace: int | None = optional(None, "Scratch memory, at most.", whole(1), metavar="MB", panel=TUNING)
    hardware_compatible: str | None = optional(
        None, "tensorrt: ampere-plus, or same.", TEXT, metavar="NAME", panel=TUNING
    )
    version_compatible: bool = optional(False, "Runs in later versions too.", FLAG, panel=TUNING)
    flag: Sequence[str] = optional((), "A builder flag to set, by name.", TEXTS, metavar="NAME", panel=TUNING)
    no_flag: Sequence[str] = optional((), "One to clear: TF32.", TEXTS, metavar="NAME", panel=TUNING)


@flattened(Build)
def build(options: Build) -> None:
    """Build an engine from an ONNX file: with TensorRT-RTX for any GPUs and without one here, or with TensorRT.

    \b
        prunec build out/model.onnx --profile 1/8/32 --check-only
        prunec build out/model.onnx --profile 1/8/32 --sm 86,89,120
        prunec build half.onnx --profile 1/8/32 --sm 75,86 --fp16 -o half.engine
        prunec build out/model.onnx --profile 8 --backend tensorrt --cache engines/

    Beside FILE goes FILE.json: package, version, GPUs, batch sizes, the sha256 of the ONNX file, flags by name.
    """
    settings = _settings(options)
    if options.weak_typing:
        warn("--weak-typing: TensorRT may compute any layer in any precision, and no precision is asserted")
    if options.check_only:
        _matrix(options.model, settings)
    else:
        _build(options, settings)


def _settings(options: Build) -> Settings:
    from ..deploy.tensorrt.settings import Profile, Settings, flags_of, targets_of

    return Settings(
        options.backend,
        targets_of(options.sm),
        None if options.profile is None else Profile.parse(options.profile),
        precision=_one([name for name in PRECISIONS if getattr(options, name)]),
        weak_typing=options.weak_typing,
        flags=flags_of([*options.flag, *(["VERSION_COMPATIBLE"] if options.version_compatible else [])]),
        cleared_flags=flags_of(options.no_flag),
        hardware=options.hardware_compatible,
        workspace_mb=options.workspace,
        level=options.level,
    )


def _one(precisions: list[str]) -> str | None:
    from ..errors import SpecError

    if len(precisions) > 1:
        raise SpecError(f"--{' and --'.join(precisions)} exclude each other: ask for the one that most layers have")
    return precisions[0] if precisions else None


def _matrix(model: Path, settings: Settings) -> None:
    """Print the verdicts; exit with 7 where a requested GPU, or every one, fails."""
    from ..deploy.tensorrt.build import check
    from ..errors import BackendError
    from ..report.engines import matrix_table

    with progress() as track:
        verdicts = check(model, settings, track)
    out.print(matrix_table(verdicts, str(model)))
    failed = [one.target for one in verdicts if not one.ok]
    if failed and (settings.targets or len(failed) == len(verdicts)):
        raise BackendError(f"no engine can be built for SM{', SM'.join(failed)}; nothing was written")


def _build(options: Build, settings: Settings) -> None:
    from ..deploy.tensorrt import store
    from ..deploy.tensorrt.build import build as make
    from ..report.engines import engine_lines

    output = options.output or options.model.with_suffix(".engine")
    store.require_free(output)
    kept = None if options.cache is None else store.Cache(options.cache)
    with progress() as track:
        engine = make(options.model, settings, kept, track)
    store.save(engine, output)
    out.print(engine_lines(engine))
    if not engine.record["reproducible"]:
        say("the system forbids fixed addresses or threads in order: another build may differ in its bytes", "dim")
    say(f"wrote {output} and {store.record_path(output).name}", "dim")
