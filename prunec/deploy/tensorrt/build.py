"""Build an engine from an ONNX file, or check for which GPUs that is possible."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ... import __version__
from ...errors import BackendError
from ...progress import Track, silent
from . import config, gpu
from .model import Source
from .package import package
from .process import ask
from .settings import Settings
from .store import FORMAT, Cache, Engine, key


@dataclass(frozen=True)
class Verdict:
    """Result of a trial build for one GPU."""

    target: str
    size: int | None  # bytes; None if the build fails
    seconds: float
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Return whether the engine can be built."""
        return self.size is not None


def build(path: Path, settings: Settings, cache: Cache | None = None, track: Track = silent) -> Engine:
    """Return the engine of the ONNX file `path`, from the cache if built before.

    Raises BackendError for an unsuitable file, package, GPU, profile or precision.
    """
    source, which = Source.read(path), package(settings.backend)
    source.check(settings.profile)
    trt, present = which.load(), gpu.compute_capability()
    config.check(trt, which, settings, present)
    here = None if which.ahead_of_time else present
    name = key(source, settings, which.module, trt.__version__, here)
    if cache is not None and (found := cache.find(name)) is not None:
        return found
    shared = f"{which.module}-{trt.__version__}-sm{here}"
    try:
        facts, plan, timings = ask(
            source, settings, cache.timings(shared) if cache else b"", track, f"building {path.name}"
        )
    except BackendError as error:
        raise _who_fails(error, source, settings, track) from error
    del facts["seconds"]  # the record is the same for the same engine
    engine = Engine(plan, {**facts, **_record(source, settings, which.module, plan, name)})
    if cache is not None:
        cache.keep(name, engine)
        cache.keep_timings(shared, timings)
    return engine


def check(path: Path, settings: Settings, track: Track = silent) -> tuple[Verdict, ...]:
    """Return a verdict for each GPU of the settings, by default each known one. Raises BackendError as `build`."""
    source, which = Source.read(path), package(settings.backend)
    source.check(settings.profile)
    trt = which.load()
    config.check(trt, which, settings, gpu.compute_capability())
    wanted = settings.targets or (config.targets(trt) if which.ahead_of_time else (gpu.compute_capability() or "",))
    return _verdicts(source, settings, wanted, track)


def _verdicts(source: Source, settings: Settings, targets: Iterable[str], track: Track) -> tuple[Verdict, ...]:
    """Try each GPU by itself."""
    names = list(targets)
    return tuple(_try(source, replace(settings, targets=(name,))) for name in track(names, "trying each GPU"))


def _try(source: Source, settings: Settings) -> Verdict:
    started = time.perf_counter()
    try:
        _, plan, _ = ask(source, settings)
    except BackendError as error:
        return Verdict(settings.targets[0], None, time.perf_counter() - started, str(error))
    return Verdict(settings.targets[0], len(plan), time.perf_counter() - started)


def _who_fails(error: BackendError, source: Source, settings: Settings, track: Track) -> BackendError:
    """Return `error`, with the GPUs that can run the network if only some fail."""
    if len(settings.targets) < 2:
        return error
    found = _verdicts(source, settings, settings.targets, track)
    bad, good = ([one.target for one in found if one.ok is fine] for fine in (False, True))
    if not bad or not good:
        return error
    return BackendError(f"{error}; SM{', SM'.join(good)} can run it: --sm {','.join(good)}")


def _record(source: Source, settings: Settings, module: str, plan: bytes, name: str) -> dict[str, object]:
    """Return the record's entries that the worker does not give."""
    return {
        "format": FORMAT,
        "prunec": __version__,
        "package": module,
        "onnx": {"file": source.path.name, "sha256": source.sha256},
        "settings": settings.to_json(),
        "typing": "weak" if settings.weak_typing else "strong",
        "sha256": hashlib.sha256(plan).hexdigest(),
        "bytes": len(plan),
        "key": name,
    }
