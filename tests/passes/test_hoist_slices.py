"""Slices moved up: fewer positions are computed, and the outputs stay what they were, for any batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer.testing import CliRunner

import prunec
from prunec.api import prepared
from prunec.channels.analysis import analyse
from prunec.channels.spaces import Channels
from prunec.cli import app
from prunec.cost.macs import Macs, total_macs
from prunec.frontend.capture import capture
from prunec.ir.drift import drift
from prunec.ir.program import Program
from prunec.ir.unhoisted import Unhoisted, unhoisted
from prunec.latency import layer_shapes, search, whole_network
from prunec.latency.engine import table_of
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.request.engine import On

TOKENS, WIDTH, HEADS = 9, 8, 2
HOIST = Pipeline.parse("hoist-slices,analyse")
Read = Callable[[Tensor], Any]


class Block(nn.Module):
    """Attention and a perceptron, each before a residual add."""

    def __init__(self, fused: bool, attend: Callable[..., Tensor]) -> None:
        super().__init__()
        self.fused, self.attend = fused, attend
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.query = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out, self.fc1, self.fc2 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = self.qkv(y).reshape(x.shape[0], -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        if not self.fused:
            q = self.query(y).view(x.shape[0], -1, HEADS, WIDTH // HEADS).transpose(1, 2)
        x = x + self.out(self.attend(q, k, v).transpose(1, 2).reshape(x.shape[0], -1, WIDTH))
        y = self.fc2(F.dropout(F.gelu(self.fc1(self.norm2(x))), 0.1, self.training))
        return x + y  # type: ignore[no-any-return]


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) * 0.5).softmax(dim=-1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.arange(TOKENS)[:, None] >= torch.arange(TOKENS) - 3
    return F.scaled_dot_product_attention(q, k, v, mask)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Transformer(nn.Module):
    """Two blocks, a norm, and a head on what `read` takes of the tokens."""

    def __init__(self, read: Read, fused: bool = True, attend: Any = F.scaled_dot_product_attention) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read = read
        self.place = nn.Parameter(torch.randn(1, TOKENS, WIDTH))
        self.blocks = nn.Sequential(Block(fused, attend), Block(fused, attend))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Any:
        found = self.read(self.norm(self.blocks(x + self.place)))
        return tuple(map(self.head, found)) if isinstance(found, tuple) else self.head(found)


READ: dict[str, Read] = {
    "first": lambda x: x[:, 0],
    "last": lambda x: x[:, -1],
    "a slice": lambda x: x[:, 2:4].flatten(1, 2)[:, 3 : 3 + WIDTH],
    "two": lambda x: (x[:, 0], x[:, 1]),
    "two apart": lambda x: (x[:, 1], x[:, -6:-4]),
}
EVERYTHING: dict[str, Read] = {
    "first and last": lambda x: (x[:, 0], x[:, -1]),
    "mean": lambda x: x.mean(1),
    "first and mean": lambda x: x[:, 0] + x[:, 1:].mean(1),
    "all but one": lambda x: x[:, 1:],
    "at a step": lambda x: x[:, ::4],
    "the batch": lambda x: x[:1],
}


def hoisted(network: nn.Module, *shape: int) -> tuple[Program, Program]:
    """The captured network and the one that the pass makes of it, in float64."""
    torch.manual_seed(1)
    program = capture(network.double().eval(), (torch.randn(2, *shape, dtype=torch.float64),))
    return program, HOIST.run(program, Context())


def require_same(before: Program, after: Program, *shape: int) -> None:
    for batch in (1, 2, 5):
        x = torch.randn(batch, *shape, dtype=torch.float64)
        with torch.no_grad():
            wanted, found = before.module(x), after.module(x)
        wanted, found = (list(one) if isinstance(one, tuple) else [one] for one in (wanted, found))
        assert [one.shape for one in wanted] == [one.shape for one in found]
        assert drift(wanted, found) < 1e-12


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("read", "attend"),
    [*((read, F.scaled_dot_product_attention) for read in READ), ("first", written_out), ("first", masked)],
)
def test_the_last_block_computes_the_positions_that_are_read(read: str, fused: bool, attend: Any) -> None:
    before, after = hoisted(Transformer(READ[read], fused, attend), TOKENS, WIDTH)
    require_same(before, after, TOKENS, WIDTH)
    whole, narrow = total_macs(unhoisted(after).fact(Channels)), total_macs(after.fact(Channels))
    read_of = {"first": 1, "last": 1, "a slice": 2, "two": 2, "two apart": 4}[read]
    saved = WIDTH * WIDTH + 2 * 16 * WIDTH  # the output of attention and the perceptron
    saved += (2 * TOKENS * WIDTH) + (0 if fused else WIDTH * WIDTH)  # attention of a query, and what makes it
    assert whole == total_macs(analyse(before))
    assert whole - narrow == (TOKENS - read_of) * saved


@pytest.mark.parametrize("read", EVERYTHING)
def test_where_most_positions_are_read_nothing_changes(read: str) -> None:
    program, after = hoisted(Transformer(EVERYTHING[read]), TOKENS, WIDTH)
    assert after.module is program.module
    assert not after.has(Unhoisted)
    assert unhoisted(after) is after


def test_the_queries_of_causal_attention_stay_whole() -> None:
    """A causal query depends on its position."""
    before, after = hoisted(Transformer(READ["last"], attend=causal), TOKENS, WIDTH)
    require_same(before, after, TOKENS, WIDTH)
    (sliced,) = (one for one in after.module.graph.nodes if one.name.startswith("slice") and one.args[1] == 2)
    assert "attention" in str(sliced.args[0])


def test_tokens_may_come_before_the_batch() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(WIDTH, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.layer(x.permute(1, 0, 2))))[-1]  # type: ignore[no-any-return]

    before, after = hoisted(Sequence(), TOKENS, WIDTH)
    require_same(before, after, TOKENS, WIDTH)
    assert total_macs(after.fact(Channels)) * TOKENS == total_macs(analyse(before))


def test_a_slope_for_each_channel_is_none_for_each_position() -> None:
    class Slopes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act = nn.Linear(WIDTH, WIDTH), nn.PReLU(WIDTH)
            self.act.weight.data.uniform_(-1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x).transpose(1, 2)  # [N, channels, positions], as many of each
            return self.act(y)[:, :, 0]  # type: ignore[no-any-return]

    before, after = hoisted(Slopes(), WIDTH, WIDTH)
    require_same(before, after, WIDTH, WIDTH)
    assert total_macs(after.fact(Channels)) * WIDTH == total_macs(analyse(before))


def test_a_target_is_a_share_of_the_network_as_it_was_given() -> None:
    network = Transformer(READ["first"]).eval()
    images = torch.randn(96, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))
    whole = total_macs(analyse(capture(network, (images[:2],))))
    result = prunec.compress(network, images, target="macs:0.6,memory:0.95")
    macs, memory = result.report["notes"]["allocate"]["budgets"]
    assert macs["dense"] == whole == result.report["macs"]["dense"]
    assert macs["allowed"] == int(0.6 * whole)
    assert 0 < macs["written"] <= macs["allowed"]
    assert result.report["macs"]["share"] == pytest.approx(macs["written"] / whole)
    assert Macs.of(result.plan.channels).total() < whole  # what the plan is about
    assert memory["written"] <= memory["allowed"]
    dense = [one for one in result.dense_onnx().graph.node if one.op_type in ("Gemm", "MatMul")]
    assert dense
    assert result.dense_onnx().graph.output[0].name == result.onnx().graph.output[0].name


@pytest.mark.parametrize("on", ["ort-cpu", "a table"])
def test_a_share_of_the_time_is_one_of_the_network_as_it_was_given(
    on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is timed here, or read from a foreign table with both networks."""
    network = Transformer(READ["first"]).eval()
    program = prepared(capture(network, (torch.randn(2, TOKENS, WIDTH),)))
    before = unhoisted(program)
    table, _ = search.filled(table_of(On()), program, layer_shapes.layers_of(program))
    table, _ = search.filled(table, before, layer_shapes.layers_of(before))
    other, wanted = (table.wholes[whole_network.digest_of(one)].ms for one in (program, before))
    assert other != pytest.approx(wanted, rel=1e-4)
    if on == "a table":
        table.save(tmp_path / "table.json")
        monkeypatch.setattr("prunec.latency.engine.is_here", lambda table: False)
        on = str(tmp_path / "table.json")
    images = torch.randn(64, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))
    result = prunec.compress(network, images, target="latency:0.95", on=on, decomposer="none")
    assert result.report["notes"]["allocate"]["latency"]["dense_ms"] == pytest.approx(wanted, rel=1e-4)


def test_inspect_says_what_is_not_computed(tmp_path: Path) -> None:
    program = torch.export.export(Transformer(READ["first"]).eval(), (torch.randn(2, TOKENS, WIDTH),))
    torch.export.save(program, tmp_path / "net.pt2")
    found = CliRunner().invoke(app, ["inspect", str(tmp_path / "net.pt2")])
    assert found.exit_code == 0, found.output
    assert "at positions that nothing reads" in found.output
