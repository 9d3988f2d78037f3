"""`prunec demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import out, progress
from .model_options import Debug

TARGET = "macs:0.5"


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="The folder to make.")] = Path(
        "demo-out"
    ),
    target: Annotated[str, typer.Option(metavar="macs:SHARE", help="What may remain.")] = TARGET,
    force: Annotated[
        bool, typer.Option("--force/--no-force", help="Replace the folder that an earlier demo wrote.")
    ] = True,
    debug: Debug = False,
) -> None:
    """Compress the network that comes with prunec, and show what became of it. Needs no network and no GPU.

    A ResNet-20 for Fashion-MNIST loses half of its MACs, fitted in closed form to 1,024 unlabelled training images. Its
    accuracy is measured on 2,000 test images: dense, after pruning alone, and compensated.

    \b
        prunec demo
        prunec demo --target macs:0.3 -o third/
    """
    from .. import demo as assets
    from ..api import compress
    from ..files.artefacts import require_free
    from ..report.console import outcome_table
    from .measure import add_accuracy, add_latency

    require_free(output, force)
    calibration, test, card = assets.calibration_images(), assets.test_images(), assets.card()
    with progress() as track:
        result = compress(assets.load_network(), calibration, target=target, track=track)
        add_accuracy(result, test, 100, track)
        add_latency(result, calibration, 18, 1, track)
        result.report["model"] = {"source": "prunec demo", "dataset": card["dataset"], "trained": card}
        result.save(output, force=force, check=calibration.take(8, 0), track=track)
    out.print()
    out.print(outcome_table(result.report, f"ResNet-20 on {card['dataset'].partition(' (')[0]} to {target}"))
    out.print(f"\nEverything is in [bold]{output}/[/]: model.onnx, report.json, plan.json …")
    example = "prunec compress nets.py:make --data photos/ --target macs:0.5 -o out/"
    out.print(f"Now your own: [bold]{example}[/]", soft_wrap=True)
