"""`prunec run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..request.options import reuse
from .console import out, progress, say
from .flags import Checks, flattened
from .options import EngineFile, GivenImages, OnnxOutput, Results, Timing, Torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Run(Results, Timing, GivenImages, EngineFile, Checks):
    """Record the options of `prunec run`."""

    batch: int | None = reuse(Torch, "batch", help="Images a run.", usual="the profile's best")
    output: Path | None = reuse(
        OnnxOutput, "output", default=None, help="Write the outputs, by name.", metavar="FILE.npz"
    )
    to_json: Path | None = reuse(Results, "to_json", help="Write the times too, every sample included.")


@flattened(Run)
def run(options: Run) -> None:
    """Run an engine on the GPU here and time it with CUDA events, without transfers.

    The GPU has to be one that the engine was built for, and the package of the version that built it.

    \b
        prunec run out/model.engine --batch 8
        prunec run out/model.engine --data test.npz --batch 8 -o outputs.npz --json times.json
    """
    from ..deploy.benchmark.point import document
    from ..deploy.tensorrt.execution import run as execute
    from ..files.artefacts import write_json

    with progress() as track:
        images = None if options.data is None else options.read(None, None, track).inputs
        outputs, point = execute(options.engine, images, batch=options.batch, seconds=options.seconds, track=track)
    found = document([str(options.engine)], [point])
    model = found["points"][0]["models"][0]
    if options.output is not None:
        _write(outputs, options.output)
    if options.to_json is not None:
        write_json(options.to_json, found)
    out.print(
        f"{model['p50_ms']:.3f} ms a batch of {point.batch} (nine in ten under {model['p90_ms']:.3f} ms),"
        f" {model['runs']} runs on {model['ran_with']['gpu']}; loaded in {model['ran_with']['load_seconds']:.2f} s"
    )
    if options.output is not None:
        say(f"wrote {options.output}", "dim")


def _write(outputs: Mapping[str, Tensor], path: Path) -> None:
    """Write the outputs as .npz, by name."""
    import io

    import numpy as np

    from ..files.artefacts import write_bytes

    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **{name: value.float().numpy() for name, value in outputs.items()})
    write_bytes(path, packed.getvalue())
