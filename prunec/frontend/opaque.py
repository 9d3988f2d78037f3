"""Keep sub-modules as they are: each is one operator, whose channels are all kept.

During torch.export each is wrapped in an operator of its own, `prunec::opaque_neck_weird_0_1f2e3d4c`, that runs a copy
of the original. Shapes of fake tensors come from runs of the network at two batch sizes (`observed_calls`). The node of
the captured graph calls the copy directly; the operator ends with the capture.
"""

from __future__ import annotations

import copy
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor

from ..device import CPU, device_of
from ..errors import CaptureError, SpecError, near
from ..ir.calling import tensors_of
from ..ir.digest import state_digest
from ..ir.module_state import preserved
from .observed_calls import Call, Seen, Values, learned

Run = Callable[[], object]
Answer = Callable[[tuple[Any, ...], dict[str, Any]], Any]
Unseal = Callable[[fx.GraphModule], None]
_one_at_a_time = threading.RLock()  # operators of the same name cannot exist twice


def is_opaque(node: fx.Node) -> str | None:
    """Return the path of a node's opaque sub-module, None for any other node."""
    return node.target.path if isinstance(node.target, Opaque) else None


def paths_in(module: nn.Module) -> tuple[str, ...]:
    """Return the paths of the opaque sub-modules in a captured graph."""
    nodes = module.graph.nodes if isinstance(module, fx.GraphModule) else ()
    return tuple(dict.fromkeys(path for node in nodes if (path := is_opaque(node)) is not None))


def unwritable(paths: Sequence[str], what: str) -> str:
    """Return a sentence: why `what` cannot be written, and the remedy."""
    modules, it = ("module", "it") if len(paths) == 1 else ("modules", "them")
    return (
        f"the opaque {modules} {', '.join(paths)} cannot be written as {what}, for no operator of torch does the same:"
        f" rewrite {it} so that torch.export can capture {it}, or stay in PyTorch with prunec.compress(…).module"
    )


@contextmanager
def sealed(model: nn.Module, patterns: Sequence[str], runs: Sequence[Run]) -> Iterator[Unseal]:
    """Replace the sub-modules that `patterns` name by operators while the block runs.

    `runs` are two runs of the network, at two batch sizes where it takes any. Yields a function that makes the nodes of
    a captured graph call the sub-modules, in place; call it within the block. Raises SpecError for a pattern that fits
    no sub-module or one that never runs, CaptureError where an output size follows no input size.
    """
    modules = _chosen(model, patterns)
    if not modules:
        yield lambda module: None
        return
    seen = [_watched(model, modules, run) for run in runs]
    opaque: dict[str, Opaque] = {}
    for path, module in modules.items():
        calls = [learned(path, small, large) for small, large in _pairs(path, seen)]
        if calls:
            opaque[path] = Opaque(path, len(opaque), module, calls)
    _require_used(model, patterns, opaque)
    with _one_at_a_time, torch.library._scoped_library("prunec", "FRAGMENT") as library:
        operators = {one.register(library): one for one in opaque.values()}
        stands = {path: _Stand(modules[path], one.answer) for path, one in opaque.items()}
        with _replaced(model, stands):
            yield partial(_unseal, operators)


