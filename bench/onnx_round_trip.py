"""Export networks as ONNX, import them again, and compare values and channel spaces.

    python bench/onnx_round_trip.py                 # the 40 that are listed here
    python bench/onnx_round_trip.py tv:resnet18     # by name

A network passes if the import agrees with ONNX Runtime, and has the prunable spaces (size and number) of PyTorch's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import architectures
import onnx
import torch

from prunec.channels.spaces import Channels
from prunec.deploy.onnx.export import export_onnx
from prunec.deploy.ort.imported import require_same
from prunec.errors import PrunecError, first_line
from prunec.frontend.capture import capture
from prunec.frontend.onnx_import.network import read_onnx
from prunec.ir.program import Program
from prunec.pipeline.method import prepared

FORTY = """
    tv:squeezenet1_1 tv:mobilenet_v3_small tv:shufflenet_v2_x0_5 tv:resnet18 tv:mobilenet_v2 tv:mnasnet0_5
    tv:efficientnet_b0 tv:regnet_x_400mf tv:regnet_y_400mf tv:googlenet tv:densenet121 tv:lraspp_mobilenet_v3_large
    lcnet_050 ghostnet_100 mobilenetv4_conv_small repghostnet_050 mixnet_s rexnet_100 repvgg_a0 mobileone_s0
    starnet_s1 convnext_atto convnextv2_atto skresnet18 resnest14d ecaresnet26t nf_resnet26 hgnet_tiny fasternet_t0
    ese_vovnet19b_dw poolformer_s12 mambaout_femto vit_tiny_patch16_224@224 deit_tiny_patch16_224@224 mixer_s32_224@224
    resmlp_12_224@224 levit_128s@224 mobilevit_xxs@256 efficientvit_b0@224 edgenext_xx_small@256
""".split()


@dataclass(frozen=True)
class Row:
    """The outcome for one network."""

    name: str
    passed: bool
    note: str
    seconds: float


def spaces(program: Program) -> Counter[int]:
    """Return how many prunable spaces of each size a network has."""
    return Counter(one.size for one in prepared(program).fact(Channels).prunable)


def round_trip(one: architectures.Architecture, folder: Path) -> Row:
    """Export, import and compare one network."""
    started = time.perf_counter()
    try:
        model, inputs = architectures.build(one)
        dense = capture(model, inputs)
        path = folder / "net.onnx"
        onnx.save(export_onnx(dense.module, dense.example_inputs, dynamic_batch=dense.dynamic_batch), path)
        network = read_onnx(path)
        found = require_same(network, dense.example_inputs)
        assert found is not None
        ours, theirs = spaces(capture(network, dense.example_inputs)), spaces(dense)
    except (PrunecError, RuntimeError) as error:
        return Row(one.name, False, first_line(error), time.perf_counter() - started)
    missing, further = dict(theirs - ours), dict(ours - theirs)
    note = f"max {found.agreement.max_abs:.0e}, {ours.total()} spaces"
    note += f"; PyTorch alone has {missing}, ONNX alone {further}" if ours != theirs else ""
    return Row(one.name, ours == theirs, note, time.perf_counter() - started)


def main() -> int:
    """Print a line a network, and how many pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=FORTY)
    names = [name.partition("@")[0] for name in parser.parse_args().names]
    known = {one.name: one for one in architectures.listed()}
    library = architectures.shim_torchvision()  # kept: it registers operators while it lives
    passed = 0
    for name in names:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            row = round_trip(known[name], Path(folder))
        passed += row.passed
        print(f"{'ok  ' if row.passed else 'FAIL'} {row.name:34} {row.seconds:5.1f} s  {row.note}", flush=True)
    del library
    print(f"{passed} of {len(names)}")
    return 0 if passed == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
