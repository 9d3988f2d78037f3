"""Folders of image files: what is listed, and what can be decoded."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from .errors import DataError
from .preprocess import Preprocess
from .progress import Track

SUFFIXES = frozenset(".bmp .gif .jfif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())


def listed(path: Path) -> tuple[list[Path], list[int] | None]:
    """The images below `path` and, where each class has a folder, their labels. Raises DataError where none are."""
    flat = _image_files(path)
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    labelled = [(file, label) for label, folder in enumerate(folders) for file in _image_files(folder)]
    if flat and labelled:
        raise DataError(f"{path} holds both images and folders of images: keep the images, or one folder a class")
    if flat:
        return flat, None
    if labelled:
        return [file for file, _ in labelled], [label for _, label in labelled]
    deeper = [sub for folder in folders for sub in sorted(folder.iterdir()) if sub.is_dir() and _image_files(sub)]
    advice = f"did you mean {deeper[0].parent}?" if deeper else f"expected {', '.join(sorted(SUFFIXES))}"
    raise DataError(f"{path} holds no images, and no class folders that do: {advice}")


def _image_files(path: Path) -> list[Path]:
    listed = (each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and not each.name.startswith("."))
    return sorted(each for each in listed if each.is_file())


def decoded(files: list[Path], preprocess: Preprocess, track: Track) -> tuple[Tensor, list[int], list[str]]:
    """The readable images as one tensor [N, C, H, W], their places in ``files``, and what is wrong with the others."""
    pixels, kept, skipped = torch.empty(0), list[int](), list[str]()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
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
    from PIL import Image

    try:
        with Image.open(file) as picture:
            picture.load()
    except Exception as error:  # a decoder that is fed broken bytes may raise anything
        return f"{type(error).__name__}: {error}"
    try:
        return preprocess.image(picture)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
