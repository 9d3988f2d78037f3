"""Convert the batches of a loader to network inputs and labels.

A batch is matched to the `Signature`: by the names of its values where it has some, else by their positions. A network
that needs R inputs gets the first R values of a tuple; the rest are labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..ir.signature import Signature, is_label, keyed
from ..progress import Track
from .arrays import ready

USUAL = (
    "input", "image", "images", "pixel_values", "img", "imgs", "x", "data", "input_ids", "input_values",
    "input_features", "features", "tokens", "samples",
)  # fmt: skip
_LOADER = "wrap the dataset in a DataLoader(..., batch_size=64)"


@dataclass(frozen=True)
class Matched:
    """One batch, split into inputs and labels."""

    inputs: tuple[object, ...]
    labels: object = None
    keywords: tuple[str, ...] = ()
    """Names of the inputs, where they are not the first parameters."""
    followed: bool = False
    """True where the labels are identified by position, after the inputs."""


@dataclass(frozen=True)
class Gathered:
    """All batches, concatenated."""

    inputs: tuple[Tensor, ...]
    labels: Tensor | None
    keywords: tuple[str, ...]
    unread: str
    """Targets that are not one class a sample, as text."""
    notes: tuple[str, ...] = ()


def gathered(
    batches: Iterable[object], source: str, limit: int | None, track: Track, takes: Signature, labelled: bool = True
) -> Gathered:
    """Concatenate the first `limit` samples of all batches.

    Labels are kept where `labelled`, and are one class for each sample. Raises DataError where a batch does not fit the
    network, or another batch.
    """
    parts: list[tuple[Tensor, ...]] = []
    labels: list[Tensor] = []
    first: Matched | None = None
    unread, seen = "", 0
    for batch in track(batches, "reading batches"):
        found = matched(batch, takes, source)
        first = first or found
        parts.append(_tensors(found, takes))
        _require_alike(parts[0], parts[-1], source)
        if found.keywords != first.keywords:
            raise DataError(f"{source} gives batches with different keys: give the same in each")
        if labelled and found.labels is not None:
            classes = _classes(found.labels)
            unread = _described(found.labels) if classes is None else unread
            labels += [] if classes is None else [classes]
        seen += len(parts[-1][0])
        if limit is not None and seen >= limit:
            break
    if first is None:
        raise DataError(f"{source} gives no batches: has its iterator been used up already?")
    inputs = tuple(torch.cat(each)[:limit] for each in zip(*parts, strict=True))
    whole = torch.cat(labels)[:limit] if labels and not unread else None
    return Gathered(inputs, whole, first.keywords, unread, _notes(first, takes))


def matched(batch: object, takes: Signature, source: str) -> Matched:
    """Return the inputs and labels of a batch. Raises DataError for a batch that does not fit, or is ambiguous."""
    names = keyed(batch)
    if names is not None and (isinstance(batch, Mapping) or _telling(names, takes)):
        return _by_name(names, takes, source)
    if not isinstance(batch, (tuple, list)):
        return _fitting(Matched((batch,)), takes, source)
    if not batch:
        raise DataError(f"{source} gives an empty batch: leave it out")
    return _by_place(batch, takes, source)


def _by_place(batch: Sequence[object], takes: Signature, source: str) -> Matched:
    """Take the first values as inputs, as many as the network needs.

    Inputs may be nested, as in ((a, b), labels).
    """
    first, rest = batch[0], batch[1:]
    if isinstance(first, Mapping):
        inner = _by_name(keyed(first) or {}, takes, source)
        return Matched(inner.inputs, rest[0] if rest else inner.labels, inner.keywords)
    if isinstance(first, (tuple, list)) and first and _is_array(first[0]):
        return _fitting(Matched(tuple(first), rest[0] if rest else None, followed=bool(rest)), takes, source)
    if takes.open:
        labels = len(batch) == 2 and _looks_like_labels(batch[1])
        found = Matched(tuple(batch[:1]), batch[1]) if labels else Matched(tuple(batch))
    else:
        more = len(batch) > takes.needed
        found = Matched(tuple(batch[: takes.needed]), batch[takes.needed] if more else None, followed=more)
    if isinstance(found.labels, (int, float, str)) or (_is_array(found.labels) and not np.ndim(found.labels)):  # type: ignore[arg-type]
        raise DataError(f"these are single samples, not batches: {_LOADER}")
    return _fitting(found, takes, source)


def _by_name(batch: Mapping[str, object], takes: Signature, source: str) -> Matched:
    """Take the values named as parameters of the network, else `inputs`, else the only candidate."""
    labels = next((one for key, one in batch.items() if is_label(key) and key not in takes.required), None)
    arrays = {key: one for key, one in batch.items() if _is_array(one) and not is_label(key)}
    known = tuple(name for name in takes.required if name in batch)
    known += tuple(name for name in takes.optional if name in arrays)
    if known and set(takes.required) <= set(known):
        return Matched(tuple(batch[name] for name in known), labels, takes.keywords(known))
    if "inputs" in batch:
        given = batch["inputs"]
        values = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        return _fitting(Matched(values, labels), takes, source)
    usual = [key for key in USUAL if key in arrays]
    likely = usual if len(usual) == 1 else list(arrays)
    if takes.needed == 1 and len(likely) == 1:
        return Matched((batch[likely[0]],), labels)
    keys = ", ".join(batch) or "none"
    wanted = "a batch should say inputs" if takes.open else f"{takes}"
    advice = f"name the inputs so, or give {{'inputs': {_form(takes)}}}"
    raise DataError(f"{source} gives batches with the keys {keys}, and {wanted}: {advice}")


def _fitting(found: Matched, takes: Signature, source: str) -> Matched:
    """Return the matched batch if the network takes as many inputs. Raises DataError otherwise."""
    count = len(found.inputs)
    if takes.open:
        return found
    if takes.needed <= count <= max(1, len(takes.names)):
        return replace(found, keywords=takes.keywords(takes.names[:count]))
    if takes.needed == 1 and all(_is_array(one) for one in found.inputs):
        shapes = {tuple(one.shape) for one in found.inputs}  # type: ignore[attr-defined]
        same = "" if len(shapes) == 1 else "resize to one size and "
        raise DataError(
            f"{source} gives batches of {count} tensors, and {takes}: {same}stack them to one [N, ...], or give"
            " example_inputs, nested as the network wants them"
        )
    raise DataError(f"{source} gives batches of {count} inputs, and {takes}: give {_form(takes)} in each batch")


def _tensors(found: Matched, takes: Signature) -> tuple[Tensor, ...]:
    names = found.keywords or takes.names
    declared = [takes.type_of(name) for name in names] + [None] * len(found.inputs)
    tensors = tuple(ready(one, takes.floating, kind) for one, kind in zip(found.inputs, declared, strict=False))
    if len({len(one) for one in tensors}) > 1:
        shapes = ", ".join(str(list(one.shape)) for one in tensors)
        raise DataError(f"the inputs of a batch differ in length, {shapes}: the batch comes first in each")
    return tensors


def _notes(first: Matched, takes: Signature) -> tuple[str, ...]:
    """Report values taken for labels by position, though the network accepts more inputs."""
    more = [name for name in takes.names[len(first.inputs) :] if not is_label(name)]
    if not more or not first.followed:
        return ()
    return (
        f"{takes.where} could take {more[0]} too, and whatever follows the inputs in a batch was left unread as labels:"
        f" give batches {{'{takes.names[0]}': ..., '{more[0]}': ...}} if it is an input",
    )


def _require_alike(first: tuple[Tensor, ...], other: tuple[Tensor, ...], source: str) -> None:
    if [each.shape[1:] for each in first] == [each.shape[1:] for each in other]:
        return
    shapes = [[list(each.shape) for each in part] for part in (first, other)]
    hint = "; a tuple (images, labels) is itself read as two batches, so wrap it in a list" if "tuple" in source else ""
    raise DataError(f"{source} gives batches of different shapes, {shapes[0]} and {shapes[1]}: resize to one{hint}")


def _classes(labels: object) -> Tensor | None:
    """Return one class for each sample, int64 [N]; None for other targets."""
    if isinstance(labels, (list, tuple)) and labels and all(isinstance(one, int) for one in labels):
        return torch.tensor(labels, dtype=torch.int64)
    if isinstance(labels, np.ndarray):
        whole = labels.ndim == 1 and labels.dtype.kind in "iu"
        return torch.from_numpy(labels.astype(np.int64)) if whole else None
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.dtype == torch.bool:
        return None
    return None if labels.is_floating_point() or labels.is_complex() else labels.detach().to("cpu", torch.int64)


def _described(labels: object) -> str:
    if isinstance(labels, (Tensor, np.ndarray)):
        return f"targets of {str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
    return f"targets in a {type(labels).__name__}"


def _looks_like_labels(value: object) -> bool:
    return (
        _classes(value) is not None
        or isinstance(value, (int, float, str))
        or (isinstance(value, (tuple, list)) and bool(value) and isinstance(value[0], str))
    )


def _telling(names: Mapping[str, object], takes: Signature) -> bool:
    """Return whether any field of a record has the name of an input."""
    return any(name in names for name in (*takes.names, *USUAL, "inputs"))


def _is_array(value: object) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def _form(takes: Signature) -> str:
    return f"({', '.join(takes.required)})" if len(takes.required) > 1 else "a tensor [N, ...]"


def as_batches(value: Any) -> Any:
    """Wrap a set of samples, a tensor or mapping, in a list of one batch."""
    return [value] if _is_array(value) or isinstance(value, Mapping) else value
