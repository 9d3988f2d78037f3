"""Small networks with unusual calls and outputs, and some that torch.export cannot capture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Pair(NamedTuple):
    logits: Tensor
    aux: Tensor


@dataclass
class Answer:
    logits: Tensor
    aux: Tensor | None = None
    levels: int = 3


@dataclass
class Sample:
    left: Tensor
    right: Tensor


class Body(nn.Module):
    """Two convolutions and two heads; `forward` is given."""

    def __init__(self, **more: nn.Module) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc, self.aux = nn.Linear(8, 5), nn.Linear(8, 4)
        for name, module in more.items():
            self.add_module(name, module)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3))


def body(forward: Callable[..., Any], **more: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = type("Network", (Body,), {"forward": forward})(**more)
    return network.eval()


def heads(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    y = m.features(x)
    return m.fc(y), m.aux(y)


def answers() -> dict[str, nn.Module]:
    """Networks of one input, by what they give."""

    def scaled(m: Any, x: Tensor) -> Any:
        logits, aux = heads(m, x)
        return {"a": (logits, [aux, None]), "levels": 3}

    return {
        "dict": body(lambda m, x: dict(zip(("logits", "aux"), heads(m, x), strict=True))),
        "tuple": body(heads),
        "list": body(lambda m, x: list(heads(m, x))),
        "nested": body(scaled),
        "constants": body(lambda m, x: (None, heads(m, x)[0], 3, "text", 1.5)),
        "named_tuple": body(lambda m, x: Pair(*heads(m, x))),
        "dataclass": body(lambda m, x: Answer(*heads(m, x))),
        "dataclass_without_all": body(lambda m, x: [Answer(heads(m, x)[0])]),
        "twice": body(lambda m, x: (heads(m, x)[0],) * 2),
        "input_too": body(lambda m, x: (x, heads(m, x)[0])),
        "sizes": body(lambda m, x: (heads(m, x)[0], x.shape[0], x.shape[2])),
        "classes": body(lambda m, x: (heads(m, x)[0], heads(m, x)[0].argmax(1))),
        "classes_alone": body(lambda m, x: heads(m, x)[0].argmax(1)),
        "mask": body(lambda m, x: (heads(m, x)[0], heads(m, x)[1] > 0)),
    }


def calls(x: Tensor, y: Tensor) -> dict[str, tuple[nn.Module, Any]]:
    """Networks of two inputs, each with the example inputs that it takes."""

    def both(m: Any, one: Tensor, other: Tensor) -> Tensor:
        found: Tensor = m.fc(m.features(one) + m.features(2 * other))
        return found

    def keywords(m: Any, *, first: Tensor, scale: int = 2, second: Tensor) -> Tensor:
        return scale * both(m, first, second)

    def star(m: Any, *xs: Tensor) -> Tensor:
        return both(m, xs[0], xs[1])

    return {
        "two": (body(both), (x, y)),
        "star": (body(star), (x, y)),
        "list": (body(lambda m, xs: both(m, *xs)), ([x, y],)),
        "tuples": (body(lambda m, xs, flag: both(m, xs[0][0], xs[1])), (((x,), y), None)),
        "dict": (body(lambda m, d: both(m, d["x"], d["y"]) * d["scale"]), ({"x": x, "scale": 3, "y": y},)),
        "keywords": (body(keywords), {"first": x, "second": y, "scale": 3}),
        "dataclass": (body(lambda m, s: both(m, s.left, s.right)), (Sample(x, y),)),
    }


class Weird(nn.Module):
    """Leaves torch for numpy, which torch.export cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(abs((x * self.scale).detach().numpy()))


class Choosy(nn.Module):
    """A network that reads values, nests arguments and outputs, and returns an input."""

    def forward(self, given: dict[str, Tensor], *, factor: int = 2) -> dict[str, Any]:
        x, y = given["x"], given["y"]
        if float(x.sum()) > 1e9:
            x = -x
        return {"same": x, "more": [factor * y.flatten(0, 1)], "count": 7}


class Writer(nn.Module):
    """Writes into its input."""

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return torch.from_numpy(x.numpy())


def with_weird() -> nn.Module:
    """Build a network whose `neck.1` cannot be captured, runs twice, and avoids space `a`."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.neck(m.b(torch.relu(m.a(x))))
        found: Tensor = m.fc(m.neck[1](y).mean((2, 3)))
        return found

    return body(forward, neck=nn.Sequential(nn.ReLU(), Weird()))


def with_choosy() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.b(torch.relu(m.a(x)))
        found = m.choosy({"x": y, "y": torch.relu(y)}, factor=3)
        assert found["count"] == 7
        found = m.choosy({"x": found["same"], "y": found["more"][0].unflatten(0, (-1, 8))})
        logits: Tensor = m.fc((found["same"] + found["more"][0].unflatten(0, (-1, 8))).mean((2, 3)))
        return logits

    return body(forward, choosy=Choosy())


def fixed_by_view(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.fc(m.features(x).view(2, 8))
    return found


def fixed_by_question(m: Any, x: Tensor) -> Tensor:
    logits: Tensor = m.fc(m.features(x))
    if x.shape[0] == 2:
        return logits + 1
    return logits


def fixed_at_four(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.fc(m.features(x).view(4, 8))
    return found


def fixed_by_range(m: Any, x: Tensor) -> Tensor:
    return fixed_by_view(m, x[:2]) if x.shape[0] > 16 else heads(m, x)[0]
