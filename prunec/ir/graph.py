"""Read, run and rebuild captured graphs."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_leaves

Values = dict[fx.Node, Any]
T = TypeVar("T")


def attribute(module: fx.GraphModule, name: str) -> Tensor:
    """Return the parameter or buffer that a get_attr node called `name` reads."""
    found = operator.attrgetter(name)(module)
    if not isinstance(found, Tensor):
        raise TypeError(f"{name} is a {type(found).__name__}, not a tensor")
    return found.detach()


def numbers(module: fx.GraphModule, name: str) -> Tensor:
    """Return a parameter or buffer as float64 on the CPU."""
    return attribute(module, name).to("cpu", torch.float64)


def run_node(module: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """Compute the value of a get_attr or call_function node from those of its inputs."""
    if node.op == "get_attr":
        return attribute(module, str(node.target))
    args: Any = fx.map_arg(node.args, values.__getitem__)
    kwargs = fx.map_arg(node.kwargs, values.__getitem__)
    target: Callable[..., Any] = node.target  # type: ignore[assignment]
    if target is torch.ops.aten.copy.default and torch.is_grad_enabled():  # has no derivative
        return args[1].to(args[0].dtype).expand_as(args[0])
    return target(*args, **kwargs)


def placeholders(module: fx.GraphModule) -> list[fx.Node]:
    """Return the graph's inputs, in order."""
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def tensors_read(module: fx.GraphModule) -> list[str]:
    """Return the names of the parameters and buffers that a graph reads, once each."""
    return list(dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "get_attr"))


def reached(start: Iterable[T], onward: Callable[[T], Iterable[T]]) -> Iterator[T]:
    """Yield what some things lead to, themselves included, once each."""
    waiting, seen = list(start), set[T]()
    while waiting:  # ends: each is looked into once
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            yield one
            waiting += onward(one)


def layer_of(parameter: str) -> str:
    """Return the layer of a parameter: `conv` of `conv.weight`, `att.in_proj` of `att.in_proj_weight`."""
    for leaf in ("weight", "bias"):
        stem = parameter.removesuffix(leaf)
        if stem not in ("", parameter) and stem[-1] in "._":
            return stem.rstrip("._") or parameter
    return parameter


def shared(nodes: fx.Graph) -> set[str]:
    """Return the names of the parameters and buffers that several nodes read."""
    reads = Counter[str]()
    for node in nodes.nodes:
        if node.op == "get_attr":
            reads[str(node.target)] += len(node.users)
    return {name for name, count in reads.items() if count > 1}


def example_values(
    module: fx.GraphModule,
    inputs: tuple[Tensor, ...],
    compute: Callable[[fx.GraphModule, fx.Node, Values], Any] = run_node,
) -> Values:
    """Compute each node's value: a tensor without data, or a number.

    Shapes and dtypes are those of concrete inputs.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    values: Values = {}
    for node, value in zip(placeholders(module), inputs, strict=True):
        values[node] = mode.from_tensor(value)
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = mode.from_tensor(attribute(module, str(node.target)))
    with mode, torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "call_function":
                values[node] = compute(module, node, values)
    return values


def outputs(module: fx.GraphModule, values: Values) -> list[Tensor]:
    """Return the floating-point output tensors of a graph, from its node values."""
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    return floats([values[leaf] for leaf in tree_leaves(output.args) if isinstance(leaf, fx.Node)])


def floats(value: Any) -> list[Tensor]:
    """List the floating-point tensors in outputs: classes and masks have no error to measure."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def rebuild(
    module: fx.GraphModule,
    tensors: Mapping[str, Tensor],
    edit: Callable[[fx.Node, fx.Node], None] | None = None,
    gone: Collection[str] = (),
) -> fx.GraphModule:
    """Copy the graph with new `tensors` by name, sharing all others with `module`.

    `edit(old, new)` may change the arguments of a copied call_function node. The copies called `gone`, each with at
    most one reader left, are removed, and so are tensors without readers.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if edit is not None and node.op == "call_function":
            edit(node, copies[node])
    for node in reversed(list(graph.nodes)) if gone else ():
        if node.name in gone or (node.op == "get_attr" and not node.users):
            graph.erase_node(node)
    graph._codegen = module.graph._codegen
    root: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            name = str(node.target)
            root[name] = _frozen(tensors[name] if name in tensors else attribute(module, name))
    return fx.GraphModule(root, graph)


def without_dead(module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy without nodes that no output needs, which are removed from `module` too."""
    module.graph.eliminate_dead_code()
    return rebuild(module, {})


