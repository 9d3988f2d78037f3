"""Define each option of a compression once, as a documented field of `CompressConfig`.

The keywords of `prunec.compress`, the options of the command line, the keys of a recipe and the JSON schema of
recipes are derived from the fields; `CompressRequest` adds model, images and outputs. A new option is one field with
its documentation:

    step: int = optional(1, "Kernel step, in pixels.", whole(1), metavar="N")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from .constraints import AUTO, Constraints
from .options import option, optional
from .target import Target
from .values import CLASSES, FLAG, LIMITS, PATH, PATTERNS, PREPROCESS, SHAPE, SPECS, TARGETS, TEXT, WIDTHS, whole

if TYPE_CHECKING:
    import torch

BATCH = 64  # samples a step, where neither the user nor the network says
METHOD, OUTPUT = "Method", "Output"  # panels of `--help`
MODEL = (
    "file.py:factory, package.module:factory, torchvision:resnet50, timm:NAME, a .pt2 exported program or an .onnx file"
)
IMAGES = "a folder of images (flat, or one folder a class), a .npz or .npy file, or file.py:function that gives batches"


@dataclass(frozen=True, kw_only=True)
class CompressConfig:
    """Record all options of `prunec.compress`: target, method, constraints, and resources to compute with."""

    target: str | Sequence[str] | Target = field(
        metadata=option(
            "What may remain: macs:0.5 keeps half of the MACs, latency:0.6 so much of the time. Or latency:3.5ms,"
            " params:0.5, size:2MB (of weights), memory:1.5MB (of activations at once).",
            TARGETS,
            metavar="KIND:AMOUNT",
            needed="how much may remain: give --target, for instance macs:0.5 to keep half of the MACs",
        )
    )
    opaque: Sequence[str] = optional(
        (),
        "A sub-module that stays as it is and is not looked into, for instance 'neck.*'.",
        PATTERNS,
        metavar="NAME",
        table="model",
    )
    selector: str | None = optional(
        None, "Selector of the channels to remove.", TEXT, metavar="TEXT", usual="obs", panel=METHOD
    )
    allocator: str | None = optional(
        None, "Allocator of the budget to spaces.", TEXT, metavar="TEXT", usual="portfolio", panel=METHOD
    )
    compensator: str | None = optional(
        None,
        "Compensator of the error, such as sequential{ridge=1e-4}.",
        TEXT,
        metavar="TEXT",
        usual="sequential",
        panel=METHOD,
    )
    decomposer: str | None = optional(
        None, "Decomposer of a layer into two, or none.", TEXT, metavar="TEXT", usual="collaborative", panel=METHOD
    )
    keep_branches: bool = optional(False, "Remove no residual block as a whole.", FLAG, panel=METHOD)
    pipeline: str | Sequence[str] | None = optional(
        None, "The whole list of passes instead of these strategies.", SPECS, metavar="TEXT", panel=METHOD
    )
    freeze: Sequence[str] = optional(
        (), "Layers that keep all their channels, for instance 'layer4.*'.", PATTERNS, metavar="PATTERN"
    )
    only: Sequence[str] = optional(
        (), "Layers that alone may lose channels; the others keep all.", PATTERNS, metavar="PATTERN"
    )
    limits: Mapping[str, float] | None = optional(
        None,
        "The largest share of channels that layers may lose: 'layer4.*=0.3'.",
        LIMITS,
        metavar="PATTERN=SHARE",
        flags=("--limit", "--limits"),
        aliases=("limit",),
    )
    round_to: int = optional(1, "Keep multiples of N channels, or all; engines prefer 8.", whole(1), metavar="N")
    align: str | int | None = optional(
        None,
        "Widths that the engine prefers, where the target can be met so: of ONNX Runtime here, none, multiples"
        " of N, or those of trt-fp16, rtx-fp16, ort-avx2, arm … Of a latency target auto means its table's.",
        WIDTHS,
        metavar="auto|none|N|NAME",
        usual=AUTO,
    )
    on: str | None = optional(
        None,
        "Where a latency target is to be met: ort-cpu, ort-cpu{batch=8,threads=2}, or a table of prunec profile.",
        TEXT,
        metavar="ENGINE",
        usual="ort-cpu",
    )
    seed: int = optional(0, "Seed of every choice.", whole(0), metavar="N", panel=METHOD)
    batch: int | None = optional(
        None, "Images a step; a network that fixes its batch takes no other.", whole(1), metavar="N", usual=str(BATCH)
    )
    cache: Path | None = optional(
        None, "Keep the statistics of the calibration here, and use them again.", PATH, metavar="DIR"
    )
    device: str | torch.device | None = optional(
        None,
        "Where PyTorch computes; cuda:1 is the second GPU.",
        TEXT,
        metavar="cpu|cuda",
        usual="where the network is",
    )

    @property
    def wanted(self) -> Target:
        """Return the target, parsed. Raises SpecError."""
        return self.target if isinstance(self.target, Target) else Target.parse(self.target)

    @property
    def constraints(self) -> Constraints:
        """Return the limits on channels. Raises SpecError."""
        limits = MappingProxyType(dict(self.limits or {}))
        align = str(AUTO if self.align is None else self.align)
        return Constraints(tuple(self.freeze), tuple(self.only), limits, self.round_to, align)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Record the files that a compression reads: a model, calibration images, labelled images."""

    model: str = field(
        metadata=option(
            MODEL,
            TEXT,
            metavar="MODEL",
            flags=("",),
            table="model",
            key="source",
            needed="which network: give MODEL, for instance nets.py:resnet56, or source in [model] of a recipe",
        )
    )
    data: str = field(
        metadata=option(
            f"Images to calibrate with: {IMAGES}.",
            TEXT,
            metavar="IMAGES",
            table="data",
            key="source",
            needed="which images to calibrate with: give --data, for instance a folder of images or a .npz file",
        )
    )
    weights: Path | None = optional(
        None, "Weights for MODEL: .safetensors, or a state dict saved by torch.", PATH, metavar="FILE", table="model"
    )
    input_shape: tuple[int, ...] | None = optional(
        None,
        "The shape of one input, without the batch, where nothing else tells it; 20:int64 of 20 tokens,"
        " 224x224x3:uint8 of pixels.",
        SHAPE,
        metavar="3x224x224",
        table="model",
    )
    preprocess: str | Mapping[str, object] | None = optional(
        None,
        "How pixels become inputs: imagenet, imagenet:160, none, or"
        " resize=,crop=,size=,order=,scale=,mean=,std= joined by commas."
        " Image folders get imagenet at the network's size unless told.",
        PREPROCESS,
        metavar="TEXT",
        table="data",
    )
    images: int = optional(1024, "Images to calibrate with, at most.", whole(1), metavar="N", table="data")
    labelled: str | None = optional(
        None,
        "Labelled images, for the accuracy.",
        TEXT,
        metavar="IMAGES",
        flags=("--evaluate", "--labels-from"),
        table="data",
    )
    classes: tuple[int, ...] | None = optional(
        None,
        "The class of the network that each label stands for, in the labels' order.",
        CLASSES,
        metavar="0,217,…",
        table="data",
    )


@dataclass(frozen=True, kw_only=True)
class CompressRequest(CompressConfig, Sources):
    """Record all keys of a recipe: options of `prunec.compress`, sources and outputs."""

    threads: int | None = optional(
        None, "Threads to compute with.", whole(1), metavar="N", usual="as many as torch likes"
    )
    opset: int = optional(18, "Opset of ONNX.", whole(1), metavar="N", panel=OUTPUT)
    provider: str = optional("cpu", "What to time on: cpu, cuda, tensorrt, rtx.", TEXT, metavar="NAME", panel=OUTPUT)
