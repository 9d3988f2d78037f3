"""Run the networks of bench/coverage.py through Torch-Pruning 1.6.1.

    pip install --no-deps --target DIR torch-pruning==1.6.1
    PYTHONPATH=DIR python bench/coverage.py --peer --resume

As in its examples: a dependency graph, half of every group by magnitude, the classifier (the last layer, or any with a
thousand outputs) ignored, and head counts of attention from the modules. Widths stored in a module (timm's attention,
torchvision's vision transformer) are corrected afterwards, as a careful user would. A network that fixes its batch is
exported with that batch, as ours is.
"""

from __future__ import annotations

from typing import Any

import coverage_table
import torch
import torch_pruning as tp
from architectures import Architecture, build
from torch import nn

from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort import parity
from prunec.errors import PrunecError


def theirs(one: Architecture, clock: Any, onnx: bool) -> None:
    """Run Torch-Pruning on one network; fill the clock's row up to a failure."""
    from coverage import LIMIT, moves

    row = clock.row
    model: Any
    model, inputs = build(one)
    clock("build")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)]
    ignored = [layer for layer in layers if getattr(layer, "out_features", getattr(layer, "out_channels", 0)) == 1000]
    attention: list[Any] = [part for part in model.modules() if hasattr(part, "qkv") and hasattr(part, "num_heads")]
    pruner = tp.pruner.BasePruner(
        model,
        inputs,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=ignored or layers[-1:],
        num_heads=_heads(model, attention),
    )
    clock("analyse")
    pruner.step()
    for part in attention:
        part.num_heads = pruner.num_heads[part.qkv]
        part.head_dim = _width(part.qkv) // (3 * part.num_heads)
        if hasattr(part, "attn_dim"):
            part.attn_dim = part.num_heads * part.head_dim
    if hasattr(model, "hidden_dim") and hasattr(model, "conv_proj"):
        model.hidden_dim = model.conv_proj.out_channels
    clock("slice")
    row["moves"] = moves(model, inputs)
    clock("forward")
    row["macs_kept"] = int(tp.utils.count_ops_and_params(model, inputs)[0]) // len(inputs[0])
    if onnx:
        proto = _exported(model.eval(), inputs)
        clock("export")
        found = parity.compare(model, proto, inputs, (2,)).agreements
        row["onnx"] = max(each.max_relative for each in found)
        clock("parity")
    spent = row["seconds"]["analyse"] + row["seconds"]["slice"]
    if spent > LIMIT:
        row["result"] = f"hang: {spent:.0f} s"
    elif row["moves"] != row["moves"]:
        row["result"] = "fail at forward: an output is not finite"
    else:
        row["result"] = "pass" if coverage_table.agrees(row) else f"fail at parity: {row['onnx']:.1e}"


def _heads(model: nn.Module, attention: list[Any]) -> dict[nn.Module, int]:
    """Return the head counts of timm's attention and of torch's."""
    own = {part: part.num_heads for part in model.modules() if isinstance(part, nn.MultiheadAttention)}
    return {part.qkv: part.num_heads for part in attention} | own


def _width(layer: Any) -> int:
    return int(layer.out_features if hasattr(layer, "out_features") else layer.out_channels)


def _exported(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Export with a dynamic batch, or else with that of the inputs."""
    try:
        return export_onnx(model, inputs)
    except PrunecError:
        return export_onnx(model, inputs, dynamic_batch=False)
