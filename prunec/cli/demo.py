"""`prunec demo`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ..request.config import CompressRequest
from ..request.options import reuse
from ..request.values import TEXT
from .console import out, progress
from .flags import Debug, flattened
from .options import OnnxOutput


@dataclass(frozen=True, kw_only=True)
class Demo(Debug):
    """Record the options of `prunec demo`."""

    output: Path = reuse(OnnxOutput, "output", default=Path("demo-out"), help="The folder to make.", metavar="OUT")
    target: str = reuse(
        CompressRequest, "target", default="macs:0.5", kind=TEXT, help="What may remain.", metavar="macs:SHARE"
    )
    force: bool = reuse(OnnxOutput, "force", default=True, help="Replace the folder that an earlier demo wrote.")


@flattened(Demo)
def demo(options: Demo) -> None:
    """Compress the network that comes with prunec, and show what became of it. Needs no network and no GPU.

    A ResNet-20 for Fashion-MNIST loses half of its MACs, fitted in closed form to 1,024 unlabelled training images. Its
    accuracy is measured on 2,000 test images: dense, after pruning alone, and compensated.

    \b
        prunec demo
        prunec demo --target macs:0.3 -o third/
    """
    from .. import demo as assets
    from ..api import compress
    from ..compare.profiles import Conditions
    from ..demo.network import CLASSES
    from ..files.artefacts import require_free
    from ..report.console import outcome_table
    from ..report.samples import Shown
    from .measure import add_accuracy, add_latency
    from .report import PAGE, compared, write_page

    require_free(options.output, options.force)
    calibration, test, card = assets.calibration_images(), assets.test_images(), assets.card()
    with progress() as track:
        result = compress(assets.load_network(), calibration, target=options.target, track=track)
        add_accuracy(result, test, 100, track)
        add_latency(result, calibration, 18, Conditions(), track)
        result.report["model"] = {"source": "prunec demo", "dataset": card["dataset"], "trained": card}
        result.report["command"] = shlex.join(["prunec", "demo", "--target", options.target, "-o", str(options.output)])
        result.save(options.output, force=options.force, check=calibration.take(8, 0), track=track)
        pair = result.dense.module, result.program.module
        write_page(options.output, compared(*pair, test, None, Shown(CLASSES), track))
    out.print()
    out.print(outcome_table(result.report, f"ResNet-20 on {card['dataset'].partition(' (')[0]} to {options.target}"))
    out.print(f"\nEverything is in [bold]{options.output}/[/]: model.onnx, report.json, plan.json …")
    out.print(f"Open it in a browser: [bold]{options.output / PAGE}[/]", soft_wrap=True)
    example = "prunec compress nets.py:make --data photos/ --target macs:0.5 -o out/"
    out.print(f"Now your own: [bold]{example}[/]", soft_wrap=True)