def _unseal(operators: Mapping[Any, Opaque], module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target in operators:
            node.target = operators[node.target]
    module.recompile()


def _pairs(path: str, seen: Sequence[Mapping[str, list[Seen]]]) -> list[tuple[Seen, Seen]]:
    small, large = (one[path] for one in seen)
    if len(small) != len(large):
        raise CaptureError(f"{path} runs {len(small)} times for one batch and {len(large)} for another: not opaque")
    return list(zip(small, large, strict=True))


def _require_used(model: nn.Module, patterns: Sequence[str], used: Iterable[str]) -> None:
    for pattern in patterns:
        named = [path for path, _ in model.named_modules(remove_duplicate=False) if fnmatchcase(path, pattern)]
        if not any(f"{path}.".startswith(f"{one}.") for path in named for one in used):
            raise SpecError(f"--opaque {pattern} names nothing that the network runs on these inputs; leave it out")


def _chosen(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Return the outermost sub-modules that the patterns fit, by path."""
    known = {path: module for path, module in model.named_modules(remove_duplicate=False) if path}
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in known):
            hint = near(pattern, known, f"its first are {', '.join([*known][:5])}")
            raise SpecError(f"--opaque {pattern}: {type(model).__name__} has no such sub-module; {hint}")
    runnable = {path: one for path, one in known.items() if not isinstance(one, (nn.ModuleList, nn.ModuleDict))}
    chosen = {path: one for path, one in runnable.items() if any(fnmatchcase(path, pattern) for pattern in patterns)}
    return {path: one for path, one in chosen.items() if not any(path.startswith(f"{outer}.") for outer in chosen)}


class _Stand(nn.Module):
    """Stand-in for a sub-module: calls `answer`; other attributes are the module's."""

    def __init__(self, module: nn.Module, answer: Answer) -> None:
        super().__init__()
        self.__dict__.update(_original=module, _answer=answer, training=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the sub-module's output."""
        return self._answer(args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


@contextmanager
def _replaced(model: nn.Module, stands: Mapping[str, nn.Module]) -> Iterator[None]:
    """Replace sub-modules by `stands`, at each use, while the block runs."""
    by_id = {id(model.get_submodule(path)): stand for path, stand in stands.items()}
    with ExitStack() as undo:
        for parent in list(model.modules()):
            for name, child in list(parent._modules.items()):
                if id(child) in by_id:
                    undo.callback(parent._modules.__setitem__, name, child)
                    parent._modules[name] = by_id[id(child)]
        yield


def _watched(model: nn.Module, modules: Mapping[str, nn.Module], run: Run) -> dict[str, list[Seen]]:
    """Record inputs and outputs of each module, per call, in one run."""
    seen: dict[str, list[Seen]] = {path: [] for path in modules}

    def watcher(path: str, module: nn.Module) -> Answer:
        def answer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            inputs = tensors_of((args, kwargs))
            before = [one.clone() for one in inputs]
            taken = Values.of((args, kwargs))
            with preserved(module):
                result = module(*args, **kwargs)
            if any(not torch.equal(old, new) for old, new in zip(before, inputs, strict=True)):
                raise CaptureError(f"{path} writes into its inputs, so it cannot be opaque; give it a clone of them")
            seen[path].append((taken, Values.of(result)))
            return result

        return answer

    with _replaced(model, {path: _Stand(module, watcher(path, module)) for path, module in modules.items()}):
        run()
    return seen


class Opaque:
    """Copy of a sub-module, called as an operator: tensors and number of the call."""

    def __init__(self, path: str, number: int, module: nn.Module, calls: Sequence[Call]) -> None:
        self.path, self.calls = path, calls
        self._home = device_of(module) or CPU
        self._original = _copied(module)
        self._modules = {(self._dtype(call.inputs.dtypes), self._home): self._original for call in calls}
        word = re.sub(r"[^0-9a-zA-Z]+", "_", path)
        self.__name__ = self.__qualname__ = f"opaque_{word}_{number}_{state_digest(module)[:8]}"

    def register(self, library: torch.library.Library) -> Any:
        """Define the sub-module's operator for torch.export, and return it."""
        library.define(f"{self.__name__}(Tensor[] inputs, int call) -> Tensor[]")
        here = weakref.proxy(self)  # torch may keep what it is given for longer than the library lives

        def run(inputs: Sequence[Tensor], call: int) -> Any:
            return here._run(inputs, call)

        def fake(inputs: Sequence[Tensor], call: int) -> Any:
            return here._fake(inputs, call)

        library.impl(self.__name__, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"prunec::{self.__name__}", fake, lib=library)
        self._operator = getattr(torch.ops.prunec, self.__name__).default
        return self._operator

    def __call__(self, inputs: Sequence[Tensor], call: int) -> list[Tensor]:
        """Return the sub-module's outputs, fake tensors for fake inputs."""
        fake = any(isinstance(one, FakeTensor) for one in inputs)
        return self._fake(inputs, call) if fake else self._run(inputs, call)

    def answer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the output of the module, computed by its operator."""
        values = Values.of((args, kwargs))
        number = next((place for place, call in enumerate(self.calls) if call.fits(values)), None)
        if number is None:
            raise CaptureError(f"{self.path} is called otherwise while it is captured, so it cannot be opaque")
        return self.calls[number].outputs.nested(self._operator(list(tensors_of((args, kwargs))), number))

    @torch.no_grad()
    def _run(self, inputs: Sequence[Tensor], call: int) -> list[Tensor]:
        """Run the original, in double precision for double inputs; outputs never alias inputs."""
        module = self._in(self._dtype(one.dtype for one in inputs), self._device(inputs))
        args, kwargs = self.calls[call].inputs.nested(inputs)
        with preserved(module):
            found = tensors_of(module(*args, **kwargs))
        return [
            one.to(dtype).contiguous().clone() for one, dtype in zip(found, self._dtypes(inputs, call), strict=True)
        ]

    def _fake(self, inputs: Sequence[Tensor], call: int) -> list[Tensor]:
        shapes = self.calls[call].shapes(inputs)
        return [
            torch.empty(shape, dtype=dtype, device=self._device(inputs))
            for shape, dtype in zip(shapes, self._dtypes(inputs, call), strict=True)
        ]

    def _device(self, inputs: Sequence[Tensor]) -> torch.device:
        return next((one.device for one in inputs), self._home)

    def _in(self, dtype: torch.dtype | None, device: torch.device) -> nn.Module:
        if (dtype, device) not in self._modules:
            self._modules[dtype, device] = copy.deepcopy(self._original).to(device, dtype)
        return self._modules[dtype, device]

    def _dtypes(self, inputs: Sequence[Tensor], call: int) -> list[torch.dtype]:
        """Return the output types; float outputs take the precision of the inputs."""
        one, now = self.calls[call], self._dtype(each.dtype for each in inputs)
        then = self._dtype(one.inputs.dtypes)
        return [now if dtype is then and now is not None else dtype for dtype in one.outputs.dtypes]

    @staticmethod
    def _dtype(dtypes: Iterable[torch.dtype]) -> torch.dtype | None:
        return next((dtype for dtype in dtypes if dtype.is_floating_point), None)


def _copied(module: nn.Module) -> nn.Module:
    """Return a deep copy, or the original where it cannot be copied."""
    try:
        return copy.deepcopy(module)
    except Exception:  # a lock, a file, a tensor with a history: anything may be in it
        return module
