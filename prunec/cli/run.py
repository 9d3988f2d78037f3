"""`prunec run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..request.config import IMAGES
from .console import err, out, progress
from .model_options import Debug, NoVerify, PreprocessText, preprocess_of, read_images
from .verify import EngineFile


def run(
    engine: EngineFile,
    data: Annotated[str | None, typer.Option(metavar="IMAGES", help=f"To run on, or else on noise: {IMAGES}.")] = None,
    preprocess: PreprocessText = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Images a run.", show_default="the profile's best")
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="To time for.")] = 2,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.npz", help="Write the outputs, by name.")
    ] = None,
    to_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the times too, every sample included.")
    ] = None,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Run an engine on the GPU here and time it with CUDA events, without transfers.

    The GPU has to be one that the engine was built for, and the package of the version that built it.

    \b
        prunec run out/model.engine --batch 8
        prunec run out/model.engine --data test.npz --batch 8 -o outputs.npz --json times.json
    """
    import io

    import numpy as np

    from ..deploy.benchmark.point import document
    from ..deploy.tensorrt.execution import run as execute
    from ..files.artefacts import write_bytes, write_json

    with progress() as track:
        images = None
        if data is not None:
            images = read_images(data, preprocess_of(preprocess, data, None), None, 0, None, track).inputs
        outputs, point = execute(engine, images, batch=batch, seconds=seconds, track=track)
    found = document([str(engine)], [point])
    model = found["points"][0]["models"][0]
    if output is not None:
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **{name: value.float().numpy() for name, value in outputs.items()})
        write_bytes(output, packed.getvalue())
    if to_json is not None:
        write_json(to_json, found)
    out.print(
        f"{model['p50_ms']:.3f} ms a batch of {point.batch} (nine in ten under {model['p90_ms']:.3f} ms),"
        f" {model['runs']} runs on {model['ran_with']['gpu']}; loaded in {model['ran_with']['load_seconds']:.2f} s"
    )
    if output is not None:
        err.print(f"wrote {output}", style="dim", markup=False, soft_wrap=True)
