"""Keep TensorRT's messages, and explain a failure in one sentence, with advice if known."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

SEVERE = ("INTERNAL_ERROR", "ERROR")
TURING = re.compile(r"Cannot compile operation '([^']*)' for Turing \(SM75\): (.*?)\.? In ")
TYPES = re.compile(r"Cannot compile for target\(s\) .*?, because the model contains HW-specific datatypes: ([\w, /]+)")
SOURCE = re.compile(r"\s*\(?\bIn \w+ at .*$")
NEEDS = {"b16": ("bfloat16", "80"), "bf16": ("bfloat16", "80"), "fp8": ("float8", "89"), "fp4": ("float4", "120")}
QUIET = ("CUDA driver version is insufficient", "catchCudaError")  # no driver: reported elsewhere


def logger(trt: Any) -> Any:
    """Return a silent logger that keeps (severity, text) in `kept`, warnings and worse."""

    class Kept(trt.ILogger):  # type: ignore[misc]
        """Logger whose base class exists only after a package was chosen."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.kept: list[tuple[str, str]] = []

        def log(self, severity: Any, text: str) -> None:
            if severity.name in (*SEVERE, "WARNING"):
                self.kept.append((severity.name, text))

    return Kept()


def explain(kept: Sequence[tuple[str, str]]) -> str:
    """Return why the build failed: a known cause and its cure, or the first error."""
    errors = [text for severity, text in kept if severity in SEVERE]
    own = [text for text in errors if not any(part in text for part in QUIET)]
    for text in own:
        for pattern, tell in EXPLANATIONS:
            if found := pattern.search(text):
                return tell(found)
    if own:
        return _plain(own[0])
    return _plain(errors[0]) if errors else "no reason was given"


def _turing(found: re.Match[str]) -> str:
    layer, reason = found.groups()
    cure = "cast it to half precision (prunec cast --fp16), or leave 75 out" if "FP32" in reason else "leave 75 out"
    return f"SM75 (Turing) cannot run '{layer}': {reason}; {cure}"


def _types(found: re.Match[str]) -> str:
    kind = found[1].split(",")[0].strip()
    name, least = next((need for stem, need in NEEDS.items() if kind.startswith(stem)), (kind, None))
    since = f", which GPUs have from SM{least} on: leave the older ones out" if least else ""
    return f"the network holds {name} ({kind}){since}, or cast to float16"


EXPLANATIONS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (TURING, _turing),
    (TYPES, _types),
    (
        re.compile(r"libnvinfer_lean"),
        lambda found: "this package brings no lean runtime, which VERSION_COMPATIBLE needs: leave that flag out",
    ),
    (
        re.compile(r"graph_jit.*CUDA_SUCCESS"),
        lambda found: "a flag that was set (REFIT, REFIT_IDENTICAL, STRIP_PLAN) needs a GPU at build time",
    ),
)


def _plain(text: str) -> str:
    """Return the first line of a message, without TensorRT's source location."""
    return SOURCE.sub("", text.strip().splitlines()[0]).rstrip(". ")
