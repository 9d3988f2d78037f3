"""Check prunec on a GPU in eight minutes: correctness, speed, width steps.

    python bench/gpu.py --json gpu.json                       # on a machine with an NVIDIA GPU
    python bench/gpu.py --device cpu --quick --json cpu.json  # the same script where there is none

It needs this checkout, uninstalled, and a Python with torch, onnx and onnxruntime. TensorRT, TensorRT-RTX, ONNX Runtime
for CUDA, onnxscript and onnx-graphsurgeon are optional; a missing one is skipped, with the reason.

    calibrate   prunec.compress of the demo's network on the CPU and on the GPU, captured on either: seconds, accuracy,
                equally kept channels
    latency     dense against compressed on every path in float32 and float16: agreement with torch on the CPU, and
                paired times (ABBA, one run and a wait for the device each) with a 95% interval
    alignment   a chain of convolutions 64 -> C -> 64 for C from 48 to 64: the device's preferred channel counts
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from importlib import metadata
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import gpu_paths  # noqa: E402
from gpu_paths import PATHS, Network, Opened, Skip  # noqa: E402

import prunec  # noqa: E402
from prunec import demo  # noqa: E402
from prunec.api import PREPARE, Result  # noqa: E402
from prunec.demo.network import FashionResNet  # noqa: E402
from prunec.deploy.benchmark import sampling  # noqa: E402
from prunec.deploy.benchmark.point import Point, document  # noqa: E402
from prunec.deploy.benchmark.sampling import Samples, Stages  # noqa: E402
from prunec.deploy.ort.parity import agreement  # noqa: E402
from prunec.evaluate import accuracy  # noqa: E402

BUDGET_SECONDS = 450  # a part begun before then may take half a minute more
SLOW = {"torch-compile": 60.0, "ort-tensorrt": 60.0, "tensorrt": 60.0}  # seconds that must be left to begin
PACKAGES = ("torch", "triton", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13", "numpy")
CHEAP = f"{PREPARE},calibrate,select{{method=top{{by=l1}}}},allocate{{method=uniform}},slice"
WIDE = {"blocks_per_stage": 3, "widths": (64, 128, 256)}  # with random weights: for times only
COSINE = {"fp32": 0.9999, "fp16": 0.999}  # TF32 is torch's default for convolutions
CHANNELS = range(48, 65)
LEAST_BLOCKS, MOST_BLOCKS = 10, 500  # of two runs of each network
ALIGNED_PATHS = ("torch", "torch-graph", "ort-cuda", "tensorrt", "tensorrt-rtx")


class Bench:
    """Clock, device and findings, written after each part."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.quick: bool = args.quick
        self.started = time.perf_counter()
        self.end = self.started + args.seconds
        self.only: set[str] = set(args.only.split(",")) if args.only else set()
        self.found: dict[str, Any] = {"command": "python bench/gpu.py " + " ".join(sys.argv[1:])}
        self._path: pathlib.Path | None = args.json

    def part(self, key: str, work: Callable[[], Any], least_seconds: float = 10) -> Any:
        """Run one part; a failure or a lack of time becomes its finding."""
        started = time.perf_counter()
        try:
            if self.left < least_seconds:
                raise Skip(f"less than {least_seconds:g} s of the time were left")
            found = work()
        except Skip as reason:
            found = {"skipped": str(reason)}
        except Exception as error:
            trace = traceback.extract_tb(error.__traceback__)
            places = [f"{pathlib.Path(one.filename).name}:{one.lineno}" for one in trace]
            found = {"failed": f"{type(error).__name__}: {str(error).strip()[:500]}", "at": places[-6:]}
        self.found[key] = found
        took = time.perf_counter() - started
        print(f"{took:7.1f} s  {key}: {_short(found)}", file=sys.stderr, flush=True)
        self.write()
        return found

    @property
    def left(self) -> float:
        """Remaining seconds."""
        return float(self.end - time.perf_counter())

    def write(self) -> None:
        """Write the findings so far, as JSON."""
        if self._path is not None:
            self._path.write_text(json.dumps(self.found, indent=1), encoding="utf-8")

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def paths(self) -> list[str]:
        """Return the requested paths, or all but, on a GPU, `ort-cpu`."""
        usual = [name for name in PATHS if name != "ort-cpu" or self.device.type == "cpu"]
        return [name for name in PATHS if name in self.only] or usual


