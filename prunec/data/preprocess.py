"""Convert pixels to network inputs: ``value = (pixel / scale - mean) / std``, per channel.

A Preprocess and its text are interchangeable, so a recipe, a manifest and the command line can each hold one:

>>> Preprocess.parse("size=160,order=bgr,scale=1,mean=103.939/116.779/123.68,std=1")
Preprocess(resize=None, crop=None, size=(160, 160), mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), ...)
>>> str(Preprocess.imagenet(160))
'resize=183,crop=160,order=rgb,scale=255,mean=0.485/0.456/0.406,std=0.229/0.224/0.225'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import DataError, SpecError

if TYPE_CHECKING:  # Pillow is required only to decode pictures
    from PIL import Image

Order = Literal["rgb", "bgr", "gray"]


@dataclass(frozen=True)
class Preprocess:
    """Conversion of an image to a tensor: geometry, channel order, then normalisation.

    Geometry works on 8-bit pixels, antialiased bilinear. ``mean`` and ``std`` are in units of ``pixel / scale`` and in
    channel order; a single number applies to every channel. The defaults leave the geometry unchanged and map 0..255 to
    0..1. Options that do not fit together raise SpecError.
    """

    resize: int | None = None
    """The shorter side becomes this many pixels; the aspect ratio is kept."""
    crop: tuple[int, int] | None = None
    """Height and width of a centre crop, after ``resize``."""
    size: tuple[int, int] | None = None
    """Exact height and width, whatever the aspect ratio; excludes ``resize`` and ``crop``."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: Order = "rgb"
    scale: float = 255.0
    """Pixels are divided by this, before ``mean`` and ``std``."""

    def __post_init__(self) -> None:
        for key, read in _READERS.items():
            object.__setattr__(self, key, read(key, getattr(self, key)))
        if self.size and (self.resize or self.crop):
            raise SpecError("size= resizes to an exact shape, so it excludes resize= and crop=: keep one or the other")
        for key in ("mean", "std"):
            object.__setattr__(self, key, _per_channel(key, getattr(self, key), self.channels, self.order))
        if min(*self.std, self.scale) <= 0:
            raise SpecError(
                f"scale={_number(self.scale)} and std={_numbers(self.std)} divide, so each must be above zero"
            )

    @property
    def channels(self) -> int:
        """Count the channels of the output tensors: 1 for gray, else 3."""
        return 1 if self.order == "gray" else 3

    @classmethod
    def imagenet(cls, size: int = 224) -> Preprocess:
        """Return the usual evaluation transform of ImageNet.

        Shorter side to ``size * 256 / 224``, centre crop, ImageNet mean and std.
        """
        return cls(**_preset(f"imagenet:{size}"))

    @classmethod
    def parse(cls, text: str) -> Preprocess:
        """Read comma-separated ``key=value`` pairs, optionally with a preset.

        Presets: ``imagenet``, ``imagenet:160``, ``none``. Raises SpecError for anything else.
        """
        table: dict[str, object] = {}
        for item in text.split(","):
            key, equals, value = (part.strip() for part in item.partition("="))
            key, value = (key, value) if equals else ("preset", key)
            if key in table:
                raise SpecError(f"preprocess {text!r} gives {key} twice: keep one")
            table[key] = value
        return cls.from_mapping(table)

    @classmethod
    def from_mapping(cls, table: Mapping[str, object]) -> Preprocess:
        """Build from a TOML table: fields as numbers, lists or text, optionally with a ``preset``.

        Fields override the preset; ``size`` replaces its whole geometry. Raises SpecError for anything else.
        """
        given = dict(table)
        base = _preset(given.pop("preset")) if "preset" in given else {}
        unknown = sorted(given.keys() - _READERS.keys())
        if unknown:
            raise SpecError(f"preprocess has no option {unknown[0]!r}: the options are {', '.join(_READERS)}")
        if "size" in given:
            base = {key: value for key, value in base.items() if key not in ("resize", "crop")}
        return cls(**{**base, **given})

    def __str__(self) -> str:
        geometry = {"resize": self.resize, "crop": _extent(self.crop), "size": _extent(self.size)}
        values = {"scale": _number(self.scale), "mean": _numbers(self.mean), "std": _numbers(self.std)}
        pairs = {**geometry, "order": self.order, **values}
        return ",".join(f"{key}={value}" for key, value in pairs.items() if value is not None)

    def image(self, picture: Image.Image) -> Tensor:
        """Convert one picture to float32 [C, H, W].

        Raises DataError where the picture is smaller than the crop, or its pixels have more than 8 bits.
        """
        if picture.mode.startswith(("I", "F")):
            raise DataError(
                f"pixels of mode {picture.mode} have more than 8 bits: convert, or pass ready float inputs as .npz"
            )
        mode = "L" if self.order == "gray" else "RGB"
        picture = self._placed(picture if picture.mode == mode else picture.convert(mode))  # converting always copies
        return self._values(np.asarray(picture).reshape(1, picture.height, picture.width, self.channels))[0]

    def array(self, pixels: npt.NDArray[Any]) -> Tensor:
        """Convert a stack of uint8 pictures to float32 [N, C, H, W].

        Accepts [N, H, W, C] (also where ambiguous), [N, H, W] or [N, C, H, W] with 1 or 3 channels. Three channels are
        red, green, blue. The result, and any DataError, is that of ``image`` on each picture.
        """
        from PIL import Image

        pixels = _channels_last(pixels)
        if (self.resize, self.crop, self.size) == (None, None, None) and pixels.shape[3] == self.channels:
            return self._values(pixels)
        flat = pixels[..., 0] if pixels.shape[3] == 1 else pixels
        return torch.stack([self.image(Image.fromarray(np.ascontiguousarray(each))) for each in flat])

    def pixels(self, image: Tensor) -> Tensor:
        """Return an input [C, H, W] as RGB, or gray, between 0 and 1."""
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
        values = (image.float().cpu() * std + mean) * (self.scale / 255)
        return (values.flip(0) if self.order == "bgr" else values).clamp(0, 1)

    def _placed(self, picture: Image.Image) -> Image.Image:
        from PIL import Image

        if self.size:
            return picture.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        if self.resize:
            short = min(picture.size)
            width, height = (self.resize * side // short for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        if not self.crop:
            return picture
        height, width = self.crop
        if height > picture.height or width > picture.width:
            found = _extent((picture.height, picture.width))
            raise DataError(
                f"a picture of {found} is smaller than crop={_extent(self.crop)}: set resize= too, or size= instead"
            )
        left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
        return picture.crop((left, top, left + width, top + height))

    def _values(self, pixels: npt.NDArray[Any]) -> Tensor:
        ordered = pixels[..., ::-1] if self.order == "bgr" else pixels
        values = torch.from_numpy(ordered.astype(np.float32, order="C")).permute(0, 3, 1, 2).contiguous()
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
        return values.div_(self.scale).sub_(mean).div_(std)


def _preset(value: object) -> dict[str, Any]:
    name, _, size = str(value).partition(":")
    if name == "none" and not size:
        return {"scale": 1.0}
    if name != "imagenet" or not (size or "224").isdecimal():
        raise SpecError(
            f"preprocess has no preset {value!r}: say imagenet, imagenet:160 or none, or give key=value pairs"
        )
    side = int(size or 224)
    norm = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return {"resize": round(side * 256 / 224), "crop": (side, side), **norm}


def _channels_last(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if pixels.dtype != np.uint8:
        raise DataError(
            f"images are {pixels.dtype}, not uint8: floating-point arrays are ready inputs and are not preprocessed"
        )
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        return pixels[..., None]
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        return pixels
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        return pixels.transpose(0, 2, 3, 1)
    raise DataError(
        f"images of shape {list(pixels.shape)} are not [N, H, W, C], [N, H, W] or [N, C, H, W] with 1 or 3 channels"
    )


def _side(key: str, value: object) -> int | None:
    if value is None or value == "none":
        return None
    text = str(value).strip()
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"preprocess {key}={value}: expected a whole number of pixels above zero, or none")
    return int(text)


def _sides(key: str, value: object) -> tuple[int, int] | None:
    parts = value.split("x") if isinstance(value, str) else value
    sides = [_side(key, each) for each in (parts if isinstance(parts, (list, tuple)) else [parts])]
    if sides == [None]:
        return None
    height, width = (sides * 2 if len(sides) == 1 else sides) if len(sides) in (1, 2) else (None, None)
    if height is None or width is None:
        raise SpecError(
            f"preprocess {key}={value}: expected one number of pixels, or height and width as in {key}=160x200"
        )
    return height, width


def _floats(key: str, value: object) -> tuple[float, ...]:
    parts = value.split("/") if isinstance(value, str) else value
    listed = parts if isinstance(parts, (list, tuple)) and parts else [parts]
    return tuple(_float(key, each) for each in listed)


def _float(key: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SpecError(
            f"preprocess {key}={value}: expected a number, or one a channel as in mean=103.939/116.779/123.68"
        )
    return number


def _order(key: str, value: object) -> str:
    if value not in ("rgb", "bgr", "gray"):
        raise SpecError(f"preprocess {key}={value}: expected rgb, bgr or gray")
    return str(value)


def _per_channel(key: str, numbers: tuple[float, ...], channels: int, order: str) -> tuple[float, ...]:
    if len(numbers) not in (1, channels):
        raise SpecError(
            f"preprocess {key}={_numbers(numbers)} has {len(numbers)} numbers for the {channels} channels of {order}"
        )
    return numbers * (channels // len(numbers))


def _extent(sides: tuple[int, int] | None) -> str | None:
    if sides is None:
        return None
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def _numbers(numbers: tuple[float, ...]) -> str:
    return _number(numbers[0]) if len(set(numbers)) == 1 else "/".join(map(_number, numbers))


def _number(number: float) -> str:
    return repr(number).removesuffix(".0")


_READERS: dict[str, Callable[[str, object], object]] = {
    "resize": _side,
    "crop": _sides,
    "size": _sides,
    "mean": _floats,
    "std": _floats,
    "order": _order,
    "scale": _float,
}
