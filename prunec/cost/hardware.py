"""Tabulate the channel counts that each engine prefers, for `prunec lint` and for rounding while pruning.

Engines compute channels in blocks, and pad the last one: 49 channels cost what 56 cost in blocks of 8, and 64 in blocks
of 16. Off a smaller multiple, the granule, a convolution that reads the channels leaves the fast kernel. Sources:

    TensorRT        suggested alignment of its developer guide: TF32 4, FP16 8, INT8 32; the rest is padded. Vectors of
                    128 bits hold 4, 8 and 16 of them (NVIDIA/cutlass issue 75)
    TensorRT-RTX    plans of 1.7.1: each FP16 tensor of odd channels is padded by a kernel of its own, INT8 to multiples
                    of 4 inside another
    ONNX Runtime    on x86 blocks (NCHWc) of 16 with AVX-512, of 8 with AVX2; a convolution that reads a number of
                    channels off a multiple of 4, and no less than a block, is left out of them (`FusedConv` in the
                    optimised graph), and so is a depthwise one off a multiple of 4, a grouped one off a whole block.
                    Measured on 1.31.1, one thread: such a layer takes 1.25 times, a depthwise one 1.7 times as long.
                    With AVX2 a block made alone leaves half of the arithmetic idle, for it waits on its own sums: 3x3
                    on 32x32 makes 16 -> 16 channels in 64 µs, 16 -> 8 in 54
    Arm             NEON holds 4 floats or 8 halves; NCHWc is for x86 only
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SpecError
from ..machine import environment


@dataclass(frozen=True)
class DeployTarget:
    """An engine and a precision, and the numbers of channels that suit it."""

    name: str
    title: str
    precision: str
    """fp32, tf32, fp16 or int8: what it computes in."""
    likes: int
    """Multiples of this are what to prune to."""
    block: int
    """Channels are computed in multiples of this: the last block is padded."""
    granule: int = 1
    """Off a multiple of this, a convolution that reads the channels leaves the fast kernel."""
    cliff: str = ""
    """Reason why the layer is slow then, as text."""
    cliff_cost: float = 1.0
    """How many times as long the layer takes then; 1 where that has not been measured."""
    cliff_cost_depthwise: float = 1.0
    whole_groups: bool = False
    """True where a grouped convolution needs whole blocks in each group."""
    fewest: int = 1
    """A layer that makes fewer channels than this hardly takes less time."""
    small_inputs: bool = False
    """True where fewer channels than a block are read well, whatever their number."""

    def padded(self, channels: int) -> int:
        """How many channels are computed where there are so many."""
        return -(-channels // self.block) * self.block

    def below(self, channels: int) -> int:
        """The largest multiple of `likes` that is no more; `likes` itself where that would be 0."""
        return max(channels // self.likes, 1) * self.likes

    def above(self, channels: int) -> int:
        """The smallest multiple of `likes` that is no less."""
        return -(-channels // self.likes) * self.likes

    def suits(self, channels: int, read: bool = False) -> bool:
        """Return whether the number of channels needs no change; `read` says that they are read, not made."""
        return channels % self.likes == 0 or (read and self.small_inputs and channels < self.block)

    def falls(self, reads: int, makes: int, groups: int = 1) -> bool:
        """Return whether a convolution of so many channels, in all groups, read and made, leaves the fast kernel."""
        if groups > 1 and reads == groups == makes:
            return makes % self.granule != 0
        if groups > 1 and self.whole_groups:
            return (reads // groups) % self.block != 0 or (makes // groups) % self.block != 0
        exempt = self.small_inputs and reads < self.block
        return not exempt and (reads // groups) % self.granule != 0

    def padding(self, reads: int, makes: int, groups: int = 1) -> float:
        """Padded MACs / MACs of a layer that reads and makes so many channels, in all groups."""
        if groups > 1 and reads == groups == makes:
            return self.padded(makes) / makes
        reads, makes = reads // groups, makes // groups
        small = self.small_inputs and reads < self.block
        return (1.0 if small else self.padded(reads) / reads) * self.padded(makes) / makes

    def cost(self, reads: int, makes: int, groups: int = 1) -> float:
        """Estimated time of a convolution over that of one without padding or cliff."""
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
    """The target of that name; `native` is ONNX Runtime on this machine. Raises SpecError with the names there are."""
    if name == "native":
        flags = environment()["isa"]
        return TARGETS[next((known for flag, known in NATIVE if flag in flags), "generic")]
    if name not in TARGETS:
        raise SpecError(f"there is no deployment target '{name}'; there is native, {', '.join(TARGETS)}")
    return TARGETS[name]
