"""`prunec build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import err, out, progress, say, warn
from .model_options import Debug, NoVerify

if TYPE_CHECKING:
    from ..deploy.tensorrt.settings import Settings

PRECISION, TUNING = "Precision (asserted: it is in the ONNX file)", "Tuning"
Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The network.", show_default=False)]


def _asserted(name: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}", help=f"Fail unless layers compute in {name}.", rich_help_panel=PRECISION
    )
    return option


def build(
    model: Model,
    backend: Annotated[str, typer.Option(metavar="NAME", help="tensorrt, or tensorrt-rtx.")] = "tensorrt-rtx",
    sm: Annotated[
        str | None, typer.Option(metavar="LIST", help="Compute capabilities to build for: 86,89,120.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="MIN/BEST/MAX", help="Batch sizes, where the batch is open: 1/8/32.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: the model's name with .engine.")
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Write nothing; print for which GPUs it can be built.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Keeps engines, and timings of kernels.")] = None,
    fp32: Annotated[bool, _asserted("fp32")] = False,
    fp16: Annotated[bool, _asserted("fp16")] = False,
    bf16: Annotated[bool, _asserted("bf16")] = False,
    int8: Annotated[bool, _asserted("int8")] = False,
    fp8: Annotated[bool, _asserted("fp8")] = False,
    weak_typing: Annotated[
        bool,
        typer.Option("--weak-typing", help="tensorrt 10.0 to 10.11: precision as a flag.", rich_help_panel=PRECISION),
    ] = False,
    level: Annotated[
        int | None, typer.Option(metavar="0..5", help="How long to look for fast kernels.", rich_help_panel=TUNING)
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(metavar="MB", help="Scratch memory, at most.", rich_help_panel=TUNING)
    ] = None,
    hardware_compatible: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="tensorrt: ampere-plus, or same.", rich_help_panel=TUNING),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Runs in later versions too.", rich_help_panel=TUNING)
    ] = False,
    flag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A builder flag to set, by name. Repeatable.", rich_help_panel=TUNING),
    ] = None,
    no_flag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="One to clear: TF32. Repeatable.", rich_help_panel=TUNING),
    ] = None,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Build an engine from an ONNX file: with TensorRT-RTX for any GPUs and without one here, or with TensorRT.

    \b
        prunec build out/model.onnx --profile 1/8/32 --check-only
        prunec build out/model.onnx --profile 1/8/32 --sm 86,89,120
        prunec build half.onnx --profile 1/8/32 --sm 75,86 --fp16 -o half.engine
        prunec build out/model.onnx --profile 8 --backend tensorrt --cache engines/

    Beside FILE goes FILE.json: package, version, GPUs, batch sizes, the sha256 of the ONNX file, flags by name.
    """
    from ..deploy.tensorrt.settings import Settings

    wanted = {"fp32": fp32, "fp16": fp16, "bf16": bf16, "int8": int8, "fp8": fp8}
    settings = Settings.parse(
        backend,
        sms=sm,
        profile=profile,
        precision=_one([name for name, asked in wanted.items() if asked]),
        weak_typing=weak_typing,
        flags=(*(flag or ()), *(("VERSION_COMPATIBLE",) if version_compatible else ())),
        cleared_flags=tuple(no_flag or ()),
        hardware=hardware_compatible,
        workspace_mb=workspace,
        level=level,
    )
    if weak_typing:
        warn("--weak-typing: TensorRT may compute any layer in any precision, and no precision is asserted")
    if check_only:
        _matrix(model, settings)
        return
    _build(model, settings, output or model.with_suffix(".engine"), cache)


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


def _build(model: Path, settings: Settings, output: Path, cache: Path | None) -> None:
    from ..deploy.tensorrt import store
    from ..deploy.tensorrt.build import build as make
    from ..report.engines import engine_lines

    store.require_free(output)
    kept = None if cache is None else store.Cache(cache)
    with progress() as track:
        engine = make(model, settings, kept, track)
    store.save(engine, output)
    out.print(engine_lines(engine))
    if not engine.record["reproducible"]:
        say("the system forbids fixed addresses or threads in order: another build may differ in its bytes", "dim")
    err.print(f"wrote {output} and {store.record_path(output).name}", style="dim", markup=False, soft_wrap=True)
