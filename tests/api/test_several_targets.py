"""Several targets from one calibration: each result is that of compress, and the calibration is read once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from image_reads import Reads
from micro import three
from typer.testing import CliRunner

import prunec
from prunec.cli import app
from prunec.cli.sweep import searched
from prunec.errors import SpecError
from prunec.report.sweep import on_front
from prunec.request.condition import Condition
from prunec.request.target import Target, family_of

IMAGES = torch.randn(96, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_each_network_of_a_sweep_is_that_of_compress() -> None:
    targets = ("macs:0.8", "macs:0.5", "params:0.6")
    for target, found in zip(targets, prunec.sweep(three(8, 8, 8), IMAGES, targets, seed=3), strict=True):
        alone = prunec.compress(three(8, 8, 8), IMAGES, target=target, seed=3)
        assert found.plan.to_json() == alone.plan.to_json()
        weights = found.module.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in alone.module.state_dict().items())
        assert found.report["notes"] == alone.report["notes"]
        assert found.report["estimate"] == alone.report["estimate"]
        assert (found.report["target"], found.report["pipeline"]) == (target, alone.report["pipeline"])


def test_statistics_are_collected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    class Names(Reads):
        def before(self, step: object, program: object) -> None:
            ran.append(type(step).__name__)

    list(prunec.sweep(three(8, 8, 8), IMAGES, ["macs:0.8", "macs:0.5"], instruments=[Names(monkeypatch)]))
    assert (ran.count("Calibrate"), ran.count("Sensitivity")) == (1, 1)
    assert ran.count("Allocate") == 2


def test_a_sweep_without_targets_says_what_to_give() -> None:
    with pytest.raises(SpecError, match="give at least one"):
        list(prunec.sweep(three(8, 8, 8), IMAGES, []))


def test_targets_are_read_as_a_list_or_as_steps() -> None:
    assert family_of("macs:0.8,0.5") == (Target.parse("macs:0.8"), Target.parse("macs:0.5"))
    steps = [str(one) for one in family_of("latency:0.8:0.4:0.1")]
    assert steps == ["latency:0.8", "latency:0.7", "latency:0.6", "latency:0.5", "latency:0.4"]
    assert [str(one) for one in family_of("size:1MB,2MB")] == ["size:1MB", "size:2MB"]
    for text in ("macs:0.8:0.4", "macs:0.8:0.4:0", "macs:0.8:0.4:-0.1", "macs:0.8:0.4:0.0001", "macs:0.5,0.5", "macs"):
        with pytest.raises(SpecError):
            family_of(text)


def test_the_front_holds_what_nothing_beats() -> None:
    rows = [
        {"macs_share": share, "milliseconds": ms, "top1": top1, "agreement": None, "relative_error": None}
        for share, ms, top1 in ((0.8, 3.0, 93.0), (0.5, 2.0, 92.0), (0.6, 2.5, 91.0), (0.4, 2.0, 90.0))
    ]
    assert on_front(rows) == [True, True, False, True]


def test_a_sweep_goes_on_where_it_was_left(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from micro import three\n\n\ndef net():\n    return three(8, 8, 8)\n")
    torch.save(IMAGES, tmp_path / "images.pt")
    (tmp_path / "data.py").write_text(
        f"import torch\n\n\ndef data():\n    yield torch.load({str(tmp_path / 'images.pt')!r})\n"
    )
    call = ["sweep", f"{tmp_path}/net.py:net", "--data", f"{tmp_path}/data.py:data", "-o", str(tmp_path / "out")]
    first = CliRunner().invoke(app, [*call, "--no-bench", "--targets", "macs:0.8"])
    assert first.exit_code == 0, first.output
    made = (tmp_path / "out" / "macs-0.8" / "model.onnx").stat().st_mtime_ns
    second = CliRunner().invoke(app, [*call, "--no-bench", "--targets", "macs:0.8,0.6"])
    assert second.exit_code == 0, second.output
    assert (tmp_path / "out" / "macs-0.8" / "model.onnx").stat().st_mtime_ns == made
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())["rows"]
    assert [one["target"] for one in rows] == ["macs:0.8", "macs:0.6"]
    assert rows[0]["macs_share"] > rows[1]["macs_share"]
    assert "macs:0.6" in second.output
    assert (tmp_path / "out" / "macs-0.6" / "report.html").is_file()


def reported(agreement: float, drop: float) -> dict[str, Any]:
    return {"accuracy": {"dense": 90.0, "compressed": 90.0 - drop}, "estimate": {"agreement": agreement}}


def test_a_condition_is_read_and_judged() -> None:
    assert Condition.parse("drop<=1.5").met(reported(0.5, 1.5))
    assert not Condition.parse("drop <= 1").met(reported(1.0, 1.1))
    assert Condition.parse("agreement>=97%") == Condition.parse("agreement>=0.97")
    assert not Condition.parse("agreement>=0.97").met(reported(0.96, 0.0))
    for text in ("drop>=1", "agreement<=0.9", "top1>=3", "agreement>=0", "drop<=x"):
        with pytest.raises(SpecError, match="drop<=1"):
            Condition.parse(text)
    with pytest.raises(SpecError, match="--evaluate"):
        Condition.parse("drop<=1").met({"accuracy": None})


@pytest.mark.parametrize("needed", [0.05, 0.3, 0.62, 0.94, 0.99])
def test_the_search_ends_near_the_fewest_macs_that_meet_it(needed: float) -> None:
    """A network meets the condition where at least `needed` of the MACs remain."""

    def report_of(target: Target) -> dict[str, Any]:
        return reported(1.0 if target.remaining >= needed else 0.5, 0.0)

    tried = searched(report_of, Condition("agreement", 0.9))
    meeting = [one.remaining for one in tried if one.remaining >= needed]
    if needed > 0.95:
        assert not meeting
        assert len(tried) == 2
    else:
        assert min(meeting) - max(needed, 0.1) < 0.85 / 2**5 + 1e-3
        assert len(tried) <= 7
