"""`prunec verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..request.config import IMAGES
from .console import out, progress
from .model_options import Debug, NoVerify, PreprocessText, preprocess_of, read_images

if TYPE_CHECKING:
    from torch import Tensor

    from ..progress import Track

EngineFile = Annotated[Path, typer.Argument(metavar="FILE.engine", help="What prunec build made.", show_default=False)]


def verify(
    engine: EngineFile,
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL.onnx", help="What it was built from; by default, that name beside it."),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="IMAGES", help=f"To run on, or else on noise: {IMAGES}.")] = None,
    preprocess: PreprocessText = None,
    batches: Annotated[
        str | None, typer.Option(metavar="LIST", help="Batch sizes: 1,8.", show_default="the profile's")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="Largest difference.", show_default="by precision: fp32 0.005, fp16 0.02"),
    ] = None,
    top1: Annotated[float, typer.Option(metavar="SHARE", help="Of samples with the same class, at least.")] = 0.98,
    to_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the findings too.")] = None,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Run an engine and ONNX Runtime on the same inputs, and compare. Without a GPU, say what that leaves open.

    Of a folder, compare every file with its manifest: exit code 8 where one differs.

    The exit code is 0 where the engine ran and agrees, 6 where it differs, and 7 where it could not run.

    \b
        prunec verify out/
        prunec verify out/model.engine
        prunec verify out/model.engine out/model.onnx --data test.npz --batches 1,8
    """
    from ..deploy.tensorrt.verification import verify as check
    from ..files.artefacts import write_json
    from ..report.engines import verification_lines

    if engine.is_dir():
        _folder(engine)
        return
    sizes = None if batches is None else _batches(batches)
    with progress() as track:
        inputs = None if data is None else _inputs(data, preprocess, track)
        found = check(engine, model, inputs, batches=sizes, tolerance=tolerance, top1=top1, track=track)
    if to_json is not None:
        write_json(to_json, found.to_json())
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


def _batches(text: str) -> list[int]:
    from ..errors import SpecError

    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise SpecError(f"'{text}' is no list of batch sizes; write for instance --batches 1,8")
    return [int(part) for part in text.split(",")]


def _inputs(data: str, preprocess: str | None, track: Track) -> tuple[Tensor, ...]:
    return read_images(data, preprocess_of(preprocess, data, None), None, 0, None, track).inputs
