"""The grammar of passes and strategies: parse, print, bind, and the sentences for what does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunec.errors import SpecError
from prunec.grammar import spec as grammar
from prunec.grammar.spec import Spec, bind, name_of, parse, parse_list, print_value, read_word, text_of

WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]*", fullmatch=True).filter(lambda word: read_word(word) == Spec(word))
FLOATS = st.floats(allow_nan=False, allow_subnormal=False)  # a session of ONNX Runtime may have turned those off
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.text()


def specs(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Spec]:
    options = st.dictionaries(WORDS, values, max_size=3).map(MappingProxyType)
    return st.builds(Spec, WORDS, options)


# a text that could stand without quotes reads back as a spec of that name
VALUES = st.recursive(
    SCALARS.map(lambda value: Spec(value) if isinstance(value, str) and print_value(value) == value else value), specs
)


@dataclass(frozen=True)
class Inner:
    ridge: float = 1e-3


@dataclass(frozen=True)
class Other:
    pass


@dataclass(frozen=True)
class Every:
    count: int = 1
    scale: float = 0.5
    on: bool = False
    name: str = "plain"
    limit: int | None = None
    method: Inner | Other = field(default_factory=Inner)


def load(folder: str, spec: Spec) -> Any:
    assert folder == "methods"
    kinds: dict[str, type] = {name_of(Inner): Inner, "none": Other}
    return bind(spec, kinds[spec.name], {}, load)


def read(text: str, kind: type = Every, nested: Mapping[str, str] | None = None) -> Any:
    return bind(parse(text), kind, {"method": "methods"} if nested is None else nested, load)


@given(specs(VALUES))
def test_print_then_parse_gives_the_same_spec(spec: Spec) -> None:
    assert parse(str(spec)) == spec


@given(st.lists(specs(VALUES), max_size=4))
def test_lists_round_trip(several: list[Spec]) -> None:
    assert parse_list(",".join(map(str, several))) == several


@given(
    st.builds(
        Every,
        st.integers(),
        FLOATS,
        st.booleans(),
        st.text(),
        st.none() | st.integers(),
        st.builds(Inner, FLOATS),
    )
)
def test_objects_round_trip(thing: Every) -> None:
    assert read(text_of(thing)) == thing


@given(st.text(alphabet='ab{}=,"\\ 1\n', max_size=30))
def test_any_text_parses_or_is_a_spec_error(text: str) -> None:
    try:
        found = parse_list(text)
    except SpecError:
        return
    assert parse_list(",".join(map(str, found))) == found


def test_a_pipeline_as_a_person_writes_it() -> None:
    found = parse_list(' fold-bn, compensate{ method = lstsq{ridge=1e-4} , rows=100 }, note{text="a, b"},')
    assert [one.name for one in found] == ["fold-bn", "compensate", "note"]
    assert found[1].options == {"method": Spec("lstsq", {"ridge": 1e-4}), "rows": 100}
    assert found[2].options == {"text": "a, b"}
    assert ",".join(map(str, found)) == 'fold-bn,compensate{method=lstsq{ridge=0.0001},rows=100},note{text="a, b"}'


@pytest.mark.parametrize("text", ["a", "a{}", " a { } "])
def test_braces_may_be_empty(text: str) -> None:
    assert str(parse(text)) == "a"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-2", -2), ("1e-4", 1e-4), ("true", True), ("none", None), ("x", Spec("x")), ('"1"', "1"), ('""', "")],
)
def test_values(text: str, value: object) -> None:
    found = parse(f"a{{k={text}}}").options["k"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found 0"),
        ("a,b", "found 2"),
        ("a{", "expected a name but found 'the end'"),
        ("a{x}", "expected '=' but found '}'"),
        ("a{x=}", "expected a name but found '}'"),
        ("a{x=1", "expected ',' but found 'the end'"),
        ("a{x=1 y=2}", "expected ',' but found 'y'"),
        ("a b", "expected ',' but found 'b'"),
        ("a,,b", "expected a name but found ','"),
        ("{x=1}", "expected a name but found '{'"),
        ("a{x=1}}", "expected ',' but found '}'"),
        ('a{x="b}', "unbalanced quote?"),
        ('a{x="\\q"}', "quoted as in JSON"),
        ('a{x="\n"}', "quoted as in JSON"),
        ("a{x=1,x=2}", "given 'x' twice"),
        ("a{x=" * 5000, "nested too deeply"),
    ],
)
def test_what_does_not_parse(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert words in str(caught.value)


def test_text_form_leaves_defaults_out() -> None:
    name = name_of(Every)
    assert text_of(Every()) == name
    assert (
        text_of(Every(scale=2.0, on=True, method=Inner(0.1))) == f"{name}{{scale=2,on=true,method={name}{{ridge=0.1}}}}"
    )


def test_names_are_the_files() -> None:
    kind = make_dataclass("Anything", [])
    kind.__module__ = "some.package.fold_bn"
    assert name_of(kind) == "fold-bn"


def test_a_strategy_may_be_called_none() -> None:
    assert read("every{method=none}").method == Other()
    assert read('every{method="none"}').method == Other()


def test_conversions_that_lose_nothing() -> None:
    found = read("every{scale=2,name=1,limit=none}")
    assert (found.scale, found.name, found.limit) == (2.0, "1", None)
    assert isinstance(found.scale, float)
    assert read("every{name=true}").name == "true"
    assert read("every{name=some-word}").name == "some-word"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("every{cuont=1}", "'every' has no option 'cuont'; did you mean count?"),
        ("every{zzz=1}", "it has: count, scale, on, name, limit, method."),
        ("every{count=1.5}", "'every' wants count as int, not 1.5"),
        ("every{count=true}", "'every' wants count as int, not true"),
        ("every{count=none}", "'every' wants count as int, not none"),
        ("every{count=many}", "'every' wants count as int, not many"),
        ("every{on=1}", "'every' wants on as bool, not 1"),
        ("every{name=none}", "'every' wants name as str, not none"),
        ("every{scale=fast}", "'every' wants scale as float, not fast"),
        (f"every{{scale={10**400}}}", "'every' wants scale as float, not 1000"),
    ],
)
def test_what_does_not_fit(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(text)
    assert words in str(caught.value)


def test_no_options_at_all() -> None:
    with pytest.raises(SpecError, match="it has: none"):
        read("other{x=1}", Other, {})


def test_an_option_without_a_default_must_be_given() -> None:
    kind = make_dataclass("Needy", [("path", str), ("depth", int)], frozen=True)
    with pytest.raises(SpecError, match=r"'needy' needs path and depth: write needy\{path=…\}"):
        read("needy", kind, {})
    assert read("needy{path=a/b,depth=2}", kind, {}) == kind("a/b", 2)  # annotations as classes, not as text


def test_a_value_that_the_class_refuses() -> None:
    @dataclass(frozen=True)
    class Positive:
        rows: int = 1

        def __post_init__(self) -> None:
            if self.rows < 1:
                raise ValueError("rows must be at least 1")

    with pytest.raises(SpecError, match=r"'positive\{rows=0\}' cannot be: rows must be at least 1"):
        read("positive{rows=0}", Positive, {})


def test_printed_values() -> None:
    shown = [print_value(value) for value in (0.5, 1e-4, 0.1 + 0.2, 3, True, None, "a b", "true", Path("a/b"), Inner())]
    assert shown == [
        "0.5", "0.0001", "0.30000000000000004", "3", "true", "none", '"a b"', '"true"', "a/b", name_of(Inner),
    ]  # fmt: skip
    assert math.isnan(read_word(print_value(math.nan)))
    assert grammar.read_word(print_value(math.inf)) == math.inf
