from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from conftest import SHARED, needs_shared
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from prunec.data.images import Images, as_images, load_images
from prunec.data.preprocess import Preprocess
from prunec.errors import DataError
from prunec.frontend.load import load_model

T = TypeVar("T")
RAW = Preprocess.parse("none")
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)

CODE = """
import torch
from sibling_of_images import SHAPE

def tensors():
    while True:
        yield torch.ones(SHAPE)

def pairs():
    yield torch.ones(3, 2), torch.zeros(3, 5, 5)

def labelled():
    for start in range(0, 6, 2):
        yield {"inputs": torch.ones(2, 4), "labels": torch.tensor([start, start + 1])}

def half_labelled():
    yield {"inputs": torch.ones(2, 4), "labels": torch.tensor([0, 1])}
    yield torch.ones(2, 4)

def labels_in_a_tuple():
    yield torch.ones(2, 4), torch.tensor([0, 1])

def raises():
    yield torch.ones(2, 4)
    raise OSError("the camera is off")

def ragged():
    yield torch.ones(2, 4)
    yield torch.ones(2, 5)

def text():
    yield "cat.jpg"

def nan():
    yield torch.tensor([[1.0, float("nan")]])

def nothing():
    return []

def not_batches():
    return 3

whole = torch.arange(12.0).view(6, 2)
"""


