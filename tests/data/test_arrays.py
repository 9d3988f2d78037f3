"""Arrays of every type and order become tensors, or are refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from prunec.data.arrays import ready
from prunec.data.images import Images, ImageSource, load_images
from prunec.data.noise import noise_like
from prunec.data.preprocess import Preprocess
from prunec.errors import DataError
from prunec.evaluate import accuracy
from prunec.ir.signature import Signature

VALUES = np.random.default_rng(0).standard_normal((4, 3, 5))
TOKENS = np.random.default_rng(0).integers(0, 50, (4, 7))


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", "<f2", ">f2", "longdouble"])
@pytest.mark.parametrize("floating", [torch.float32, torch.float64])
def test_floats_are_cast_to_the_type_of_the_network(dtype: str, floating: torch.dtype) -> None:
    for values in (VALUES.astype(dtype), np.asfortranarray(VALUES.astype(dtype)), VALUES.astype(dtype)[::2, ::-1]):
        assert torch.equal(ready(values, floating), torch.from_numpy(values.astype("=f8")).to(floating))


@pytest.mark.parametrize("dtype", ["uint8", ">i8", "int32", "bool", ">u2", "uint32", "uint64"])
def test_integers_and_booleans_stay_what_they_are(dtype: str) -> None:
    tensor = ready(TOKENS.astype(dtype))
    assert tensor.tolist() == TOKENS.astype(dtype).tolist()
    assert not tensor.is_floating_point()
    assert ready(TOKENS.astype("int32"), declared=torch.int64).dtype is torch.int64
    assert ready(TOKENS.astype("float16"), declared=torch.float64).dtype is torch.float64


def test_an_array_that_cannot_be_written_to_is_copied() -> None:
    values = VALUES.astype("float32")
    values.flags.writeable = False
    assert torch.equal(ready(values), torch.tensor(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1, None]]), "an array is object"),
        (np.array([["a"]]), "an array is <U1"),
        (np.ones((2, 2), complex), "an array is complex128"),
        (np.array([["2020-01-01"]], "datetime64[D]"), "datetime64"),
        (np.array(3.0), "without dimensions"),
        (np.float32(3), "without dimensions"),
        (np.array([[2**64 - 1]], np.uint64), "above those of int64"),
        (torch.tensor(3.0), "float32 without dimensions"),
        (torch.ones(2, 2).to_sparse(), "sparse_coo"),
        (torch.ones(2, 2, dtype=torch.complex64), "complex"),
        (torch.ones(2, 2, device="meta"), "meta device"),
        (torch.tensor([[np.inf]]), "NaN or infinity"),
        ([1, 2], "a list"),
        (None, "nothing"),
    ],
)
def test_what_is_no_number_is_refused(values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ready(values)


def test_a_number_that_half_precision_cannot_hold_is_refused() -> None:
    with pytest.raises(DataError, match="infinity, as float16"):
        ready(np.array([[1e6]]), torch.float16)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", ">i4"])
def test_ready_integers_come_from_a_file(tmp_path: Path, dtype: str) -> None:
    np.savez(tmp_path / "d.npz", inputs=TOKENS.astype(dtype), labels=np.arange(4, dtype=">i8"))
    found = load_images(tmp_path / "d.npz")
    assert found.inputs[0].tolist() == TOKENS.astype(dtype).tolist()
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 3]


def test_a_file_for_a_network_of_two_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=VALUES, tokens=TOKENS, labels=np.arange(4))
    takes = Signature("Net.forward", ("tokens", "image"), positional=("tokens", "image"))
    found = ImageSource(tmp_path / "d.npz", limit=3).read(takes)
    assert [list(one.shape) for one in found.inputs] == [[3, 7], [3, 3, 5]]
    with pytest.raises(DataError, match="name the arrays images or inputs"):
        load_images(tmp_path / "d.npz")


def test_targets_that_are_no_classes_are_for_calibration_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", inputs=VALUES, labels=VALUES)
    found = load_images(tmp_path / "d.npz")
    assert (found.labels, found.unread) == (None, "targets of float64 [4, 3, 5]")
    with pytest.raises(DataError, match=r"holds targets of float64 \[4, 3, 5\], and accuracy needs one class for each"):
        accuracy(torch.nn.Flatten(), found)


def test_noise_of_integers_is_legal() -> None:
    tokens, mask = torch.randint(3, 50, (2, 20)), torch.ones(2, 20, dtype=torch.int64)
    found = noise_like((tokens, mask, mask.bool(), torch.zeros(2, 4, dtype=torch.float64)), 9)
    assert [(list(one.shape), one.dtype) for one in found] == [
        ([9, 20], torch.int64),
        ([9, 20], torch.int64),
        ([9, 20], torch.bool),
        ([9, 4], torch.float64),
    ]
    assert int(tokens.min()) <= int(found[0].min()) < int(found[0].max()) <= int(tokens.max())
    assert len({tuple(row) for row in found[0].tolist()}) == 9
    assert bool(found[1].all())
    assert bool(found[2].all())


PEAK = """
import resource, sys
from prunec.data.images import load_images
from prunec.data.preprocess import Preprocess
load_images(sys.argv[1], Preprocess.imagenet(32))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert load_images(sys.argv[2], Preprocess.imagenet(32)).inputs[0].shape == (2, 3, 32, 32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_picture_is_held_once_and_one_at_a_time(tmp_path: Path) -> None:
    for name, size, count in (("small", 64, 1), ("large", 4100, 2)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (size, size), (9, 9, 9)).save(tmp_path / name / f"{index}.png", compress_level=1)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) * 1024 < 1.5 * 4 * 4100**2  # Pillow takes 4 bytes for a pixel in RGB


def test_a_picture_too_large_for_memory_is_refused_in_words(tmp_path: Path) -> None:
    Image.new("1", (13_000, 13_000)).save(tmp_path / "huge.png")
    with pytest.raises(DataError, match=r"13000 x 13000 pixels are more than the 90,000,000"):
        load_images(tmp_path, Preprocess.imagenet(32))
    Image.new("RGB", (40, 40)).save(tmp_path / "small.png")
    found = load_images(tmp_path, Preprocess.imagenet(32))
    assert isinstance(found, Images)
    assert len(found.skipped) == 1
