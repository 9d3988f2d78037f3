"""A GPU played by the CPU: tensors that say `cuda:0`, and refuse what tensors on a GPU refuse.

A `Simulated` holds a tensor of the CPU. Every call of torch's that is given one (`__torch_function__`) is made on what
is inside, and what comes out says `cuda:0` again. Before it, torch's own rules of devices are checked:

- all tensors of a call are on one device; a number on the CPU (no dimensions) may meet any, an index on the CPU may
  pick from a tensor on the GPU (not the other way round), and `to`, `cpu` and `copy_` go from one to the other;
- nothing but `cpu` or `to` makes it a tensor of the CPU: `numpy()` is refused;
- a tensor that is made without `device=` is on the CPU, and one that is made with it (`simulated()` sees to that) is
  not; random numbers on the GPU cannot come from a generator of the CPU.

So it proves that devices are never mixed, on every line that a test runs. It does not prove the arithmetic of a GPU,
its kernels, its memory or its speed, what torch.export makes of a network that is on one, nor the rules of devices
within a function of torch's that is written in Python: it sees what goes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
PICKS: set[Any] = {Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put, Tensor.index_put_, torch.index_put}
PICKS |= {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}
CROSS: set[Any] = {Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.copy_, Tensor.type_as}
CROSS |= {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default, torch.ops.aten.to.dtype_layout}
NEVER: set[Any] = {Tensor.numpy, Tensor.__array__}


class Simulated(Tensor):
    """A tensor on the GPU that is not there."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> Simulated:
        made: Simulated = Tensor._make_wrapper_subclass(
            cls, inside.shape, strides=inside.stride(), dtype=inside.dtype, device=CUDA
        )
        made.inside = inside
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return called(func, args, dict(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{func} reached a tensor that is not there")


class _Everywhere(TorchFunctionMode):
    """Sees the calls that are given no `Simulated`, and may make one."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return called(func, args, dict(kwargs or {}))


@contextmanager
def simulated() -> Iterator[None]:
    """While the block runs, `to("cuda")` and `device="cuda"` make simulated tensors."""
    with _Everywhere():
        yield


def called(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of a call, after the checks."""
    if func == Tensor.device.__get__ and type(args[0]) is Simulated:
        return CUDA
    if not _concerned((*args, *kwargs.values())):
        return func(*args, **kwargs)
    leaves = pytree.tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    inside = {id(one.__dict__["inside"]): one for one in tensors if type(one) is Simulated}
    wanted = _wanted(func, args, kwargs, leaves)
    if _faked(tensors) or (not inside and wanted is not CUDA):
        return func(*args, **kwargs)
    if func in NEVER:
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")
    if func in ODD:
        return ODD[func](*args, **kwargs)
    _check(func, args, tensors)
    _check_generator(leaves, wanted)
    there, (args, kwargs) = args, pytree.tree_map(_here, (args, kwargs))
    found = func(*args, **kwargs)
    if isinstance(found, Tensor) and wanted is not None and any(found is one for one in (*tensors, *args)):
        found = found.clone()  # what goes from one to the other is a copy
    if wanted is CPU or isinstance(found, torch.Size):
        return found
    outside = pytree.tree_map(lambda leaf: _there(leaf, inside), found)
    return _with_kind(outside, there[0]) if func is Tensor.__deepcopy__ else outside


def _concerned(values: Iterable[Any]) -> bool:
    """Return whether a value may be on a GPU; most calls have none."""
    for value in values:
        if isinstance(value, (Simulated, torch.device, str)):
            return True
        if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size) and _concerned(value):
            return True
    return False


def _wanted(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]) -> torch.device | None:
    """The device that a call names."""
    if func in (Tensor.cpu, Tensor.cuda):
        return CPU if func is Tensor.cpu else CUDA
    named = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    if isinstance(kwargs.get("device"), str):
        named.append(torch.device(kwargs["device"]))
    if func is Tensor.to:
        named += [torch.device(one) for one in args[1:] if isinstance(one, str)]
        named += [CUDA if type(one) is Simulated else CPU for one in args[1:] if isinstance(one, Tensor)]
    return {"cuda": CUDA, "cpu": CPU}.get(named[0].type) if named else None


def _faked(tensors: list[Tensor]) -> bool:
    """Return whether this is a shape computation, with fake devices."""
    key = torch._C._TorchDispatchModeKey.FAKE
    return torch._C._get_dispatch_mode(key) is not None and not any(type(one) is Simulated for one in tensors)


def _check(func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
    there = [type(one) is Simulated for one in tensors]
    if func in CROSS or all(there) or not any(there):
        return
    if func in PICKS and type(args[0]) is Simulated:
        values = [one for one in args[2:] if isinstance(one, Tensor) and type(one) is not Simulated and one.dim()]
        if not values:
            return
    elif all(one.dim() == 0 for one, far in zip(tensors, there, strict=True) if not far):
        return
    shapes = [f"{'cuda:0' if far else 'cpu'} {list(one.shape)}" for one, far in zip(tensors, there, strict=True)]
    raise RuntimeError(f"expected all tensors to be on the same device: {func} was given {', '.join(shapes)}")


def _check_generator(leaves: list[Any], wanted: torch.device | None) -> None:
    if wanted is not CPU and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError("expected a 'cuda' device type for generator but found 'cpu'")


def _gradients(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """Each gradient is where its input is."""
    listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    found = torch.autograd.grad(*pytree.tree_map(_here, (outputs, listed)), *args, **kwargs)
    return tuple(Simulated(grad) if type(each) is Simulated else grad for grad, each in zip(found, listed, strict=True))


def _of_one_kind(first: Tensor, second: Tensor) -> bool:
    return (type(first) is Simulated) == (type(second) is Simulated)


def _here(leaf: Any) -> Any:
    if isinstance(leaf, torch.device) or (isinstance(leaf, str) and leaf.partition(":")[0] == "cuda"):
        return CPU
    return leaf.__dict__["inside"] if type(leaf) is Simulated else leaf


def _there(leaf: Any, inside: dict[int, Simulated]) -> Any:
    """A tensor that came out, as it is known outside."""
    if not isinstance(leaf, Tensor) or type(leaf) is Simulated:
        return leaf
    return inside[id(leaf)] if id(leaf) in inside else Simulated(leaf)


def _with_kind(copy: Simulated, original: Simulated) -> Simulated:
    """A copy of a parameter is one."""
    if getattr(original, "_is_param", False):
        copy._is_param = True
    return copy


ODD: dict[Any, Callable[..., Any]] = {
    torch.autograd.grad: _gradients,
    torch._has_compatible_shallow_copy_type: _of_one_kind,
}
