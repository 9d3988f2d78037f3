"""Tabulate the channel counts that each engine prefers, for `prunec lint` and aligned pruning.

Engines compute channels in blocks, and pad the last one: 49 channels cost what 56 cost in blocks of 8, and 64 in blocks
of 16. Off a smaller multiple, the granule, a convolution that reads the channels leaves the fast kernel. Sources:

    TensorRT        suggested alignment of its developer guide: TF32 4, FP16 8, INT8 32; the rest is padded. Vectors of
                    128 bits hold 4, 8 and 16 of them (NVIDIA/cutlass issue 75)
    TensorRT-RTX    plans of 1.7.1: each FP16 tensor of odd channels is padded by a kernel of its own, INT8 to multiples
                    of 4 inside another
    ONNX Runtime    on x86 blocks (NCHWc) of 16 with AVX-512, of 8 with AVX2; a convolution that reads a number of
                    channels off a multiple of 4, and no less than a block, is left out of them (`FusedConv` in the
                    optimised graph), and so is a depthwise one off a multiple of 4, a grouped one off a whole block.
                    With AVX2 a block made alone leaves half of the arithmetic idle, waiting on its own sums
    Arm             NEON holds 4 floats or 8 halves; NCHWc is for x86 only
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SpecError
from ..machine import environment


@dataclass(frozen=True)
class DeployTarget:
    """An engine and precision, and the channel counts that suit it."""

    name: str
    title: str
    precision: str
    """Precision: fp32, tf32, fp16 or int8."""
    likes: int
    """Preferred multiple of channels."""
    block: int
    """Channels are computed in multiples of this; the last block is padded."""
    granule: int = 1
    """Off a multiple of this, a convolution that reads the channels leaves the fast kernel."""
    cliff: str = ""
    """Reason that the layer is slow then, as text."""
    cliff_cost: float = 1.0
    """Slowdown of the layer then; 1 where not measured."""
    cliff_cost_depthwise: float = 1.0
    whole_groups: bool = False
    """True where a grouped convolution needs whole blocks in each group."""
    fewest: int = 1
    """Fewer output channels than this hardly save time."""
    small_inputs: bool = False
    """True where any number of channels below a block is read well."""

    def padded(self, channels: int) -> int:
        """Return the number of channels computed for `channels`, padding included."""
        return -(-channels // self.block) * self.block

    def below(self, channels: int) -> int:
        """Return the largest multiple of `likes` at most `channels`, at least `likes`."""
        return max(channels // self.likes, 1) * self.likes

    def above(self, channels: int) -> int:
        """Return the smallest multiple of `likes` at least `channels`."""
        return -(-channels // self.likes) * self.likes

    def suits(self, channels: int, read: bool = False) -> bool:
        """Return whether a channel count needs no change; `read`: as the input of a layer."""
        return channels % self.likes == 0 or (read and self.small_inputs and channels < self.block)

    def falls(self, reads: int, makes: int, groups: int = 1) -> bool:
        """Return whether a convolution leaves the fast kernel; channel counts over all groups."""
        if groups > 1 and reads == groups == makes:
            return makes % self.granule != 0
        if groups > 1 and self.whole_groups:
            return (reads // groups) % self.block != 0 or (makes // groups) % self.block != 0
        exempt = self.small_inputs and reads < self.block
        return not exempt and (reads // groups) % self.granule != 0

    def padding(self, reads: int, makes: int, groups: int = 1) -> float:
        """Compute padded MACs / MACs of a layer; channel counts over all groups."""
        if groups > 1 and reads == groups == makes:
            return self.padded(makes) / makes
        reads, makes = reads // groups, makes // groups
        small = self.small_inputs and reads < self.block
        return (1.0 if small else self.padded(reads) / reads) * self.padded(makes) / makes

    def cost(self, reads: int, makes: int, groups: int = 1) -> float:
        """Estimate the time of a convolution over that of one without padding or cliff."""
        if not self.falls(reads, makes, groups):
            return self.padding(reads, makes, groups)
        depthwise = groups > 1 and reads == groups == makes
        factor = self.cliff_cost_depthwise if depthwise else self.cliff_cost
        return factor * self.padding(reads, makes, groups)


_ORT = {
    "precision": "fp32",
    "granule": 4,
    "cliff": "off the blocked layout of ONNX Runtime",
    "cliff_cost": 1.25,
    "cliff_cost_depthwise": 1.7,
    "whole_groups": True,
    "small_inputs": True,
}
_COPY = "one more kernel, a copy that pads it"
TARGETS: dict[str, DeployTarget] = {
    target.name: target
    for target in (
        DeployTarget("trt-fp16", "TensorRT, FP16", "fp16", likes=8, block=8),
        DeployTarget("trt-int8", "TensorRT, INT8", "int8", likes=32, block=16),
        DeployTarget("trt-tf32", "TensorRT, FP32 as TF32", "tf32", likes=4, block=4),
        DeployTarget("rtx-fp16", "TensorRT-RTX, FP16", "fp16", likes=8, block=8, granule=2, cliff=_COPY),
        DeployTarget("rtx-int8", "TensorRT-RTX, INT8", "int8", likes=8, block=4),
        DeployTarget("ort-avx512", "ONNX Runtime, x86 with AVX-512", likes=16, block=16, **_ORT),  # type: ignore[arg-type]
        DeployTarget("ort-avx2", "ONNX Runtime, x86 with AVX2", likes=8, block=8, fewest=16, **_ORT),  # type: ignore[arg-type]
        DeployTarget("arm", "Arm with NEON", "fp32", likes=8, block=4),
        DeployTarget("generic", "any engine", "fp32", likes=8, block=8),
    )
}
NATIVE = (
    ("avx512f", "ort-avx512"), ("avx2", "ort-avx2"), ("asimd", "arm"), ("neon", "arm"), ("aarch64", "arm"),
    ("arm64", "arm"),
)  # fmt: skip


def target_of(name: str) -> DeployTarget:
    """Return the target `name`; `native` is ONNX Runtime on this machine. Raises SpecError for unknown names."""
    if name == "native":
        flags = environment()["isa"]
        return TARGETS[next((known for flag, known in NATIVE if flag in flags), "generic")]
    if name not in TARGETS:
        raise SpecError(f"there is no deployment target '{name}'; there is native, {', '.join(TARGETS)}")
    return TARGETS[name]