def machine(device: torch.device) -> dict[str, Any]:
    """Return the machine and the versions."""
    found: dict[str, Any] = {"python": platform.python_version(), "exporter": gpu_paths.exporter(), "packages": {}}
    for name in PACKAGES:
        try:
            found["packages"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "sm": f"{properties.major}{properties.minor}", "cuda": torch.version.cuda}
        found |= {"memory_gib": properties.total_memory / 2**30, "tf32": torch.backends.cudnn.allow_tf32}
    return found


def demo_network() -> FashionResNet:
    """Load the demo's network and weights without the package safetensors."""
    network = FashionResNet()
    gpu_paths.load_weights(network, demo.FOLDER / "weights.safetensors")
    return network.eval()


def calibrate(bench: Bench) -> Result:
    """Compress the demo's network on CPU and device; return the CPU's result."""
    count = 64 if bench.quick else 1024
    images, test = demo.calibration_images().inputs[0][:count], demo.test_images().take(200 if bench.quick else 2000, 0)
    kept: dict[str, Result] = {}

    def on(device: torch.device, there: bool = True) -> dict[str, Any]:
        network, place = (demo_network().to(device), None) if there else (demo_network(), device)
        started = time.perf_counter()
        result = prunec.compress(network, images, device=place, target="macs:0.5", round_to=8)
        bench.wait()
        kept[device.type] = result
        return {
            "seconds": time.perf_counter() - started,
            "stages": result.report["seconds"],
            "top1": accuracy(result.module, test),
            "share": result.report["macs"]["share"],
        }

    bench.part("calibrate on the CPU", lambda: on(torch.device("cpu")), 30)
    if bench.device.type == "cuda":
        bench.part("calibrate on the GPU, captured there", lambda: on(bench.device), 30)
        bench.part("calibrate on the GPU, captured on the CPU", lambda: on(bench.device, False), 30)
        if "cuda" in kept:
            bench.part("calibrate again on the GPU, warm", lambda: on(bench.device, False), 30)
        bench.part("channels kept alike", lambda: alike(kept["cpu"], kept.get("cuda")))
    return kept["cpu"]


def alike(first: Result, second: Result | None) -> dict[str, float]:
    """Return the share of spaces with equal counts, and with equal channels."""
    if second is None:
        raise Skip("nothing was compressed on the GPU")
    pairs = [(keep, second.plan.keep[name]) for name, keep in first.plan.keep.items()]
    counts, same = sum(len(a) == len(b) for a, b in pairs), sum(a == b for a, b in pairs)
    return {"counts": counts / len(pairs), "channels": same / len(pairs)}


def latency(bench: Bench, name: str, dense: nn.Module, small: nn.Module, images: Tensor) -> None:
    """Measure both networks on every path and precision."""
    pair = [Network(module, images, bench.device) for module in (dense, small)]
    for precision in ("fp32",) if bench.quick and name == "demo" else COSINE:
        for path in bench.paths():
            key = f"{name} batch {len(images)} {precision} {path}"
            bench.part(key, partial(one_path, bench, path, precision, pair), SLOW.get(path, 25))


def one_path(bench: Bench, path: str, precision: str, pair: list[Network]) -> dict[str, Any]:
    """Open both, compare both with torch on the CPU, and time them."""
    started = time.perf_counter()
    opened = [PATHS[path](network, precision) for network in pair]
    ready = time.perf_counter() - started
    right = [_agrees(one, network, precision) for one, network in zip(opened, pair, strict=True)]
    blocks = islice(sampling.until(0.2 if bench.quick else 1.0, LEAST_BLOCKS), MOST_BLOCKS)
    ran = {"path": path, "precision": precision}
    names = "dense", "compressed"
    times = document(names, [Point(len(pair[0].sample), 1, names, race(bench, opened, blocks), (ran, ran))])
    return {"right": all(one["ok"] for one in right), "open_seconds": ready, "agreement": right, "latency": times}


