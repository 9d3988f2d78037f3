"""Build one engine in a process of its own, reproducibly and safe from crashes.

    worker REQUEST < model.onnx          the reply: one line of JSON, then the engine, then the timing cache

TensorRT-RTX orders some work by memory address, so addresses change the bytes of an engine. On Linux this process
starts itself again without address randomisation, before anything is loaded, and runs its threads one at a time, each
until it waits, since their allocations change addresses too. Where the system forbids that, as it does without root,
the engine is as good, and the record says that it is not reproducible; so it does for TensorRT, which times kernels on
the GPU.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from typing import Any, BinaryIO

from ...errors import BackendError, PrunecError
from . import config as configuration
from . import gpu, messages
from . import network as networks
from .package import package
from .settings import PRECISIONS, Settings

ASK, NO_RANDOMIZE = 0xFFFFFFFF, 0x0040000  # of personality(2)


def main() -> None:
    """Answer the request of the command line."""
    fixed, request = _fix_addresses(), json.loads(sys.argv[1])
    ahead_of_time = package(request["settings"]["backend"]).ahead_of_time  # others wait for a GPU, and spin
    fixed = fixed and ahead_of_time and _run_in_order()
    reply = _own_stdout()
    try:
        facts, parts = build(request, sys.stdin.buffer.read())
        facts["reproducible"] = fixed
    except PrunecError as error:
        facts, parts = {"error": str(error), "class": type(error).__name__}, ()
    reply.write(json.dumps({**facts, "parts": [len(part) for part in parts]}).encode() + b"\n")
    for part in parts:
        reply.write(part)
    reply.flush()
    os._exit(0)  # TensorRT's teardown is useless and may crash


def build(request: dict[str, Any], model: bytes) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Build an engine; return facts, its bytes and the timing cache. Raises BackendError."""
    settings, which = Settings.from_json(request["settings"]), package(request["settings"]["backend"])
    trt, present, started = which.load(), gpu.compute_capability(), time.perf_counter()
    configuration.check(trt, which, settings, present)
    log = messages.logger(trt)
    builder = _builder(trt, log)
    network = networks.create(trt, builder, settings.weak_typing)
    parser = networks.parse(trt, network, log, model, request["path"])
    products = networks.computes_in(trt, network)
    if settings.precision is not None and not settings.weak_typing:
        networks.require(products, PRECISIONS[settings.precision])
    config = configuration.configure(trt, builder, network, settings)
    shared = configuration.share_timings(trt, config, bytes.fromhex(request["timings"]))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(messages.explain(log.kept))
    facts = {
        **networks.interface(network),
        "version": trt.__version__,
        "targets": list(settings.targets) or ([] if which.ahead_of_time or present is None else [present]),
        "flags": configuration.flags_set(trt, config),
        "computes_in": products,
        "warnings": [text for severity, text in log.kept if severity == "WARNING"],
        "seconds": time.perf_counter() - started,
    }
    del parser  # it owned the weights until here
    return facts, (bytes(plan), configuration.timings(config) if shared else b"")


def _builder(trt: Any, log: Any) -> Any:
    """Create a builder. Raises BackendError if TensorRT cannot (it raises TypeError)."""
    try:
        return trt.Builder(log)
    except TypeError as error:
        raise BackendError(f"{trt.__name__} cannot start: {messages.explain(log.kept)}") from error


def _fix_addresses() -> bool:
    """Restart without address randomisation; return whether this process has none."""
    if not sys.platform.startswith("linux"):
        return False
    system = ctypes.CDLL(None)
    now = system.personality(ASK)
    if now != -1 and now & NO_RANDOMIZE:
        return True
    if now == -1 or system.personality(now | NO_RANDOMIZE) == -1:
        return False
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _run_in_order() -> bool:
    """Run one thread at a time, each until it waits; return whether allowed."""
    if not sys.platform.startswith("linux"):
        return False
    cores = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    except OSError:
        return False
    return True


def _own_stdout() -> BinaryIO:
    """Return the pipe to the parent; redirect libraries' output to stderr."""
    reply = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return reply


if __name__ == "__main__":
    main()
