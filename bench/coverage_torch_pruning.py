"""The peer's side of bench/coverage.py: the same networks through Torch-Pruning 1.6.1 (pip install torch-pruning).

As its examples do: a dependency graph, half of every group by magnitude, the classifier (the last layer, or any with a
thousand outputs) ignored, and for attention the numbers of heads that timm's modules tell, put back after pruning.
"""

from __future__ import annotations

from typing import Any

import torch
import torch_pruning as tp
from architectures import Architecture, build
from torch import nn
from torch.utils._pytree import tree_leaves

from prunec.deploy import parity
from prunec.deploy.export import export_onnx


def theirs(one: Architecture, row: dict[str, Any], onnx: bool) -> None:
    """Torch-Pruning on one network; fills `row` as far as it gets."""
    from coverage import LIMIT, PARITY, Clock

    row["stage"] = "build"
    clock = Clock(row)
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
        num_heads={part.qkv: part.num_heads for part in attention},
    )
    clock("analyse")
    pruner.step()
    for part in attention:
        part.num_heads = pruner.num_heads[part.qkv]
        part.head_dim = part.qkv.out_features // (3 * part.num_heads)
    clock("slice")
    with torch.no_grad():
        outputs = [leaf for leaf in tree_leaves(model(*inputs)) if isinstance(leaf, torch.Tensor)]
    row["finite"] = all(bool(leaf.isfinite().all()) for leaf in outputs)
    clock("forward")
    row["macs_kept"] = int(tp.utils.count_ops_and_params(model, inputs)[0]) // len(inputs[0])
    if onnx:
        proto = export_onnx(model.eval(), inputs)
        clock("export")
        found = parity.compare(model, proto, inputs, (2,)).agreements
        row["onnx"] = max(min(each.max_abs, each.max_relative) for each in found)
        clock("parity")
    spent = row["seconds"]["analyse"] + row["seconds"]["slice"]
    near = row.get("onnx", 0.0) <= PARITY
    row["result"] = (
        f"hang: {spent:.0f} s" if spent > LIMIT else "pass" if near else f"fail at parity: {row['onnx']:.1e}"
    )