def _agrees(opened: Opened, network: Network, precision: str) -> dict[str, Any]:
    opened.start()
    if network.device.type == "cuda":
        torch.cuda.synchronize()
    found = agreement(len(network.sample), [network.expected.numpy()], [opened.read().numpy()])
    return {**asdict(found), "ok": found.cosine >= COSINE[precision]}


def race(bench: Bench, opened: Iterable[Opened], blocks: Iterable[int]) -> tuple[Samples, ...]:
    """Return times in ms of each, run in turns with a device wait. Two runs per block."""

    def run(one: Opened) -> Stages:
        one.start()
        bench.wait()
        return {}

    return sampling.race([partial(run, one) for one in opened], blocks)


def chain(channels: int) -> nn.Module:
    """Build four times 64 -> channels -> 64, 3x3."""
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv2d(64, channels, 3, 1, 1), nn.ReLU(), nn.Conv2d(channels, 64, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*layers).eval()


def alignment(bench: Bench, path: str, precision: str, channels: Iterable[int]) -> dict[str, Any]:
    """Return the median time in ms of each width, all widths in turn."""
    torch.manual_seed(0)
    sample = torch.randn(*((2, 64, 8, 8) if bench.quick else (32, 64, 56, 56)))
    opened: dict[int, Opened] = {}
    for width in channels:
        if bench.left < 20:
            break  # a curve of fewer widths is valid
        opened[width] = PATHS[path](Network(chain(width), sample, bench.device), precision)
    times = race(bench, opened.values(), range(1 if bench.quick else 25))
    return {str(width): statistics.median(each[sampling.WALL]) for width, each in zip(opened, times, strict=True)}


def wide(bench: Bench) -> tuple[nn.Module, nn.Module, Tensor]:
    """Return a network large enough for a GPU, at half its MACs. Random weights, so the cheapest method is enough."""
    torch.manual_seed(0)
    network = FashionResNet(**({"blocks_per_stage": 1, "widths": (16, 32, 64)} if bench.quick else WIDE)).eval()  # type: ignore[arg-type]
    images = torch.randn(128, 1, 28 if bench.quick else 56, 28 if bench.quick else 56)
    result = prunec.compress(network, images[:4], target="macs:0.5", round_to=8, pipeline=CHEAP)
    return network, result.module, images


def _short(found: Any) -> str:
    """Return a line on a finding."""
    if isinstance(found, dict) and "latency" in found:
        dense, compressed = found["latency"]["points"][0]["models"]
        text = "{ratio:.2f}x ({low:.2f}..{high:.2f})".format(**compressed["speedup"])
        return f"{'right' if found['right'] else 'WRONG'}, {dense['p50_ms']:.3f} ms dense, {text}"
    return json.dumps(found)[:150]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--json", type=pathlib.Path, help="write the findings here, after each part")
    parser.add_argument("--seconds", type=float, default=BUDGET_SECONDS, help="no part begins that would not fit")
    parser.add_argument("--only", help=f"paths, of {','.join(PATHS)}")
    parser.add_argument("--quick", action="store_true", help="small networks and few runs: whether it works at all")
    bench = Bench(parser.parse_args())
    bench.part("machine", lambda: machine(bench.device), 0)
    compressed = calibrate(bench)
    images = demo.test_images().inputs[0]
    network, small, noise = wide(bench)
    for batch in (8,) if bench.quick else (128, 1):
        latency(bench, "wide", network, small, noise[:batch])
    widths = (48, 63, 64) if bench.quick else CHANNELS
    for precision in ("fp16", "fp32"):
        for path in [name for name in bench.paths() if name in ALIGNED_PATHS]:
            bench.part(f"alignment {precision} {path}", partial(alignment, bench, path, precision, widths), 40)
    latency(bench, "demo", demo_network(), compressed.module, images[: 8 if bench.quick else 256])
    bench.found["seconds"] = time.perf_counter() - bench.started
    bench.write()
    wrong = [key for key, one in bench.found.items() if isinstance(one, dict) and one.get("right") is False]
    failed = [key for key, one in bench.found.items() if isinstance(one, dict) and "failed" in one]
    print(f"{len(wrong)} wrong {wrong}, {len(failed)} failed {failed}", file=sys.stderr)
    sys.exit(1 if wrong or failed else 0)


if __name__ == "__main__":
    main()
