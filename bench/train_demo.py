"""Train the demo's network on Fashion-MNIST and write the shipped files.

    apt-get install dataset-fashion-mnist                 # Debian's package, MIT licence, 60,000 + 10,000 images
    python bench/train_demo.py --epochs 12                # about half an hour on two cores

It writes weights, calibration and test images. Images are ubyte IDX files. The 1,024 calibration images are the first
of a seeded permutation of the *training* file, without labels; the 2,000 test images are the first of the test file,
with labels. The full-test-set accuracy is printed and written into `prunec/demo/demo.json`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from prunec.demo.network import MEAN, STD, FashionResNet  # noqa: E402

DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")
CALIBRATION, TEST = 1024, 2000


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes: images [N, 28, 28] or labels [N]."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def normalise(images: np.ndarray) -> Tensor:
    """Normalise uint8 [N, 28, 28] to float32 [N, 1, 28, 28]."""
    return (torch.from_numpy(images.astype(np.float32))[:, None] - MEAN) / STD


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift the batch by up to two pixels and mirror half of its images."""
    flip = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    dy, dx = torch.randint(0, 5, (2,), generator=generator).tolist()
    return F.pad(x, (2, 2, 2, 2), value=-MEAN / STD)[:, :, dy : dy + 28, dx : dx + 28]


@torch.no_grad()
def accuracy(net: torch.nn.Module, x: Tensor, labels: Tensor) -> float:
    """Return top-1 accuracy in percent."""
    net.eval()
    pairs = zip(x.split(500), labels.split(500), strict=True)
    hits = sum([int((net(a).argmax(1) == b).sum()) for a, b in pairs])
    return 100 * hits / len(x)


def train(x: Tensor, labels: Tensor, epochs: int, batch: int, seed: int) -> FashionResNet:
    """Train by SGD with Nesterov momentum under a one-cycle schedule."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = FashionResNet()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.3, total_steps=steps, pct_start=0.25)
    for epoch in range(epochs):
        net.train()
        started, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(x), generator=generator)[: len(x) // batch * batch].split(batch):
            inputs = augment(x[rows], generator).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(net(inputs), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1}/{epochs}: loss {total / (len(x) // batch):.4f}, {seconds:.0f} s", flush=True)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DEBIAN, help="folder of the four IDX files")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "prunec" / "demo")
    args = parser.parse_args()

    images, test_images = (read_idx(args.data / f"{s}-images-idx3-ubyte.gz") for s in ("train", "t10k"))
    labels, test_labels = (read_idx(args.data / f"{s}-labels-idx1-ubyte.gz") for s in ("train", "t10k"))
    net = train(normalise(images), torch.from_numpy(labels).long(), args.epochs, args.batch, args.seed)
    full = accuracy(net, normalise(test_images), torch.from_numpy(test_labels).long())
    print(f"accuracy on all {len(test_images)} test images: {full:.2f}%")

    args.out.mkdir(parents=True, exist_ok=True)
    weights = {k: v.contiguous() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(weights, args.out / "weights.safetensors")
    (args.out / "weights.safetensors").chmod(0o644)
    rows = np.random.default_rng(args.seed).permutation(len(images))[:CALIBRATION]
    np.savez_compressed(args.out / "calibration.npz", images=images[rows], index=rows.astype(np.int32))
    np.savez_compressed(args.out / "test.npz", images=test_images[:TEST], labels=test_labels[:TEST])
    facts = {
        "dataset": "Fashion-MNIST (Zalando SE, MIT licence)",
        "test_accuracy": round(full, 2),
        "epochs": args.epochs,
        "seed": args.seed,
        "torch": torch.__version__,
        "command": f"python bench/train_demo.py --epochs {args.epochs} --seed {args.seed}",
    }
    (args.out / "demo.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
