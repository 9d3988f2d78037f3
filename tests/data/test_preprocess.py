from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from prunec.data.preprocess import Preprocess
from prunec.errors import DataError, SpecError

TEXTS = [
    "size=160,order=bgr,scale=1,mean=103.939/116.779/123.68,std=1",
    "resize=232,crop=224x192,order=rgb,scale=127.5,mean=1,std=1",
    "order=gray,scale=255,mean=0.1307,std=0.3081",
    "size=32x64,order=rgb,scale=255,mean=1e-05,std=0.1",
]


def noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("text", TEXTS)
def test_canonical_text_round_trips(text: str) -> None:
    assert str(Preprocess.parse(text)) == text
    assert Preprocess.parse(str(Preprocess.parse(text))) == Preprocess.parse(text)


@pytest.mark.parametrize("text", ["imagenet", "imagenet:160", "none", "order=gray", "imagenet,order=bgr", "scale=1"])
def test_short_text_round_trips_through_the_canonical_one(text: str) -> None:
    found = Preprocess.parse(text)
    assert Preprocess.parse(str(found)) == found


def test_presets() -> None:
    assert Preprocess.parse("imagenet") == Preprocess.imagenet(224)
    assert (Preprocess.imagenet().resize, Preprocess.imagenet().crop) == (256, (224, 224))
    assert Preprocess.parse("imagenet:160") == Preprocess.imagenet(160)
    assert Preprocess.parse("none") == Preprocess(scale=1.0)


def test_size_replaces_the_geometry_of_a_preset() -> None:
    found = Preprocess.parse("imagenet, size=160")
    assert (found.resize, found.crop, found.size) == (None, None, (160, 160))
    assert found.mean == Preprocess.imagenet().mean
    assert Preprocess.parse("imagenet,size=none").size is None


def test_a_table_says_what_text_says() -> None:
    table = {"preset": "imagenet:160", "order": "bgr", "mean": [0.4, 0.5, 0.6], "crop": [160, 128]}
    assert Preprocess.from_mapping(table) == Preprocess.parse("imagenet:160,order=bgr,mean=0.4/0.5/0.6,crop=160x128")
    assert Preprocess.from_mapping({}) == Preprocess()


def test_scalars_broadcast_over_channels() -> None:
    assert Preprocess.parse("mean=0.5") == Preprocess(mean=(0.5, 0.5, 0.5))
    assert Preprocess(order="gray", std=(2.0,)).std == (2.0,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise=160", "no option 'sise': the options are resize, crop, size"),
        ("imagenot", "no preset 'imagenot'"),
        ("imagenet:big", "no preset 'imagenet:big'"),
        ("none:3", "no preset"),
        ("", "no preset ''"),
        ("imagenet:0", "above zero"),
        ("size=-1", "whole number of pixels"),
        ("size=1.5", "whole number of pixels"),
        ("size=1x2x3", "height and width"),
        ("size=1xnone", "height and width"),
        ("resize=4x4", "whole number"),
        ("size=160,crop=128", "excludes"),
        ("order=rbg", "expected rgb, bgr or gray"),
        ("mean=a/b/c", "expected a number"),
        ("mean=nan", "expected a number"),
        ("mean=1/2", "has 2 numbers for the 3 channels"),
        ("imagenet,order=gray", "for the 1 channels of gray"),
        ("std=0", "above zero"),
        ("scale=-255", "above zero"),
        ("scale=1/2", "expected a number"),
        ("size=1,size=2", "gives size twice"),
        ("none,imagenet", "gives preset twice"),
    ],
)
def test_bad_text_is_explained(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Preprocess.parse(text)


@pytest.mark.parametrize("table", [{"size": True}, {"size": {}}, {"mean": "x"}, {"mean": []}, {"order": None}])
def test_bad_tables_are_explained(table: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="expected"):
        Preprocess.from_mapping(table)


def test_values_follow_the_formula() -> None:
    pixels = noise(5, 7, 3)
    found = Preprocess(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)).image(Image.fromarray(pixels))
    expected = (pixels.transpose(2, 0, 1) / 255 - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) / np.reshape(
        [1, 2, 4], (3, 1, 1)
    )
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_bgr_means_are_in_channel_order() -> None:
    pixels = np.full((2, 2, 3), (10, 20, 30), dtype=np.uint8)
    found = Preprocess.parse("order=bgr,scale=1,mean=1/2/3").image(Image.fromarray(pixels))
    assert found[:, 0, 0].tolist() == [29, 18, 7]


def test_geometry_agrees_with_torchvision() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    picture = Image.fromarray(noise(301, 200, 3))
    steps = [transforms.Resize(64), transforms.CenterCrop(57), transforms.ToTensor()]
    expected = transforms.Compose(steps)(picture)
    torch.testing.assert_close(Preprocess.parse("resize=64,crop=57").image(picture), expected, rtol=0, atol=1e-6)


def test_size_is_height_by_width() -> None:
    assert Preprocess.parse("size=20x30").image(Image.fromarray(noise(50, 60, 3))).shape == (3, 20, 30)
    assert Preprocess.parse("resize=25").image(Image.fromarray(noise(50, 60, 3))).shape == (3, 25, 30)


@pytest.mark.parametrize("text", ["scale=255", "size=9", "order=gray", "order=bgr", "resize=10,crop=8,order=gray"])
@pytest.mark.parametrize("shape", [(3, 12, 11, 3), (3, 12, 11, 1), (3, 12, 11)])
def test_an_array_gives_what_its_pictures_give(text: str, shape: tuple[int, ...]) -> None:
    pixels, preprocess = noise(*shape), Preprocess.parse(text)
    pictures = [Image.fromarray(each.squeeze()) for each in pixels]
    torch.testing.assert_close(preprocess.array(pixels), torch.stack([preprocess.image(each) for each in pictures]))


def test_channels_first_is_understood() -> None:
    pixels = noise(2, 5, 6, 3)
    assert torch.equal(Preprocess().array(pixels.transpose(0, 3, 1, 2)), Preprocess().array(pixels))


def test_modes_of_pictures_are_converted() -> None:
    palette = Image.fromarray(noise(8, 8, 3)).convert("P")
    for picture in (
        palette,
        palette.convert("RGBA"),
        palette.convert("L"),
        palette.convert("1"),
        palette.convert("CMYK"),
    ):
        assert Preprocess().image(picture).shape == (3, 8, 8)


@pytest.mark.parametrize("shape", [(4, 5, 3), (2, 5, 6, 4), (8,), (2, 2)])
def test_bad_shapes_are_explained(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="are not"):
        Preprocess().array(noise(*shape))


def test_floats_are_not_pixels() -> None:
    with pytest.raises(DataError, match="float64, not uint8"):
        Preprocess().array(np.zeros((1, 4, 4, 3)))


def test_deep_pixels_and_small_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="more than 8 bits"):
        Preprocess().image(Image.fromarray(np.zeros((4, 4), dtype=np.uint16)))
    with pytest.raises(DataError, match="a picture of 4x5 is smaller than crop=6"):
        Preprocess.parse("crop=6").image(Image.fromarray(noise(4, 5, 3)))
