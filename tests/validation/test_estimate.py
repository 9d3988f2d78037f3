"""Images that are kept back: how many, that no pass reads one, and what is estimated on them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from image_reads import Reads, rows
from interfaces import body, fixed_by_view
from micro import networks
from rich.console import Console
from torch import Tensor, nn

import prunec
from prunec import api
from prunec.api import Result
from prunec.data.images import Images
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pipeline
from prunec.report.console import outcome_table
from prunec.statistics.agreement import Agreement, agreements_of, wilson
from prunec.validation import held_out
from prunec.validation.held_out import Estimate, keep_back, kept_back, needed

NET = networks()["residual"]
IMAGES = torch.randn(96, 3, 12, 12, generator=torch.Generator().manual_seed(1))
FAST: dict[str, Any] = {"target": "macs:0.6", "batch": 32, "align": "none", "keep_branches": True, "decomposer": "none"}


def compressed(images: Tensor = IMAGES, net: nn.Module = NET, **options: Any) -> Result:
    return prunec.compress(net, Images((images,), None, "noise"), **{**FAST, **options})


def parts(images: Tensor, seed: int = 0, step: int = 1) -> tuple[Images, Images]:
    """The images to calibrate on, and those that are kept back."""
    fitted, kept = keep_back(Images((images,), None, "noise", step=step), seed)
    assert kept is not None
    return fitted, kept


@pytest.mark.parametrize(
    ("images", "step", "kept"),
    [(1, 1, 0), (63, 1, 0), (64, 1, 16), (100, 1, 25), (128, 1, 32), (500, 1, 50), (1024, 1, 102), (4096, 1, 409),
     (512, 64, 64), (1024, 64, 128), (192, 64, 0), (256, 64, 64), (128, 2, 32), (66, 2, 16), (64, 3, 0)],
)  # fmt: skip
def test_a_tenth_is_kept_back_in_whole_steps(images: int, step: int, kept: int) -> None:
    assert kept_back(images, step) == kept


@pytest.mark.parametrize("step", [1, 2, 3, 64])
def test_the_fewest_images_that_are_asked_for_are_enough(step: int) -> None:
    assert kept_back(needed(step), step)
    assert not kept_back(needed(step) - step, step)


def test_the_parts_are_disjoint_whole_and_chosen_by_seed() -> None:
    whole = Images((IMAGES, IMAGES.flatten(1)), torch.arange(96), "noise")
    fitted, kept = keep_back(whole, 0)
    assert kept is not None
    assert (len(fitted), len(kept)) == (72, 24)
    assert fitted.labels is not None
    assert kept.labels is not None
    assert sorted([*fitted.labels.tolist(), *kept.labels.tolist()]) == list(range(96))
    assert fitted.labels.tolist() == sorted(fitted.labels.tolist())
    assert torch.equal(kept.inputs[1], IMAGES.flatten(1)[kept.labels])
    again, other = (keep_back(whole, seed)[0] for seed in (0, 1))
    assert again.digest == fitted.digest != other.digest


@pytest.mark.parametrize(("compensator", "read"), [(None, {"compensate", "after"}), ("variance", {"after"})])
def test_no_pass_but_the_last_refit_reads_an_image_that_is_kept_back(
    compensator: str | None, read: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(monkeypatch)
    whole = Images((IMAGES,), None, "noise")
    result = prunec.compress(NET, whole, target="macs:0.5", compensator=compensator, instruments=(reads,))
    kept = rows(parts(IMAGES)[1].inputs[0])
    assert {name for name, images in reads.by_pass.items() if images & kept} == read
    assert result.report["calibration"] == {"images": 96, "digest": whole.digest}


def judged(result: Result) -> Program:
    """The network that was fitted without the images kept back."""
    bare = api.prepared(result.dense).knowing(result.plan.judged())
    return Pipeline.parse("slice,decompose").run(bare, Context())


@pytest.mark.parametrize("options", [{}, {"allocator": "evolve"}, {"compensator": "variance"}, {"selector": "kmeans"}])
def test_other_images_in_their_place_change_no_choice_and_nothing_of_the_network_that_is_judged(
    options: dict[str, Any],
) -> None:
    changed, seed = IMAGES.clone(), 6
    kept = keep_back(Images((IMAGES,), torch.arange(96), "noise"), seed)[1]
    assert kept is not None
    assert kept.labels is not None
    assert 0 in kept.labels  # the first images are what the network is captured with
    changed[kept.labels] = 3 * changed[kept.labels].flip(0) + 1
    one, other = (compressed(each, seed=seed, **options) for each in (IMAGES, changed))
    assert one.plan.to_json() == other.plan.to_json()
    first, second = (judged(each).module.state_dict() for each in (one, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert one.estimate.relative_error != other.estimate.relative_error
    assert one.estimate.calibration_relative_error == other.estimate.calibration_relative_error


def test_the_last_refit_learns_from_the_images_kept_back() -> None:
    result = compressed()
    assert result.plan.judging[1].keys() == result.plan.refit.keys()
    changes = [float((value - result.plan.judging[1][name]).abs().max()) for name, value in result.plan.refit.items()]
    assert all(0 < change < 0.3 for change in changes)


def test_the_estimate_is_the_agreement_on_the_images_kept_back(tmp_path: Path) -> None:
    result = compressed()
    fitted, kept = parts(IMAGES)
    nets = result.dense.module, [judged(result).module]
    other, own = (agreements_of(*nets, [one.inputs])[0] for one in (kept, fitted.take(24, 0)))
    found = result.estimate
    assert (found.images, found.agreement, found.interval) == (24, other.agreement, other.interval)
    assert found.relative_error == pytest.approx(other.relative_error, rel=1e-4)
    assert found.calibration_relative_error == pytest.approx(own.relative_error, rel=1e-4)
    assert found.kl == pytest.approx(other.kl, rel=1e-3)
    assert result.report["seconds"]["estimate"] > 0
    assert compressed().estimate == found
    result.save(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "report.json").read_text())["estimate"]
    assert written == found.to_json()
    assert written["interval"] == list(found.interval or ())


def test_too_few_images_are_all_calibrated_on() -> None:
    result = compressed(IMAGES[:63])
    assert result.report["calibration"]["images"] == 63
    (note,) = result.estimate.notes
    assert result.estimate == Estimate(notes=(note,))
    assert note == "the error on other images was not measured, for that takes 64 images or more, and 63 were given"


@pytest.mark.parametrize(("count", "kept"), [(75, 18), (33, 0)])
def test_a_fixed_batch_keeps_back_whole_batches(count: int, kept: int) -> None:
    result = compressed(IMAGES[:count], body(fixed_by_view), batch=None, example_inputs=(IMAGES[:2],))
    assert result.report["capture"]["left_out"] == 1
    assert result.report["calibration"]["images"] == count - 1
    assert result.estimate.images == kept
    assert (result.estimate.agreement is None) == (kept == 0)


class Mask(nn.Module):
    """A class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 4, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scores [N, 4, H, W]."""
        found: Tensor = self.layers(x)
        return found


def test_pixels_have_answers() -> None:
    torch.manual_seed(0)
    found = compressed(net=Mask().eval()).estimate
    assert found.answers == "the largest of 4 scores at each position"
    assert found.agreement is not None
    assert found.interval is not None
    assert 0.5 < found.interval[0] < found.agreement < found.interval[1] <= 1


def test_a_number_for_each_image_has_an_error_and_no_answer() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 1)
    result = compressed(net=nn.Sequential(*layers).eval())
    assert (result.estimate.agreement, result.estimate.interval, result.estimate.kl) == (None, None, None)
    assert "the output [N, 1] is none of" in result.estimate.answers
    assert result.estimate.relative_error is not None
    assert "relative output error" in shown(result.report)
    assert "same answer" not in shown(result.report)


def test_what_cannot_be_measured_is_said_and_does_not_end_the_run() -> None:
    changed = IMAGES.clone()
    _, kept = parts(IMAGES)
    place = next(row for row in range(2, 96) if changed[row].numpy().tobytes() in rows(kept.inputs[0]))
    changed[place] *= 1e38  # overflows
    result = compressed(changed, compensator="variance")
    (note,) = result.estimate.notes
    assert note.startswith("the error on 24 images kept back was not measured: the network gives NaN")
    assert result.estimate == Estimate(24, notes=(note,))
    json.dumps(result.report["estimate"], allow_nan=False)


def shown(report: dict[str, Any]) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(outcome_table(report, "a network"))
    return " ".join(console.export_text().split())


def of_errors(monkeypatch: pytest.MonkeyPatch, other: float, own: float, kl: float = 0.1) -> Result:
    errors = [other, 1.5 * other, 2 * other, own]  # the second and third with half and a quarter of the images
    found = [Agreement(24, "", 0.94, wilson(0.94, 50), error, kl) for error in errors]
    monkeypatch.setattr(held_out, "agreements_of", lambda _, networks, __: [found.pop(0) for _ in networks])
    return compressed()


def test_an_error_that_is_twice_as_large_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    result = of_errors(monkeypatch, 0.25, 0.1)
    (note,) = result.estimate.notes
    assert note.startswith("warning: layers are fitted to their images, for the output error is 2.5 times larger")
    assert "such as 192 instead of 96" in note
    text = shown(result.report)
    assert "94.0%" in text
    assert "83.8 to 97.9%" in text
    assert "on 24 images kept back" in text
    assert "relative output error 0.25, 0.1 on those calibrated on" in text
    assert note in text


@pytest.mark.parametrize(("other", "own"), [(0.19, 0.1), (0.0009, 0.0001)])
def test_a_smaller_one_is_none(monkeypatch: pytest.MonkeyPatch, other: float, own: float) -> None:
    assert of_errors(monkeypatch, other, own).estimate.notes == ()


def test_an_infinite_divergence_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_errors(monkeypatch, 0.1, 0.1, float("inf")).estimate
    assert found.kl is None
    assert found.notes[0].startswith("KL is infinite")
