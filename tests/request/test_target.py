"""Targets: what remains, and the sentences for what is no target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunec.errors import SpecError
from prunec.request.target import Target


@given(st.floats(min_value=1e-9, max_value=1, exclude_max=True, allow_subnormal=False))
def test_text_form_round_trips(share: float) -> None:
    target = Target("macs", share)
    assert Target.parse(str(target)) == target


def test_prints_short() -> None:
    assert str(Target.parse("macs:0.50")) == "macs:0.5"


@pytest.mark.parametrize("text", ["macs:0", "macs:1", "macs:1.5", "macs:-0.2", "macs:nan", "macs:inf"])
def test_share_out_of_range(text: str) -> None:
    with pytest.raises(SpecError, match="what remains, so it lies between 0 and 1 exclusive"):
        Target.parse(text)


def test_word_for_number() -> None:
    with pytest.raises(SpecError, match=r"'banana' is not a number; write for instance macs:0\.5"):
        Target.parse("macs:banana")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mac:0.4", "Did you mean 'macs:0.4'?"),
        ("macs", "Did you mean 'macs:0.5'?"),
        (" macs:0.3", "Did you mean 'macs:0.3'?"),
        ("0.5", "for instance macs:0.5"),
        ("", "for instance macs:0.5"),
        ("time:0.5", "for instance macs:0.5"),
        ("latency:fast", "write for instance latency:3.5ms"),
        ("latency:3.5MB", "there is ns, us, ms, s"),
    ],
)
def test_wrong_form_hints(text: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        Target.parse(text)
    assert hint in str(caught.value)
    assert caught.value.exit_code == 2


def test_cannot_be_built_out_of_range_either() -> None:
    with pytest.raises(SpecError, match="between 0 and 1"):
        Target("macs", 1.0)
    with pytest.raises(SpecError, match="no target 'bytes'; there is macs"):
        Target("bytes", 0.5)


def test_amounts_and_their_units() -> None:
    assert Target.parse("size:2MB").allowed(0) == 2_000_000
    assert Target.parse("memory:1.5MiB").allowed(0) == 3 * 2**19
    assert Target.parse("params:200k").allowed(0) == 200_000
    assert Target.parse("params:0.25").allowed(400) == 100
    assert str(Target.parse("size:2.0MB")) == "size:2MB"
    for text, sentence in (
        ("size:2cm", "'cm' is no unit of bytes of weights; there is B, kB"),
        ("params:2MB", "no unit of parameters; there is k, M, G"),
        ("size:much", "'much' is not a number; write for instance size:2MB"),
        ("size:2", "between 0 and 1"),
    ):
        with pytest.raises(SpecError, match=sentence):
            Target.parse(text)


def test_several_at_once() -> None:
    several = Target.parse("macs:0.5,params:0.4")
    assert several == Target.parse(["macs:0.5", "params:0.4"]) == Target.parse(str(several))
    assert [str(one) for one in several.each] == ["macs:0.5", "params:0.4"]
    assert several.share_of_macs == 0.5
    assert Target.parse("size:0.3").share_of_macs == 0.5
    with pytest.raises(SpecError, match="asks twice for the same"):
        Target.parse("macs:0.5,macs:0.4")
