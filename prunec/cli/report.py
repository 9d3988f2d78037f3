"""`prunec report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request.config import IMAGES, MODEL
from ..request.options import optional
from ..request.values import PATH, TEXT, whole
from .console import progress, say
from .flags import Checks, flattened

if TYPE_CHECKING:
    from torch import nn

    from ..data.images import Images
    from ..progress import Track
    from ..report.samples import Samples, Shown

PAGE = "report.html"
BATCH = 64  # samples a step, where the network does not say


@dataclass(frozen=True)
class Report(Checks):
    """Record the options of `prunec report`."""

    folder: Path | None = optional(None, "The folder that prunec compress made.", PATH, metavar="OUT", flags=("",))
    data: str | None = optional(
        None, f"Run both networks, and show samples on which they differ: {IMAGES}.", TEXT, metavar="IMAGES"
    )
    images: int | None = optional(None, "Samples of these, at most.", whole(1), metavar="N", usual="all")
    preprocess: str | None = optional(None, "How pixels become inputs.", TEXT, metavar="TEXT", usual="as calibrated")
    model: str | None = optional(
        None, f"The dense network: {MODEL}.", TEXT, metavar="MODEL", usual="what report.json names"
    )
    weights: Path | None = optional(None, "Its weights.", PATH, metavar="FILE", usual="those that report.json names")


@flattened(Report)
def report(options: Report) -> None:
    """Write OUT/report.html: what was removed, what it cost, what is frozen and why, and how to make it again.

    One file that opens in a browser, offline. With --data it imports and runs the dense network as well.

    \b
        prunec report out/
        prunec report out/ --data photos/
        prunec report out/ --data test.npz --model nets.py:make --weights net.pt
    """
    from ..errors import SpecError
    from ..files.manifest import require_as_written
    from ..report.samples import NOT_COMPARED

    folder, samples = options.folder, NOT_COMPARED
    if folder is None:
        raise SpecError("nothing says what to report on: give the folder that prunec compress made, for instance out/")
    if not options.no_verify:
        for name in ("report.json", "plan.json", "model.pt2"):
            require_as_written(folder / name)
    facts = _read(folder / "report.json")
    if options.data is not None:
        with progress() as track:
            samples = _compared(folder, facts, options, options.data, track)
    say(f"the report is in {write_page(folder, samples)}: open it in a browser", "green")


def write_page(folder: Path, samples: Samples) -> Path:
    """Write the page of a compressed folder; return its path."""
    from ..files import artefacts, manifest
    from ..report.compression_page import Folder, page

    try:
        files = {name: about for name, about in manifest.read(folder).items() if name != PAGE}
    except (OSError, ValueError):  # it has none, or --no-verify
        files = {}
    found = Folder(_read(folder / "report.json"), _read(folder / "plan.json"), files)
    return artefacts.add_file(folder, PAGE, page(found, samples).encode())


def compared(
    dense: nn.Module, compressed: nn.Module, images: Images, only: int | None, shown: Shown, track: Track
) -> Samples:
    """Run both networks on images, and return those on which they differ.

    `only` is the batch size that they fix, if any.
    """
    import torch

    from ..evaluate import outputs
    from ..report.samples import differing

    how: dict[str, Any] = {"batch": only or BATCH, "fixed": only is not None, "track": track}
    first, second = (
        torch.cat([found for _, found in outputs(one, images, "comparing answers", **how)])
        for one in (dense, compressed)
    )
    return differing(images.inputs[0], first, second, shown)


def _compared(folder: Path, facts: dict[str, Any], options: Report, data: str, track: Track) -> Samples:
    """Load both networks and the images. Raises DataError where the dense network is another one."""
    from ..data.images import ImageSource
    from ..errors import DataError, SpecError
    from ..frontend.load import load_model
    from ..ir.signature import signature_of
    from ..report.samples import Shown
    from .inputs import batch_of, module_of, preprocess_of, read_images

    known = facts.get("model", {})
    source = options.model or known.get("source")
    if source is None or "digest" not in known:
        raise SpecError(f"{folder / 'report.json'} does not say which network was compressed: leave out --data")
    weights = options.weights or (Path(known["weights"]) if known.get("weights") else None)
    dense, small = load_model(source, weights), load_model(str(folder / "model.pt2"))
    if dense.digest != known["digest"]:
        raise DataError(
            f"{source} has other weights than the network that became {folder}: give --model and --weights of that one"
        )
    calibrated = facts["calibration"].get("preprocess", "default")
    how = options.preprocess or (None if calibrated == "default" else calibrated)
    takes = signature_of(dense.model)
    ready = preprocess_of(how, data, small.input_size_hint or dense.input_size_hint)
    images = read_images(ImageSource(data, ready, options.images, facts["seed"]), takes, track).unlabelled()
    return compared(module_of(dense), module_of(small), images, batch_of(small), Shown(preprocess=ready), track)


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file of the folder. Raises DataError where there is none."""
    import json

    from ..errors import DataError

    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): give a folder that prunec compress made") from error
    return found
