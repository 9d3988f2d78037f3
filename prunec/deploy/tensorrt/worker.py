"""Builds one engine in a process of its own: a crash in there becomes a sentence out here, and the bytes are the same
each time.

TensorRT-RTX orders some of its work by memory address. With addresses randomised, two builds of one network with a
dynamic batch differ in the numbers of internal names (`__mye10049`), and in size by a few bytes; measured on 1.7.1, six
builds gave six INT8 engines. So on Linux this process starts itself again without randomisation, before anything is
loaded. What its threads allocate and free moves addresses too: of 27 engines of a ResNet-50, eight differed. So they
run one at a time, each until it waits: on one core, first in, first out (16 builds of 16 the same, in the same time; on
one core alone, in one arena, or without thread caches, they differ). Where the system forbids that, as it does without
root, the engine is as good, and the record says that it is not reproducible. So it says of TensorRT, which times its
kernels on the GPU.

    worker REQUEST < model.onnx          the reply: one line of JSON, then the engine, then the timing cache
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
    os._exit(0)  # what TensorRT would tear down now is of no use, and may crash


def build(request: dict[str, Any], model: bytes) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Build an engine; return facts about it, then its bytes and the timing cache's. Raises BackendError."""
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
    """A builder. Raises BackendError where TensorRT cannot make one, which it tells with a TypeError."""
    try:
        return trt.Builder(log)
    except TypeError as error:
        raise BackendError(f"{trt.__name__} cannot start: {messages.explain(log.kept)}") from error


def _fix_addresses() -> bool:
    """Start again without address randomisation; whether this process has none."""
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
    """Run one thread at a time, each until it waits; whether the system allows it."""
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
    """The pipe to the parent; what libraries print goes to stderr instead."""
    reply = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return reply


if __name__ == "__main__":
    main()