def owned(module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy with tensors of its own, independent of those it was captured from."""
    clones: dict[Any, Tensor] = {}
    tensors = {}
    for name in tensors_read(module):
        value = attribute(module, name)
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        tensors[name] = clones.setdefault(place, value.clone()) if value.numel() else value
    return rebuild(module, tensors)


def moved(module: fx.GraphModule, device: torch.device) -> fx.GraphModule:
    """Return a copy on another device, with its tensors and those that its operators make."""

    def edit(old: fx.Node, new: fx.Node) -> None:
        new.args, new.kwargs = (map_aggregate(value, there) for value in (new.args, new.kwargs))  # type: ignore[assignment]

    def there(leaf: Any) -> Any:
        return device if isinstance(leaf, torch.device) else leaf

    return rebuild(module, {name: attribute(module, name).to(device) for name in tensors_read(module)}, edit)


def reshape_views(module: fx.GraphModule) -> None:
    """Replace every view by a reshape, in place.

    The memory layout may differ where channels are fewer, or innermost.
    """
    views = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
    for node in module.graph.nodes:
        if node.target in views:
            node.target = torch.ops.aten.reshape.default


def squeeze_by_name(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> None:
    """Fix the axes of every squeeze to those of size 1 here, in place.

    A batch of one, or a single channel left, is then kept.
    """
    packet = torch.ops.aten.squeeze
    squeezes = [node for node in module.graph.nodes if getattr(node.target, "overloadpacket", None) is packet]
    examples = example_values(module, inputs) if squeezes else {}
    for node in squeezes:
        source = node.args[0]
        before, after = examples[source].shape, examples[node].shape
        asked = node.args[1] if len(node.args) > 1 else range(len(before))
        dims = {int(dim) % len(before) for dim in ([asked] if isinstance(asked, int) else asked)} if before else ()
        node.target = torch.ops.aten.squeeze.dims
        node.args, node.kwargs = (source, [dim for dim in sorted(dims) if before[dim] == 1]), {}
        if before == after:
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)


def assign(module: fx.GraphModule, name: str, tensor: Tensor) -> None:
    """Replace or add the parameter or buffer called `name`, in place."""
    path, _, leaf = name.rpartition(".")
    owner: nn.Module = module
    for part in filter(None, path.split(".")):
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    frozen = _frozen(tensor)
    owner.register_parameter(leaf, frozen) if isinstance(frozen, nn.Parameter) else owner.register_buffer(leaf, frozen)


def set_bias(module: fx.GraphModule, layer: fx.Node, bias: Tensor) -> None:
    """Set the bias [O] of a convolution or linear node, in place; add any absent."""
    weight, old = layer.args[1], layer.args[2] if len(layer.args) > 2 else layer.kwargs.get("bias")
    if isinstance(old, fx.Node):
        assign(module, str(old.target), bias)
        return
    assert isinstance(weight, fx.Node)
    owner, _, leaf = str(weight.target).rpartition(".")
    name = f"{owner}.bias".lstrip(".") if leaf == "weight" else f"{weight.target}_bias"
    # ends: finitely many names are read
    while name in tensors_read(module):
        name += "_"
    assign(module, name, bias)
    with module.graph.inserting_before(layer):
        node = module.graph.get_attr(name)
    layer.args = (*layer.args[:2], node, *layer.args[3:])
    layer.kwargs = {key: value for key, value in layer.kwargs.items() if key != "bias"}


def _frozen(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor, requires_grad=False) if tensor.is_floating_point() else tensor


def strip(module: fx.GraphModule) -> fx.GraphModule:
    """Remove guards, write-backs and dead nodes that export leaves behind, in place."""
    for node in list(module.graph.nodes):
        back = node.target is torch.ops.aten.copy_.default and not node.users  # into a buffer or an input
        if back or node.op == "call_module" or str(node.target).startswith("aten._assert"):
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    for node in reversed(list(module.graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:  # a random one, which torch keeps
            module.graph.erase_node(node)
    module.recompile()
    return module


def forget_metadata(module: fx.GraphModule) -> None:
    """Delete the export metadata of each node, in place: a rewrite makes it stale."""
    for node in module.graph.nodes:
        node.meta = {}
