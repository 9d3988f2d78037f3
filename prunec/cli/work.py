"""Run the steps of `prunec compress`, from checked options to a written folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .. import device
from ..allocation.alignment import Alignment
from ..api import Result, compress
from ..compare.profiles import Conditions
from ..data.images import Images, ImageSource
from ..deploy.onnx.export import OPSETS
from ..deploy.ort import providers, runtime
from ..errors import BackendError, DataError, SpecError
from ..frontend.load import LoadedModel, load_model
from ..frontend.opaque import unwritable
from ..ir.signature import require_runnable, signature_of
from ..latency.engine import checked
from ..outcome.calibrated import Calibrated, Session
from ..pipeline.method import passes_of
from ..pipeline.pipeline import Instrument, Pipeline
from ..progress import Track
from ..request.config import BATCH, CompressRequest
from ..request.constraints import AUTO
from ..request.engine import On
from ..request.target import Target
from ..surgery.plan import Plan
from .inputs import preprocess_of, read_images, require_fit
from .measure import add_accuracy, add_latency

CHECKED_IMAGES = 8  # for the parity of ONNX with torch, at batch 1, 2 and this


def check(options: CompressRequest, whole: bool = True, bench: bool = True) -> Pipeline:
    """Check a request before any work, and return its passes.

    `whole`: the passes make a plan and files. `bench`: they are timed. Raises SpecError, and BackendError for an opaque
    sub-module where files are to be written, or for a missing device or provider to time.
    """
    timed = _engine_text(options) is not None
    if options.align is not None:
        Alignment.parse(str(options.align))
    engine_of(options)
    if options.on is not None and not bench and not timed:
        raise SpecError(
            f"--on {options.on} has no effect: no latency is in the target, and nothing is timed; leave it out"
        )
    if options.align == AUTO and options.round_to > 1:
        raise SpecError(
            f"--align auto has no effect beside --round-to {options.round_to}: leave it out, or name a target"
        )
    pipeline = passes_of(options)
    if whole and not any(Plan in step.provides for step in pipeline.passes):
        raise SpecError(f"no pass of {pipeline} makes a plan; add one that does, for instance allocate")
    if whole and options.opaque:
        raise BackendError(unwritable(options.opaque, "ONNX"))
    device.named(options.device)
    if options.provider != "cpu":
        providers.require(runtime.require(), options.provider)
    if options.opset not in OPSETS:
        raise SpecError(f"opset {options.opset} cannot be exported: torch writes {OPSETS[0]} to {OPSETS[-1]}")
    return pipeline


def engine_of(options: CompressRequest) -> On:
    """Return the engine of a latency target and of the before-after comparison. Raises SpecError for a bad --on."""
    return checked(options.on or "ort-cpu", options.threads or 1)


def read(options: CompressRequest, track: Track) -> tuple[LoadedModel, Images, Images | None]:
    """Read the network, the calibration and the labelled images; check that they fit."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    loaded = load_model(options.model, options.weights)
    shape = options.input_shape or loaded.input_size_hint
    how = preprocess_of(options.preprocess, options.data, shape)
    require_runnable(loaded.model)
    takes = signature_of(loaded.model)
    images = read_images(ImageSource(options.data, how, options.images, options.seed), takes, track)
    require_fit(loaded, images, options.input_shape, options.batch)
    if options.labelled is None:
        return loaded, images.unlabelled(), None
    how = preprocess_of(options.preprocess, options.labelled, shape)
    source = ImageSource(options.labelled, how, None, options.seed, options.classes)
    labelled = read_images(source, takes, track)
    require_fit(loaded, labelled, options.input_shape, options.batch)
    if labelled.labels is None:
        raise DataError(f"{labelled.source} holds no labels, and --evaluate needs them: give one folder a class")
    return loaded, images.unlabelled(), labelled


def run(
    options: CompressRequest, loaded: LoadedModel, images: Images, watching: Sequence[Instrument], track: Track
) -> Result:
    """Return the compressed network; its report names the sources of model and images."""
    config = replace(options, on=_engine_text(options))
    return _named(compress(loaded.model, images, config, track=track, instruments=watching), options, loaded, images)


def calibrated(
    options: CompressRequest, loaded: LoadedModel, images: Images, track: Track
) -> Callable[[Target], Result]:
    """Return a function that gives the result of a target, as `run`, from one calibration."""
    config = replace(options, on=_engine_text(options))
    known = Calibrated.of(loaded.model, images, config, Session(track=track))

    def result_of(target: Target) -> Result:
        return _named(known.result(target), options, loaded, images)

    return result_of


def _named(result: Result, options: CompressRequest, loaded: LoadedModel, images: Images) -> Result:
    """Return the result; its report names the sources of model and images."""
    how = preprocess_of(options.preprocess, options.data, options.input_shape or loaded.input_size_hint)
    result.report["model"] = {"source": loaded.source, "weights": str(options.weights or ""), "digest": loaded.digest}
    result.report["calibration"] |= {
        "source": images.source,
        "skipped": len(images.skipped),
        "preprocess": "default" if how is None else str(how),
    }
    return result


def _engine_text(options: CompressRequest) -> str | None:
    """Return the engine of a latency target; None where --on is only for timing."""
    if all(one.kind != "latency" for one in options.wanted.each):
        return None
    return options.on or f"ort-cpu{{threads={options.threads or 1}}}"


def measure(
    result: Result, options: CompressRequest, images: Images, labelled: Images | None, bench: bool, track: Track
) -> None:
    """Add the requested accuracy and latency to the report."""
    if labelled is not None:
        add_accuracy(result, labelled, options.batch or BATCH, track)
    if bench:
        engine = engine_of(options)
        conditions = Conditions(engine.batch, engine.threads, options.provider)
        add_latency(result, images, options.opset, conditions, track)


def save(result: Result, options: CompressRequest, images: Images, output: Path, force: bool, track: Track) -> None:
    """Write the folder atomically."""
    few = images.take(max(min(CHECKED_IMAGES, len(images)), result.dense.only_batch or 1), options.seed)
    result.save(output, force=force, opset=options.opset, check=few, track=track)