def picture(path: Path, value: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Write nine pictures in folders ``ant``, ``bee`` and ``cow``; pixels encode their place."""
    for label, name in enumerate(("ant", "bee", "cow")):
        for index in range(3):
            picture(tmp_path / "images" / name / f"{index}.png", 10 * label + index)
    return tmp_path / "images"


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "batches.py").write_text(CODE)
    (tmp_path / "sibling_of_images.py").write_text("SHAPE = (2, 3, 4, 4)")
    return str(tmp_path / "batches.py")


def values(images: Images) -> list[int]:
    return [int(value) for value in images.inputs[0].flatten(1)[:, 0]]


def labels(images: Images) -> list[int]:
    assert images.labels is not None
    assert images.labels.dtype == torch.int64
    return [int(label) for label in images.labels]


def test_a_folder_a_class(classes: Path) -> None:
    (classes / ".hidden").mkdir()
    (classes / "ant" / "notes.txt").write_text("not an image")
    (classes / "ant" / "._0.png").write_text("what a Mac leaves behind")
    found = load_images(classes, RAW)
    assert values(found) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert labels(found) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert labels(load_images(str(classes), RAW, classes=[7, 5, 900]))[::3] == [7, 5, 900]
    assert (found.inputs[0].dtype, found.inputs[0].shape, found.skipped) == (torch.float32, (9, 3, 8, 8), ())


def test_a_folder_of_no_image_is_no_class(classes: Path) -> None:
    assert load_images(classes, RAW).notes == ()
    for name in ("bat", "__MACOSX", "@eaDir"):
        (classes / name / "bee").mkdir(parents=True)
    (classes / "__MACOSX" / "bee" / "._0.png").write_bytes(b"\0\5\x16\7")
    (classes / "Thumbs.db").write_bytes(b"")
    found = load_images(classes, RAW)
    assert labels(found)[::3] == [0, 1, 2]
    (note,) = found.notes
    assert note.startswith("bat in ")
    assert "no class: labels count the 3 other folders" in note


def test_a_flat_folder_has_no_labels(classes: Path) -> None:
    found = load_images(classes / "bee", RAW, classes=[4])
    assert (values(found), found.labels) == ([10, 11, 12], None)


def test_the_default_is_imagenet(classes: Path) -> None:
    assert load_images(classes / "ant", limit=1).inputs[0].shape == (1, 3, 224, 224)


def test_a_limit_chooses_files_by_seed(classes: Path) -> None:
    chosen = [values(load_images(classes, RAW, limit=4, seed=seed)) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 4
    found = load_images(classes, RAW, limit=4)
    assert labels(found) == [value // 10 for value in values(found)]
    assert len(load_images(classes, RAW, limit=100)) == 9
    with pytest.raises(DataError, match="limit of 0"):
        load_images(classes, RAW, limit=0)


def test_broken_images_among_good_ones_are_skipped(classes: Path) -> None:
    Image.fromarray(np.resize(PIXELS, (64, 64, 3))).save(classes / "bee" / "3.jpg")
    whole = (classes / "bee" / "3.jpg").read_bytes()
    (classes / "bee" / "3.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (classes / "bee" / "1.png").write_bytes(b"")
    (classes / "cow" / "0.png").write_text("not a PNG")
    found = load_images(classes, RAW)
    assert values(found) == [0, 1, 2, 10, 12, 21, 22]
    assert labels(found) == [0, 0, 0, 1, 1, 2, 2]
    assert [line.partition(":")[0][-9:] for line in found.skipped] == ["bee/1.png", "bee/3.jpg", "cow/0.png"]
    assert "truncated" in found.skipped[1]


def test_a_folder_without_a_good_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images at .*absent"):
        load_images(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no images"):
        load_images(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"none of the 1 images .*a\.jpg: .*are they complete"):
        load_images(tmp_path)


def test_a_folder_above_or_mixed_is_refused(classes: Path) -> None:
    with pytest.raises(DataError, match=r"did you mean .*images"):
        load_images(classes.parent)
    picture(classes / "stray.png")
    with pytest.raises(DataError, match="both images and folders"):
        load_images(classes)


def test_different_sizes_name_two_files(classes: Path) -> None:
    picture(classes / "cow" / "9.png", 0, (9, 7))
    with pytest.raises(DataError, match=r"ant.0\.png is \[3, 8, 8\] but .*9\.png is \[3, 7, 9\].*size="):
        load_images(classes, RAW)
    assert len(load_images(classes, Preprocess(size=(4, 4)))) == 10


def test_what_does_not_fit_the_preprocessing_names_its_file(classes: Path) -> None:
    picture(classes / "cow" / "9.png", 0, (9, 7))
    with pytest.raises(DataError, match=r"9\.png: a picture of 7x9 is smaller than crop=8"):
        load_images(classes, Preprocess(crop=(8, 8)))


def test_too_few_classes_are_refused(classes: Path) -> None:
    with pytest.raises(DataError, match="labels up to 2, but classes= lists 2"):
        load_images(classes, RAW, classes=[1, 2])


def test_progress_sees_every_file(classes: Path) -> None:
    seen: list[str] = []

    def track(items: Iterable[T], label: str, /) -> Iterator[T]:
        for item in items:
            seen.append(label)
            yield item

    load_images(classes, RAW, track=track)
    assert seen == ["reading images"] * 9


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("pictures", "labels")])
def test_npz_of_pixels(tmp_path: Path, names: tuple[str, str]) -> None:
    arrays: dict[str, Any] = {names[0]: PIXELS, names[1]: np.arange(10, dtype=np.uint8)}
    np.savez(tmp_path / "d.npz", **arrays)
    found = load_images(tmp_path / "d.npz", RAW)
    assert labels(found) == list(range(10))
    assert torch.equal(found.inputs[0], RAW.array(PIXELS))
    part = load_images(tmp_path / "d.npz", RAW, limit=3)
    assert part.labels is not None
    assert torch.equal(part.inputs[0], found.inputs[0][part.labels])


def test_npz_of_pixels_is_only_normalised_by_default(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=PIXELS)
    imagenet = Preprocess.parse("imagenet,size=none")
    assert torch.equal(load_images(tmp_path / "d.npz").inputs[0], imagenet.array(PIXELS))
    np.save(tmp_path / "d.npy", PIXELS[..., 0])
    assert torch.equal(load_images(tmp_path / "d.npy").inputs[0], Preprocess(order="gray").array(PIXELS[..., 0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_ready_arrays_are_taken_as_they_are(tmp_path: Path, dtype: type) -> None:
    ready: Any = (PIXELS / 256).astype(dtype)
    np.savez(tmp_path / "d.npz", inputs=ready)
    np.save(tmp_path / "d.npy", ready)
    for name in ("d.npz", "d.npy"):
        found = load_images(tmp_path / name)
        assert found.inputs[0].dtype == torch.float32
        assert torch.equal(found.inputs[0], torch.tensor(ready).float())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS / 255}, "holds images as float64"),
        ({"a": PIXELS, "b": PIXELS}, "name the arrays images or inputs"),
        ({"inputs": PIXELS / 255, "x": PIXELS}, "name the arrays"),
        ({"labels": np.arange(3)}, "name the arrays"),
        ({}, "holds nothing"),
        ({"images": PIXELS, "labels": np.arange(3)}, "expected 10 integers"),
        ({"images": PIXELS[:0]}, "no samples"),
        ({"images": np.array([None])}, "holds Python objects"),
        ({"images": PIXELS[0]}, "are not"),
        ({"inputs": np.full((2, 3), np.inf)}, "NaN or infinity"),
        ({"x": np.ones((2, 3), dtype=np.complex64)}, r"complex64 \[2, 3\]: expected floating point, integers"),
        ({"x": np.array([["a"]])}, "<U1"),
        ({"x": np.float32(3)}, "holds x as float32"),
    ],
)
def test_bad_arrays_are_explained(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_images(tmp_path / "d.npz")


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_files_that_are_missing_or_broken_are_explained(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no file"):
        load_images(tmp_path / name)
    np.savez(tmp_path / "whole.npz", images=PIXELS)
    (tmp_path / name).write_bytes((tmp_path / "whole.npz").read_bytes()[:900])
    with pytest.raises(DataError, match="cannot be read"):
        load_images(tmp_path / name)


def test_code_gives_batches(code: str) -> None:
    assert load_images(f"{code}:tensors", limit=5).inputs[0].shape == (5, 3, 4, 4)
    assert [tuple(each.shape) for each in load_images(f"{code}:pairs").inputs] == [(3, 2), (3, 5, 5)]
    assert labels(load_images(f"{code}:labels_in_a_tuple")) == [0, 1]
    assert labels(load_images(f"{code}:labelled", limit=5)) == [0, 1, 2, 3, 4]
    assert labels(load_images(f"{code}:labelled", classes=[9, 8, 7, 6, 5, 4])) == [9, 8, 7, 6, 5, 4]
    assert torch.equal(load_images(f"{code}:whole").inputs[0], torch.arange(12.0).view(6, 2))


def test_code_gives_images() -> None:
    """Take what `load_images` returned, with its labels, and no more than the limit."""
    found = load_images("prunec.demo:test_images", limit=5)
    assert len(found) == 5
    assert found.labels is not None
    assert len(found.labels) == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half_labelled", "different lengths"),
        ("raises", "raised OSError: the camera is off"),
        ("ragged", r"different shapes, \[\[2, 4\]\] and \[\[2, 5\]\]"),
        ("text", "holds a str"),
        ("nan", "NaN or infinity"),
        ("nothing", "gives no batches"),
        ("not_batches", "TypeError"),
        ("absent", "defines no 'absent'"),
    ],
)
def test_bad_code_is_explained(code: str, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_images(f"{code}:{name}")


def test_numbers_of_samples_must_agree() -> None:
    with pytest.raises(DataError, match=r"different lengths, \[3, 2\]"):
        Images((torch.zeros(3, 1), torch.zeros(2, 1)), None, "here")
    with pytest.raises(DataError, match="no samples"):
        Images((), None, "here")


def numbered(n: int = 10) -> Images:
    return Images((torch.arange(float(n)).view(n, 1), torch.zeros(n, 2)), torch.arange(n), "numbers")


def test_batches_cover_all_in_order() -> None:
    batches = list(numbered().batches(4))
    assert [len(each) for each, _ in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([each for each, _ in batches]), numbered().inputs[0])
    with pytest.raises(DataError, match="batch of 0"):
        list(numbered().batches(0))


def test_taken_ranges_are_disjoint() -> None:
    first, second = numbered().take(4, seed=3), numbered().take(6, seed=3, skip=4)
    assert sorted(values(first) + values(second)) == list(range(10))
    assert values(first) == labels(first)
    assert values(first) == values(numbered().take(4, seed=3)) != values(numbered().take(4, seed=4))
    assert len(numbered().take(100, seed=0)) == 10
    for n, skip in ((0, 0), (1, 10), (1, -1)):
        with pytest.raises(DataError, match="cannot take"):
            numbered().take(n, seed=0, skip=skip)


def test_the_digest_is_of_the_contents() -> None:
    assert numbered().digest == numbered().digest
    assert len({numbered().digest, numbered().unlabelled().digest, numbered(9).digest}) == 3
    assert numbered().unlabelled().labels is None


def test_what_python_programs_have_at_hand() -> None:
    x, y = torch.randn(10, 3, 4, 4), torch.arange(10)
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(x, y), batch_size=4)
    nested = [((x[:5], x[:5]), y[:5]), ((x[5:], x[5:]), y[5:])]
    for data in (
        x,
        x.numpy(),
        [x[:5], x[5:]],
        (part for part in torch.split(x, 3)),
        loader,
        nested,
        [{"inputs": x, "labels": y}],
        {"inputs": x, "labels": y},
    ):
        found = as_images(data)
        assert torch.equal(found.inputs[0], x)
        assert found.labels is None
    assert len(as_images(nested).inputs) == len(as_images([(x, x)]).inputs) == 2
    assert as_images(numbered()).labels is None
    assert as_images(x.double().requires_grad_()).inputs[0].dtype == torch.float32


def test_what_is_not_images_is_explained() -> None:
    for data in (3, "images", None):
        with pytest.raises(DataError, match="is not images"):
            as_images(data)
    with pytest.raises(DataError, match="wrap the dataset"):
        as_images([(torch.zeros(3, 4, 4), 0), (torch.zeros(3, 4, 4), 1)])


@needs_shared
def test_a_shared_network_recognises_shared_images() -> None:
    preprocess = Preprocess.parse("size=160,order=bgr,scale=1,mean=103.939/116.779/123.68,std=1")
    images = load_images(SHARED / "imagenette" / "val", preprocess, limit=30)
    assert images.inputs[0].shape == (30, 3, 160, 160)
    net = load_model(f"{SHARED / 'nets.py'}:ResNet50C4", SHARED / "models" / "resnet50_c4.safetensors").model
    assert isinstance(net, nn.Module)
    assert images.labels is not None
    with torch.no_grad():
        found = torch.cat([net(batch).argmax(1) for (batch,) in images.batches(10)])
    assert (found == images.labels).float().mean() > 0.8


@needs_shared
def test_shared_arrays_load() -> None:
    found = load_images(SHARED / "cifar10" / "test.npz", limit=100)
    assert found.inputs[0].shape == (100, 3, 32, 32)
    assert set(labels(found)) == set(range(10))
