"""List and decode folders of image files."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import DataError, first_few
from ..progress import Track
from .preprocess import Preprocess

if TYPE_CHECKING:
    from PIL import Image

LEFT_BEHIND = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
LARGE = 16_000_000  # pixels
MOST_PIXELS = 90_000_000  # near Pillow's warning limit; 360 MB decoded
_ONE_AT_A_TIME = threading.Lock()
SUFFIXES = frozenset(".bmp .gif .jfif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())


def listed(path: Path) -> tuple[list[Path], list[int] | None, tuple[str, ...]]:
    """List the images below `path`, their labels, and notes on skipped folders.

    Labels exist where each class has a folder; a folder without images is no class. Raises DataError where there are no
    images.
    """
    flat = _image_files(path)
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not _is_left_behind(each))
    found = {folder: _image_files(folder) for folder in folders}
    classes = [files for files in found.values() if files]
    if flat and classes:
        raise DataError(f"{path} holds both images and folders of images: keep the images, or one folder a class")
    if flat:
        return flat, None, ()
    if classes:
        labelled = [(file, label) for label, files in enumerate(classes) for file in files]
        return [file for file, _ in labelled], [label for _, label in labelled], _notes(path, found)
    deeper = [sub for folder in folders for sub in sorted(folder.iterdir()) if sub.is_dir() and _image_files(sub)]
    advice = f"did you mean {deeper[0].parent}?" if deeper else f"expected {', '.join(sorted(SUFFIXES))}"
    raise DataError(f"{path} holds no images, and no class folders that do: {advice}")


def _notes(path: Path, found: Mapping[Path, list[Path]]) -> tuple[str, ...]:
    """Return a sentence on the folders that are no class; empty where all are classes."""
    empty = [folder.name for folder, files in found.items() if not files]
    if not empty:
        return ()
    return (
        f"{first_few(empty)} in {path} hold no image and are no class: labels count the {len(found) - len(empty)} other"
        " folders, and --classes says which class of the network each is",
    )


def _is_left_behind(path: Path) -> bool:
    """Return whether a system or an archive made the path, and not the user."""
    return path.name.startswith(".") or path.name in LEFT_BEHIND


def _image_files(path: Path) -> list[Path]:
    listed = (each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and not each.name.startswith("."))
    return sorted(each for each in listed if each.is_file())


def decoded(files: list[Path], preprocess: Preprocess, track: Track) -> tuple[Tensor, list[int], list[str]]:
    """Decode images to one tensor [N, C, H, W]; return also their indices and errors."""
    pixels, kept, skipped = torch.empty(0), list[int](), list[str]()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, _quiet():
        results = pool.map(lambda file: _decode(file, preprocess), files)
        for index, (file, result) in enumerate(zip(track(files, "reading images"), results, strict=True)):
            if isinstance(result, str):
                skipped.append(f"{file}: {result}")
                continue
            if not kept:
                pixels = torch.empty(len(files), *result.shape)
            if result.shape != pixels.shape[1:]:
                first, shapes = files[kept[0]], (list(pixels.shape[1:]), list(result.shape))
                pool.shutdown(wait=False, cancel_futures=True)
                raise DataError(f"{first} is {shapes[0]} but {file} is {shapes[1]}: preprocess with size=")
            pixels[len(kept)] = result
            kept.append(index)
    return pixels[: len(kept)], kept, skipped


def _decode(file: Path, preprocess: Preprocess) -> Tensor | str:
    """Decode one picture, or return why it cannot be read.

    Large pictures are decoded one at a time, at 4 bytes a pixel.
    """
    from PIL import Image

    try:
        with Image.open(file) as picture:
            count = picture.width * picture.height
            if count > MOST_PIXELS:
                size = f"{picture.width} x {picture.height}"
                return f"{size} pixels are more than the {MOST_PIXELS:,} that are read into memory: make it smaller"
            with _ONE_AT_A_TIME if count > LARGE else nullcontext():
                picture.load()
                return _prepared(picture, file, preprocess)
    except DataError:
        raise
    except Exception as error:  # decoders raise any type on broken bytes
        return f"{type(error).__name__}: {error}"


def _prepared(picture: Image.Image, file: Path, preprocess: Preprocess) -> Tensor:
    try:
        return preprocess.image(picture)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Pillow's warning about large pictures; `MOST_PIXELS` raises an error instead."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
